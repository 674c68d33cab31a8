package forced

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

var (
	first = testUUID(251) // incarnation
	planA = testUUID(1000)
	planB = testUUID(1001)
)

// log is a disk with one entry of each term given, delivered up to commit.
func log(commit uint64, terms ...uint64) disk {
	d := disk{first: 1, commit: commit}
	for i, t := range terms {
		d.entries = append(d.entries, entry{t, t*1000 + uint64(i)})
		d.term = t
	}
	return d
}

// five is a view of five members, the last of them RECOVERING.
func five() gcs.View {
	v := gcs.View{ID: 7, Index: 1, Incarnation: first}
	for i := 1; i <= 5; i++ {
		v.Members = append(v.Members, testMember(i, gcs.Online))
	}
	v.Members[4].State = gcs.Recovering
	return v
}

// says is the survey of member n of the five with a log.
func says(n int, d disk) Survey {
	f := Facts{
		Group: group, Incarnation: first, Member: testUUID(n), RaftID: uint64(n), Address: "m:1", View: five(),
		Term: d.term, Commit: d.commit, Delivered: d.commit,
	}
	if err := f.ReadLog(&d); err != nil {
		panic(err)
	}
	return Survey{Facts: f}
}

func listed(ns ...int) []gtid.UUID {
	var us []gtid.UUID
	for _, n := range ns {
		us = append(us, testUUID(n))
	}
	return us
}

// wants fails unless err is a refusal for a reason, about a member, that says
// what to do.
func wants(t *testing.T, err error, reason Reason, member gtid.UUID) {
	t.Helper()
	var r *RefusedError
	if !errors.As(err, &r) || r.Reason != reason || r.Member != member {
		t.Fatalf("%v, wanted was %q about %s", err, reason, member)
	}
	if r.Text == "" || strings.Contains(r.Error(), "%!") {
		t.Fatalf("the refusal says %q", r.Error())
	}
}

func frozenFor(t *testing.T, s Survey, o Order) Survey {
	t.Helper()
	r, changed, err := s.Record.Freeze(o, s)
	if err != nil || !changed {
		t.Fatalf("freeze: changed %v, %v", changed, err)
	}
	s.Record = r
	return s
}

func order(plan gtid.UUID, ns ...int) Order {
	o := Order{Plan: plan, Group: group, Ends: first, Begins: Incarnation(plan)}
	for _, n := range ns {
		o.Members = append(o.Members, testMember(n, gcs.Online))
	}
	return o
}

// pair is what members 1 and 2 say of logs that fork after entry 2: the second
// one has the later term.
func pair() (one, two Survey) {
	return says(1, log(2, 1, 1, 2, 2, 2)), says(2, log(1, 1, 1, 3))
}

