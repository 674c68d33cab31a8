package gcs

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
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
	log := emptyLog{index: 100, term: 3}
	return New(Config{
		Identity:      Identity{Group: uuid(100), Member: uuid(1), RaftID: 1, Session: 1},
		Log:           log,
		HardState:     HardState{Term: 3, Commit: 100},
		Checkpoint:    Checkpoint{Index: log.index, Term: log.term, Data: state},
		ElectionTicks: 10,
		Limits:        DefaultLimits(),
	})
}

// state is the serialised state of some members.
func state(v View, origins []origin, left ...uint64) []byte {
	g := Group{view: v, fifo: fifo{origins: origins}, departed: departed{ids: left}}
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

func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		written := Group{view: drawView(t)}
		written.view.Index = rapid.Uint64Range(1, 100).Draw(t, "index of the view")
		written.fifo.align(written.view)
		for i := range written.fifo.origins {
			o := &written.fifo.origins[i]
			o.session, o.next = rapid.Uint64().Draw(t, "session"), rapid.Uint64().Draw(t, "next")
		}
		for _, id := range rapid.SliceOfN(rapid.Uint64(), 0, 2*departedMembers).Draw(t, "left") {
			written.departed.add(id)
		}
		b := written.AppendState(nil)
		read, err := start(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := read.AppendState(nil); !bytes.Equal(got, b) {
			t.Fatalf("written %x\nread    %x", b, got)
		}
		if read.Delivered() != 100 || read.View().String() != written.view.String() {
			t.Fatalf("at %d with %s, want %s", read.Delivered(), read.View(), written.view)
		}
		if v, err := StateView(b); err != nil || v.String() != written.view.String() {
			t.Fatalf("StateView is %s, want %s, error %v", v, written.view, err)
		}
		for n := range b {
			if _, err := start(b[:n]); !errors.Is(err, ErrState) {
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
		"a later format":         append([]byte{2}, state(pair, origins(1, 2))[1:]...),
		"a byte too many":        append(state(pair, origins(1, 2)), 0),
		"no group":               state(View{}, nil),
		"nobody":                 state(group(), nil),
		"nobody ONLINE":          state(group(recovering(1)), origins(1)),
		"a view of the future":   state(View{ID: 2, Index: 101, Members: pair.Members}, origins(1, 2)),
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
		g.Receive(2, Message{Kind: MessageRemoved})
		if !g.Removed() {
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
