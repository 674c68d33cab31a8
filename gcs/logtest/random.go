package logtest

import (
	"math"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// machine drives a disk and a model with the same calls.
type machine struct {
	disk Disk
	log  gcs.Log
	// states holds every state since the last sync, the present one last. A
	// crash may leave any of them.
	states []model
}

// now is the state that the log must show.
func (m *machine) now() model { return m.states[len(m.states)-1] }

// become records the state after a call.
func (m *machine) become(next model, synced bool) {
	if synced {
		m.states = m.states[:0]
	}
	m.states = append(m.states, next)
}

func testRandom(t *testing.T, o Options) {
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{disk: o.New(t), states: []model{newModel()}}
		m.open(r)
		defer func() { _ = m.log.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"":               m.check,
			"write":          m.write,
			"write again":    m.write, // writes are what a log mostly sees
			"read a range":   m.read,
			"truncate":       m.truncate,
			"identity":       m.setIdentity,
			"record":         m.setRecord,
			"checkpoint":     m.saveCheckpoint,
			"reset":          m.reset,
			"adopt":          m.adopt,
			"close and open": m.reopen,
			"crash":          m.crash,
		})
	})
}

func (m *machine) open(r *rapid.T) {
	l, err := m.disk.Open()
	if err != nil {
		r.Fatalf("open: %v", err)
	}
	m.log = l
}

func (m *machine) check(r *rapid.T) {
	if err := compare(m.log, m.now()); err != nil {
		r.Fatal(err)
	}
}

func (m *machine) write(r *rapid.T) {
	next := m.now().clone()
	var ws []gcs.LogWrite
	var between []model
	synced := false
	for range rapid.IntRange(1, 3).Draw(r, "writes") {
		w := drawWrite(r, next)
		ws = append(ws, w)
		next.write(w)
		between = append(between, next.clone())
		synced = synced || w.Sync
	}
	before := m.now()
	held, err := m.log.Entries(before.cut+1, before.last()+1, math.MaxUint64)
	if err != nil {
		r.Fatalf("entries: %v", err)
	}
	if err := m.log.Write(ws); err != nil {
		r.Fatalf("write: %v", err)
	}
	for i, want := range before.entries {
		if !sameEntry(held[i], want) {
			r.Fatalf("a reader held %v, which a write changed to %v", want, held[i])
		}
	}
	if synced {
		m.become(next, true)
		return
	}
	m.states = append(m.states, between...)
}

// drawWrite draws a write that may follow the model's state.
func drawWrite(r *rapid.T, now model) gcs.LogWrite {
	w := gcs.LogWrite{Sync: rapid.Bool().Draw(r, "sync")}
	last := now.last()
	if n := rapid.IntRange(0, 6).Draw(r, "entries"); n > 0 {
		first := last + 1
		if lowest := now.floor() + 1; lowest <= last && rapid.IntRange(0, 3).Draw(r, "overlap") == 0 {
			first = rapid.Uint64Range(lowest, last).Draw(r, "first")
		}
		term, _ := now.term(first - 1)
		for i := range n {
			term += uint64(rapid.IntRange(0, 5).Draw(r, "term") / 5)
			w.Entries = append(w.Entries, entry(first+uint64(i), max(term, 1), rapid.SampledFrom(sizes).Draw(r, "size")))
		}
		last = first + uint64(n) - 1
	}
	// A shorter log needs a commit index that is still in it.
	if now.hardState.GetCommit() > last || rapid.Bool().Draw(r, "hard state") {
		w.HardState = hardState(
			rapid.Uint64Range(1, 9).Draw(r, "hard term"),
			rapid.Uint64Range(0, 3).Draw(r, "vote"),
			rapid.Uint64Range(0, last).Draw(r, "commit"))
	}
	return w
}

func (m *machine) read(r *rapid.T) {
	now := m.now()
	lo := rapid.Uint64Range(now.cut-min(now.cut, 1), now.last()+1).Draw(r, "lo")
	hi := rapid.Uint64Range(lo, now.last()+2).Draw(r, "hi")
	limit := rapid.SampledFrom([]uint64{0, 1, 20, 100, 1000, 5000, math.MaxUint64}).Draw(r, "limit")
	if err := compareEntries(m.log, now, lo, hi, limit); err != nil {
		r.Fatal(err)
	}
}

func (m *machine) truncate(r *rapid.T) {
	next := m.now().clone()
	index := rapid.Uint64Range(0, next.last()).Draw(r, "index")
	if err := m.log.Truncate(index); err != nil {
		r.Fatalf("truncate %d: %v", index, err)
	}
	next.truncate(index)
	m.become(next, false)
}

func (m *machine) setIdentity(r *rapid.T) {
	next := m.now().clone()
	next.identity = drawIdentity(r)
	if err := m.log.SetIdentity(next.identity); err != nil {
		r.Fatalf("identity: %v", err)
	}
	m.become(next, true)
}