func TestPlanRefused(t *testing.T) {
	one, two := pair()
	with := func(s Survey, change func(*Survey)) Survey {
		change(&s)
		return s
	}
	adopted := with(says(3, log(1, 1, 1)), func(s *Survey) {
		s.Record = Record{Phase: Adopted, Order: order(planB, 3, 4)}
		s.Incarnation = Incarnation(planB)
	})
	cases := []struct {
		name       string
		own        Survey
		listed     []gtid.UUID
		answers    []Survey
		supersedes []gtid.UUID
		reason     Reason
		member     gtid.UUID
	}{
		{name: "nobody", own: one, reason: EmptyList},
		{name: "not here", own: one, listed: listed(2), answers: []Survey{two}, reason: CoordinatorNotListed, member: testUUID(1)},
		{name: "no member", own: one, listed: listed(1, 9), reason: NotMember, member: testUUID(9)},
		{name: "no vote", own: one, listed: listed(1, 5), answers: []Survey{says(5, log(1, 1))}, reason: NoVote, member: testUUID(5)},
		{name: "silent", own: one, listed: listed(1, 2), reason: Unreachable, member: testUUID(2)},
		{name: "another group", own: one, listed: listed(1, 2), answers: []Survey{with(two, func(s *Survey) { s.Group = testUUID(9) })}, reason: OtherGroup, member: testUUID(2)},
		{name: "another raft id", own: one, listed: listed(1, 2), answers: []Survey{with(two, func(s *Survey) { s.RaftID = 77 })}, reason: NotMember, member: testUUID(2)},
		{name: "another incarnation", own: one, listed: listed(1, 2), answers: []Survey{with(two, func(s *Survey) { s.Incarnation = testUUID(9) })}, reason: OtherIncarnation, member: testUUID(2)},
		{name: "it went over", own: one, listed: listed(1, 3), answers: []Survey{adopted}, supersedes: listed(1001), reason: AdoptedOther, member: testUUID(3)},
		{name: "the left out went over", own: one, listed: listed(1, 2), answers: []Survey{two, adopted}, supersedes: listed(1001), reason: AdoptedOther, member: testUUID(3)},
		{name: "quorum here", own: with(one, func(s *Survey) { s.Quorum = true }), listed: listed(1, 2), answers: []Survey{two}, reason: HasQuorum, member: testUUID(1)},
		{name: "quorum there", own: one, listed: listed(1, 2), answers: []Survey{with(two, func(s *Survey) { s.Quorum = true })}, reason: HasQuorum, member: testUUID(2)},
		{name: "quorum with the left out", own: one, listed: listed(1, 2), answers: []Survey{two, with(says(4, log(1, 1)), func(s *Survey) { s.Quorum = true })}, reason: HasQuorum, member: testUUID(4)},
		{name: "just begun", own: one, listed: listed(1, 2), answers: []Survey{with(two, func(s *Survey) { s.Unsure = true })}, reason: Unsettled, member: testUUID(2)},
		{name: "a majority", own: one, listed: listed(1, 2, 3), answers: []Survey{two, says(3, log(1, 1))}, reason: HealsByItself},
		{name: "in another plan", own: one, listed: listed(1, 2), answers: []Survey{frozenFor(t, two, order(planA, 2, 3))}, reason: FrozenForOther, member: testUUID(2)},
		{name: "here in another plan", own: frozenFor(t, one, order(planA, 1, 3)), listed: listed(1, 2), answers: []Survey{two}, supersedes: listed(1001), reason: FrozenForOther, member: testUUID(1)},
		{name: "unsettled", own: with(one, func(s *Survey) { s.Incarnation = testUUID(9) }), listed: listed(1), reason: Unsettled, member: testUUID(1)},
		{name: "unsettled there", own: one, listed: listed(1, 2), answers: []Survey{with(two, func(s *Survey) { s.View.Incarnation = testUUID(9) })}, reason: Unsettled, member: testUUID(2)},
		{name: "no such log", own: one, listed: listed(1, 2), answers: []Survey{with(two, func(s *Survey) { s.Commit = 9 })}, reason: Damaged, member: testUUID(2)},
		{name: "two histories", own: one, listed: listed(1, 2), answers: []Survey{says(2, log(3, 1, 3, 3))}, reason: OtherHistory, member: testUUID(1)},
		{name: "behind the seed's start", own: says(1, log(1, 1, 1)), listed: listed(1, 2), answers: []Survey{says(2, func() disk {
			d := log(4, 1, 1, 2, 2, 2)
			d.first = 4
			return d
		}())}, reason: TooFarBehind, member: testUUID(1)},
		{name: "fits", own: one, listed: listed(1, 2), answers: []Survey{two}},
		{name: "fits, listed twice and asked twice", own: one, listed: listed(1, 2, 2), answers: []Survey{two, one, two}},
		{name: "supersedes", own: one, listed: listed(1, 2), answers: []Survey{frozenFor(t, two, order(planA, 2, 3))}, supersedes: listed(1000, 1000)},
		{name: "a frozen majority heals nothing", own: frozenFor(t, one, order(planA, 1)), listed: listed(1, 2, 3), answers: []Survey{two, says(3, log(1, 1))}, supersedes: listed(1000)},
		{name: "plan of itself", own: one, listed: listed(1, 2), answers: []Survey{two}, supersedes: []gtid.UUID{planB}, reason: OtherPlan},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := New(planB, c.own, c.listed, c.answers, c.supersedes)
			if c.reason == 0 {
				if err != nil || len(p.Members) != len(slices.Compact(c.listed)) {
					t.Fatalf("%v, plan %+v", err, p)
				}
				return
			}
			wants(t, err, c.reason, c.member)
		})
	}
}

