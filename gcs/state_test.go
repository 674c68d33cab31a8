package gcs

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

// emptyLog is a log that was cut at its end.
type emptyLog struct{ index, term uint64 }

func (l emptyLog) FirstIndex() (uint64, error) { return l.index + 1, nil }
func (l emptyLog) LastIndex() (uint64, error)  { return l.index, nil }

func (l emptyLog) Term(index uint64) (uint64, error) {
	switch {
	case index < l.index:
		return 0, raft.ErrCompacted
	case index > l.index:
		return 0, raft.ErrUnavailable
	}
	return l.term, nil
}

func (l emptyLog) Entries(uint64, uint64, uint64) ([]*raftpb.Entry, error) {
	return nil, raft.ErrUnavailable
}

// start makes member 1 from a state at index 100 of an otherwise empty log.
func start(state []byte) (*Group, error) {
	return startAt(emptyLog{index: 100, term: 3}, state, Identity{})
}

// startAt makes a member from a state at the end of an otherwise empty log.
func startAt(log emptyLog, state []byte, id Identity) (*Group, error) {
	id.Group, id.Member, id.RaftID, id.Session = uuid(100), uuid(1), 1, 1
	return New(Config{
		Identity:      id,
		Log:           log,
		HardState:     HardState{Term: log.term, Commit: log.index},
		Checkpoint:    Checkpoint{Index: log.index, Term: log.term, Data: state},
		ElectionTicks: 10,
		Limits:        DefaultLimits(),
	})
}

// stateOf is a state of some members, with a history that could be theirs.
func stateOf(v View, origins []origin, left ...uint64) *Group {
	if v.Cause.Kind == 0 {
		v.Cause.Kind = Promoted
	}
	g := &Group{view: v, fifo: fifo{origins: origins}, departed: departed{ids: left}}
	for id := uint64(1); id < v.ID; id++ {
		kind := Joined
		if id == 1 {
			kind = Bootstrapped
		}
		g.past.add(View{ID: id, Index: id, Incarnation: v.Incarnation, Cause: Change{Kind: kind}})
	}
	g.past.add(v)
	g.past.terms = []TermRun{{1, 1}, {3, 50}}
	return g
}

// state is stateOf, serialised.
func state(v View, origins []origin, left ...uint64) []byte {
	return stateOf(v, origins, left...).AppendState(nil)
}

// flawed is the state of two members, changed.
func flawed(change func(*Group)) []byte {
	g := stateOf(group(online(1), online(2)), origins(1, 2))
	change(g)
	return g.AppendState(nil)
}

// origins are those of some members who have sent nothing.
func origins(ids ...uint64) []origin {
	var os []origin
	for _, id := range ids {
		os = append(os, origin{id: id})
	}
	return os
}

// drawState draws a state and where in the log it is.
func drawState(t *rapid.T) (*Group, emptyLog) {
	g := drawGroup(t)
	g.fifo.align(g.view)
	for i := range g.fifo.origins {
		o := &g.fifo.origins[i]
		o.session, o.next = rapid.Uint64().Draw(t, "session"), rapid.Uint64().Draw(t, "next")
	}
	for _, id := range rapid.SliceOfNDistinct(rapid.Uint64Min(100), 0, 2*departedMembers, rapid.ID).Draw(t, "left") {
		g.departed.add(id)
	}
	var log emptyLog
	for range rapid.IntRange(1, 2*termRuns).Draw(t, "terms") {
		log.term += rapid.Uint64Range(1, 1<<30).Draw(t, "term")
		g.past.terms = noteTerm(g.past.terms, log.term, log.index+1)
		log.index += rapid.Uint64Range(1, 1<<30).Draw(t, "length")
	}
	log.index = max(log.index, g.view.Index)
	return g, log
}

