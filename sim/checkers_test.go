package sim

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/outcome"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/sim/simdisk"
)

// record builds the history of a small group by hand: origin 1, session 1,
// unless said otherwise.
type record struct {
	*history
	t      *testing.T
	broken []string
	group  gtid.UUID
	last   int // transactions submitted
}

func newRecord(t *testing.T) *record {
	r := &record{t: t, group: gtid.UUID{1}}
	r.history = newHistory(r.group, &marked{}, func(promise, format string, args ...any) {
		r.broken = append(r.broken, promise+": "+fmt.Sprintf(format, args...))
	})
	return r
}

// submits lets a client that has seen the first n transactions write keys.
func (r *record) submits(n uint64, keys ...int) *submission {
	r.last++
	s := &submission{id: replica.TransactionID{byte(r.last)}, origin: 1, session: 1, order: r.last, place: r.last, seen: n}
	for _, k := range keys {
		s.writes = append(s.writes, write{key: key{registers, k}, bytes: value{writer: s.id, number: 1}.encode(0)})
	}
	r.submit(s)
	return s
}

// adds lets a client that has seen the first n transactions add 5 to a sum.
func (r *record) adds(n uint64, k int) *submission {
	s := r.submits(n)
	s.writes = []write{{key: key{sums, k}, delta: true, add: 5}}
	return s
}

// again lets another member submit a transaction once more.
func (r *record) again(s *submission) *submission {
	twin := *s
	twin.origin, twin.order, twin.place, twin.index, twin.commit = 2, 1, 1, 0, 0
	r.submit(&twin)
	return &twin
}

func (r *record) set(n uint64) gtid.Set {
	if n == 0 {
		return gtid.Set{}
	}
	return gtid.Set{}.AddInterval(r.group, "", 1, n)
}

// certified is the verdict on the group's n-th transaction.
func (r *record) certified(n, last uint64) certifier.Verdict {
	return certifier.Verdict{
		Outcome: certifier.Certified, GTID: gtid.GTID{UUID: r.group, Number: n}, LastCommitted: last, Sequence: n,
	}
}

func (r *record) entry(index, executed uint64, js ...judged) *entry {
	return &entry{
		index: index, judged: js, executed: r.set(executed),
		raw: &raftpb.Entry{Index: new(index), Term: new(uint64(1)), Type: raftpb.EntryNormal.Enum(), Data: []byte{0, byte(index)}},
	}
}

func judge(s *submission, v certifier.Verdict) judged {
	return judged{origin: s.origin, session: s.session, id: s.id, verdict: v}
}

// honest has a delivered as transaction 1 of the group, at log index 1.
func (r *record) honest() *submission {
	s := r.submits(0, 1)
	r.deliver("m0", r.entry(1, 1, judge(s, r.certified(1, 0))))
	return s
}

