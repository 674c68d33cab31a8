package sim

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
)

// looks has a client read registers at member, from a snapshot of the first n
// entries.
func (a *audience) looks(asked, began int64, member int, n uint64, keys ...int) *begun {
	b := a.asks(began, member, before, n, func(b *begun) { b.asked = asked })
	for _, k := range keys {
		at := key{registers, k}
		r := read{key: at}
		if v := a.state.read(at, n); v != nil {
			r.found = true
			r.value, _ = decodeValue(v)
		}
		b.work.reads = append(b.work.reads, r)
	}
	return b
}

// alone leaves only the checker of linearizability.
func (a *audience) alone() { a.checkers = []checker{a.oracle, a.linear} }

// TestLinearizability checks verdicts on histories by hand.
func TestLinearizability(t *testing.T) {
	for _, c := range []struct {
		what  string
		wrong bool
		play  func(a *audience)
	}{
		{"a read of what was written before", false, func(a *audience) {
			a.commits(10, eventual, 1)
			a.looks(20, 21, 2, 1, 1)
		}},
		{"a read of less than what was written before", true, func(a *audience) {
			a.commits(10, eventual, 1)
			a.looks(20, 21, 2, 0, 1)
		}},
		{"a read while it is written", false, func(a *audience) {
			a.commits(10, eventual, 1)
			a.looks(5, 21, 2, 0, 1)
		}},
		{"a read of what nobody was told of", false, func(a *audience) {
			a.commits(0, eventual, 1)
			a.looks(20, 21, 2, 1, 1)
			a.looks(30, 31, 1, 1, 1)
		}},
		{"a read of what nobody was told of, and then not", true, func(a *audience) {
			a.commits(0, eventual, 1)
			a.looks(20, 21, 2, 1, 1)
			a.looks(30, 31, 1, 0, 1)
		}},
		{"a read of two keys at two times", true, func(a *audience) {
			a.commits(10, eventual, 1)
			a.time = 15
			a.commits(20, eventual, 2)
			old := a.looks(30, 31, 2, 0, 1)
			b := a.looks(5, 31, 2, 2, 2)
			b.work.reads = append(b.work.reads, old.work.reads...)
			a.begins = slices.DeleteFunc(a.begins, func(x *begun) bool { return x == old })
		}},
		{"two readers who see two writes in two orders", true, func(a *audience) {
			a.commits(0, eventual, 1)
			a.commits(0, eventual, 2)
			nothing := a.looks(30, 31, 2, 0, 1)
			a.looks(32, 33, 1, 1, 1, 2)
			b := a.looks(32, 33, 2, 2, 2)
			b.work.reads = append(b.work.reads, nothing.work.reads...)
		}},
		{"EVENTUAL reads do not count", false, func(a *audience) {
			a.commits(10, eventual, 1)
			a.looks(20, 21, 2, 0, 1).level = eventual
		}},
		{"EVENTUAL reads count where all is AFTER", true, func(a *audience) {
			a.commits(10, everyone, 1)
			a.looks(20, 21, 2, 0, 1).level = eventual
		}},
		{"EVENTUAL reads of who is out of the view do not", false, func(a *audience) {
			a.commits(10, everyone, 1)
			a.view.Members = a.view.Members[:1]
			a.looks(20, 21, 2, 0, 1).level = eventual
		}},
		{"a lost update", true, func(a *audience) {
			a.commits(10, eventual, 1)
			a.time = 15
			s := a.commits(20, eventual, 1)
			s.reads = []read{{key: key{registers, 1}}}
		}},
		{"a scan that finds what is there", false, func(a *audience) {
			a.commits(10, eventual, 1)
			b := a.looks(20, 21, 2, 1)
			b.work.scans = []scan{{space: registers, from: 0, to: 9, found: a.looks(20, 21, 2, 1, 1).work.reads}}
		}},
		{"a scan that does not", true, func(a *audience) {
			a.commits(10, eventual, 1)
			b := a.looks(20, 21, 2, 1)
			b.work.scans = []scan{{space: registers, from: 0, to: 9}}
		}},
	} {
		a := newAudience(t)
		a.alone()
		c.play(a)
		if len(a.broken) > 0 {
			t.Fatalf("%s: %q", c.what, a.broken)
		}
		a.conclude()
		if wrong := len(a.broken) > 0; wrong != c.wrong {
			t.Errorf("%s: noticed %q", c.what, a.broken)
		}
	}
}

// TestLinearizabilityOfSums checks that additions commute, and that a reader sees
// all that came before it.
func TestLinearizabilityOfSums(t *testing.T) {
	for _, missing := range []int64{0, 5} {
		a := newAudience(t)
		a.alone()
		for n := uint64(1); n <= 3; n++ {
			s := a.adds(n-1, 7)
			a.deliver("m1", a.entry(n, n, judge(s, a.certified(n, n-1))))
			s.begun = &begun{run: a.runs[1], work: s, asked: 1, began: 1, ended: 10, answered: true, index: n}
			s.begun.verdict.Outcome = certifier.Certified
			a.begins = append(a.begins, s.begun)
		}
		b := a.looks(20, 21, 2, 3)
		b.work.reads = []read{{key: key{sums, 7}, found: true, value: value{number: 15 - missing}}}
		a.conclude()
		if (len(a.broken) > 0) != (missing > 0) {
			t.Errorf("%d missing: noticed %q", missing, a.broken)
		}
	}
}

