package forced

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// The world is a group of members that agree as raft does, slowly and in
// sight: an election is one step, and so is sending a log. On top of it run the
// real records and coordinators, over a network that loses, repeats and
// reorders. The adversary decides who hears whom, and nobody's quorum is what
// keeps anybody from forcing.

var group = testUUID(250)

func testUUID(n int) gtid.UUID { return gtid.UUID{0: byte(n >> 8), 1: byte(n), 15: 1} }

func testMember(n int, state gcs.MemberState) gcs.Member {
	return gcs.Member{UUID: testUUID(n), RaftID: uint64(n), Address: fmt.Sprintf("m%d:1", n), State: state}
}

// entry is a log entry. No two that were written apart have the same id.
type entry struct{ term, id uint64 }

// disk is a member's log. Entries before first are still there for the checks,
// and for nobody else.
type disk struct {
	first   uint64
	entries []entry // from index 1 on
	term    uint64
	vote    uint64
	commit  uint64
	id      gcs.Identity
	record  []byte
}

func (d *disk) last() uint64                { return uint64(len(d.entries)) }
func (d *disk) FirstIndex() (uint64, error) { return d.first, nil }
func (d *disk) LastIndex() (uint64, error)  { return d.last(), nil }
func (d *disk) Term(i uint64) (uint64, error) {
	switch {
	case i+1 < d.first:
		return 0, raft.ErrCompacted
	case i > d.last():
		return 0, raft.ErrUnavailable
	case i == 0:
		return 0, nil
	}
	return d.entries[i-1].term, nil
}

func (d *disk) Entries(lo, hi, _ uint64) ([]*raftpb.Entry, error) {
	if lo < d.first {
		return nil, raft.ErrCompacted
	}
	var es []*raftpb.Entry
	for i := lo; i < hi; i++ {
		e := d.entries[i-1]
		es = append(es, &raftpb.Entry{Index: new(i), Term: new(e.term), Data: binary.BigEndian.AppendUint64(nil, e.id)})
	}
	return es, nil
}

// write replaces what there is from the first entry's index on.
func (d *disk) write(es []*raftpb.Entry) {
	for _, e := range es {
		id := e.GetData()
		if e.GetType() == raftpb.EntryConfChangeV2 {
			id = d.id.Incarnation[:]
		}
		d.entries = append(d.entries[:e.GetIndex()-1:e.GetIndex()-1], entry{e.GetTerm(), binary.BigEndian.Uint64(id)})
	}
}

// node is a member: its disk, and what a crash takes.
type node struct {
	disk
	n         int
	up        bool
	leads     bool
	match     map[int]uint64
	delivered uint64
	view      gcs.View
	job       *job // the alignment under way
	ever      uint64
	read      *readRecord
	frozen    map[gtid.UUID]string // facts first given for a plan, encoded
}

type readRecord struct {
	bytes []byte
	Record
}

// job is an alignment under way.
type job struct {
	request packet
	d       Decision
	work    Work
}

// rec is the record on disk, read once.
func (n *node) rec() Record {
	if n.read == nil || !bytes.Equal(n.read.bytes, n.record) {
		r, err := DecodeRecord(n.record)
		if err != nil {
			panic(err)
		}
		n.read = &readRecord{n.record, r}
	}
	return n.read.Record
}

func (n *node) runs() bool { r := n.rec(); return n.up && r.MayRun() }

func (n *node) survey(quorum bool) Survey {
	r := n.rec()
	f := Facts{
		Group: group, Incarnation: n.id.Incarnation, Member: n.id.Member, RaftID: n.id.RaftID,
		Address: fmt.Sprintf("m%d:1", n.n), View: n.view,
		Term: n.term, Commit: max(n.commit, n.delivered), Delivered: n.delivered,
	}
	if r.Phase == Frozen {
		f = r.Facts
	}
	if err := f.ReadLog(&n.disk); err != nil {
		panic(err)
	}
	return Survey{Facts: f, Quorum: quorum && r.MayRun(), Record: r}
}

