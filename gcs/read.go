package gcs

import (
	"encoding/binary"
	"slices"

	"go.etcd.io/raft/v3"
)

// ReadID names a batch of reads of one run of a member.
type ReadID struct {
	Session uint64 // run of the member that asks: an answer to an earlier run is too old
	Batch   uint64 // counts from 1
}

// ReadAnswer says that everything that was committed before the last caller
// joined a batch is at or below a log index. So is all that any member had
// delivered or acknowledged by then.
type ReadAnswer struct {
	Batch uint64
	Index uint64
}

// Read asks from which log index on this member is up to date, and returns the
// batch in which that is asked: those who ask before the next Flush, or while an
// earlier batch is under way, share one. [Group.Reads] has the answer. It may
// never come, for it takes a leader that a majority still follows; it does not
// come at all to a member that is in no view.
func (g *Group) Read() (batch uint64) {
	if !g.asking.open {
		g.asking.open = true
		g.asking.batch++
	}
	return g.asking.batch
}

// Reads returns the answers that have come since the last call, in the order of
// their batches, and appends to into[:0].
func (g *Group) Reads(into []ReadAnswer) []ReadAnswer {
	into = append(into[:0], g.answers...)
	g.answers = g.answers[:0]
	return into
}

// asking is this member's side of its reads. One batch is under way; whoever asks
// meanwhile is in the next. A batch is asked again, under the same number, until
// it is answered. Any answer will do: each of its askings came after its callers.
type asking struct {
	batch uint64 // the last one that somebody has joined
	open  bool   // it has not been sent, and can be joined
	asked uint64 // the one under way, 0 for none
	at    int    // tick at which it was last sent
}

// sendRead sends the open batch when none is under way. While nobody leads it
// stays open.
func (g *Group) sendRead() {
	if a := &g.asking; a.open && a.asked == 0 && g.leader != 0 {
		a.asked, a.open = a.batch, false
		g.resendRead()
	}
}

// resendRead asks the present leader for the batch under way.
func (g *Group) resendRead() {
	if g.asking.asked == 0 || g.leader == 0 {
		return
	}
	g.asking.at = g.ticks
	id := ReadID{Session: g.id.Session, Batch: g.asking.asked}
	if g.leader == g.id.RaftID {
		g.receiveRead(g.leader, id)
	} else {
		g.send(g.leader, Message{Kind: MessageRead, Read: id})
	}
}

// tickRead asks again when the question or its answer may have been lost.
func (g *Group) tickRead() {
	if g.ticks-g.asking.at >= readTicks {
		g.resendRead()
	}
}

func (g *Group) receiveReadIndex(id ReadID, index uint64) {
	if id.Session == g.id.Session && id.Batch == g.asking.asked && id.Batch != 0 {
		g.asking.asked = 0
		g.answers = append(g.answers, ReadAnswer{Batch: id.Batch, Index: index})
	}
}

// rounds is a leader's side of the reads. A round takes the commit index and then
// asks a majority whether it follows this leader still; each costs a message to
// everybody, so there is one at a time for all members together. Who asks while
// it is under way waits for the next: its commit index may be older than the
// question.
type rounds struct {
	number  uint64    // of the last round begun in this lead
	begun   uint64    // rounds begun that wait for others
	open    bool      // the last one is under way
	in      []request // what it answers, nothing while none is under way
	waiting []request // for the next; one a member, which has no more under way
}

type request struct {
	from uint64 // raft id
	id   ReadID
}

// add takes a request in. One that the round under way answers is a repetition.
func (r *rounds) add(q request) {
	if slices.Contains(r.in, q) {
		return
	}
	i := slices.IndexFunc(r.waiting, func(w request) bool { return w.from == q.from })
	switch {
	case i < 0:
		r.waiting = append(r.waiting, q)
	case r.waiting[i].id.before(q.id):
		r.waiting[i] = q
	}
}

func (id ReadID) before(other ReadID) bool {
	return id.Session < other.Session || id.Session == other.Session && id.Batch < other.Batch
}

// again gives up the round under way; the next one answers its requests.
func (r *rounds) again() {
	in := r.in
	r.in, r.open = nil, false
	for _, q := range in {
		r.add(q)
	}
}

// forget drops the requests of members that are no more.
func (r *rounds) forget(gone []uint64) {
	r.waiting = slices.DeleteFunc(r.waiting, func(q request) bool { return slices.Contains(gone, q.from) })
}

// receiveRead takes a question that only a leader can answer, and answers only
// members of the view: who is out must not show what it has as the newest. A
// member that does not lead says nothing, for the other one will ask again.
func (g *Group) receiveRead(from uint64, id ReadID) {
	if _, in := g.view.find(from); in && g.role == raft.StateLeader {
		g.rounds.add(request{from: from, id: id})
	}
}

// beginRound begins the next round if somebody waits and none is under way.
func (g *Group) beginRound() {
	r := &g.rounds
	if r.open || len(r.waiting) == 0 || !g.knowsCommitted() {
		return
	}
	r.in, r.waiting = r.waiting, r.in[:0]
	r.number, r.open = r.number+1, true
	if g.view.online() > 1 {
		r.begun++
	}
	g.raft.ReadIndex(binary.BigEndian.AppendUint64(nil, r.number))
}

// knowsCommitted reports whether this leader knows all that was committed before
// it led, as it does once an entry of its own term is (Ongaro, Consensus:
// Bridging Theory and Practice, §6.4). raft looks to that itself, but not in a
// leader that is the only one to vote: what it stored of the commit index may be
// behind what it had acknowledged. And it may lead no longer, but not have said so.
//
// The log is asked, as far as it is written, and not what was delivered: a leader
// whose engine is slow may deliver its first entry long after the others do, and
// they need not wait for its engine.
func (g *Group) knowsCommitted() bool {
	st := g.raft.BasicStatus()
	if st.RaftState != raft.StateLeader {
		return false
	}
	last, err := g.storage.LastIndex()
	if err != nil {
		return false
	}
	term, err := g.storage.Term(min(last, st.GetCommit()))
	return err == nil && term == st.GetTerm()
}

// endRound answers those whose round is over.
func (g *Group) endRound(s raft.ReadState) {
	r := &g.rounds
	if binary.BigEndian.Uint64(s.RequestCtx) != r.number {
		return // it was given up
	}
	for _, q := range r.in {
		if q.from == g.id.RaftID {
			g.receiveReadIndex(q.id, s.Index)
		} else {
			g.send(q.from, Message{Kind: MessageReadIndex, Read: q.id, Index: s.Index})
		}
	}
	r.in, r.open = r.in[:0], false
}

// began reports whether this leader has begun the round that an answer to a
// heartbeat is about. raft counts its rounds from when it led, and panics when a
// majority knows of one that it has not begun. In who does not lead, raft does
// not look.
func (g *Group) began(mark []byte) bool {
	return len(mark) == 0 || g.raft.BasicStatus().RaftState != raft.StateLeader || binary.LittleEndian.Uint64(mark) <= g.rounds.begun
}
