package transport

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func drawMessage(t *rapid.T) gcs.Message {
	bytesOf := func(name string) []byte {
		// Around the sizes at which a length takes one byte more, with and
		// without what surrounds a message.
		n := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(16_200, 16_500)).Draw(t, name)
		return bytes.Repeat([]byte{byte(n)}, n)
	}
	switch kind := rapid.SampledFrom([]gcs.MessageKind{
		gcs.MessageRaft, gcs.MessageFrame, gcs.MessageRefusal, gcs.MessageReport, gcs.MessageLeave,
	}).Draw(t, "kind"); kind {
	case gcs.MessageRaft:
		m := &raftpb.Message{Term: new(rapid.Uint64().Draw(t, "term")), Context: bytesOf("context")} // which Size does not count
		for range rapid.IntRange(0, 3).Draw(t, "entries") {
			m.Entries = append(m.Entries, &raftpb.Entry{Data: bytesOf("data")})
		}
		return gcs.Message{Kind: kind, Raft: m}
	case gcs.MessageFrame:
		return gcs.Message{Kind: kind, Frame: bytesOf("frame")}
	case gcs.MessageRefusal:
		return gcs.Message{Kind: kind, Refusal: gcs.Refusal{Session: rapid.Uint64().Draw(t, "session"), Seq: 1}}
	case gcs.MessageReport:
		return gcs.Message{Kind: kind, Report: &gcs.Report{Delivered: rapid.Uint64().Draw(t, "delivered")}}
	default:
		return gcs.Message{Kind: kind}
	}
}

// Batches read back as what they were made of, by this codec and by protobuf's,
// and none but a batch of one is above the limit.
func TestBatchesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msgs := rapid.SliceOfN(rapid.Custom(drawMessage), 1, 20).Draw(t, "messages")
		const limit = 20_000
		for rest := msgs; len(rest) > 0; {
			batch, n, err := appendBatch(nil, rest, limit, 1<<20)
			if err != nil || n == 0 {
				t.Fatalf("took %d messages, %v", n, err)
			}
			var want peerpb.ConnectRequest
			if err := proto.Unmarshal(batch, &want); err != nil {
				t.Fatal(err)
			}
			if n > 1 && len(batch) > limit {
				t.Fatalf("%d messages in a batch of %d bytes", n, len(batch))
			}
			in := decodeRequest(batch)
			if in.err != nil || in.hello != nil || len(in.msgs) != n || len(want.GetMessages()) != n {
				t.Fatalf("batch of %d: %v, %d and %d messages", n, in.err, len(in.msgs), len(want.GetMessages()))
			}
			clear(batch) // nothing may alias it
			for i := range n {
				checkEncoding(t, &rest[i], want.GetMessages()[i])
				checkEncoding(t, &in.msgs[i], want.GetMessages()[i])
			}
			rest = rest[n:]
		}
	})
}

// checkEncoding fails unless m is what want encodes.
func checkEncoding(t *rapid.T, m *gcs.Message, want []byte) {
	t.Helper()
	got, err := gcs.AppendMessage(nil, m)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %x, %v, want %x", got, err, want)
	}
}

func TestBatchLimit(t *testing.T) {
	msgs := make([]gcs.Message, 10)
	for i := range msgs {
		msgs[i] = *frame(i, 1000)
	}
	for _, test := range []struct{ limit, want int }{{1, 1}, {2200, 2}, {1 << 20, 10}} {
		batch, n, err := appendBatch(nil, msgs, test.limit, 1<<20)
		if err != nil || n != test.want || n > 1 && len(batch) > test.limit {
			t.Errorf("limit %d: %d messages in %d bytes, %v, want %d", test.limit, n, len(batch), err, test.want)
		}
	}
}

// Bytes that are not a request give an error that says so.
func TestDecodeRequestErrors(t *testing.T) {
	for _, test := range []struct {
		name, bytes string
		want        error
	}{
		{"cut length", "\x12\xff", errMalformed},
		{"cut message", "\x12\x05ab", errMalformed},
		{"messages as a number", "\x10\x01", errMalformed},
		{"hello as a number", "\x08\x01", errMalformed},
		{"hello garbage", "\x0a\x02\xff\xff", errMalformed},
		{"end of no group", "\x1c", errMalformed},
		{"field 0", "\x02\x00", errMalformed},
		{"field above all", "\xa0\x8a\x8c\x8c0\x00", errMalformed},
		{"group", "\x1b\x1c", errMalformed},
		{"no message", "\x12\x00", gcs.ErrMessage},
	} {
		if in := decodeRequest([]byte(test.bytes)); !errors.Is(in.err, test.want) {
			t.Errorf("%s: %v", test.name, in.err)
		}
	}
	// A field that a later version may add is skipped.
	if in := decodeRequest([]byte("\x18\x01\x22\x01x\x12\x01\x05")); in.err != nil || len(in.msgs) != 1 {
		t.Errorf("unknown fields: %+v", in)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	hello, err := proto.Marshal(&peerpb.ConnectRequest{Hello: &peerpb.Hello{TargetRaftId: 5}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hello)
	batch, _, err := appendBatch(nil, []gcs.Message{*frame(1, 20), {Kind: gcs.MessageLeave}, {Kind: gcs.MessageReport, Report: &gcs.Report{}}}, 1<<20, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(batch)
	f.Add([]byte("\x12\x05ab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := decodeRequest(b)
		if in.err != nil {
			return
		}
		var want peerpb.ConnectRequest
		if err := proto.Unmarshal(b, &want); err != nil {
			t.Fatalf("protobuf finds %v", err)
		}
		if len(want.GetMessages()) != len(in.msgs) || (want.Hello != nil) != (in.hello != nil) {
			t.Fatalf("got %+v, want %v", in, &want)
		}
	})
}

// The codec leaves everything but the requests of Connect to gRPC's, and its
// buffers serve again.
func TestCodec(t *testing.T) {
	c := codec{CodecV2: encoding.GetCodecV2("proto"), pool: &bufferPool{keep: 1 << 20}}
	data, err := c.Marshal(&peerpb.JoinRequest{Weight: 7})
	if err != nil {
		t.Fatal(err)
	}
	var req peerpb.JoinRequest
	if err := c.Unmarshal(data, &req); err != nil || req.GetWeight() != 7 {
		t.Fatalf("got %v, %v", &req, err)
	}
	buf := c.pool.Get(0)
	batch, _, err := appendBatch(*buf, []gcs.Message{*frame(3, 9000)}, 1<<20, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	*buf = batch
	data, err = c.Marshal(&outgoing{buf: buf})
	if err != nil {
		t.Fatal(err)
	}
	cut := mem.BufferSlice{mem.SliceBuffer(batch[:100]), mem.SliceBuffer(batch[100:])} // as frames of HTTP/2 do
	for _, form := range []mem.BufferSlice{data, cut} {
		var in incoming
		if err := c.Unmarshal(form, &in); err != nil || in.err != nil {
			t.Fatal(err, in.err)
		}
		checkFrames(t, in.msgs, 3)
	}
	data.Free()
	if got := tooLarge(2, 1).Error(); !strings.Contains(got, "MaxMessageBytes") {
		t.Errorf("%q names no remedy", got)
	}
}