func TestFreezeRefused(t *testing.T) {
	one, two := pair()
	o := order(planA, 1, 2)
	later := order(planB, 1, 2)
	later.Supersedes = listed(1000)
	frozen, superseded := frozenFor(t, one, o), frozenFor(t, frozenFor(t, one, o), later)
	over := one
	over.Incarnation, over.View.Incarnation = o.Begins, o.Begins
	over.Record = Record{Phase: Adopted, Order: o}
	change := func(o Order, change func(*Order)) Order {
		o.Members = slices.Clone(o.Members)
		change(&o)
		return o
	}
	with := func(s Survey, change func(*Survey)) Survey {
		change(&s)
		return s
	}
	cases := []struct {
		name    string
		now     Survey
		order   Order
		reason  Reason
		changed bool
	}{
		{name: "fits", now: one, order: o, changed: true},
		{name: "again", now: frozen, order: o},
		{name: "again, after it adopted", now: over, order: o},
		{name: "superseding", now: frozen, order: later, changed: true},
		{name: "with quorum", now: with(one, func(s *Survey) { s.Quorum = true }), order: o, reason: HasQuorum},
		{name: "just begun", now: with(one, func(s *Survey) { s.Unsure = true }), order: o, reason: Unsettled},
		{name: "just begun, and frozen", now: with(frozen, func(s *Survey) { s.Unsure = true }), order: later, changed: true},
		{name: "of another group", now: one, order: change(o, func(o *Order) { o.Group = testUUID(9) }), reason: OtherGroup},
		{name: "of another incarnation", now: one, order: change(o, func(o *Order) { o.Ends = testUUID(9) }), reason: OtherIncarnation},
		{name: "not for it", now: says(3, log(1, 1)), order: o, reason: NotMember},
		{name: "with a new disk", now: with(two, func(s *Survey) { s.RaftID = 77 }), order: o, reason: NotMember},
		{name: "other plan", now: frozen, order: order(planB, 1, 2), reason: FrozenForOther},
		{name: "the superseded one again", now: superseded, order: o, reason: FrozenForOther},
		{name: "the superseded one, superseding", now: superseded, order: change(o, func(o *Order) { o.Supersedes = listed(1001) }), reason: FrozenForOther},
		{name: "after it went over", now: over, order: later, reason: OtherIncarnation},
		{name: "same id, other survivors", now: frozen, order: order(planA, 1, 3), reason: OtherPlan},
		{name: "no order", now: one, order: Order{}, reason: OtherPlan},
		{name: "other beginning", now: one, order: change(o, func(o *Order) { o.Begins = testUUID(9) }), reason: OtherPlan},
		{name: "learner", now: one, order: change(o, func(o *Order) { o.Members[1].State = gcs.Recovering }), reason: OtherPlan},
		{name: "out of order", now: one, order: change(o, func(o *Order) { slices.Reverse(o.Members) }), reason: OtherPlan},
		{name: "unsettled", now: with(one, func(s *Survey) { s.View.Incarnation = testUUID(9) }), order: o, reason: Unsettled},
		{name: "lost log", now: with(one, func(s *Survey) { s.Last, s.Runs = 0, nil }), order: o, reason: Damaged},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			next, changed, err := c.now.Record.Freeze(c.order, c.now)
			if changed != c.changed {
				t.Fatalf("changed %v, %v", changed, err)
			}
			if !changed && string(next.Append(nil)) != string(c.now.Record.Append(nil)) {
				t.Fatal("the record is another one, and said to be unchanged")
			}
			if c.reason != 0 {
				var r *RefusedError
				if !errors.As(err, &r) || r.Reason != c.reason {
					t.Fatalf("%v, wanted was %q", err, c.reason)
				}
				return
			}
			if err != nil || changed && (next.MayRun() || !next.In(c.order.Plan)) {
				t.Fatalf("%v, record %+v", err, next)
			}
		})
	}
}

