package outlook_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/outlook"
	"github.com/concordatdb/concordat/internal/standing"
)

// voters are the members of a view as elections know them.
func voters(v gcs.View) (members []election.Member) {
	for _, m := range v.Members {
		members = append(members, election.Member{
			UUID: m.UUID, RaftID: m.RaftID, Version: election.Version(m.Version), Weight: m.Weight, Online: m.State == gcs.Online,
		})
	}
	return members
}

// ledBy is a single-primary group whose primary is the nth member of a view, nobody
// for 0.
func ledBy(v gcs.View, n uint64, change ...func(*election.Snapshot)) election.Snapshot {
	e := election.Snapshot{Epoch: 4, Mode: election.SinglePrimary, Primary: n, Members: voters(v)}
	for i := range e.Members {
		if m := &e.Members[i]; m.RaftID == n {
			m.Writes, m.Since = true, 4
		}
	}
	for _, f := range change {
		f(&e)
	}
	return e
}

// weight gives the nth member another weight.
func weight(n int, w uint32) func(*election.Snapshot) {
	return func(e *election.Snapshot) { e.Members[n-1].Weight = w }
}

// build gives the nth member another version.
func build(n int, v election.Version) func(*election.Snapshot) {
	return func(e *election.Snapshot) { e.Members[n-1].Version = v }
}

func action(target uint64, pending ...uint64) func(*election.Snapshot) {
	return func(e *election.Snapshot) {
		e.Action = &election.Action{ID: uuid(99), Kind: election.SetPrimary, Target: target, Pending: pending}
	}
}

var rightsCases = []planCase{
	{
		name: "the primary leaves", view: group(5, 0), election: ledBy(group(5, 0), 2), ask: verb(outlook.Leave, 2),
		warns: []string{"the primary leaves: A (m1:7400) is elected: it has the lowest UUID among equals"},
	},
	{
		name: "another one leaves", view: group(5, 0), election: ledBy(group(5, 0), 2), ask: verb(outlook.Leave, 3),
	},
	{
		name: "the primary is removed", view: group(5, 0), silent: []uint64{2}, election: ledBy(group(5, 0), 2, weight(4, 70)), ask: verb(outlook.Remove, 2),
		warns: []string{"B (m2:7400) is not heard: if", "the primary goes: D (m4:7400) is elected: it has the highest weight, 70"},
	},
	{
		name: "the primary is replaced", view: group(5, 0), silent: []uint64{1}, election: ledBy(group(5, 0), 1), ask: verb(outlook.Replace, 1),
		warns: []string{"A (m1:7400) is not heard: if", "the primary goes: B (m2:7400) is elected"},
	},
	{
		name: "the next one is not heard", view: group(5, 0), silent: []uint64{1}, election: ledBy(group(5, 0), 2), ask: verb(outlook.Leave, 2),
		objection: "no member could fail then", forceable: true,
		warns: []string{"the primary leaves: C (m3:7400) is elected: it has the lowest UUID", "no member may fail then", "A (m1:7400) is not heard and stays"},
	},
	{
		name: "only one is old enough, and is not heard", view: group(5, 0), silent: []uint64{1},
		election: ledBy(group(5, 0), 2, build(3, 2<<16), build(4, 2<<16), build(5, 2<<16)), ask: verb(outlook.Leave, 2),
		objection: "no member could fail then", forceable: true,
		warns: []string{"the primary leaves: A (m1:7400) is elected, which is not heard", "no member may fail then", "A (m1:7400) is not heard and stays"},
	},
	{
		name: "by progress", view: group(5, 0), election: ledBy(group(5, 0), 2), ask: verb(outlook.Leave, 2),
		progress: []election.Progress{{RaftID: 1, Applied: 10}, {RaftID: 5, Applied: 10_000}},
		warns:    []string{"the primary leaves: E (m5:7400) is elected: it is the most up to date"},
	},
	{
		name: "while another one takes over", view: group(5, 0), election: ledBy(group(5, 0), 2, action(4, 2)), ask: verb(outlook.Leave, 2),
		warns: []string{"the primary leaves: D (m4:7400) is elected: it was to become primary anyway"},
	},
	{
		name: "there is no primary", view: group(5, 0), election: ledBy(group(5, 0), 0), ask: verb(outlook.Leave, 1),
		warns: []string{"there is no primary now: B (m2:7400) is elected"},
	},
}

func TestPlanOfRights(t *testing.T) {
	for _, c := range rightsCases {
		t.Run(c.name, func(t *testing.T) {
			p := outlook.Make(outlook.Sight{View: c.view, Election: c.election, Progress: c.progress, Unreachable: c.silent}, c.ask)
			var warnings []string
			for _, w := range p.Warnings {
				warnings = append(warnings, shorten.Replace(w))
			}
			if !slices.EqualFunc(warnings, c.warns, strings.Contains) {
				t.Errorf("warnings %q, want %q", warnings, c.warns)
			}
			if !strings.Contains(p.Objection, c.objection) || p.Forceable != c.forceable {
				t.Errorf("objection %q, forceable %t", p.Objection, p.Forceable)
			}
			if !slices.Equal(p.Primaries, []gtid.UUID{p.Primary}) {
				t.Errorf("primary %s, who writes %v", p.Primary, p.Primaries)
			}
		})
	}
}

