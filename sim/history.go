package sim

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// key names a pair in a world's tables.
type key struct {
	space space
	n     int
}

// space is one of the tables.
type space byte

const (
	accounts  space = iota // balances, of which the sum stays the same
	counters               // few keys, each counting its updates
	registers              // many keys
	sums                   // counters that are added to
	spaces
)

var tables = [spaces]applier.Table{
	accounts:  {Schema: "sim", Name: "accounts"},
	counters:  {Schema: "sim", Name: "counters"},
	registers: {Schema: "sim", Name: "registers"},
	sums:      {Schema: "sim", Name: "sums"},
}

func (k key) bytes() []byte { return binary.BigEndian.AppendUint32(nil, uint32(k.n)) }

func (k key) String() string { return fmt.Sprintf("%s/%d", tables[k.space].Name, k.n) }

func (k key) index() certifier.Index { return k.space.index() }

func (s space) index() certifier.Index {
	t := tables[s]
	return certifier.Index{Name: certifier.PrimaryIndex, Schema: t.Schema, Table: t.Name}
}

// value is what a client writes: who wrote it, and a number.
//
//	value := id(16) number(8, big-endian) padding
type value struct {
	writer replica.TransactionID // zero for a key that does not exist, and for a sum
	number int64
	put    int // of a sum, the number of the transaction that put it
}

func (v value) encode(padding int) []byte {
	b := binary.BigEndian.AppendUint64(append([]byte(nil), v.writer[:]...), uint64(v.number))
	return append(b, make([]byte, padding)...)
}

// decodeValue returns the value of b. One too short was written by nobody.
func decodeValue(b []byte) (v value, ok bool) {
	if len(b) < len(v.writer)+8 {
		return value{}, false
	}
	n := copy(v.writer[:], b)
	v.number = int64(binary.BigEndian.Uint64(b[n:]))
	return v, true
}

// resetBits is how far the number of the one who put a sum stands above what
// was added to it since: less than half of 1<<resetBits, up or down.
const resetBits = 32

// decodeSum takes a sum apart into who put it, by its number among all that
// were submitted, 0 for nobody, and what was added since.
func decodeSum(b []byte) (v value, ok bool) {
	n, ok := applier.DecodeCounter(b)
	v.put = int((n + 1<<(resetBits-1)) >> resetBits)
	v.number = n - int64(v.put)<<resetBits
	return v, ok
}

func (k key) decode(b []byte) (v value, ok bool) {
	if k.space == sums {
		return decodeSum(b)
	}
	return decodeValue(b)
}

// read is what a transaction saw of one key.
type read struct {
	key   key
	value value
	found bool
}

// scan is what a transaction saw of the keys from <= n < to of a table.
type scan struct {
	space    space
	from, to int
	found    []read
}

// write is what a transaction does to one key.
type write struct {
	key   key
	bytes []byte // nil to delete the key, or to add
	delta bool
	add   int64
}

// kind is how the write is certified.
func (w *write) kind() certifier.Kind {
	if w.delta {
		return certifier.Delta
	}
	return certifier.Write
}

func (w *write) mutation() applier.Mutation {
	m := applier.Mutation{Op: applier.OpDelete, Table: tables[w.key.space], Key: w.key.bytes()}
	switch {
	case w.delta:
		m.Op, m.Delta = applier.OpAdd, w.add
	case w.bytes != nil:
		m.Op, m.Value = applier.OpPut, w.bytes
	}
	return m
}

// submission is a transaction as its client knows it.
type submission struct {
	id       replica.TransactionID
	origin   uint64 // raft id
	session  uint64
	order    int // among those of its session, from 1
	snapshot applier.Position
	seen     uint64 // certified transactions in the snapshot
	reads    []read
	scans    []scan
	writes   []write
	refs     []key

	serializable bool
	number       int  // among all that were submitted, from 1
	again        bool // it is an earlier one, sent once more under its id

	begun  *begun // nil for one sent again
	epoch  uint64 // of the election, as its member knew it when it was handed over
	after  bool   // it asked to be visible everywhere
	handed int64  // when it was handed over
	early  bool   // it was refused at once, and never broadcast

	giant    bool // it travels in fragments
	place    int  // among those of its session that do, or that do not, from 1
	recalled bool // not all of its fragments went

	index  uint64 // log index of its delivery, 0 before
	commit int    // its place among the certified, 0 for none
	poison bool   // no engine can apply it
	acked  bool   // its caller was told that it committed
	lost   bool   // its caller was told that nobody knows

	inherited bool // from the incarnation before
	unlisted  bool // it is not in history.ordered
}

// judged is one transaction in a log entry, as a member judged it.
type judged struct {
	origin, session uint64
	id              replica.TransactionID
	verdict         certifier.Verdict
}

// entry is one log entry as a member delivered it.
type entry struct {
	index    uint64
	raw      *raftpb.Entry
	judged   []judged
	view     *gcs.View
	executed gtid.Set
	term     uint64 // in which its first deliverer was then
	// election is who may write after the entry, nil if it changed nothing of that.
	election *election.Snapshot
	at       int64 // when it was delivered first
}

