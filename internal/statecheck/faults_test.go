package statecheck

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

var group = gtid.UUID{15: 7}

func executedUpTo(n uint64) (s gtid.Set) {
	for i := range n {
		s = s.Add(gtid.GTID{UUID: group, Number: i + 1})
	}
	return s
}

// Each line is what members 1 to n say, in their order, of one transaction.
func TestVotes(t *testing.T) {
	const none, bad, worse = applier.ClassNone, applier.ClassPayload, applier.ClassProgram
	for _, c := range []struct {
		name    string
		says    []applier.Class
		refused bool
		alone   bool   // who could not apply it fails by itself
		blamed  uint64 // who has what the others have not
		faults  int
	}{
		{"one cannot", []applier.Class{bad, none, none}, false, true, 0, 1},
		{"nobody can", []applier.Class{bad, bad, bad}, true, false, 0, 0},
		{"one can", []applier.Class{bad, bad, none}, true, false, 3, 1},
		{"one cannot for another reason", []applier.Class{bad, worse, bad}, true, false, 0, 1},
		{"one of two", []applier.Class{bad, none}, false, true, 0, 0},
		{"two of two", []applier.Class{bad, bad}, true, false, 0, 0},
		{"alone in the world", []applier.Class{worse}, true, false, 0, 0},
		{"all for other reasons", []applier.Class{bad, worse, worse + 1}, false, true, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, g := NewFaults(), gtid.GTID{UUID: group, Number: 1}
			online, faults, refused := members(len(c.says)), 0, false
			for i, class := range c.says {
				before := f.Snapshot() // what is shown is never that of before
				if i > 0 {
					want, asked := f.Wanted(uint64(i+1), 9)
					if open := f.voteOn(g).verdict == undecided; asked != open || open && want != g {
						t.Errorf("member %d is asked: %t", i+1, asked)
					}
				}
				j := f.Heard(5, uint64(i+1), Opinion{g, class}, online, executedUpTo(3), all)
				faults += len(j.Blamed)
				refused = refused || j.Refused
				after := f.Snapshot()
				shown := after.Votes[0]
				if len(before.Votes) > 0 && len(before.Votes[0].Said) != i || len(shown.Said) != i+1 || len(shown.Missing) != len(c.says)-i-1 {
					t.Errorf("after member %d: %+v", i+1, after)
				}
				if shown.Of != g || shown.Index != 5 || shown.Said[i] != (Said{online[i], class}) || (after.Refused != 0) != refused || len(after.Odd) != faults {
					t.Errorf("after member %d: %+v", i+1, after)
				}
				if v := f.voteOn(g); (shown.Verdict == Open) != (v.verdict == undecided) || shown.Class != v.class {
					t.Errorf("after member %d it is shown as %+v, and is %+v", i+1, shown, v)
				}
			}
			if refused != c.refused || f.Refused(g) != c.refused || f.Alone(g) != c.alone || faults != c.faults || len(f.Snapshot().Odd) != faults {
				t.Errorf("refused %t, alone %t, %d faults, want %+v", f.Refused(g), f.Alone(g), faults, c)
			}
			for i := range c.says {
				if id := uint64(i + 1); f.Blamed(id) != (id == c.blamed) {
					t.Errorf("member %d is blamed: %t", id, f.Blamed(id))
				}
			}
			f.View(9, nil, func(uint64) bool { return false })
			if f.Blamed(c.blamed) {
				t.Error("who has gone is blamed")
			}
		})
	}
}

// Of four, two say the same, and a view without one of the others decides it; of
// those who have come since, one is asked.
func TestVoteByView(t *testing.T) {
	f, g := NewFaults(), gtid.GTID{UUID: group, Number: 1}
	for id := range uint64(2) {
		if j := f.Heard(5, id+1, Opinion{g, applier.ClassPayload}, members(4), executedUpTo(3), all); j.Refused {
			t.Fatal("two of four decide")
		}
	}
	five := append(members(4), Member{RaftID: 9})
	if j := f.View(6, five, all); len(j) != 1 || j[0].Refused {
		t.Fatalf("two of five decide: %+v", j)
	}
	if _, asked := f.Wanted(9, 6); !asked {
		t.Error("who has come is not asked")
	}
	if j := f.View(7, members(3), all); len(j) != 1 || !j[0].Refused || j[0].Of != g || !f.Refused(g) {
		t.Errorf("two of three do not decide: %+v", j)
	}
	if j := f.View(8, members(5), all); len(j) != 0 {
		t.Errorf("it is decided again: %+v", j)
	}
}

