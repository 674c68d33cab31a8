package election

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

// version reads a version that is one.
func version(text string) Version {
	v, err := ParseVersion(text)
	if err != nil {
		panic(err)
	}
	return v
}

// mysqlRules are those of Group Replication.
func mysqlRules() Rules {
	return Rules{PatchCounts: version("8.0.17"), WeightCounts: version("5.7.20")}
}

func uuid(n uint64) gtid.UUID { return gtid.UUID{15: byte(n)} }

// online is an ONLINE member whose UUID is its raft id.
func online(id uint64, v string, weight uint32) Member {
	return Member{UUID: uuid(id), RaftID: id, Version: version(v), Weight: weight, Online: true}
}

func recovering(id uint64, v string, weight uint32) Member {
	m := online(id, v, weight)
	m.Online = false
	return m
}

// ranked returns the candidates of a choice in order, and the verdicts of all.
func ranked(c Choice) (ids []uint64, verdicts map[uint64]Verdict) {
	verdicts = map[uint64]Verdict{}
	for _, l := range c.Lines {
		if l.Rank > 0 {
			ids = append(ids, l.Member.RaftID)
		}
		verdicts[l.Member.RaftID] = l.Verdict
	}
	return ids, verdicts
}

// TestRankingOfMySQL has the examples of Group Replication's own source.
func TestRankingOfMySQL(t *testing.T) {
	for _, c := range []struct {
		name     string
		versions []string
		weights  []uint32 // of members 1, 2, ...
		want     []uint64
	}{
		{"by UUID within the major version", []string{"5.7.18", "5.7.18", "5.7.19", "5.7.20", "5.7.21", "8.0.2"}, []uint32{1, 2, 3, 4, 5, 6}, []uint64{1, 2, 3, 4, 5}},
		{"by weight within the major version", []string{"5.7.20", "5.7.21", "8.0.2", "8.0.2"}, []uint32{10, 20, 30, 40}, []uint64{2, 1}},
		{"the lowest patch alone", []string{"8.0.17", "8.0.18", "8.0.19"}, []uint32{10, 20, 30}, []uint64{1}},
		{"the last version whose patch is ignored", []string{"8.0.13", "8.0.17", "8.0.18"}, []uint32{10, 20, 30}, []uint64{3, 2, 1}},
		{"8.0.16", []string{"8.0.16", "8.0.17"}, []uint32{10, 20}, []uint64{2, 1}},
		{"5.7.19", []string{"5.7.19", "5.7.20"}, []uint32{10, 20}, []uint64{1, 2}},
		{"equal weights", []string{"8.0.30", "8.0.30", "8.0.30"}, []uint32{50, 60, 60}, []uint64{2, 3, 1}},
		{"weight 0 is no exclusion", []string{"8.0.30"}, []uint32{0}, []uint64{1}},
	} {
		b := Ballot{Rules: mysqlRules()}
		for i, v := range c.versions {
			b.Members = append(b.Members, online(uint64(i+1), v, c.weights[i]))
		}
		choice := Choose(b)
		if ids, _ := ranked(choice); !slices.Equal(ids, c.want) || choice.Winner != c.want[0] {
			t.Errorf("%s: %v, elected %d, want %v", c.name, ids, choice.Winner, c.want)
		}
	}
}