// breaches break each promise, in histories that are sound otherwise.
var breaches = []struct {
	promise, what string
	play          func(r *record)
}{
	{"", "nothing", func(r *record) {
		s := r.honest()
		r.deliver("m1", r.entry(1, 1, judge(s, r.certified(1, 0))))
	}},
	{"P1", "another entry at an index", func(r *record) {
		s := r.honest()
		e := r.entry(1, 1, judge(s, r.certified(1, 0)))
		e.raw.Data = []byte{0, 7}
		r.deliver("m1", e)
	}},
	{"P1", "another view", func(r *record) {
		r.deliver("m0", r.entry(1, 0))
		e := r.entry(1, 0)
		e.view = &gcs.View{ID: 1}
		r.deliver("m1", e)
	}},
	{"P1", "a gap", func(r *record) { r.deliver("m0", r.entry(2, 0)) }},
	{"P2", "a transaction twice", func(r *record) {
		s := r.honest()
		r.deliver("m0", r.entry(2, 2, judge(s, r.certified(2, 1))))
	}},
	{"P2", "a transaction of nobody", func(r *record) {
		s := &submission{id: replica.TransactionID{99}, origin: 1, session: 1}
		r.deliver("m0", r.entry(1, 1, judge(s, r.certified(1, 0))))
	}},
	{"P3", "a later transaction first", func(r *record) {
		r.submits(0, 1)
		r.deliver("m0", r.entry(1, 1, judge(r.submits(0, 2), r.certified(1, 0))))
	}},
	{"P3", "an earlier session after a later one", func(r *record) {
		old, young := r.submits(0, 1), r.submits(0, 2)
		young.session, young.order, young.place = 2, 1, 1
		r.history.submits[young.attempt()] = young
		r.deliver("m0", r.entry(1, 1, judge(young, r.certified(1, 0))))
		r.deliver("m0", r.entry(2, 2, judge(old, r.certified(2, 0))))
	}},
	{"P4", "two verdicts", func(r *record) {
		s := r.honest()
		r.deliver("m1", r.entry(1, 1, judge(s, certifier.Verdict{Outcome: certifier.Conflict})))
	}},
	{"P4", "two intervals", func(r *record) {
		r.honest()
		s := r.submits(1, 1)
		r.deliver("m0", r.entry(2, 2, judge(s, r.certified(2, 1))))
		r.deliver("m1", r.entry(2, 2, judge(s, r.certified(2, 0))))
	}},
	{"P4", "a conflict certified", func(r *record) {
		r.honest()
		r.deliver("m0", r.entry(2, 2, judge(r.submits(0, 1), r.certified(2, 1))))
	}},
	{"P4", "a refusal without conflict", func(r *record) {
		r.honest()
		v := certifier.Verdict{Outcome: certifier.Conflict, Clash: certifier.Clash{Winner: gtid.GTID{UUID: r.group, Number: 1}}}
		r.deliver("m0", r.entry(2, 1, judge(r.submits(1, 1), v)))
	}},
	{"P4", "the wrong winner", func(r *record) {
		r.honest()
		r.deliver("m0", r.entry(2, 2, judge(r.submits(1, 1), r.certified(2, 1))))
		v := certifier.Verdict{Outcome: certifier.Conflict, Clash: certifier.Clash{Winner: gtid.GTID{UUID: r.group, Number: 1}}}
		r.deliver("m0", r.entry(3, 2, judge(r.submits(0, 1), v)))
	}},
	{"P4", "too old without a mark", func(r *record) {
		r.honest()
		r.deliver("m0", r.entry(2, 1, judge(r.submits(0, 2), certifier.Verdict{Outcome: certifier.SnapshotTooOld})))
	}},
	{"P4", "a number left out", func(r *record) {
		r.deliver("m0", r.entry(1, 1, judge(r.submits(0, 1), r.certified(2, 0))))
	}},
	{"P4", "an interval that is too wide", func(r *record) {
		r.honest()
		r.deliver("m0", r.entry(2, 2, judge(r.submits(1, 1), r.certified(2, 0))))
	}},
	{"P4", "an id committed twice", func(r *record) {
		s := r.honest()
		r.deliver("m0", r.entry(2, 2, judge(r.again(s), r.certified(2, 1))))
	}},
	{"P4", "a duplicate of nothing", func(r *record) {
		v := certifier.Verdict{Outcome: certifier.Duplicate, GTID: gtid.GTID{UUID: r.group, Number: 1}}
		r.deliver("m0", r.entry(1, 0, judge(r.submits(0, 1), v)))
	}},
	{"P4", "a duplicate of another", func(r *record) {
		s := r.honest()
		r.deliver("m0", r.entry(2, 2, judge(r.submits(1, 2), r.certified(2, 0))))
		v := certifier.Verdict{Outcome: certifier.Duplicate, GTID: gtid.GTID{UUID: r.group, Number: 2}}
		r.deliver("m0", r.entry(3, 2, judge(r.again(s), v)))
	}},
	{"P4", "a phantom certified", func(r *record) {
		r.honest()
		s := r.submits(0, 9)
		s.serializable, s.scans = true, []scan{{space: registers, from: 1, to: 2}}
		r.deliver("m0", r.entry(2, 2, judge(s, r.certified(2, 0))))
	}},
	{"P4", "a read that was overtaken certified", func(r *record) {
		r.honest()
		s := r.submits(0, 9)
		s.serializable, s.reads = true, []read{{key: key{registers, 1}}}
		r.deliver("m0", r.entry(2, 2, judge(s, r.certified(2, 0))))
	}},
	{"P4", "additions refused for each other", func(r *record) {
		r.deliver("m0", r.entry(1, 1, judge(r.adds(0, 3), r.certified(1, 0))))
		v := certifier.Verdict{Outcome: certifier.Conflict, Clash: certifier.Clash{
			Range: -1, Incoming: certifier.Delta, Earlier: certifier.Delta, Winner: gtid.GTID{UUID: r.group, Number: 1}, Sequence: 1,
		}}
		r.deliver("m0", r.entry(2, 1, judge(r.adds(0, 3), v)))
	}},
	{"P4", "an addition over a write that it has not seen", func(r *record) {
		s := r.submits(0)
		s.writes = []write{{key: key{sums, 3}, bytes: applier.AppendCounter(nil, 1<<resetBits)}}
		r.deliver("m0", r.entry(1, 1, judge(s, r.certified(1, 0))))
		r.deliver("m0", r.entry(2, 2, judge(r.adds(0, 3), r.certified(2, 1))))
	}},
	{"P5", "another digest", func(r *record) {
		r.honest()
		r.shows(applier.Position{Index: 1, Executed: r.set(1)}, applier.Digest{1})
	}},
	{"P5", "other transactions at an index", func(r *record) {
		r.honest()
		r.shows(applier.Position{Index: 1, Executed: r.set(2)}, r.state.digest(1))
	}},
	{"P5", "more than was delivered", func(r *record) {
		r.shows(applier.Position{Index: 1}, applier.Digest{})
	}},
	{"P6", "an answer before it is visible", func(r *record) {
		s := r.honest()
		r.answers(s, replica.Answer{Index: 1, Verdict: r.certified(1, 0)}, 0)
	}},
	{"P6", "an answer that nobody delivered", func(r *record) {
		r.answers(r.submits(0, 1), replica.Answer{Index: 1, Verdict: r.certified(1, 0)}, 1)
	}},
	{"P6", "an acknowledged transaction lost", func(r *record) {
		s := r.honest()
		s.acked = true
		r.answers(s, replica.Answer{Index: 1, Verdict: r.certified(1, 0)}, 1)
		r.ends(simdisk.NewEngine())
	}},
	{"P6", "a write that nobody committed", func(r *record) {
		s := r.honest()
		r.ends(r.engine(s, r.submits(0, 2)))
	}},
	{"P6", "the write of another", func(r *record) {
		r.honest()
		r.ends(r.engine(r.submits(0, 1)))
	}},
	{"P7", "a read of nothing that was written", func(r *record) {
		r.honest()
		s := r.submits(1)
		s.snapshot = applier.Position{Index: 1, Executed: r.set(1)}
		s.reads = []read{{key: key{registers, 1}}}
		r.reads(s)
	}},
	{"P7", "money from nowhere", func(r *record) {
		s := r.submits(0)
		s.writes = []write{{key: key{accounts, 0}, bytes: value{writer: s.id, number: startBalance + 5}.encode(0)}}
		r.deliver("m0", r.entry(1, 1, judge(s, r.certified(1, 0))))
		look := r.submits(1)
		look.snapshot = applier.Position{Index: 1, Executed: r.set(1)}
		look.reads = []read{{key: key{accounts, 0}, value: value{writer: s.id, number: startBalance + 5}}}
		r.reads(look)
	}},
	{"P7", "a read that belongs to no snapshot", func(r *record) {
		first := r.honest()
		s := r.submits(1, 2) // says that it saw the first, but read as if not
		s.reads = []read{{key: key{registers, 1}}}
		r.deliver("m0", r.entry(2, 2, judge(s, r.certified(2, 0))))
		r.ends(r.engine(first, s))
	}},
	{"P7", "an addition that a reader misses", func(r *record) {
		first := r.adds(0, 3)
		r.deliver("m0", r.entry(1, 1, judge(first, r.certified(1, 0))))
		s := r.submits(1, 2)
		s.reads = []read{{key: key{sums, 3}, found: true, value: value{number: 4}}}
		r.deliver("m0", r.entry(2, 2, judge(s, r.certified(2, 0))))
		r.ends(r.engine(first, s))
	}},
	{"P7", "a lost update", func(r *record) {
		r.honest()
		s := r.submits(1, 1) // says that it saw the first, but read as if not
		s.reads = []read{{key: key{registers, 1}}}
		r.deliver("m0", r.entry(2, 2, judge(s, r.certified(2, 1))))
	}},
}

