package replica

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// encode appends what decodeTransaction has taken apart.
func (t Transaction) encode() ([]byte, error) {
	return AppendTransaction(nil, &t.Header, &t.WriteSet, t.Payload)
}

// touch is an item by number.
func touch(ws *certifier.WriteSet, numbers ...certifier.Item) *certifier.WriteSet {
	for _, n := range numbers {
		ws.Write(certifier.Index{Name: certifier.PrimaryIndex, Schema: "s", Table: "t"}, certifier.Uint(uint64(n), 8))
	}
	return ws
}

func TestTransactionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var id TransactionID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), len(id), len(id)).Draw(t, "id"))
		snapshot := gtid.Set{}
		for range rapid.IntRange(0, 4).Draw(t, "intervals") {
			first := rapid.Uint64Range(1, 1000).Draw(t, "first")
			snapshot = snapshot.AddInterval(gtid.UUID{rapid.Byte().Draw(t, "uuid")}, "", first, first+rapid.Uint64Range(0, 1000).Draw(t, "more"))
		}
		var items []certifier.Item
		for _, v := range rapid.SliceOf(rapid.Uint64()).Draw(t, "items") {
			items = append(items, certifier.Item(v))
		}
		payload := rapid.SliceOf(rapid.Byte()).Draw(t, "payload")

		wish := rapid.SampledFrom([]gtid.GTID{{}, {Tag: "tag"}, {UUID: gtid.UUID{7}, Tag: "x", Number: 9}}).Draw(t, "wish")

		epoch, after := rapid.Uint64().Draw(t, "epoch"), rapid.Bool().Draw(t, "after")
		at := rapid.Int64().Draw(t, "time")

		msg, err := AppendTransaction([]byte("before"), &Header{id, epoch, snapshot, wish, after, at}, touch(&certifier.WriteSet{}, items...), payload)
		if err != nil {
			t.Fatal(err)
		}
		msg = bytes.TrimPrefix(msg, []byte("before"))
		if msg[0] != kindTransaction {
			t.Fatalf("kind %d", msg[0])
		}
		got, err := decodeTransaction(msg[1:])
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != id || got.Epoch != epoch || got.After != after || got.Time != at || got.GTID != wish || !got.Snapshot.Equal(snapshot) || got.WriteSet.Len() != len(items) || !bytes.Equal(got.Payload, payload) {
			t.Fatalf("decoded %+v", got)
		}
		if again, err := got.encode(); err != nil || !bytes.Equal(again, msg) {
			t.Fatalf("message %x comes back as %x, error %v", msg, again, err)
		}
		for n := range len(msg) - len(payload) - 1 {
			if _, err := decodeTransaction(msg[1 : 1+n]); !errors.Is(err, ErrMessage) {
				t.Fatalf("prefix of %d bytes: error %v", n, err)
			}
		}
	})
}

// TestPayloadIsNotCopied checks that the payload is the message's own memory.
func TestPayloadIsNotCopied(t *testing.T) {
	msg, err := AppendTransaction(nil, &Header{ID: TransactionID{1}}, touch(&certifier.WriteSet{}, 1), []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeTransaction(msg[1:])
	if err != nil {
		t.Fatal(err)
	}
	if &got.Payload[0] != &msg[len(msg)-len("payload")] {
		t.Error("the payload was copied")
	}
}

func TestMarkRoundTrip(t *testing.T) {
	for _, index := range []uint64{0, 1, 127, 128, 1 << 40, 1<<64 - 1} {
		msg := appendMark(nil, index)
		if msg[0] != kindMark {
			t.Fatalf("kind %d", msg[0])
		}
		if got, err := decodeMark(msg[1:]); err != nil || got != index {
			t.Errorf("mark %d comes back as %d, error %v", index, got, err)
		}
		if _, err := decodeMark(append(msg[1:], 0)); !errors.Is(err, ErrMessage) {
			t.Errorf("mark %d and a byte more: error %v", index, err)
		}
		if _, err := decodeMark(msg[1 : len(msg)-1]); !errors.Is(err, ErrMessage) {
			t.Errorf("mark %d cut off: error %v", index, err)
		}
	}
	if _, err := decodeMark(bytes.Repeat([]byte{0xff}, 11)); !errors.Is(err, ErrMessage) {
		t.Errorf("mark beyond 64 bits: error %v", err)
	}
}

func TestSplitState(t *testing.T) {
	whole := gcs.Checkpoint{Index: 7, Data: []byte("\x00\x01\x06giants\x05groupcertifier")}
	giants, group, cert, err := splitState(whole)
	if err != nil || string(giants) != "giants" || string(group) != "group" || string(cert) != "certifier" {
		t.Errorf("split into %q, %q and %q, error %v", giants, group, cert, err)
	}
	if giants, group, cert, err := splitState(gcs.Checkpoint{}); giants != nil || group != nil || cert != nil || err != nil {
		t.Errorf("no checkpoint split into %q, %q and %q, error %v", giants, group, cert, err)
	}
	for name, data := range map[string]string{
		"nothing":                  "",
		"no format":                "\x05groupcertifier",
		"format cut off":           "\x00",
		"a later format":           "\x00\x02\x06giants\x05groupcertifier",
		"length cut off":           "\x00\x01\x80",
		"length not in short form": "\x00\x01\x86\x00giants\x05groupcertifier",
		"no second length":         "\x00\x01\x06giants",
		"length beyond the bytes":  "\x00\x01\x06giants\x06group",
		"length beyond all memory": "\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01group",
	} {
		if _, _, _, err := splitState(gcs.Checkpoint{Index: 7, Data: []byte(data)}); !errors.Is(err, ErrState) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// FuzzDecodeTransaction checks that what is accepted is the encoding of what
// was decoded.
func FuzzDecodeTransaction(f *testing.F) {
	f.Add([]byte{})
	snapshot := gtid.Set{}.AddInterval(gtid.UUID{1}, "", 1, 5).AddInterval(gtid.UUID{1}, "", 7, 9)
	msg, err := AppendTransaction(nil, &Header{ID: TransactionID{1}, Snapshot: snapshot}, touch(&certifier.WriteSet{}, 1, 2), []byte("payload"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg[1:])
	f.Add(msg[1 : len(msg)-len("payload")])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeTransaction(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatalf("error %v is of no known kind", err)
			}
			return
		}
		if again, err := got.encode(); err != nil || !bytes.Equal(again[1:], b) {
			t.Fatalf("message %x comes back as %x, error %v", b, again, err)
		}
	})
}

// FuzzCheckpoint checks that no checkpoint makes a member panic as it starts.
func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x01\x05groupcertifier"))
	m := newFounder(f, settings{})
	m.tick(40)
	f.Add(m.replica.serialise().Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := m.config()
		cfg.Group.Checkpoint = gcs.Checkpoint{Index: m.replica.last.Index, Term: m.replica.last.Term, Data: b}
		_, err := New(cfg)
		for _, kind := range []error{ErrState, gcs.ErrState, certifier.ErrState, nil} {
			if errors.Is(err, kind) {
				return
			}
		}
		t.Fatalf("error %v is of no known kind", err)
	})
}