// TestLinearizableLogs checks that what follows the log is never refused, and that
// a reader who misses what was acknowledged always is.
func TestLinearizableLogs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newAudience(t)
		a.alone()
		stale := rapid.Bool().Draw(rt, "stale")
		a.linear.calls = rapid.IntRange(1, 80).Draw(rt, "calls")
		n := rapid.IntRange(1, 60).Draw(rt, "commits")
		for i := range int64(n) {
			at := i * 10
			a.time = at - rapid.Int64Range(0, 40).Draw(rt, "handed")
			ended := at + rapid.Int64Range(1, 40).Draw(rt, "answered")*rapid.Int64Range(0, 1).Draw(rt, "told")
			if ended == at {
				ended = 0
			}
			a.commits(ended, eventual, int(i)%3)
			if rapid.Bool().Draw(rt, "looks") {
				waited := rapid.SampledFrom([]int64{0, 0, 0, 10, 300}).Draw(rt, "waited")
				a.looks(at-waited, at+rapid.Int64Range(0, 9).Draw(rt, "took"), 1, uint64(i+1), 0, 1, 2)
			}
		}
		if stale {
			a.commits(int64(n)*10+60, eventual, 9)
			a.looks(int64(n)*10+61, int64(n)*10+62, 2, uint64(n), 9)
		}
		a.conclude()
		if len(a.broken) > 0 != stale {
			rt.Fatalf("stale: %t, noticed %q", stale, a.broken)
		}
	})
}

// TestLinearityInPieces checks what is judged in pieces: who waited for long, and
// begins with more than was there when those came who asked after it, is explained
// by all that it has seen; and who is contradicted by one of an earlier piece is
// noticed.
func TestLinearityInPieces(t *testing.T) {
	for _, calls := range []int{2, 5, pieceCalls} {
		for _, stale := range []bool{false, true} {
			a := newAudience(t)
			a.alone()
			a.linear.calls = calls
			const commits = 40
			for i := range int64(commits) {
				a.time = 100 + 10*i
				a.commits(105+10*i, eventual, int(i)%3)
			}
			a.looks(95, 1000, 2, commits, 0, 1, 2) // it waits for all of this
			a.time = 2000
			a.commits(0, eventual, 9)
			a.looks(2010, 2011, 1, commits+1, 9)
			for range commits { // it may come after these
				a.looks(2010, 3000, 1, commits+1, 9)
			}
			if stale {
				a.looks(2500, 2501, 2, commits, 9)
			}
			a.conclude()
			if len(a.broken) > 0 != stale {
				t.Errorf("stale: %t, in pieces of %d calls: noticed %q", stale, calls, a.broken)
			}
		}
	}
}

// TestPieceIsComplete checks that a piece has what explains each of its reads, where
// values have an order that the log has not.
func TestPieceIsComplete(t *testing.T) {
	a := newAudience(t)
	a.alone()
	a.linear.calls = 2
	a.time = 60
	a.commits(70, eventual, 2)
	a.time = 1
	a.commits(0, eventual, 1)
	a.looks(20, 21, 2, 2, 1)
	a.conclude()
	if len(a.broken) > 0 {
		t.Errorf("noticed %q", a.broken)
	}
}

// TestPieceOfManyReaders checks that those who only looked are not in every piece that
// comes after them, but for one of each place, who returned first.
func TestPieceOfManyReaders(t *testing.T) {
	var all []operation
	for i := range int64(5000) {
		all = append(all, operation{call: i, ret: i + 40 - i%7, place: 3 + int(i%4)})
	}
	const from = 4500
	piece, first := pieceOf(all, from, len(all))
	if want := len(all) - from + 3; first != 3 || len(piece) != want {
		t.Fatalf("%d operations after %d transactions, want %d after 3", len(piece), first, want)
	}
	for _, o := range piece[:3] {
		for i := range all[:from] {
			if other := &all[i]; other.place == o.place && other.ret < o.ret {
				t.Errorf("it has %s, and %s returned before", o, other)
			}
		}
	}
}

// TestSearchGivenUp checks that a search which would not end is given up, and that
// the log then tells.
func TestSearchGivenUp(t *testing.T) {
	a := newAudience(t)
	a.alone()
	for range 20 { // nobody was told of these: each may be anywhere, or nowhere
		a.commits(0, eventual, 1)
	}
	a.commits(10, eventual, 1)
	a.looks(20, 21, 2, 0, 1)
	a.conclude()
	if len(a.broken) == 0 || !strings.Contains(a.broken[0], "steps") {
		t.Errorf("noticed %q", a.broken)
	}
}
