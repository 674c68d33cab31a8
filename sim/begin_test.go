package sim

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
)

// TestSameElection checks that what two members make of an election is the same
// only if all of it is.
func TestSameElection(t *testing.T) {
	plain := func() *election.Snapshot {
		return &election.Snapshot{
			Epoch: 2, Began: 9, View: 3, Mode: election.SinglePrimary, Protocol: 1, Primary: 1,
			Members: []election.Member{{UUID: gtid.UUID{1}, RaftID: 1, Online: true, Writes: true, Since: 2}},
			Action:  &election.Action{ID: gtid.UUID{7}, Kind: election.SetPrimary, Pending: []uint64{1}},
			Done:    []election.Outcome{{Action: election.Action{ID: gtid.UUID{6}, Pending: []uint64{1}}, Result: election.Done}},
			Past:    []election.Epoch{{Number: 2, Index: 9}},
		}
	}
	if text := sameElection(plain(), plain()) + sameElection(nil, nil); text != "" {
		t.Errorf("the same: %s", text)
	}
	for what, change := range map[string]func(s *election.Snapshot){
		"primary":  func(s *election.Snapshot) { s.Primary = 2 },
		"right":    func(s *election.Snapshot) { s.Members[0].Since = 1 },
		"pending":  func(s *election.Snapshot) { s.Action.Pending = []uint64{2} },
		"cut":      func(s *election.Snapshot) { s.Action.Cut = 1 },
		"action":   func(s *election.Snapshot) { s.Action = nil },
		"result":   func(s *election.Snapshot) { s.Done[0].Result = election.Aborted },
		"epoch":    func(s *election.Snapshot) { s.Past[0].Index = 8 },
		"protocol": func(s *election.Snapshot) { s.Protocol = 2 },
	} {
		s := plain()
		change(s)
		if sameElection(s, plain()) == "" {
			t.Errorf("another %s is not noticed", what)
		}
	}
	if sameElection(nil, plain()) == "" || sameElection(plain(), nil) == "" {
		t.Error("an entry that changed the election on one member only is not noticed")
	}
}

func TestLevelWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	if l := (&levelWeights{}).draw(r); l != consistency.Eventual {
		t.Errorf("without weights the level is %s", l)
	}
	weights := levelWeights{consistency.Before: 1, consistency.After: 2}
	var drawn levelWeights
	for range 300 {
		drawn[weights.draw(r)]++
	}
	for level, n := range drawn {
		if (n > 0) != (weights[level] > 0) {
			t.Errorf("%s has weight %d and is drawn %d times", consistency.Level(level), weights[level], n)
		}
	}
}

// quietWorld is one in which nothing happens by itself.
func quietWorld() (*world, *run) {
	w := newWorld(1, false, nil)
	w.plan.drift, w.plan.rights = span{}, rightsPlan{}
	m := newMember(w, 0)
	m.run = &run{member: m, world: w, record: &runRecord{member: m.name}}
	w.members = []*member{m}
	return w, m.run
}

// TestPause checks that a process that stands still does everything later, in the
// order in which it was due, and one that is killed nothing at all.
func TestPause(t *testing.T) {
	for _, killed := range []bool{false, true} {
		w, r := quietWorld()
		var done []int
		w.pause(r.member, span{100, 100})
		for i := range 3 {
			r.after(int64(10*i), func() { done = append(done, i) })
		}
		w.after(15, func() { r.member.running(func() { done = append(done, 7) }) })
		w.after(50, func() {
			if len(done) > 0 || !r.member.paused {
				t.Errorf("it stands still: %t, and does %v", r.member.paused, done)
			}
			if killed {
				r.member.endPause()
				r.ended, r.member.parked = true, nil
			}
		})
		for w.step() {
			continue
		}
		want := []int{0, 1, 7, 2}
		if killed {
			want = nil
		}
		if !slices.Equal(done, want) {
			t.Errorf("killed %t: it does %v, want %v", killed, done, want)
		}
		if p := r.record.pauses; len(p) != 1 || p[0].from != 0 || p[0].to == 0 {
			t.Errorf("pauses %+v", p)
		}
	}
}

// TestOwnClock checks that a member's clock runs by its drift, jumps with it, and
// does not stop with the process.
func TestOwnClock(t *testing.T) {
	w, r := quietWorld()
	r.member.drift = 100 // its ticks take a tenth longer
	w.now = 11 * second
	r.member.paused = true
	if at := r.ownClock(); at != 10*time.Second {
		t.Errorf("after 11 s its clock shows %v", at)
	}
	r.member.skew += second
	if at := r.ownClock(); at != 11*time.Second {
		t.Errorf("set ahead by 1 s its clock shows %v", at)
	}
}

// TestBoundIsComplete checks from when on a transaction with a bounded age must see
// everything: its member's clock counts, not the world's.
func TestBoundIsComplete(t *testing.T) {
	_, r := quietWorld()
	r.member.drift = 100
	b := &beginning{begun: &begun{asked: 10 * second}}
	b.bound(r, second)
	if want := 10*second - 1100*millisecond - 2; b.complete != want || b.atMost != time.Second {
		t.Errorf("complete up to %d, bound %v, want %d", b.complete, b.atMost, want)
	}
}

// TestMayWrite lists what a member says to who wants to write.
func TestMayWrite(t *testing.T) {
	const self, other = 1, 2
	members := func(writer uint64) []election.Member {
		return []election.Member{{RaftID: self, Online: true, Writes: writer == self}, {RaftID: other, Online: true, Writes: writer == other}}
	}
	for _, c := range []struct {
		what string
		set  func(r *run)
		want right
	}{
		{"the primary", func(*run) {}, right{may: true}},
		{"the primary, alone", func(r *run) { r.standing.Alone = true }, right{}},
		{"the primary, overtaken", func(r *run) { r.standing.Outdated = 5 }, right{held: true}},
		{"the primary, overtaken and alone", func(r *run) { r.standing.Outdated, r.standing.Alone = 5, true }, right{never: true}},
		{"the primary, drained", func(r *run) { r.drain.shut = 9 }, right{held: true}},
		{"another member", func(r *run) { r.standing.Election.Primary, r.standing.Election.Members = other, members(other) }, right{never: true}},
		{"the next primary", func(r *run) {
			r.standing.Election.Primary, r.standing.Election.Members = other, members(other)
			r.standing.Election.Action = &election.Action{Target: self}
		}, right{}},
		{"a member without a primary", func(r *run) { r.standing.Election.Primary, r.standing.Election.Members = 0, members(0) }, right{}},
		{"a stranger", func(r *run) { r.standing.Election.Members = nil }, right{never: true}},
	} {
		_, r := quietWorld()
		r.raftID = self
		r.standing.Election = election.Snapshot{Epoch: 1, Mode: election.SinglePrimary, Primary: self, Members: members(self)}
		c.set(r)
		if got := r.mayWrite(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
}

// TestMarkNames checks that every mark has a name of its own.
func TestMarkNames(t *testing.T) {
	seen := map[string]bool{}
	for i, name := range markNames {
		if strings.TrimSpace(name) == "" || seen[name] {
			t.Errorf("mark %d is called %q", i, name)
		}
		seen[name] = true
	}
}