// packet is a request under way, or its answer.
type packet struct {
	boss   int // index of the coordinator
	to     int
	step   Step
	bytes  []byte
	answer bool
}

type boss struct {
	c    *Coordinator
	at   int // the node that it runs on
	dead bool
}

type world struct {
	t         *testing.T
	random    *rand.Rand
	seed      uint64
	nodes     []*node
	bosses    []*boss
	packets   []packet
	ids       uint64
	plans     []gtid.UUID
	orders    map[gtid.UUID]Order
	decisions map[gtid.UUID]Decision
	logs      map[gtid.UUID][]entry               // adopted, by plan
	adopters  map[gtid.UUID][]int                 // by plan
	committed map[gtid.UUID]map[uint64]commitment // by incarnation and index
	held      map[frozenKey][]entry               // log at the freeze
	adoptions int
	calm      bool // links hold
}

// commitment is a committed entry, and whose acknowledgement made it one.
type commitment struct {
	entry
	by []int
}

type frozenKey struct {
	plan gtid.UUID
	n    int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), orders: map[gtid.UUID]Order{}, decisions: map[gtid.UUID]Decision{}, logs: map[gtid.UUID][]entry{},
		adopters: map[gtid.UUID][]int{}, committed: map[gtid.UUID]map[uint64]commitment{}, held: map[frozenKey][]entry{},
	}
	size := 2 + w.upTo(5)
	view := gcs.View{ID: 1, Index: 1, Incarnation: testUUID(251)}
	for i := 1; i <= size; i++ {
		view.Members = append(view.Members, testMember(i, gcs.Online))
	}
	if size > 3 && w.chance(30) {
		view.Members[size-1].State = gcs.Recovering
	}
	w.committed[view.Incarnation] = map[uint64]commitment{1: {entry: entry{1, 0}}}
	for i := 1; i <= size; i++ {
		w.nodes = append(w.nodes, &node{
			n: i, up: true, view: view, delivered: 1, ever: 1, frozen: map[gtid.UUID]string{},
			disk: disk{
				first: 1, entries: []entry{{1, 0}}, term: 1, commit: 1,
				id: gcs.Identity{Group: group, Incarnation: view.Incarnation, Member: testUUID(i), RaftID: uint64(i), Session: 1},
			},
		})
	}
	return w
}

func (w *world) newID() uint64 { w.ids++; return w.ids }

// upTo is a random number from 0 to n.
func (w *world) upTo(n int) int { return w.random.IntN(n + 1) }

func (w *world) pick(fits func(*node) bool) *node {
	var of []*node
	for _, n := range w.nodes {
		if fits(n) {
			of = append(of, n)
		}
	}
	if len(of) == 0 {
		return nil
	}
	return of[w.upTo(len(of)-1)]
}

func (w *world) chance(percent int) bool { return w.upTo(99) < percent }

func (w *world) peers(n *node) []*node {
	var ps []*node
	for _, p := range w.nodes {
		if p != n && p.runs() && p.id.Incarnation == n.id.Incarnation {
			ps = append(ps, p)
		}
	}
	return ps
}

func voter(v gcs.View, n *node) bool {
	m, ok := v.Member(n.id.RaftID)
	return ok && m.State == gcs.Online
}

// elect lets a member ask some of its peers for their votes.
func (w *world) elect() {
	n := w.pick(func(n *node) bool { return n.runs() && voter(n.view, n) })
	if n == nil {
		return
	}
	n.term++
	n.vote, n.leads = n.id.RaftID, false
	votes := 1
	for _, p := range w.peers(n) {
		if !voter(n.view, p) || !w.chance(60) || p.term > n.term || p.term == n.term && p.vote != 0 {
			continue
		}
		p.term, p.vote, p.leads = n.term, 0, false
		mine, its := n.entries[n.last()-1].term, p.entries[p.last()-1].term
		if mine < its || mine == its && n.last() < p.last() {
			continue
		}
		p.vote = n.id.RaftID
		votes++
	}
	if votes >= n.view.Quorum() {
		n.leads, n.match = true, map[int]uint64{}
		n.entries = append(n.entries[:n.last():n.last()], entry{n.term, w.newID()})
	}
}

