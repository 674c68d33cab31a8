package statecheck

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

var table = applier.Table{Schema: "s", Name: "t"}

func place(n int) applier.Place { return applier.Place{Table: table, Key: []byte{byte(n)}} }

// data is what a member of the tests holds, by key.
type data map[int]uint64

// slice is what a member hashes: keys from a place on, of which each takes one
// byte of the budget.
func (d data) slice(c Check) (s applier.Slice) {
	for k := range 256 {
		v, ok := d[k]
		if !ok || place(k).Compare(c.From) < 0 {
			continue
		}
		s.Sums[applier.SumOf(place(k).Key)] += v
		s.Pairs = append(s.Pairs, applier.PairSum{Place: place(k), Sum: v})
		if uint64(len(s.Pairs)) == c.Budget {
			s.Next = place(k).After()
			break
		}
	}
	return s
}

func (d data) answer(c Check) Answer {
	s := d.slice(c)
	return Answer{Number: c.Number, Next: s.Next, Sums: s.Sums}
}

func members(n int) (all []Member) {
	for i := range n {
		all = append(all, Member{RaftID: uint64(i + 1), UUID: gtid.UUID{byte(i + 1)}})
	}
	return all
}

func all(uint64) bool { return true }

func good(n int) data {
	d := data{}
	for k := range n {
		d[k] = uint64(k)*7919 + 1
	}
	return d
}

// tellAll has each member tell what is wanted of it.
func tellAll(s *State, c Check, held []data) (found []Finding) {
	for i, d := range held {
		if mask := s.Wanted(c.Number, uint64(i+1)); mask != 0 {
			slice := d.slice(c)
			found = append(found, s.Told(uint64(i+1), NewDetail(c.Number, mask, &slice)).Found...)
		}
	}
	return found
}

func TestOddOneIsBlamed(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(data)
		want []Key
	}{
		{"another value", func(d data) { d[5]++ }, []Key{{place(5), Differs}}},
		{"a lost key", func(d data) { delete(d, 6) }, []Key{{place(6), Missing}}},
		{"a key too many", func(d data) { d[12] = 99 }, []Key{{place(12), Extra}}},
		{"three", func(d data) { d[0]++; delete(d, 3); d[11] = 1 }, []Key{{place(0), Differs}, {place(3), Missing}, {place(11), Extra}}},
	} {
		for odd := range 3 {
			t.Run(fmt.Sprintf("%s of member %d", c.name, odd+1), func(t *testing.T) {
				s := New()
				held := []data{good(10), good(10), good(10)}
				c.harm(held[odd])
				check, due := s.Due(100, 100, 1000)
				if !due || !s.Begin(7, 100, members(3), check) {
					t.Fatal("no check is due")
				}
				var found []Finding
				for i, d := range held {
					found = append(found, s.Answered(uint64(i+1), d.answer(check), all).Found...)
				}
				if len(found) != 1 || found[0].Member.RaftID != uint64(odd+1) || found[0].Split || found[0].Index != 7 || found[0].Agreed != 2 {
					t.Fatalf("found %+v, want member %d", found, odd+1)
				}
				for i := range held {
					if s.Blamed(uint64(i+1)) != (i == odd) {
						t.Errorf("member %d is blamed: %t", i+1, i != odd)
					}
				}
				named := tellAll(s, check, held)
				if len(named) != 1 || !named[0].Named || named[0].More || !reflect.DeepEqual(named[0].Keys, c.want) {
					t.Errorf("named %+v, want %+v", named, c.want)
				}
				if tellAll(s, check, held) != nil {
					t.Error("more is wanted when all is known")
				}
				s.View(func(id uint64) bool { return id != uint64(odd+1) })
				if s.Blamed(uint64(odd + 1)) {
					t.Error("who has gone is blamed")
				}
			})
		}
	}
}

func TestSplit(t *testing.T) {
	s := New()
	held := []data{good(10), good(10), good(10), good(10)}
	held[1][3]++
	held[3][3]++
	check, _ := s.Due(1, 1, 100)
	s.Begin(1, 1, members(4), check)
	var found []Finding
	for i, d := range held {
		found = append(found, s.Answered(uint64(i+1), d.answer(check), all).Found...)
	}
	if len(found) != 1 || !found[0].Split || s.Blamed(1) || s.Blamed(2) {
		t.Fatalf("two against two: %+v", found)
	}
	named := tellAll(s, check, held)
	if len(named) != 1 || len(named[0].Keys) != 1 || named[0].Keys[0].Place.Compare(place(3)) != 0 {
		t.Errorf("named %+v", named)
	}
	if next, due := s.Due(2, 1, 100); !due || !next.From.IsZero() || s.Snapshot().Passes != 1 {
		t.Errorf("next is %+v (%t)", next, due)
	}
}

// A check that too few answer is followed by another one of the same slice.
func TestUnanswered(t *testing.T) {
	s := New()
	held := good(10)
	first, _ := s.Due(10, 10, 4)
	s.Begin(1, 10, members(3), first)
	s.Answered(1, held.answer(first), all)
	if _, due := s.Due(10+patience*10-1, 10, 4); due {
		t.Error("another one is due too soon")
	}
	second, due := s.Due(10+patience*10, 10, 4)
	if !due || second.Number != 2 || !second.From.IsZero() {
		t.Fatalf("second is %+v (%t)", second, due)
	}
	s.Begin(9, 50, members(3), second)
	for _, c := range []Check{second, first} { // the first ones late
		s.Answered(2, held.answer(c), all)
		s.Answered(3, held.answer(c), all)
	}
	if got := s.Snapshot(); got.Next.Compare(place(3).After()) != 0 || got.Agreed != 2 {
		t.Errorf("after both: %+v", got)
	}
	if s.Begin(10, 60, members(3), second) {
		t.Error("a check stands twice")
	}
	if e := s.Answered(3, Answer{Number: 1}, all); e.Blame {
		t.Error("a second answer counts")
	}
	if s.Asked(1, 2) || !s.Asked(2, 1) {
		t.Error("who is asked is not who has not answered")
	}
}