// decided is two frozen members and their decision.
func decided(t *testing.T) (one, two Record, d Decision) {
	t.Helper()
	a, b := pair()
	o := order(planA, 1, 2)
	one, two = frozenFor(t, a, o).Record, frozenFor(t, b, o).Record
	d, err := Decide(o, []Facts{two.Facts, one.Facts})
	if err != nil {
		t.Fatal(err)
	}
	return one, two, d
}

func TestAlignAndAdopt(t *testing.T) {
	one, two, d := decided(t)
	if d.Seed != 2 || d.Last != 3 || d.LastTerm != 3 || d.Term != 4 {
		t.Fatalf("decided %+v", d)
	}
	disk1, disk2 := log(2, 1, 1, 2, 2, 2), log(1, 1, 1, 3)
	id := gcs.Identity{Group: group, Incarnation: first, Member: testUUID(1), RaftID: 1, Session: 5}

	work, err := one.Align(d, &disk1)
	if want := (Work{From: 3, To: 3, Cut: 3}); err != nil || work != want {
		t.Fatalf("member 1 has to do %+v, %v, wanted was %+v", work, err, want)
	}
	if work, err := two.Align(d, &disk2); err != nil || !work.Done() || work.Fetch() != 0 {
		t.Fatalf("the seed has to do %+v, %v", work, err)
	}
	_, _, err = one.Adopt(d, id, &disk1)
	wants(t, err, NotAligned, testUUID(1))

	es, _ := disk2.Entries(3, 4, 0)
	left, err := work.Take(&d, es)
	if err != nil || !left.Done() {
		t.Fatalf("left is %+v, %v", left, err)
	}
	disk1.write(es)
	a, next, err := one.Adopt(d, id, &disk1)
	if err != nil {
		t.Fatal(err)
	}
	want := id
	want.Incarnation = d.Begins
	e := a.Entries[0]
	if a.Identity != want || a.Last != 3 || len(a.Entries) != 1 || e.GetIndex() != 4 || e.GetTerm() != 4 {
		t.Fatalf("adopts %+v", a)
	}
	if hs := a.HardState; hs.GetTerm() != 4 || hs.GetVote() != 0 || hs.GetCommit() != 4 {
		t.Fatalf("adopts the hard state %v", hs)
	}
	if r, err := DecodeRecord(a.Record); err != nil || r.Phase != Adopted || !r.MayRun() || !r.Decision.equal(&d) {
		t.Fatalf("the record that goes with it is %+v, %v", r, err)
	}
	for _, again := range []func() error{
		func() error { _, _, err := next.Freeze(d.Order, says(1, disk1)); return err },
		func() error { w, err := next.Align(d, &disk1); return errors.Join(err, notDone(w)) },
		func() error {
			a, _, err := next.Adopt(d, want, &disk1)
			if a != nil {
				return errors.New("it adopts twice")
			}
			return err
		},
	} {
		if err := again(); err != nil {
			t.Errorf("again: %v", err)
		}
	}
}

func notDone(w Work) error {
	if !w.Done() {
		return errors.New("work is left")
	}
	return nil
}

