package election

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/concordatdb/concordat/gtid"
)

// fuzz checks that a decoder takes nothing but what its encoder makes.
func fuzz[M any](f *testing.F, decode func([]byte) (M, error), encode func([]byte, M) []byte, seeds ...M) {
	for _, m := range seeds {
		b := encode([]byte("front"), m)[5:]
		if again, err := decode(b); err != nil || !gocmp.Equal(m, again) {
			f.Fatalf("%+v comes back as %+v, error %v", m, again, err)
		}
		for n := range b {
			if _, err := decode(b[:n]); !errors.Is(err, ErrMessage) {
				f.Fatalf("the first %d of %d bytes of %+v: %v", n, len(b), m, err)
			}
		}
		if _, err := decode(append(bytes.Clone(b), 0)); !errors.Is(err, ErrMessage) {
			f.Fatalf("one byte more than %+v: %v", m, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if again := encode(nil, m); !bytes.Equal(again, b) {
			t.Fatalf("%+v was read from %x, and is written as %x", m, b, again)
		}
	})
}

func FuzzDecodeDescription(f *testing.F) {
	fuzz(f, DecodeDescription, AppendDescription,
		Description{Version: 1 << 8, Weight: 100, Oldest: 1, Newest: 1},
		Description{Version: 1<<32 - 1, Oldest: 1, Newest: 1<<32 - 1, ClientAddress: strings.Repeat("a", MaxClientAddress)})
}

type founding struct {
	Mode     Mode
	Protocol Protocol
}

func FuzzDecodeFounding(f *testing.F) {
	fuzz(f, func(b []byte) (m founding, err error) {
		m.Mode, m.Protocol, err = DecodeFounding(b)
		return m, err
	}, func(b []byte, m founding) []byte { return AppendFounding(b, m.Mode, m.Protocol) },
		founding{SinglePrimary, 1}, founding{MultiPrimary, 1<<32 - 1})
}

func FuzzDecodeDeposal(f *testing.F) {
	fuzz(f, DecodeDeposal, AppendDeposal,
		Deposal{Epoch: 1, Term: 2, Target: 1 << 63, Passed: []uint64{1, 300}, Progress: []Progress{{1, 0}, {2, 1 << 63}}, Evidence: "silent for 1s"},
		Deposal{})
}

func FuzzDecodeAction(f *testing.F) {
	fuzz(f, DecodeAction, AppendAction,
		Action{ID: uuid(1), Kind: SetPrimary, Epoch: 3, View: 4, Target: 1 << 63, Grace: 1 << 63, Force: true, Reason: strings.Repeat("w", MaxReason)},
		Action{ID: uuid(1), Kind: ToSingle},
		Action{ID: uuid(1), Kind: ToMulti, Epoch: 300},
		Action{ID: uuid(1), Kind: SetProtocol, Protocol: 1<<32 - 1})
}

func FuzzDecodeDrain(f *testing.F) {
	fuzz(f, DecodeDrain, AppendDrain, Drain{Action: uuid(1)}, Drain{uuid(2), 1<<32 - 1})
}

func FuzzDecodeLapse(f *testing.F) {
	fuzz(f, DecodeLapse, AppendLapse, Lapse{Action: uuid(1)}, Lapse{uuid(2), 1 << 63})
}

func FuzzDecodeCancel(f *testing.F) {
	fuzz(f, DecodeCancel, AppendCancel, uuid(1))
}

// TestMessagesRefused has bodies that nobody sends.
func TestMessagesRefused(t *testing.T) {
	id := uuid(1)
	good := Description{Version: 1, Weight: 1, Oldest: 1, Newest: 1}
	description := func(change func(*Description)) []byte {
		d := good
		change(&d)
		return AppendDescription(nil, d)
	}
	action := func(a Action) error { return second(DecodeAction(AppendAction(nil, a))) }
	for _, c := range []struct {
		err  error
		want string
	}{
		{second(DecodeDescription(description(func(d *Description) { d.Weight = 101 }))), "101 is out of bounds"},
		{second(DecodeDescription(description(func(d *Description) { d.Oldest = 0 }))), "protocols 0 to 1"},
		{second(DecodeDescription(description(func(d *Description) { d.Oldest = 2 }))), "protocols 2 to 1"},
		{second(DecodeDescription(description(func(d *Description) { d.ClientAddress = "\x00" }))), "is not text"},
		{second(DecodeDescription([]byte{0x80, 0})), "shortest form"},
		{second(DecodeDescription(appendUvarints(nil, 1<<32, 1, 1, 1, 0))), "4294967296 is out of bounds"},
		{third3(DecodeFounding([]byte{0, 1})), "no mode"},
		{third3(DecodeFounding([]byte{3, 1})), "3 is out of bounds"},
		{third3(DecodeFounding([]byte{1, 0})), "protocol 0"},
		{second(DecodeDeposal(AppendDeposal(nil, Deposal{Passed: []uint64{2, 2}}))), "raft id 2 follows 2"},
		{second(DecodeDeposal(AppendDeposal(nil, Deposal{Progress: []Progress{{0, 1}}}))), "raft id 0 follows 0"},
		{second(DecodeDeposal([]byte{1, 1, 1, 200})), "cut off"},
		{second(DecodeDeposal([]byte{1, 1, 1, 100, 1})), "100 items wanted, 1 bytes left"},
		{action(Action{Kind: ToMulti}), "an action has no id"},
		{action(Action{ID: id}), "the kind of action is unknown"},
		{action(Action{ID: id, Kind: 5}), "5 is out of bounds"},
		{action(Action{ID: id, Kind: SetPrimary}), "it must name a member"},
		{action(Action{ID: id, Kind: ToMulti, Grace: 1}), "have a grace"},
		{action(Action{ID: id, Kind: ToMulti, Reason: "\n"}), "is not text"},
		{action(Action{ID: id, Kind: ToMulti, Reason: strings.Repeat("w", 513)}), "513 is out of bounds"},
		{second(DecodeDrain(AppendDrain(nil, Drain{Action: id, Open: 1 << 32}))), "4294967296 is out of bounds"},
		{second(DecodeDrain(AppendDrain(nil, Drain{}))), "an action has no id"},
		{second(DecodeLapse(AppendLapse(nil, Lapse{}))), "an action has no id"},
		{second(DecodeCancel(AppendCancel(nil, gtid.UUID{}))), "an action has no id"},
	} {
		if !errors.Is(c.err, ErrMessage) || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%v, want %s", c.err, c.want)
		}
	}
	// What a leader says is cut, so that everybody takes it.
	long := Deposal{Evidence: strings.Repeat("ä\n", 400)}
	if m, err := DecodeDeposal(AppendDeposal(nil, long)); err != nil || len(m.Evidence) > MaxReason || len(m.Evidence) < MaxReason-2 {
		t.Errorf("evidence of %d bytes, error %v", len(m.Evidence), err)
	}
}