// explained is one election by our rules, with everything that is said.
var explained = []struct {
	name   string
	ballot Ballot
	want   []string // id rank verdict behind: text
}{
	{"nobody", Ballot{}, nil},
	{"all RECOVERING", Ballot{Members: []Member{recovering(1, "1.0.0", 50)}}, []string{"1 0 not ONLINE 0: it is not ONLINE"}},
	{"one", Ballot{Members: []Member{online(1, "1.0.0", 0)}}, []string{"1 1 elected 0: it is the only candidate"}},
	{
		"weights",
		Ballot{Members: []Member{online(1, "1.0.0", 40), online(2, "1.0.0", 60), online(3, "1.0.0", 60)}},
		[]string{
			"2 1 elected 0: it has the lowest UUID among equals",
			"3 2 outranked by UUID 0: its UUID is greater than that of the first",
			"1 3 outranked by weight 0: its weight is 40, that of the first 60",
		},
	},
	{
		// In Group Replication member 1, though it is not ONLINE, leaves the group
		// without a primary.
		"versions of those that are ONLINE",
		Ballot{Members: []Member{recovering(1, "0.9.0", 90), online(2, "1.0.1", 90), online(3, "1.0.0", 10), online(4, "1.0.0", 20)}},
		[]string{
			"4 1 elected 0: it has the highest weight, 20",
			"3 2 outranked by weight 0: its weight is 10, that of the first 20",
			"1 0 not ONLINE 0: it is not ONLINE",
			"2 0 newer version 0: it runs 1.0.1, and the oldest ONLINE member 1.0.0",
		},
	},
	{
		"the silent come last, the deposed never",
		Ballot{Members: []Member{online(1, "1.0.0", 90), online(2, "1.0.0", 80), online(3, "1.0.0", 10)}, Deposed: 1, Passed: []uint64{1, 2}},
		[]string{
			"3 1 elected 0: it is the only candidate that is not silent",
			"2 2 passed over 0: it is silent",
			"1 0 passed over 0: it is the primary that is replaced",
		},
	},
	{
		"all others silent",
		Ballot{Members: []Member{online(1, "1.0.0", 90), online(2, "1.0.0", 80), online(3, "1.0.0", 10)}, Deposed: 1, Passed: []uint64{2, 3}},
		[]string{
			"2 1 elected 0: it has the highest weight, 80",
			"3 2 outranked by weight 0: its weight is 10, that of the first 80",
			"1 0 passed over 0: it is the primary that is replaced",
		},
	},
	{
		"the deposed alone has the lowest version",
		Ballot{Members: []Member{online(1, "1.0.0", 50), online(2, "1.1.0", 50)}, Deposed: 1},
		[]string{
			"1 0 passed over 0: it is the primary that is replaced",
			"2 0 newer version 0: it runs 1.1.0, and the oldest ONLINE member 1.0.0",
		},
	},
	{
		"most up to date",
		Ballot{
			Members:  []Member{online(1, "1.0.0", 90), online(2, "1.0.0", 10), online(3, "1.0.0", 50), online(4, "1.0.0", 99), online(5, "1.1.0", 50)},
			Progress: []Progress{{1, 936}, {2, 937}, {3, 1000}, {5, 1 << 40}},
		},
		[]string{
			"3 1 elected 0: it has the highest weight, 50",
			"2 2 outranked by weight 63: its weight is 10, that of the first 50",
			"1 3 outranked by progress 64: it is 64 entries behind",
			"4 4 outranked by progress 0: it is not known how far it is",
			"5 0 newer version 0: it runs 1.1.0, and the oldest ONLINE member 1.0.0",
		},
	},
	{
		"one is the most up to date",
		Ballot{Members: []Member{online(1, "1.0.0", 90), online(2, "1.0.0", 10)}, Progress: []Progress{{1, 0}, {2, 1 << 63}}},
		[]string{
			"2 1 elected 0: it is the most up to date",
			"1 2 outranked by progress 9223372036854775808: it is 9223372036854775808 entries behind",
		},
	},
}