func (m *machine) saveCheckpoint(r *rapid.T) {
	next := m.now().clone()
	index := rapid.Uint64Range(next.cut, next.last()).Draw(r, "index")
	term, _ := next.term(index)
	c := gcs.Checkpoint{Index: index, Term: term, Data: drawData(r)}
	if err := m.log.SaveCheckpoint(c); err != nil {
		r.Fatalf("checkpoint %d: %v", index, err)
	}
	next.save(c)
	m.become(next, true)
}

func (m *machine) reset(r *rapid.T) {
	next := m.now().clone()
	index := rapid.Uint64Range(1, 50).Draw(r, "index")
	c := gcs.Checkpoint{Index: index, Term: rapid.Uint64Range(1, 5).Draw(r, "term"), Data: drawData(r)}
	hs := hardState(rapid.Uint64Range(c.Term, 9).Draw(r, "hard term"), 0, index)
	if err := m.log.Reset(c, hs); err != nil {
		r.Fatalf("reset to %d: %v", index, err)
	}
	next.reset(c, hs)
	m.become(next, true)
}

func drawIdentity(r *rapid.T) gcs.Identity {
	return gcs.Identity{
		Group:   gtid.UUID{1, byte(rapid.IntRange(0, 255).Draw(r, "group"))},
		Member:  gtid.UUID{15: 7},
		RaftID:  rapid.Uint64().Draw(r, "raft id"),
		Session: rapid.Uint64Range(1, 9).Draw(r, "session"),
	}
}

func (m *machine) setRecord(r *rapid.T) {
	next := m.now().clone()
	next.record = drawData(r)
	given := slices.Clone(next.record)
	if err := m.log.SetRecord(given); err != nil {
		r.Fatalf("record: %v", err)
	}
	clear(given) // is the giver's again
	m.become(next, true)
}

func (m *machine) adopt(r *rapid.T) {
	next := m.now().clone()
	a := drawAdoption(r, next)
	if err := m.log.Adopt(a); err != nil {
		r.Fatalf("adopt: %v", err)
	}
	next.adopt(a)
	m.become(next, true)
}

// drawAdoption draws an adoption that fits the model's state.
func drawAdoption(r *rapid.T, now model) gcs.Adoption {
	a := gcs.Adoption{Identity: drawIdentity(r), Record: drawData(r)}
	if rapid.IntRange(0, 3).Draw(r, "empties") > 0 {
		a.Last = rapid.Uint64Range(now.floor(), now.last()).Draw(r, "last")
		term, _ := now.term(a.Last)
		for i := range rapid.IntRange(0, 6).Draw(r, "entries") {
			term += uint64(rapid.IntRange(0, 5).Draw(r, "term") / 5)
			a.Entries = append(a.Entries, entry(a.Last+1+uint64(i), max(term, 1), rapid.SampledFrom(sizes).Draw(r, "size")))
		}
	}
	last := a.Last + uint64(len(a.Entries))
	a.HardState = hardState(rapid.Uint64Range(1, 9).Draw(r, "hard term"), 0, rapid.Uint64Range(0, last).Draw(r, "commit"))
	return a
}

func (m *machine) reopen(r *rapid.T) {
	if err := m.log.Close(); err != nil {
		r.Fatalf("close: %v", err)
	}
	m.open(r)
	m.become(m.now(), true)
}

// crash finds out which of the possible states is there; it must be one of
// them.
func (m *machine) crash(r *rapid.T) {
	m.disk.Crash(rapid.Uint64().Draw(r, "seed"))
	m.open(r)
	var err error
	for _, v := range slices.Backward(m.states) {
		if err = compare(m.log, v); err == nil {
			m.become(v, true)
			return
		}
	}
	r.Fatalf("after a crash the log is in none of %d states; in the last synced one, %v", len(m.states), err)
}

// sizes of data, among them one that fills a page by itself.
var sizes = []int{0, 1, 10, 100, 2000}

// entry returns an entry whose data tells its index and term, so that it cannot
// be taken for another one.
func entry(index, term uint64, size int) *raftpb.Entry {
	var data []byte
	for i := range size {
		data = append(data, byte(index+7*term+uint64(i)))
	}
	e := &raftpb.Entry{Index: new(index), Term: new(term), Data: data}
	if index%3 == 0 {
		e.Type = raftpb.EntryConfChangeV2.Enum()
	}
	return e
}

func hardState(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: new(term), Vote: new(vote), Commit: new(commit)}
}

// drawData draws the data of a checkpoint: none, a little, or several chunks of
// any implementation that is tested with chunks of up to a kilobyte.
func drawData(r *rapid.T) []byte {
	data := make([]byte, rapid.SampledFrom([]int{0, 1, 999, 1000, 1001, 40_000}).Draw(r, "data"))
	for i := range data {
		data[i] = byte(i * 31)
	}
	return data
}