func TestVoidOpinions(t *testing.T) {
	f := NewFaults()
	for name, o := range map[string]Opinion{
		"not executed": {gtid.GTID{UUID: group, Number: 9}, applier.ClassPayload},
		"applied":      {gtid.GTID{UUID: group, Number: 1}, applier.ClassNone},
	} {
		if f.Heard(1, 1, o, members(3), executedUpTo(3), all); len(f.votes) > 0 {
			t.Errorf("there is a vote on one that is %s", name)
		}
	}
	g := gtid.GTID{UUID: group, Number: 1}
	f.Heard(4, 9, Opinion{g, applier.ClassPayload}, members(3), executedUpTo(3), all) // who catches up begins it
	if _, asked := f.Wanted(1, 3); asked || len(f.votes) != 1 || len(f.votes[0].opinions) > 0 {
		t.Errorf("votes are %+v", f.votes)
	}
	for id := range uint64(2) {
		f.Heard(5, id+1, Opinion{g, applier.ClassNone}, members(3), executedUpTo(3), all)
		f.Heard(5, id+1, Opinion{g, applier.ClassPayload}, members(3), executedUpTo(3), all)
	}
	if !f.Alone(g) || f.Refused(g) {
		t.Error("it does not fail alone whom nobody asks")
	}
}

// Whatever is said, by whom, and whatever checkpoints come between: refused is
// what more than half could not apply for one reason, and nothing else.
func TestVotesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := NewFaults()
		n := rapid.IntRange(1, 5).Draw(t, "members")
		said := map[uint64]map[uint64]applier.Class{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			number, by := rapid.Uint64Range(1, 4).Draw(t, "of"), rapid.Uint64Range(1, uint64(n)).Draw(t, "by")
			class := rapid.SampledFrom([]applier.Class{0, 1, 1, 1000}).Draw(t, "class")
			f.Heard(7, by, Opinion{gtid.GTID{UUID: group, Number: number}, class}, members(n), executedUpTo(4), all)
			if said[number] == nil && class != 0 {
				said[number] = map[uint64]applier.Class{}
			}
			if _, given := said[number][by]; said[number] != nil && !given {
				said[number][by] = class
			}
			b, err := f.AppendState(nil)
			if err != nil {
				t.Fatal(err)
			}
			restored, rest, err := RestoreFaults(b)
			if err != nil || len(rest) > 0 {
				t.Fatalf("%d bytes left: %v", len(rest), err)
			}
			f = restored
		}
		for number := range uint64(4) {
			most, count := applier.ClassNone, map[applier.Class]int{}
			for _, class := range said[number+1] {
				if count[class]++; 2*count[class] > n {
					most = class
				}
			}
			if got := f.Refused(gtid.GTID{UUID: group, Number: number + 1}); got != (most != applier.ClassNone) {
				t.Errorf("transaction %d is refused: %t, of %d members it is said %v", number+1, got, n, said[number+1])
			}
		}
	})
}

func FuzzFaults(f *testing.F) {
	x := NewFaults()
	for i := range uint64(3) {
		x.Heard(i+1, i+1, Opinion{gtid.GTID{UUID: group, Number: 1}, applier.Class(i % 2)}, members(3), executedUpTo(3), all)
		x.Heard(i+1, i+1, Opinion{gtid.GTID{UUID: group, Number: 2}, 1}, members(3), executedUpTo(3), all)
	}
	seed, err := x.AppendState(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	o, _ := AppendOpinion(nil, Opinion{gtid.GTID{UUID: group, Number: 5}, 77})
	f.Add(o)
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := DecodeOpinion(b); err == nil {
			if again, err := AppendOpinion(nil, o); err != nil || !bytes.Equal(again, b) {
				t.Errorf("opinion %+v of %x", o, b)
			}
		}
		s, rest, err := RestoreFaults(b)
		if err != nil {
			return
		}
		if got, err := s.AppendState(nil); err != nil || !bytes.Equal(got, b[:len(b)-len(rest)]) {
			t.Fatalf("state %x becomes %x: %v", b, got, err)
		}
	})
}