// TestCheckers checks that the checker of the promise that is broken is the one
// to notice.
func TestCheckers(t *testing.T) {
	for _, c := range breaches {
		t.Run(c.promise+" "+c.what, func(t *testing.T) {
			r := newRecord(t)
			c.play(r)
			switch {
			case c.promise == "":
				if len(r.broken) > 0 {
					t.Errorf("noticed %q", r.broken)
				}
			case len(r.broken) == 0 || !strings.HasPrefix(r.broken[0], c.promise+":"):
				t.Errorf("noticed %q", r.broken)
			}
		})
	}
}

// TestOutcomeChecker checks that an answer about an id is held against what was
// delivered.
func TestOutcomeChecker(t *testing.T) {
	r := newRecord(t)
	s := r.honest()
	right := replica.OutcomeAnswer{
		Known: true, Until: 1, Fate: outcome.Fate{Committed: true, GTID: gtid.GTID{UUID: r.group, Number: 1}, Index: 1},
	}
	stranger := replica.TransactionID{77}
	if text := r.oracle.outcome(s.id, right) + r.oracle.outcome(stranger, replica.OutcomeAnswer{Until: 1}) +
		r.oracle.outcome(s.id, replica.OutcomeAnswer{}); text != "" {
		t.Errorf("right answers: %s", text)
	}
	elsewhere, refused := right, right
	elsewhere.Fate.Index = 2
	refused.Fate = outcome.Fate{Reason: 2, Index: 1}
	for what, wrong := range map[string]replica.OutcomeAnswer{
		"forgotten": {Until: 1}, "elsewhere": elsewhere, "refused": refused, "of the future": {Known: true, Until: 9, Fate: right.Fate},
	} {
		if r.oracle.outcome(s.id, wrong) == "" {
			t.Errorf("%s: not noticed", what)
		}
	}
	if r.oracle.outcome(stranger, right) == "" {
		t.Error("a fate of nobody was not noticed")
	}
}