func TestChooseExplains(t *testing.T) {
	for _, c := range explained {
		var got []string
		choice := Choose(c.ballot)
		for _, l := range choice.Lines {
			got = append(got, fmt.Sprintf("%d %d %s %d: %s", l.Member.RaftID, l.Rank, l.Verdict, l.Behind, l.Text))
		}
		if diff := gocmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// naiveWinner sorts nothing: it asks of each candidate whether any other beats
// it.
func naiveWinner(b Ballot) uint64 {
	lowest := Version(1<<32 - 1)
	for _, m := range b.Members {
		if m.Online {
			lowest = min(lowest, m.Version)
		}
	}
	could := func(m Member) bool {
		same := m.Version == lowest || lowest < b.Rules.PatchCounts && m.Version>>16 == lowest>>16
		return m.Online && same && m.RaftID != b.Deposed
	}
	applied, best := map[uint64]uint64{}, uint64(0)
	for _, m := range b.Members {
		for _, p := range b.Progress {
			if p.RaftID == m.RaftID {
				applied[m.RaftID] = p.Applied
				if could(m) {
					best = max(best, p.Applied)
				}
			}
		}
	}
	bucket := func(m Member) int {
		a, ok := applied[m.RaftID]
		switch {
		case len(b.Progress) == 0:
			return 0
		case !ok:
			return 1000
		}
		return bits.Len64((best - a) / 64)
	}
	beats := func(m, o Member) bool {
		mp, op := slices.Contains(b.Passed, m.RaftID), slices.Contains(b.Passed, o.RaftID)
		switch {
		case mp != op:
			return op
		case bucket(m) != bucket(o):
			return bucket(m) < bucket(o)
		case m.Weight != o.Weight && lowest >= b.Rules.WeightCounts:
			return m.Weight > o.Weight
		}
		return m.UUID.String() < o.UUID.String()
	}
	for _, m := range b.Members {
		if could(m) && !slices.ContainsFunc(b.Members, func(o Member) bool { return o.RaftID != m.RaftID && could(o) && beats(o, m) }) {
			return m.RaftID
		}
	}
	return 0
}

func drawBallot(t *rapid.T) Ballot {
	versions := []string{"5.7.18", "5.7.20", "8.0.13", "8.0.17", "8.0.18"}
	var b Ballot
	uuids := rapid.Permutation([]uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(t, "uuids")
	for i := range rapid.IntRange(0, 9).Draw(t, "members") {
		m := online(uint64(i+1), rapid.SampledFrom(versions).Draw(t, "version"), rapid.SampledFrom([]uint32{0, 50, 100}).Draw(t, "weight"))
		m.UUID = uuid(uuids[i])
		m.Online = rapid.IntRange(0, 3).Draw(t, "online") > 0
		b.Members = append(b.Members, m)
		if rapid.Bool().Draw(t, "passed") {
			b.Passed = append(b.Passed, m.RaftID)
		}
		if rapid.Bool().Draw(t, "reports") {
			b.Progress = append(b.Progress, Progress{m.RaftID, rapid.SampledFrom([]uint64{0, 1, 63, 64, 65, 127, 128, 200, 1 << 40}).Draw(t, "applied")})
		}
	}
	if rapid.Bool().Draw(t, "without progress") {
		b.Progress = nil
	}
	b.Deposed = rapid.Uint64Range(0, 9).Draw(t, "deposed")
	b.Rules = rapid.SampledFrom([]Rules{OurRules, mysqlRules()}).Draw(t, "rules")
	return b
}

// TestChoose holds the ranking against the naive one, and checks that the order
// of the ballot does not matter and that everybody has one line.
func TestChoose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBallot(t)
		c := Choose(b)
		if want := naiveWinner(b); c.Winner != want {
			t.Fatalf("elected %d, want %d: %+v", c.Winner, want, c.Lines)
		}
		for i, l := range c.Lines {
			if l.Text == "" || (l.Rank == 1) != (l.Verdict == Elected) || l.Rank > 0 && l.Rank != i+1 {
				t.Fatalf("line %d is %+v", i, l)
			}
		}
		// Without those before it, each candidate is the first. Buckets depend on
		// the best and candidates on the lowest version, so these must be the same.
		for i, l := range c.Lines {
			if l.Rank == 0 || len(b.Progress) > 0 {
				continue
			}
			pool := Ballot{Deposed: b.Deposed, Passed: b.Passed, Rules: b.Rules}
			for _, o := range c.Lines[i:] {
				pool.Members = append(pool.Members, o.Member)
			}
			if lowestOnline(pool.Members) == lowestOnline(b.Members) && Choose(pool).Winner != l.Member.RaftID {
				t.Fatalf("%d has rank %d, and is not the first of the rest", l.Member.RaftID, l.Rank)
			}
		}
		checkOrder(t, b, c)
	})
}

func checkOrder(t *rapid.T, b Ballot, c Choice) {
	var ids []uint64
	for _, l := range c.Lines {
		ids = append(ids, l.Member.RaftID)
	}
	slices.Sort(ids)
	for i, m := range b.Members {
		if len(ids) != len(b.Members) || ids[i] != m.RaftID {
			t.Fatalf("lines for %v, members %+v", ids, b.Members)
		}
	}
	slices.Reverse(b.Members)
	slices.Reverse(b.Passed)
	slices.Reverse(b.Progress)
	if diff := gocmp.Diff(c, Choose(b)); diff != "" {
		t.Fatalf("in another order (-want +got):\n%s", diff)
	}
	slices.SortFunc(b.Members, func(a, b Member) int { return cmp.Compare(a.Weight, b.Weight) })
	if diff := gocmp.Diff(c, Choose(b)); diff != "" {
		t.Fatalf("by weight (-want +got):\n%s", diff)
	}
}

func BenchmarkChoose(b *testing.B) {
	var ballot Ballot
	for id := range uint64(9) {
		ballot.Members = append(ballot.Members, online(id+1, "1.0.0", uint32(id)))
	}
	b.ReportAllocs()
	for b.Loop() {
		Choose(ballot)
	}
}