func second[A any](_ A, err error) error { return err }

func third3[A, B any](_ A, _ B, err error) error { return err }

// FuzzRestore takes any bytes for a state, and goes on with what is one.
func FuzzRestore(f *testing.F) {
	for _, s := range []*State{New(), busy(), draining(three(MultiPrimary), ToSingle, 2), three(SinglePrimary)} {
		f.Add(s.AppendState(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := Restore(b)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if again := append(s.AppendState(nil), rest...); !bytes.Equal(again, b) {
			t.Fatalf("taken   %x\nwritten %x", b, again)
		}
		if why := s.flaw(); why != "" {
			t.Fatalf("taken, and impossible: %s", why)
		}
		now := s.Snapshot()
		last := max(s.Began(), 1<<40)
		if now.Action != nil {
			last = max(last, now.Action.Index)
			s.GraceOver(last, 1, Lapse{now.Action.ID, 1})
		}
		p, _ := s.Primary()
		s.Depose(last, 1, Deposal{Epoch: s.Epoch(), Term: 1, Target: p.RaftID, Passed: []uint64{1}}, true)
		a := Action{ID: uuid(77), Kind: ToMulti, Epoch: s.Epoch(), View: s.view, Force: true}
		s.Begin(last, 1, a)
		s.View(View{ID: s.view + 1, Index: last, Members: now.Members[:len(now.Members)/2]}, true)
		s.Why(nil, nil)
		if why := s.flawOfMembers() + s.flawOfRights() + s.flawOfAction(); why != "" {
			t.Fatalf("led to what is impossible: %s", why)
		}
	})
}
