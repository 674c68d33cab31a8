package gcs

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gtid"
)

// messages has one of each kind.
func messages() []Message {
	frame := appendFrame(nil, frameHeader{origin: 2, session: 1, seq: 3}, [][]byte{[]byte("a"), nil})
	return []Message{
		{Kind: MessageRaft, Raft: &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(3)),
			Entries: []*raftpb.Entry{{Term: new(uint64(3)), Index: new(uint64(9)), Data: frame}},
		}},
		{Kind: MessageFrame, Frame: frame},
		{Kind: MessageRefusal, Refusal: Refusal{Session: 1, Seq: 3, Expected: 2, Leader: 1 << 63}},
		{Kind: MessageReport, Report: &Report{Delivered: 300, Applied: 200, Snapshot: 100}},
		{Kind: MessageReport, Report: &Report{
			Delivered: 1, Exports: 2, Stalled: true, Recovering: true, Unready: true, Epoch: 1 << 40, Fresh: NeverHeard, Session: 3,
			Executed: gtid.Set{}.AddInterval(uuid(1), "", 1, 500).AddInterval(uuid(2), "tag", 7, 7),
			Hears:    []Hearing{{1, 0}, {5, 300}, {1 << 63, NeverHeard}},
			Stats:    []byte{0, 1, 255},
		}},
		{Kind: MessageLeave},
		{Kind: MessageRemoved},
		{Kind: MessageRemoved, Removed: Replaced},
		{Kind: MessageRead, Read: ReadID{Session: 3, Batch: 1 << 50}},
		{Kind: MessageReadIndex, Read: ReadID{Session: 3, Batch: 4}, Index: 1 << 33},
		{Kind: MessageDelivered, Index: 300},
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for _, m := range messages() {
		b, err := AppendMessage(nil, &m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		// An entry takes two bytes at least, and is counted with its overhead.
		if most := 64 + 64*len(b); m.Size() > most {
			t.Fatalf("%d bytes became a message of %d", len(b), m.Size())
		}
		once, err := AppendMessage(nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeMessage(once)
		if err != nil {
			t.Fatalf("own encoding: %v", err)
		}
		twice, err := AppendMessage(nil, &again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("encoded once  %x\nencoded twice %x, error %v", once, twice, err)
		}
		if m.Kind != MessageRaft && !bytes.Equal(once, b) {
			t.Fatalf("read from %x, which is not how it is written: %x", b, once)
		}
	})
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add(appendFrame(nil, frameHeader{origin: 2, session: 1, seq: 3}, [][]byte{[]byte("a"), nil, []byte("bc")}))
	f.Add(appendFrame(nil, frameHeader{origin: 1 << 63, session: 1 << 62, seq: 1 << 61}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, msgs, err := decodeFrame(b, nil)
		if err != nil {
			if !errors.Is(err, ErrFrame) || msgs != nil {
				t.Fatalf("%d messages and an error of another kind: %v", len(msgs), err)
			}
			if _, err := FrameMessage(b, 0); !errors.Is(err, ErrFrame) {
				t.Fatalf("the first message of what is no frame: %v", err)
			}
			return
		}
		size := len(msgs) // each has a length in front
		for i, m := range msgs {
			size += len(m)
			if one, err := FrameMessage(b, i); err != nil || !bytes.Equal(one, m) {
				t.Fatalf("message %d is %x, not %x, error %v", i, m, one, err)
			}
		}
		for _, none := range []int{-1, len(msgs)} {
			if _, err := FrameMessage(b, none); !errors.Is(err, ErrFrame) {
				t.Fatalf("message %d of %d: %v", none, len(msgs), err)
			}
		}
		if size > len(b) || len(msgs) > MaxFrameMessages {
			t.Fatalf("%d messages with %d bytes out of %d", len(msgs), size, len(b))
		}
		once := appendFrame(nil, h, msgs)
		h, msgs, err = decodeFrame(once, nil)
		if err != nil {
			t.Fatalf("own encoding: %v", err)
		}
		if twice := appendFrame(nil, h, msgs); !bytes.Equal(once, twice) {
			t.Fatalf("encoded once  %x\nencoded twice %x", once, twice)
		}
	})
}

func FuzzDecodeChange(f *testing.F) {
	for _, c := range []Change{
		bootstrap(online(1)), join(recovering(2)), promote(recovering(2)), leave(online(1)),
		{Kind: Expelled, Member: online(1), Reason: "silent"},
		{Kind: Replaced, Member: recovering(2), Replaces: 1 << 63},
		force(online(1), recovering(2)),
	} {
		f.Add(appendChange(nil, c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeChange(b)
		if err != nil {
			if !errors.Is(err, ErrView) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if len(c.Member.Address) > maxAddressLen {
			t.Fatalf("an address of %d bytes", len(c.Member.Address))
		}
		if again, err := decodeChange(appendChange(nil, c)); err != nil || !cmp.Equal(again, c) {
			t.Fatalf("decoded once  %+v\ndecoded twice %+v, error %v", c, again, err)
		}
	})
}

// FuzzRestore starts a member from any checkpoint, raft and all.
func FuzzRestore(f *testing.F) {
	f.Add(state(group(online(1), recovering(2)), []origin{{1, 4, 9}, {2, 0, 0}}, 5, 6))
	f.Add(state(full(), origins(1, 2, 3, 4, 5, 6, 7, 8, 9)))
	f.Add(flawed(func(g *Group) { g.past.terms[1].First = 101 }))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := start(b)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if reason := g.flaw(); reason != "" || len(g.departed.ids) > departedMembers {
			t.Fatalf("started with %d departed and a state that is wrong: %s", len(g.departed.ids), reason)
		}
		if len(g.History()) > viewRecords || len(g.Terms()) > termRuns {
			t.Fatalf("started with %d views and %d terms", len(g.History()), len(g.Terms()))
		}
		if again := g.AppendState(nil); !bytes.Equal(again, b) {
			t.Fatalf("accepted %x\nwritten  %x", b, again)
		}
	})
}