// TestGrowthChecker checks that a history beyond its limit is noticed, unless
// its growth is still on its way to a mark.
func TestGrowthChecker(t *testing.T) {
	g := growth{limit: 100, bytes: 1000}
	for i := range 10 {
		g.certified(int64(i)*second, 2*second, 1000)
	}
	if text := g.check(100+3000+historySlack, 1000+weightBytes*(3000+historySlack)); text != "" {
		t.Errorf("within: %s", text)
	}
	if g.check(100+4000+historySlack, 0) == "" || g.check(0, 1000+weightBytes*(4000+historySlack)) == "" {
		t.Error("beyond: not noticed")
	}
}

func (r *record) shows(at applier.Position, digest applier.Digest) {
	r.tell(func(c checker) string { return c.applied("m1", at, digest) })
}

func (r *record) answers(s *submission, a replica.Answer, shown uint64) {
	r.tell(func(c checker) string { return c.answered("m0", s, a, applier.Position{Index: shown}) })
}

func (r *record) reads(s *submission) {
	r.tell(func(c checker) string { return c.read("m0", s) })
}

// engine returns an engine that holds what the transactions write.
func (r *record) engine(ss ...*submission) *simdisk.Engine {
	r.t.Helper()
	e := simdisk.NewEngine()
	b := applier.Batch{To: applier.Position{Index: 1, Executed: r.set(1)}}
	for _, s := range ss {
		var payload []byte
		for i := range s.writes {
			payload = applier.AppendMutation(payload, s.writes[i].mutation())
		}
		b.Transactions = append(b.Transactions, applier.Transaction{Payload: payload})
	}
	if err := e.Apply(b); err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (r *record) ends(e *simdisk.Engine) {
	r.t.Helper()
	s, err := e.Begin()
	if err != nil {
		r.t.Fatal(err)
	}
	r.tell(func(c checker) string { return c.ended("m0", s) })
}