// replicate lets a leader write, and send its log to some of its peers.
func (w *world) replicate() {
	n := w.pick(func(n *node) bool { return n.runs() && n.leads })
	if n == nil {
		return
	}
	for range w.upTo(3) {
		n.entries = append(n.entries[:n.last():n.last()], entry{n.term, w.newID()})
	}
	for _, p := range w.peers(n) {
		if p.term > n.term || !w.chance(50) {
			continue
		}
		if p.term < n.term {
			p.term, p.vote = n.term, 0
		}
		p.leads = false
		to := n.last() - uint64(w.upTo(2))
		to = max(to, p.commit)
		for i := uint64(1); i <= to; i++ {
			if i > p.last() || p.entries[i-1] != n.entries[i-1] {
				w.check(i > p.ever, "raft cut entry %d of member %d, which it had delivered", i, p.n)
				p.entries = append(p.entries[:i-1:i-1], n.entries[i-1:to]...)
				break
			}
		}
		n.match[p.n] = max(n.match[p.n], to)
		if n.match[p.n] >= n.commit && w.chance(60) {
			w.deliver(p, max(p.commit, min(n.commit, to)))
		}
	}
	w.commit(n)
}

func (w *world) commit(n *node) {
	for i := n.last(); i > n.commit && n.entries[i-1].term == n.term; i-- {
		by := []int{n.n}
		for _, p := range w.nodes {
			if p != n && voter(n.view, p) && n.match[p.n] >= i {
				by = append(by, p.n)
			}
		}
		if len(by) < n.view.Quorum() {
			continue
		}
		ledger := w.committed[n.id.Incarnation]
		for j := n.commit + 1; j <= i; j++ {
			c, ok := ledger[j]
			w.check(!ok || c.entry == n.entries[j-1], "incarnation %s committed two entries at %d", n.id.Incarnation, j)
			ledger[j] = commitment{n.entries[j-1], append(c.by, by...)}
		}
		w.deliver(n, i)
		return
	}
}

// deliver raises the commit index, and delivers some of it.
func (w *world) deliver(n *node, commit uint64) {
	n.commit = max(n.commit, commit)
	n.delivered = max(n.delivered, n.commit-uint64(w.upTo(int(min(n.commit, 2)))))
	n.ever = max(n.ever, n.delivered)
}

// crash takes what is not on disk; the commit index is not synced.
func (w *world) crash() {
	n := w.pick(func(n *node) bool { return n.up })
	if n == nil {
		return
	}
	w.kill(n)
	if w.chance(40) {
		n.up = false
	}
}

func (w *world) kill(n *node) {
	n.leads, n.match, n.job = false, nil, nil
	for _, b := range w.bosses {
		b.dead = b.dead || b.at == n.n
	}
	begun := max(n.first, 2) - 1
	if r := n.rec(); r.Phase == Adopted && r.Order.Begins == n.id.Incarnation {
		begun = max(begun, r.Decision.Last+1)
	}
	if r := n.rec(); r.MayRun() {
		n.commit = max(begun, n.commit-uint64(w.upTo(int(n.commit-begun))))
		n.delivered = n.commit
	}
}

func (w *world) restart() {
	if n := w.pick(func(n *node) bool { return !n.up }); n != nil {
		n.up = true
	}
}

func (w *world) truncate() {
	n := w.pick(func(n *node) bool { return n.runs() })
	if n != nil && n.delivered > n.first {
		n.first += uint64(w.upTo(int(n.delivered - n.first)))
	}
}

func (w *world) check(ok bool, format string, args ...any) {
	if !ok {
		w.t.Helper()
		w.t.Fatalf("world %d: %s", w.seed, fmt.Sprintf(format, args...))
	}
}

func (w *world) node(n int) *node { return w.nodes[n-1] }

func (w *world) adopted(plan gtid.UUID, n int) bool { return slices.Contains(w.adopters[plan], n) }