func TestStepsRefused(t *testing.T) {
	one, two, d := decided(t)
	change := func(f func(*Decision)) Decision {
		d := d
		f(&d)
		return d
	}
	adopted := one
	adopted.Phase, adopted.Decision = Adopted, d
	disk1 := log(2, 1, 1, 2, 2, 2)
	cases := []struct {
		name   string
		record Record
		d      Decision
		reason Reason
	}{
		{"free", Record{}, d, NotFrozen},
		{"in another plan", frozenFor(t, says(1, disk1), order(planB, 1, 2)).Record, d, NotFrozen},
		{"other order", one, change(func(d *Decision) { d.Members = order(planA, 1, 2, 3).Members }), OtherPlan},
		{"old term", one, change(func(d *Decision) { d.Term = 3 }), OtherDecision},
		{"seed from elsewhere", one, change(func(d *Decision) { d.Seed = 3 }), OtherDecision},
		{"a seed that froze otherwise", two, change(func(d *Decision) { d.Last = 4 }), OtherDecision},
		{"another decision than adopted", adopted, change(func(d *Decision) { d.Term = 9 }), OtherDecision},
		{"another history", one, change(func(d *Decision) { d.Runs = []gcs.TermRun{{Term: 1, First: 1}, {Term: 3, First: 2}} }), OtherHistory},
		{"out of reach", one, change(func(d *Decision) { d.First, d.Runs = 4, []gcs.TermRun{{Term: 3, First: 3}} }), TooFarBehind},
		{"nothing", one, Decision{}, OtherDecision},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.record.Align(c.d, &disk1)
			var r *RefusedError
			if !errors.As(err, &r) || r.Reason != c.reason {
				t.Fatalf("align: %v, wanted was %q", err, c.reason)
			}
			a, next, err := c.record.Adopt(c.d, gcs.Identity{}, &disk1)
			if !errors.As(err, &r) || r.Reason != c.reason || a != nil || next.Phase != c.record.Phase {
				t.Fatalf("adopt: %v, wanted was %q", err, c.reason)
			}
		})
	}
	short := log(1, 1)
	_, err := one.Align(d, &short)
	wants(t, err, Damaged, testUUID(1))
	seed := log(1, 1, 1, 3)
	_, _, err = two.Adopt(d, gcs.Identity{Group: group, Incarnation: first, Member: testUUID(2), RaftID: 9}, &seed)
	wants(t, err, Damaged, testUUID(2))
}

func TestEntriesRefused(t *testing.T) {
	_, two, d := decided(t)
	work := Work{From: 2, To: 3}
	e := func(index, term uint64) *raftpb.Entry { return &raftpb.Entry{Index: new(index), Term: new(term)} }
	for name, es := range map[string][]*raftpb.Entry{
		"a gap":         {e(3, 3)},
		"before":        {e(1, 1)},
		"another term":  {e(2, 3)},
		"too many":      {e(2, 1), e(3, 3), e(4, 3)},
		"a later term":  {e(2, 1), e(3, 4)},
		"an older term": {e(2, 1), e(3, 1)},
	} {
		if left, err := work.Take(&d, es); err == nil {
			t.Errorf("%s is taken, left is %+v", name, left)
		}
	}
	if left, err := work.Take(&d, []*raftpb.Entry{e(2, 1)}); err != nil || left != (Work{From: 3, To: 3}) {
		t.Errorf("left is %+v, %v", left, err)
	}
	for _, r := range [][2]uint64{{0, 1}, {2, 4}, {3, 2}} {
		wants(t, two.Serve(planA, r[0], r[1]), TooFarBehind, testUUID(2))
	}
	wants(t, two.Serve(planB, 1, 2), NotFrozen, testUUID(2))
	if err := two.Serve(planA, 1, 3); err != nil {
		t.Error(err)
	}
}

func TestCheckIdentity(t *testing.T) {
	one, _, d := decided(t)
	adopted := one
	adopted.Phase, adopted.Decision = Adopted, d
	id := gcs.Identity{Group: group, Incarnation: first, Member: testUUID(1), RaftID: 1}
	over, other := id, id
	over.Incarnation, other.RaftID = d.Begins, 7
	for _, c := range []struct {
		r    Record
		id   gcs.Identity
		fits bool
	}{
		{Record{}, other, true},
		{one, id, true},
		{one, over, false},
		{one, other, false},
		{adopted, over, true},
		{adopted, id, false},
	} {
		if err := c.r.CheckIdentity(c.id); (err == nil) != c.fits {
			t.Errorf("%s with %+v: %v", c.r.Phase, c.id, err)
		}
	}
}
