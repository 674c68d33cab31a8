package sim

import (
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/sim/simdisk"
)

// parted is a history of three entries, with one transaction in each, all
// acknowledged, and one that goes on from a log that has the first of them and
// then another one.
type parted struct {
	*record
	child *history
	d     forced.Decision
	subs  []*submission
}

// logOf is what a survivor's log says of itself: the terms of its entries.
func logOf(terms ...uint64) forced.Facts {
	f := forced.Facts{Last: uint64(len(terms))}
	for i, term := range terms {
		if i == 0 || terms[i-1] != term {
			f.Runs = append(f.Runs, gcs.TermRun{Term: term, First: uint64(i + 1)})
		}
	}
	return f
}

func splitAfter(t *testing.T, seed forced.Facts) *parted {
	t.Helper()
	r := &parted{record: newRecord(t)}
	r.siblings = func() []*history {
		if r.child == nil {
			return []*history{r.history}
		}
		return []*history{r.history, r.child}
	}
	r.begin(1, 1)
	log := simdisk.NewLog()
	for n := range uint64(3) {
		s := r.submits(n, int(n))
		s.acked = true
		r.subs = append(r.subs, s)
		e := r.entry(n+1, n+1, judge(s, r.certified(n+1, 0)))
		e.term = 1
		r.deliver("m0", e)
	}
	for i := range seed.Last {
		raw := r.at(i + 1).raw
		if term := termAt(seed.Runs, i+1); term != raw.GetTerm() {
			raw = &raftpb.Entry{Index: new(i + 1), Term: new(term), Type: raftpb.EntryNormal.Enum()}
		}
		if err := log.Write([]gcs.LogWrite{{Entries: []*raftpb.Entry{raw}, Sync: true}}); err != nil {
			t.Fatal(err)
		}
	}
	r.d = forced.Decision{Last: seed.Last, Runs: seed.Runs, Order: forced.Order{Begins: gtid.UUID{9}}}
	child, err := r.fork(&r.d, log)
	if err != nil {
		t.Fatal(err)
	}
	r.child = child
	return r
}

func TestForkSharesWhatIsTheSame(t *testing.T) {
	r := splitAfter(t, logOf(1, 2))
	if r.child.shared != 1 || len(r.child.entries) != 1 || r.child.at(1) != r.at(1) {
		t.Fatalf("%d entries are shared, the fork has %d", r.child.shared, len(r.child.entries))
	}
	first, second := r.child.sent[0], r.child.sent[1]
	if !first.acked || first.commit != 1 || second.acked || second.commit != 0 || second.index != 0 {
		t.Errorf("the fork knows %+v and %+v", first, second)
	}
	if !r.child.descends(r.history) || r.descends(r.child) {
		t.Error("the fork does not come from its parent, or the other way round")
	}
	if len(r.broken) > 0 {
		t.Errorf("noticed %q", r.broken)
	}
}

func TestWhatSurvivorsHeldSurvives(t *testing.T) {
	for _, c := range []struct {
		what     string
		seed     forced.Facts
		survivor forced.Facts
		noticed  bool
	}{
		{"the seed has all", logOf(1, 1, 1), logOf(1, 1, 1), false},
		{"nobody had more", logOf(1, 1), logOf(1), false},
		{"a survivor had more than the seed", logOf(1, 1), logOf(1, 1, 1), true},
		{"a survivor had another entry", logOf(1, 1), logOf(1, 1, 2), false},
	} {
		r := splitAfter(t, c.seed)
		if text := r.forsaken(&r.d, r.child, []forced.Facts{c.seed, c.survivor}); (text != "") != c.noticed {
			t.Errorf("%s: noticed %q", c.what, text)
		}
	}
}

func TestWhatIsLostIsNamed(t *testing.T) {
	r := splitAfter(t, logOf(1, 1))
	told := &disclosure{ids: map[replica.TransactionID]bool{}}
	if text := r.child.unnamed(told); !strings.Contains(text, r.subs[2].id.String()) {
		t.Errorf("noticed %q", text)
	}
	told.ids[r.subs[2].id] = true
	if text := r.child.unnamed(told); text != "" {
		t.Errorf("told by id, and noticed %q", text)
	}
	told = &disclosure{gtids: r.set(3)}
	if text := r.child.unnamed(told); text != "" {
		t.Errorf("told by GTID, and noticed %q", text)
	}
	r.blind = true
	if text := r.child.unnamed(&disclosure{}); text != "" {
		t.Errorf("nobody could tell, and noticed %q", text)
	}
}

func TestSeparationChecker(t *testing.T) {
	frame := func(index, session uint64) *entry {
		return &entry{index: index, raw: &raftpb.Entry{
			Index: new(index), Term: new(uint64(3)), Type: raftpb.EntryNormal.Enum(), Data: []byte{frameFormat, 1, byte(session), 1, 0},
		}}
	}
	for _, c := range []struct {
		what    string
		play    func(r *parted)
		noticed bool
	}{
		{"a session from before", func(r *parted) { r.child.deliver("m1", frame(2, 1)) }, false},
		{"its own session", func(r *parted) { r.child.begin(1, 2); r.child.deliver("m1", frame(2, 2)) }, false},
		{"a session that began elsewhere since", func(r *parted) { r.begin(1, 2); r.child.deliver("m1", frame(2, 2)) }, true},
		{"a session of nobody", func(r *parted) { r.child.deliver("m1", frame(2, 7)) }, true},
		{"a session of its heir", func(r *parted) { r.child.begin(1, 2); r.deliver("m0", frame(4, 2)) }, true},
	} {
		r := splitAfter(t, logOf(1))
		c.play(r)
		if noticed := len(r.broken) > 0 && strings.HasPrefix(r.broken[0], "P13:"); noticed != c.noticed {
			t.Errorf("%s: noticed %q", c.what, r.broken)
		}
	}
}