// In a multi-primary group of mixed versions those write then that wrote before, and
// those of the lowest version that is left.
func TestPlanOfManyWriters(t *testing.T) {
	v := group(5, 1)
	e := ledBy(v, 0, build(1, 1<<16), build(2, 2<<16), build(3, 2<<16), build(4, 3<<16), build(5, 3<<16), func(e *election.Snapshot) {
		e.Mode = election.MultiPrimary
		e.Members[0].Writes, e.Members[3].Writes = true, true
	})
	p := outlook.Make(outlook.Sight{View: v, Election: e}, verb(outlook.Leave, 1))
	if want := []gtid.UUID{uuid(2), uuid(3), uuid(4)}; !slices.Equal(p.Primaries, want) || !p.Primary.IsZero() || len(p.Warnings) != 0 {
		t.Errorf("who writes is %v, want %v; primary %s, warnings %q", p.Primaries, want, p.Primary, p.Warnings)
	}
}

// Whatever changes, nobody writes who would not be ONLINE, a single-primary group has
// one primary as long as somebody is, and one that stays keeps its place.
func TestWritersAreOnline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		e := ledBy(v, rapid.SampledFrom(v.Members).Draw(t, "primary").RaftID)
		for i := range e.Members {
			e.Members[i].Version = election.Version(rapid.IntRange(1, 3).Draw(t, "version") << 16)
			e.Members[i].Weight = uint32(rapid.IntRange(0, 2).Draw(t, "weight"))
		}
		if rapid.Bool().Draw(t, "multi") {
			e.Mode, e.Primary = election.MultiPrimary, 0
		}
		if rapid.Bool().Draw(t, "action") {
			action(rapid.SampledFrom(v.Members).Draw(t, "target").RaftID)(&e)
		}
		then := v
		then.Members = nil
		for _, m := range v.Members {
			if rapid.IntRange(0, 3).Draw(t, "stays") > 0 {
				then.Members = append(then.Members, m)
			}
		}
		s := outlook.Sight{View: v, Election: e, Unreachable: anySilent(t, v)}
		w := s.Writers(then)
		online := 0
		for _, m := range then.Members {
			if m.State == gcs.Online {
				online++
			}
		}
		for _, u := range w.All {
			if !slices.ContainsFunc(then.Members, func(m gcs.Member) bool { return m.UUID == u && m.State == gcs.Online }) {
				t.Fatalf("%s writes, and is not ONLINE", u)
			}
		}
		if (len(w.All) > 0) != (online > 0) {
			t.Fatalf("%d are ONLINE, %d write", online, len(w.All))
		}
		if e.Mode == election.MultiPrimary {
			return
		}
		if len(w.All) > 1 || len(w.All) == 1 && w.All[0] != w.Primary {
			t.Fatalf("primary %s, and these write: %v", w.Primary, w.All)
		}
		if p, ok := then.Member(e.Primary); ok && p.State == gcs.Online && (w.Primary != p.UUID || w.Why != "") {
			t.Fatalf("the primary %s stays, and %s is elected: %s", p.UUID, w.Primary, w.Why)
		}
	})
}

var rightsDiagnoses = []struct {
	name     string
	election election.Snapshot
	silent   []uint64
	change   func(*outlook.Facts)
	code     outlook.Code
	text     string // begins with
}{
	{"a primary", ledBy(group(3, 0), 2), nil, nil, outlook.OK, "The group has 3 members, 3 with a vote, and 1 may fail."},
	{"nobody yet", election.Snapshot{Members: voters(group(3, 0))}, nil, nil, outlook.OK, "The group has 3 members"},
	{
		"alone", ledBy(group(3, 0), 1), nil, func(f *outlook.Facts) { f.Alone = true }, outlook.PrimaryAlone,
		"This member is the primary, and too few of the others have told lately that they hear it",
	},
	{"no primary", ledBy(group(3, 0), 0), nil, nil, outlook.NoPrimary, "The group has no primary, and nobody writes."},
	{"the primary is silent", ledBy(group(3, 0), 2), []uint64{2}, nil, outlook.PrimarySilent, "The primary B (m2:7400) is UNREACHABLE, and nobody writes"},
	{"another one is silent", ledBy(group(3, 0), 2), []uint64{3}, nil, outlook.OKNoTolerancePartial, "The group has 3 members"},
	{
		"no quorum is graver", ledBy(group(3, 0), 2),
		[]uint64{2, 3},
		func(f *outlook.Facts) { f.Quorum, f.Alone = false, true }, outlook.NoQuorum,
		"Nothing commits here",
	},
	{
		"a planned change", ledBy(group(3, 0), 2, action(3, 2)), nil, nil, outlook.OK,
		"The group has 3 members, 3 with a vote, and 1 may fail. A planned change is under way, set-primary to C (m3:7400), action PLAN: " +
			"it waits for what runs on B (m2:7400); concordat primary cancel takes it back.",
	},
	{
		"catching up comes first", ledBy(group(3, 0), 0), nil, func(f *outlook.Facts) { f.State = standing.Recovering }, outlook.RecoveringHere,
		"This member is catching up",
	},
}

func TestDiagnosisOfRights(t *testing.T) {
	for _, c := range rightsDiagnoses {
		t.Run(c.name, func(t *testing.T) {
			f := served(group(3, 0), c.silent...)
			f.Election = c.election
			if c.change != nil {
				c.change(&f)
			}
			d := outlook.Diagnose(f)
			if text := shorten.Replace(d.Text); d.Code != c.code || !strings.HasPrefix(text, c.text) {
				t.Errorf("%s: %s\nwant %s: %s", d.Code, text, c.code, c.text)
			}
		})
	}
}