// checker watches over one promise. It is told everything in the order in
// which it happens, and answers with a violation's text, "" for none.
type checker interface {
	promise() string
	// delivered is told of an entry that by has delivered. first is the same
	// entry as it was delivered first by anybody, nil if this is that one.
	delivered(by string, e, first *entry) string
	// applied is told what by's engine shows.
	applied(by string, at applier.Position, digest applier.Digest) string
	// read is told what a transaction's snapshot showed.
	read(by string, s *submission) string
	// answered is told that s got an answer, and what by's engine shows.
	answered(by string, s *submission, a replica.Answer, at applier.Position) string
	// began is told that a transaction has taken its snapshot, and read nothing yet.
	began(b *begun) string
	// finished is told that a client has its transaction's result: a reader when it
	// has read, a writer when it was answered.
	finished(b *begun) string
	// ended is told what a member's engine holds when all is quiet.
	ended(by string, s applier.Snapshot) string
}

// indifferent is a checker that nothing concerns, to be embedded.
type indifferent struct{}

func (indifferent) delivered(string, *entry, *entry) string { return "" }

func (indifferent) applied(string, applier.Position, applier.Digest) string { return "" }

func (indifferent) read(string, *submission) string { return "" }

func (indifferent) ended(string, applier.Snapshot) string { return "" }

func (indifferent) began(*begun) string { return "" }

func (indifferent) finished(*begun) string { return "" }

func (indifferent) answered(string, *submission, replica.Answer, applier.Position) string { return "" }

// history is the complete record of one incarnation of a world's group, with
// those it came from, and hands it to the checkers.
type history struct {
	lineage
	group   gtid.UUID
	submits map[attempt]*submission
	sent    []*submission // all that were submitted
	ordered []*submission // those that this incarnation can have delivered
	looks   []*submission // that only read
	begins  []*begun      // all that began, in order
	runs    []*runRecord  // of members in it, in the order of their starts
	// elections is who may write after each log entry, from 1; nil before anybody
	// said.
	elections  []*election.Snapshot
	numbered   []*submission
	oracle     *oracle
	levels     *levels
	visibility *visibility
	linear     *linear
	growth     growth
	now        func() int64
	markTime   int64    // within which a mark is proposed and delivered
	entries    []*entry // by log index, from 1, as first delivered
	state      reference
	checkers   []checker
	violate    func(promise, format string, args ...any)
	reached    *marked
	frames     map[frameName]bool
	poisons    map[replica.TransactionID]bool       // that no engine can apply
	slices     map[uint64][applier.SliceSums]uint64 // of state checks, by log index
	refused    Refused
}

func newHistory(group gtid.UUID, reached *marked, violate func(promise, format string, args ...any)) *history {
	h := &history{
		lineage: newLineage(),
		group:   group,
		submits: map[attempt]*submission{},
		state:   newReference(),
		violate: violate,
		reached: reached,
		frames:  map[frameName]bool{},
		poisons: map[replica.TransactionID]bool{},
		now:     func() int64 { return 0 },
	}
	h.oracle, h.levels, h.visibility, h.linear = newOracle(h), newLevels(h), newVisibility(h), newLinear(h)
	p := newPrimaries()
	h.checkers = []checker{
		&agreement{},
		&separation{history: h},
		&integrity{history: h},
		&order{history: h, sessions: map[uint64]*session{}},
		&sameVerdict{},
		h.oracle,
		newAssembly(h),
		&sameState{history: h},
		&durability{history: h},
		&isolation{history: h, last: map[key]replica.TransactionID{}},
		&anomalies{history: h},
		&succession{primaries: p},
		&rights{primaries: p},
		&drains{history: h, primaries: p},
		h.levels,
		h.visibility,
		h.linear,
	}
	return h
}

// at returns the entry first delivered at a log index, nil if none was.
func (h *history) at(index uint64) *entry {
	if index == 0 || index > uint64(len(h.entries)) {
		return nil
	}
	return h.entries[index-1]
}

// electionAt returns who may write after a log entry, nil if nobody has said.
func (h *history) electionAt(index uint64) *election.Snapshot {
	if index == 0 || index > uint64(len(h.elections)) {
		return nil
	}
	return h.elections[index-1]
}

func (h *history) tell(ask func(c checker) string) {
	for _, c := range h.checkers {
		if text := ask(c); text != "" {
			h.violate(c.promise(), "%s", text)
			return
		}
	}
}

// attempt names one submission. The same transaction may be sent again from
// elsewhere under its id.
type attempt struct {
	id              replica.TransactionID
	origin, session uint64
}

func (s *submission) attempt() attempt { return attempt{s.id, s.origin, s.session} }

func (j *judged) attempt() attempt { return attempt{j.id, j.origin, j.session} }

