package gcs

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// termLog is a log of which only the terms are known: the ith is that of the
// entry at i+1.
type termLog []uint64

// runs are the log's runs, noted as a member does.
func (l termLog) runs() []TermRun {
	var runs []TermRun
	for i, term := range l {
		runs = noteTerm(runs, term, uint64(i)+1)
	}
	return runs
}

// drawHistory draws logs as raft lets them come to be: in each term one leader,
// who goes on from a log of an earlier term, whose entries go to some members.
func drawHistory(t *rapid.T, n, terms int) []termLog {
	logs := make([]termLog, n)
	for term := range uint64(rapid.IntRange(0, terms).Draw(t, "terms")) {
		from := rapid.IntRange(0, n-1).Draw(t, "leader")
		led := slices.Clone(logs[from])
		for range rapid.IntRange(1, 5).Draw(t, "entries") {
			led = append(led, term+1)
		}
		for i := range logs {
			if rapid.Bool().Draw(t, "reached") {
				keep := rapid.IntRange(len(logs[from]), len(led)).Draw(t, "taken")
				logs[i] = slices.Clone(led[:keep])
			}
		}
	}
	return logs
}

// slowPrefix compares entry by entry, from the end.
func slowPrefix(a, b termLog) uint64 {
	for i := min(len(a), len(b)); i > 0; i-- {
		if a[i-1] == b[i-1] {
			return uint64(i)
		}
	}
	return 0
}

func TestCommonPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logs := drawHistory(t, 2, 2*termRuns)
		a, b := logs[0], logs[1]
		want := slowPrefix(a, b)
		if !slices.Equal(a[:want], b[:want]) {
			t.Fatalf("the logs do not match: %v %v", a, b)
		}
		runsA, runsB := a.runs(), b.runs()
		for range 2 {
			got, known := CommonPrefix(runsA, uint64(len(a)), runsB, uint64(len(b)))
			reaches := want == 0 && len(runsA) < termRuns && len(runsB) < termRuns ||
				want > 0 && runsA[0].First <= want && runsB[0].First <= want
			switch {
			case known && got != want:
				t.Fatalf("common prefix of %v and %v is %d, want %d", a, b, got, want)
			case !known && (reaches || got != 0):
				t.Fatalf("common prefix of %v and %v is not known, want %d, got %d", runsA, runsB, want, got)
			}
			a, b, runsA, runsB = b, a, runsB, runsA
		}
	})
}

func TestCommonPrefixOf(t *testing.T) {
	long := []TermRun{{1, 1}, {4, 10}, {6, 20}}
	for _, c := range []struct {
		name         string
		a            []TermRun
		lastA        uint64
		b            []TermRun
		lastB, index uint64
		known        bool
	}{
		{"nothing", nil, 0, nil, 0, 0, true},
		{"nothing and something", nil, 0, long, 30, 0, true},
		{"the same", long, 30, long, 30, 30, true},
		{"one longer", long, 30, long, 25, 25, true},
		{"one without the last term", long, 30, []TermRun{{1, 1}, {4, 10}}, 15, 15, true},
		{"another last term", long, 30, []TermRun{{1, 1}, {4, 10}, {5, 15}}, 40, 14, true},
		{"another term in the middle", long, 30, []TermRun{{1, 1}, {3, 8}, {7, 12}}, 13, 7, true},
		{"nothing in common", long, 30, []TermRun{{2, 1}}, 9, 0, true},
		{"no runs", long, 30, nil, 9, 0, false},
		{"runs too new", long[2:], 30, []TermRun{{1, 1}, {4, 10}, {5, 15}}, 40, 0, false},
		{"runs new enough", long[1:], 30, []TermRun{{1, 1}, {4, 10}, {5, 15}}, 40, 14, true},
		{"nonsense", []TermRun{{9, 0}}, 30, []TermRun{{8, 0}}, 40, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				index, known := CommonPrefix(c.a, c.lastA, c.b, c.lastB)
				if index != c.index || known != c.known {
					t.Errorf("CommonPrefix is %d, %v, want %d, %v", index, known, c.index, c.known)
				}
				c.a, c.lastA, c.b, c.lastB = c.b, c.lastB, c.a, c.lastA
			}
		})
	}
}

func TestTermsAreBounded(t *testing.T) {
	var runs []TermRun
	for term := range uint64(3 * termRuns) {
		runs = noteTerm(runs, term+1, 2*term+1)
		runs = noteTerm(runs, term+1, 2*term+2)
	}
	first, last := runs[0], runs[len(runs)-1]
	if len(runs) != termRuns || first != (TermRun{2*termRuns + 1, 4*termRuns + 1}) || last != (TermRun{3 * termRuns, 6*termRuns - 1}) {
		t.Errorf("%d runs, %v to %v", len(runs), first, last)
	}
}