// model is the obvious rule over the whole history.
type modelRound struct {
	check   Check
	parties []Member
	answers map[uint64]Answer
	order   []uint64
}

// blamed are those whose answer is not that of more than half of those asked.
func (r *modelRound) blamed() (ids []uint64) {
	for _, truth := range r.order {
		n := 0
		for _, id := range r.order {
			if reflect.DeepEqual(r.answers[id], r.answers[truth]) {
				n++
			}
		}
		if 2*n <= len(r.parties) {
			continue
		}
		for _, id := range r.order {
			if !reflect.DeepEqual(r.answers[id], r.answers[truth]) {
				ids = append(ids, id)
			}
		}
		break
	}
	return ids
}

// Whatever answers come in whatever order, from whomever, again, late, or after
// the state went through a checkpoint, only those are blamed whom the obvious rule
// blames, and all of them.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		n := rapid.IntRange(1, 6).Draw(t, "members")
		held := make([]data, n)
		for i := range held {
			held[i] = good(20)
		}
		rounds := map[uint64]*modelRound{}
		blamed := map[string]bool{}
		sequence := uint64(0)
		for step := range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				sequence += rapid.Uint64Range(1, 10).Draw(t, "transactions")
				c, due := s.Due(sequence, 3, rapid.Uint64Range(1, 30).Draw(t, "budget"))
				if !due {
					continue
				}
				online := members(n)[:rapid.IntRange(1, n).Draw(t, "online")]
				if !s.Begin(uint64(step+1), sequence, online, c) {
					t.Fatalf("check %+v is void", c)
				}
				rounds[c.Number] = &modelRound{check: c, parties: online, answers: map[uint64]Answer{}}
				delete(rounds, c.Number-Window)
			case 1:
				held[rapid.IntRange(0, n-1).Draw(t, "whose")][rapid.IntRange(0, 25).Draw(t, "key")] ^= 1
			case 2:
				b := s.AppendState(nil)
				restored, rest, err := Restore(b)
				if err != nil || len(rest) > 0 || !bytes.Equal(restored.AppendState(nil), b) {
					t.Fatalf("restored with %d bytes left, error %v", len(rest), err)
				}
				s = restored
			default:
				if s.number == 0 {
					continue
				}
				back := rapid.Uint64Range(0, min(s.number-1, Window)).Draw(t, "which")
				by := rapid.Uint64Range(1, uint64(n)).Draw(t, "by")
				r := rounds[s.number-back]
				a := held[by-1].answer(Check{Number: s.number - back, Budget: 1})
				if r != nil {
					a = held[by-1].answer(r.check)
					party := slices.ContainsFunc(r.parties, func(m Member) bool { return m.RaftID == by })
					if _, given := r.answers[by]; party && !given {
						r.answers[by] = a
						r.order = append(r.order, by)
					}
				}
				s.Answered(by, a, all)
				if r == nil {
					continue
				}
				for _, id := range r.blamed() {
					blamed[fmt.Sprint(id)] = true
				}
			}
			for id := range uint64(n) {
				if s.Blamed(id+1) != blamed[fmt.Sprint(id+1)] {
					t.Fatalf("after step %d member %d is blamed: %t, want %t", step, id+1, s.Blamed(id+1), blamed[fmt.Sprint(id+1)])
				}
			}
		}
	})
}

func FuzzMessages(f *testing.F) {
	d := good(5)
	slice := d.slice(Check{Number: 1, Budget: 10})
	f.Add(AppendCheck(nil, Check{Number: 3, From: place(4), Budget: 99}))
	f.Add(AppendAnswer(nil, d.answer(Check{Number: 1, Budget: 3})))
	f.Add(AppendDetail(nil, NewDetail(1, 1<<applier.SliceSums-1, &slice)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeCheck(b); err == nil && !bytes.Equal(AppendCheck(nil, c), b) {
			t.Errorf("check %+v of %x", c, b)
		}
		if a, err := DecodeAnswer(b); err == nil && !bytes.Equal(AppendAnswer(nil, a), b) {
			t.Errorf("answer %+v of %x", a, b)
		}
		if x, err := DecodeDetail(b); err == nil && !bytes.Equal(AppendDetail(nil, x), b) {
			t.Errorf("detail %+v of %x", x, b)
		}
	})
}

func FuzzRestore(f *testing.F) {
	s := New()
	f.Add(s.AppendState(nil))
	held := []data{good(10), good(10), good(10)}
	held[2][4]++
	for number := range uint64(Window + 2) {
		c, _ := s.Due(10*number+10, 10, 4)
		s.Begin(number+1, 10*number+10, members(3), c)
		for i, d := range held {
			s.Answered(uint64(i+1), d.answer(c), all)
		}
		if number > 3 {
			tellAll(s, c, held)
		}
	}
	f.Add(s.AppendState(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := Restore(b)
		if err != nil {
			return
		}
		if got := s.AppendState(nil); !bytes.Equal(got, b[:len(b)-len(rest)]) {
			t.Fatalf("state %x becomes %x", b, got)
		}
		s.Answered(1, Answer{Number: s.number}, all)
		s.Told(1, Detail{Number: s.number})
		s.Snapshot()
	})
}