// number gives a transaction its number, which sums are put with.
func (h *history) number(s *submission) {
	h.numbered = append(h.numbered, s)
	s.number = len(h.numbered)
}

func (h *history) submit(s *submission) {
	h.submits[s.attempt()] = s
	h.sent = append(h.sent, s)
	h.ordered = append(h.ordered, s)
}

func (h *history) deliver(by string, e *entry) {
	first := h.at(e.index)
	if first == nil && e.index != uint64(len(h.entries))+1 {
		h.violate("P1", "%s delivers %d, but nobody has delivered %d", by, e.index, len(h.entries)+1)
		return
	}
	h.tell(func(c checker) string { return c.delivered(by, e, first) })
	if first == nil {
		if e.at == 0 { // a fork's entries have been delivered before
			e.at = h.now()
		}
		h.entries = append(h.entries, e)
		h.enter(e)
	}
}

// enter makes e part of what is known.
func (h *history) enter(e *entry) {
	if f, ok := readFrame(e.raw); ok {
		h.noteFrame(f, e)
	}
	weight := 0
	for _, j := range e.judged {
		s := h.submits[j.attempt()]
		if s == nil {
			continue // a violation of P2
		}
		s.index = e.index
		if s.unlisted {
			s.unlisted = false
			h.ordered = append(h.ordered, s)
		}
		switch j.verdict.Outcome {
		case certifier.Certified:
			h.state.write(s.writes)
			s.commit = int(h.state.certified)
			weight++
			for _, it := range s.items() {
				if it.kind != certifier.Read {
					weight++
				}
			}
		case certifier.Conflict:
			h.refused.Conflict++
			h.reached[markConflict]++
			if j.verdict.Clash.Range >= 0 {
				h.reached[markPhantom]++
			}
		case certifier.SnapshotTooOld:
			h.refused.SnapshotTooOld++
			h.reached[markSnapshotTooOld]++
		case certifier.Exhausted:
			h.refused.Exhausted++
		case certifier.Duplicate:
			h.refused.Duplicate++
			h.reached[markDuplicate]++
		case certifier.Fenced:
			h.countFenced(s)
		case certifier.GTIDTaken, certifier.GTIDSpread, certifier.Unreadable, certifier.GivenUp, certifier.TooLarge, certifier.Unapplied:
		}
	}
	h.enterElection(e)
	if e.view != nil {
		h.enterView(e.view)
	}
	h.growth.limit = max(h.growth.limit, h.oracle.settings.Certifier.HistoryItems)
	h.growth.bytes = max(h.growth.bytes, h.oracle.settings.Certifier.HistoryBytes)
	h.growth.certified(h.now(), h.markTime, weight)
	h.state.entryDone()
}

// noteFrame notices frames that members must have passed over.
func (h *history) noteFrame(f frame, e *entry) {
	name := frameName{f.origin, f.session, f.seq}
	switch {
	case h.frames[name]:
		h.reached[markRepeatedFrame]++
	case f.transactions > 0 && len(e.judged) == 0:
		h.reached[markClosedSession]++
	default:
		h.frames[name] = true
	}
	if f.mark > 0 {
		h.reached[markHistoryMark]++
	}
	for _, p := range f.parts {
		if p.deposal != nil && p.deposal.term != e.raw.GetTerm() {
			h.reached[markStaleDeposal]++
		}
	}
}

// reference is what every engine must hold, version by version: the writes of
// the certified transactions as their clients know them, one after the other.
type reference struct {
	certified uint64
	versions  map[key][]version
	digester  applier.Digester
	digests   []applier.Digest // by log index, from 1
	after     []applier.Digest // by certified transaction, from 1
}

type version struct {
	number uint64 // of the certified transaction that wrote it
	bytes  []byte // nil for a deletion
}

func newReference() reference { return reference{versions: map[key][]version{}} }

func (r *reference) write(ws []write) {
	r.certified++
	for _, w := range ws {
		old := r.read(w.key, r.certified)
		if old != nil {
			r.digester.Remove(tables[w.key.space], w.key.bytes(), old)
		}
		now := w.bytes
		if w.delta {
			sum, _ := applier.AddCounter(old, old != nil, w.add)
			now = applier.AppendCounter(nil, sum)
		}
		if now != nil {
			r.digester.Add(tables[w.key.space], w.key.bytes(), now)
		}
		r.versions[w.key] = append(r.versions[w.key], version{number: r.certified, bytes: now})
	}
	r.after = append(r.after, r.digester.Digest())
}

func (r *reference) entryDone() { r.digests = append(r.digests, r.digester.Digest()) }

// read returns what k held after the first n certified transactions, nil for
// nothing.
func (r *reference) read(k key, n uint64) []byte {
	versions := r.versions[k]
	for _, version := range slices.Backward(versions) {
		if version.number <= n {
			return version.bytes
		}
	}
	return nil
}

// digest returns the digest of the state after a log entry.
func (r *reference) digest(index uint64) applier.Digest {
	if index == 0 {
		return applier.Digest{}
	}
	return r.digests[index-1]
}