func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		written, log := drawState(t)
		b := written.AppendState(nil)
		read, err := startAt(log, b, Identity{})
		if err != nil {
			t.Fatal(err)
		}
		if got := read.AppendState(nil); !bytes.Equal(got, b) {
			t.Fatalf("written %x\nread    %x", b, got)
		}
		if read.Delivered() != log.index || read.View().String() != written.view.String() {
			t.Fatalf("at %d with %s, want %s", read.Delivered(), read.View(), written.view)
		}
		if diff := cmp.Diff(written.History(), read.History()); diff != "" {
			t.Fatalf("history (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(written.Terms(), read.Terms()); diff != "" {
			t.Fatalf("terms (-want +got):\n%s", diff)
		}
		if v, err := StateView(b); err != nil || v.String() != written.view.String() {
			t.Fatalf("StateView is %s, want %s, error %v", v, written.view, err)
		}
		for range 20 {
			n := rapid.IntRange(0, len(b)-1).Draw(t, "cut off at")
			if _, err := startAt(log, b[:n], Identity{}); !errors.Is(err, ErrState) {
				t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
			}
		}
	})
}

// A checkpoint that cannot have been written is an error, never a panic, for
// raft trusts what it is started with.
func TestRestoreRefuses(t *testing.T) {
	pair := group(online(1), online(2))
	odd := online(2)
	odd.State = 7
	for name, b := range map[string][]byte{
		"a later format":         append([]byte{3}, state(pair, origins(1, 2))[1:]...),
		"a byte too many":        append(state(pair, origins(1, 2)), 0),
		"an earlier format":      append([]byte{1}, state(pair, origins(1, 2))[1:]...),
		"no group":               state(View{}, nil),
		"nobody":                 state(group(), nil),
		"nobody ONLINE":          state(group(recovering(1)), origins(1)),
		"a view of the future":   flawed(func(g *Group) { g.view.Index = 101 }),
		"the same address":       state(group(online(1), with(online(2), func(m *Member) { m.Address = "m1:7400" })), origins(1, 2)),
		"one that departed":      state(pair, origins(1, 2), 2),
		"departed twice":         state(pair, origins(1, 2), 3, 3),
		"no history":             flawed(func(g *Group) { g.past.views = nil }),
		"a history cut off":      flawed(func(g *Group) { g.past.views = g.past.views[1:] }),
		"a gap in the history":   flawed(func(g *Group) { g.past.views[3].ID++ }),
		"history out of order":   flawed(func(g *Group) { g.past.views[3].Index = g.past.views[2].Index }),
		"founded twice":          flawed(func(g *Group) { g.past.views[3].Cause.Kind = Bootstrapped }),
		"never founded":          flawed(func(g *Group) { g.past.views[0].Cause.Kind = Joined }),
		"an unknown cause":       flawed(func(g *Group) { g.past.views[3].Cause.Kind = Forced + 1 }),
		"a cause of two kinds":   flawed(func(g *Group) { g.past.views[3].Cause.Replaces = 1 }),
		"an incarnation by join": flawed(func(g *Group) { g.past.views[3].Incarnation = uuid(201) }),
		"forced into the same":   flawed(func(g *Group) { g.past.views[3].Cause.Kind = Forced }),
		"too long a history":     flawed(func(g *Group) { g.past.views = make([]ViewRecord, viewRecords+1) }),
		"no terms":               flawed(func(g *Group) { g.past.terms = nil }),
		"the first term missing": flawed(func(g *Group) { g.past.terms = g.past.terms[1:] }),
		"term 0":                 flawed(func(g *Group) { g.past.terms[0].Term = 0 }),
		"another term":           flawed(func(g *Group) { g.past.terms[1].Term = 4 }),
		"a term of the future":   flawed(func(g *Group) { g.past.terms[1].First = 101 }),
		"terms that go back":     flawed(func(g *Group) { g.past.terms[0].Term = 3 }),
		"terms in one place":     flawed(func(g *Group) { g.past.terms[1].First = 1 }),
		"too many terms":         flawed(func(g *Group) { g.past.terms = make([]TermRun, termRuns+1) }),
		"a number too long":      append(bytes.TrimSuffix(state(pair, origins(1, 2)), []byte{50}), 0xb2, 0),
		"members twice":          state(group(online(1), online(1)), origins(1, 1)),
		"members out of order":   state(group(online(2), online(1)), origins(2, 1)),
		"an unknown state":       state(group(online(1), odd), origins(1, 2)),
		"raft id 0":              state(group(online(0), online(1)), origins(0, 1)),
		"an origin too few":      state(pair, origins(1)),
		"an origin too many":     state(pair, origins(1, 2, 3)),
		"an origin of its own":   state(pair, origins(1, 3)),
		"too many that departed": state(pair, origins(1, 2), make([]uint64, departedMembers+1)...),
	} {
		t.Run(name, func(t *testing.T) {
			if g, err := start(b); !errors.Is(err, ErrState) {
				t.Errorf("started as %v, error %v", g, err)
			}
		})
	}
}

