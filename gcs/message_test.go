package gcs

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

func TestMessageRoundTrip(t *testing.T) {
	for _, want := range messages() {
		b, err := AppendMessage([]byte("before"), &want)
		if err != nil {
			t.Fatal(err)
		}
		b, ok := bytes.CutPrefix(b, []byte("before"))
		if !ok {
			t.Fatalf("kind %d: AppendMessage did not append", want.Kind)
		}
		got, err := DecodeMessage(b)
		if err != nil {
			t.Fatalf("kind %d: %v", want.Kind, err)
		}
		if !proto.Equal(got.Raft, want.Raft) {
			t.Errorf("got %v, want %v", got.Raft, want.Raft)
		}
		if !bytes.Equal(got.Frame, want.Frame) || got.Refusal != want.Refusal || !cmp.Equal(got.Report, want.Report) || got.Kind != want.Kind {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// Kinds of fixed shape refuse every strict prefix and every longer text. Those
// that carry something else leave it to its own decoder.
func TestDecodeMessageRefuses(t *testing.T) {
	refuse := func(b []byte) {
		t.Helper()
		if m, err := DecodeMessage(b); !errors.Is(err, ErrMessage) {
			t.Errorf("%x decoded as %+v, error %v", b, m, err)
		}
	}
	for _, m := range messages() {
		b, err := AppendMessage(nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind == MessageRaft || m.Kind == MessageFrame {
			continue
		}
		for n := range b {
			refuse(b[:n])
		}
		refuse(append(b, 0))
	}
	refuse([]byte{0})
	refuse([]byte{99})
	refuse([]byte{byte(MessageRaft), 0xff})
	if _, err := AppendMessage(nil, &Message{Kind: 99}); !errors.Is(err, ErrMessage) {
		t.Errorf("a later kind was encoded, error %v", err)
	}
}

// Size follows what a message holds on to.
func TestMessageSize(t *testing.T) {
	sizes := make(map[MessageKind]int)
	for _, m := range messages() {
		sizes[m.Kind] = m.Size()
	}
	frame := len(messages()[1].Frame)
	if got := sizes[MessageFrame] - sizes[MessageLeave]; got != frame {
		t.Errorf("a frame of %d bytes counts as %d", frame, got)
	}
	if sizes[MessageRaft] <= sizes[MessageFrame] {
		t.Errorf("a raft message with a frame counts as %d, the frame alone as %d", sizes[MessageRaft], sizes[MessageFrame])
	}
}
