package forced

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gcs"
)

// history draws logs as raft writes them: terms do not fall, logs fork from one
// another and never join again, and what is committed is in the log that it was
// committed in.
func history(t *rapid.T, n int) []disk {
	logs := []disk{log(1, 1)}
	term := uint64(1)
	for len(logs) < n {
		from := logs[rapid.IntRange(0, len(logs)-1).Draw(t, "forks from")]
		keep := rapid.IntRange(1, len(from.entries)).Draw(t, "keeps")
		d := disk{first: 1, entries: slices.Clone(from.entries[:keep])}
		for range rapid.IntRange(0, 3).Draw(t, "terms") {
			term++
			for i := range rapid.IntRange(1, 3).Draw(t, "entries") {
				d.entries = append(d.entries, entry{term, term*1000 + uint64(i)})
			}
		}
		logs = append(logs, d)
	}
	// One chain is committed: a beginning of one log, and others know of it as
	// far as they have it.
	chain := logs[rapid.IntRange(0, len(logs)-1).Draw(t, "chain")]
	upTo := uint64(rapid.IntRange(1, len(chain.entries)).Draw(t, "committed"))
	for i := range logs {
		d := &logs[i]
		d.term = d.entries[len(d.entries)-1].term
		has := min(upTo, shared(d, &chain))
		d.commit = uint64(rapid.IntRange(1, int(has)).Draw(t, "knows of"))
		d.first = uint64(rapid.IntRange(1, int(d.commit)).Draw(t, "first"))
	}
	return logs
}

// shared counts what two logs have in common, one entry after the other.
func shared(a, b *disk) uint64 {
	n := uint64(0)
	for n < min(a.last(), b.last()) && a.entries[n] == b.entries[n] {
		n++
	}
	return n
}

// TestDecideAgainstEntries compares the decision, made of runs of terms, with
// one made of the logs themselves.
func TestDecideAgainstEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logs := history(t, rapid.IntRange(1, 5).Draw(t, "survivors"))
		var facts []Facts
		var ns []int
		known := &logs[0]
		for i := range logs {
			facts = append(facts, says(i+1, logs[i]).Facts)
			ns = append(ns, i+1)
			if logs[i].commit > known.commit {
				known = &logs[i]
			}
		}
		o := order(planA, ns...)
		var seed *disk
		want := uint64(0)
		for i := range logs {
			d := &logs[i]
			if shared(d, known) < known.commit {
				continue
			}
			if seed == nil || cmp.Or(cmp.Compare(d.term, seed.term), cmp.Compare(d.last(), seed.last())) > 0 {
				seed, want = d, uint64(i+1)
			}
		}
		got, err := Decide(o, rapid.Permutation(facts).Draw(t, "in any order"))
		far := slices.ContainsFunc(logs, func(d disk) bool { return shared(&d, seed)+1 < seed.first })
		if err != nil {
			if r := (*RefusedError)(nil); !asRefused(err, &r) || r.Reason != TooFarBehind || !far {
				t.Fatalf("no decision, and none is too far behind seed %d: %v", want, err)
			}
			return
		}
		if far || got.Seed != want || got.Last != seed.last() || got.LastTerm != seed.term {
			t.Fatalf("decided %+v, wanted was seed %d of %+v", got, want, logs)
		}
		for i := range logs {
			keep := shared(&logs[i], seed)
			w, err := got.work(&facts[i])
			if err != nil || w != (Work{From: keep + 1, To: seed.last(), Cut: logs[i].last() - keep}) {
				t.Fatalf("member %d has to do %+v, %v; it shares %d entries with the seed", i+1, w, err, keep)
			}
		}
	})
}

func asRefused(err error, r **RefusedError) bool {
	e, ok := err.(*RefusedError)
	*r = e
	return ok
}

// TestReadLog compares the runs of a log with its entries.
func TestReadLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := disk{first: 1}
		term := uint64(1)
		for range rapid.IntRange(1, 300).Draw(t, "entries") {
			if rapid.IntRange(0, 2).Draw(t, "new term") == 0 {
				term += uint64(rapid.IntRange(1, 3).Draw(t, "by"))
			}
			d.entries = append(d.entries, entry{term: term})
		}
		d.first = uint64(rapid.IntRange(1, int(d.last())+1).Draw(t, "first"))
		var f Facts
		if err := f.ReadLog(&d); err != nil {
			t.Fatal(err)
		}
		from := max(d.first, 2) - 1
		var want []gcs.TermRun
		for i := from; i <= d.last(); i++ {
			if e := d.entries[i-1]; len(want) == 0 || want[len(want)-1].Term != e.term {
				want = append(want, gcs.TermRun{Term: e.term, First: i})
			}
		}
		want = want[max(0, len(want)-MaxRuns):]
		if f.First != d.first || f.Last != d.last() || !slices.Equal(f.Runs, want) {
			t.Fatalf("read %+v, wanted were the runs %v", f, want)
		}
		if reason := runsFlaw(f.Runs, from, f.Last); reason != "" {
			t.Fatalf("a log %s", reason)
		}
	})
}

// TestManyTerms compares logs whose runs do not reach back to where they agree.
func TestManyTerms(t *testing.T) {
	long := func(from uint64, n int, commit uint64) disk {
		d := log(commit, 1, 1, 1)
		for i := range n {
			d.term = from + 2*uint64(i)
			d.entries = append(d.entries, entry{d.term, d.term})
		}
		return d
	}
	one, two := long(2, 100, 3), long(3, 100, 3)
	d, err := Decide(order(planA, 1, 2), []Facts{says(1, one).Facts, says(2, two).Facts})
	if err != nil || d.Seed != 2 {
		t.Fatalf("decided %+v, %v", d, err)
	}
	f := says(1, one).Facts
	if w, err := d.work(&f); err != nil || w.From != 4 {
		t.Errorf("member 1 has to do %+v, %v: it shares what is committed, and no more is known", w, err)
	}
	// What both show is compared, and differs before the end of what is
	// committed.
	one.commit = 90
	_, err = Decide(order(planA, 1, 2), []Facts{says(1, one).Facts, says(2, two).Facts})
	if err != nil {
		t.Fatalf("the longer one has not what is committed: %v", err)
	}
	two.commit = 90
	_, err = Decide(order(planA, 1, 2), []Facts{says(1, one).Facts, says(2, two).Facts})
	wants(t, err, OtherHistory, testUUID(2))
}

func TestIncarnation(t *testing.T) {
	if a, b := Incarnation(planA), Incarnation(planB); a == b || a == planA || a != Incarnation(planA) {
		t.Errorf("plans begin %s and %s", a, b)
	}
	if got := Incarnation(planA).String(); got[14] != '8' {
		t.Errorf("%s is no UUID of version 8", got)
	}
}