// A checkpoint from after the incarnation that the identity names is of a group
// that went on without this member.
func TestRestoreOfAnotherIncarnation(t *testing.T) {
	b := flawed(func(g *Group) {
		v, err := g.view.Apply(force(online(1)), 90)
		if err != nil {
			t.Fatal(err)
		}
		g.view, g.fifo.origins = v, origins(1)
		g.past.add(v)
	})
	log := emptyLog{index: 100, term: 3}
	if _, err := startAt(log, b, Identity{Incarnation: uuid(200)}); !errors.Is(err, ErrOtherGroup) {
		t.Errorf("a checkpoint of another incarnation: %v", err)
	}
	for _, incarnation := range []gtid.UUID{{}, uuid(201), uuid(202)} {
		if _, err := startAt(log, b, Identity{Incarnation: incarnation}); err != nil {
			t.Errorf("a checkpoint for incarnation %s: %v", incarnation, err)
		}
	}
}

// The history forgets the oldest views.
func TestHistoryIsBounded(t *testing.T) {
	var p past
	for id := range uint64(3 * viewRecords) {
		p.add(View{ID: id + 1})
	}
	if n, first, last := len(p.views), p.views[0].ID, p.views[viewRecords-1].ID; n != viewRecords || first != 2*viewRecords+1 || last != 3*viewRecords {
		t.Errorf("remembered are %d views, %d to %d", n, first, last)
	}
}

func TestDepartedIsBounded(t *testing.T) {
	var d departed
	for id := range uint64(3 * departedMembers) {
		d.add(id)
	}
	var want []uint64
	for id := range uint64(departedMembers) {
		want = append(want, 2*departedMembers+id)
	}
	if !slices.Equal(d.ids, want) {
		t.Errorf("remembered are %v, want the newest %v", d.ids, want)
	}
}

func TestStateViewOfNothing(t *testing.T) {
	if v, err := StateView(nil); err != nil || v.ID != 0 || len(v.Members) != 0 {
		t.Errorf("StateView is %s, error %v", v, err)
	}
}

// A member that was taken out before its checkpoint asks from its start whether
// it may go, and goes when somebody who stays says so.
func TestRestartAsksForItsRelease(t *testing.T) {
	for _, c := range []struct{ left, asked []uint64 }{{nil, nil}, {[]uint64{7}, nil}, {[]uint64{7, 1}, []uint64{2, 3}}} {
		g, err := start(state(group(online(2), online(3)), origins(2, 3), c.left...))
		if err != nil {
			t.Fatal(err)
		}
		for range reportTicks {
			g.Tick()
		}
		var asked []uint64
		for _, m := range g.Messages(nil) {
			if m.Message.Kind == MessageLeave {
				asked = append(asked, m.To)
			}
		}
		if !slices.Equal(asked, c.asked) || g.Removed() {
			t.Errorf("after %v left, member 1 asks %v, want %v; it is removed: %v", c.left, asked, c.asked, g.Removed())
		}
		g.Receive(2, Message{Kind: MessageRemoved, Removed: Expelled})
		if !g.Removed() || g.RemovedBy() != Expelled {
			t.Errorf("after %v left, member 2 says in vain that member 1 is out", c.left)
		}
	}
}

// A few bytes can claim to be very much. Reading them must not cost it.
func TestDecodersAllocateLittle(t *testing.T) {
	const most = 1 << 20
	claim := bytes.Repeat([]byte{0xff, 0x1f}, 8) // 4095, again and again
	for name, decode := range map[string]func(){
		"frame":   func() { _, _, _ = decodeFrame(append([]byte{entryFrame}, claim...), nil) },
		"change":  func() { _, _ = decodeChange(append(make([]byte, 33), claim...)) },
		"state":   func() { _, _ = start(append([]byte{stateFormat}, claim...)) },
		"message": func() { _, _ = DecodeMessage(append([]byte{byte(MessageRaft)}, claim...)) },
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			decode()
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("%d bytes allocated for a claim of %d bytes", got, len(claim))
			}
		})
	}
}
