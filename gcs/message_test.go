package gcs

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gtid"
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
		if !bytes.Equal(got.Frame, want.Frame) || got.Refusal != want.Refusal || got.Removed != want.Removed ||
			got.Read != want.Read || got.Index != want.Index || !cmp.Equal(got.Report, want.Report, cmp.Comparer(gtid.Set.Equal)) || got.Kind != want.Kind {
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
	if _, err := AppendMessage(nil, &Message{Kind: MessageReport}); !errors.Is(err, ErrMessage) {
		t.Errorf("a report that is not there was encoded, error %v", err)
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

// A set that is too long for a report is left out by who writes it, and refused
// by who reads it.
func TestReportIsBounded(t *testing.T) {
	var fits, next gtid.Set // the longest that fits, and a longer one
	size := func(s gtid.Set) int {
		b, err := s.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	for n := uint64(1); size(next) <= MaxReportSet; n += 2 {
		fits, next = next, next.Add(gtid.GTID{UUID: uuid(1), Number: n})
	}
	if size(fits) < MaxReportSet-8 {
		t.Fatalf("the set has %d bytes", size(fits))
	}
	for _, c := range []struct{ executed, want gtid.Set }{{fits, fits}, {next, gtid.Set{}}} {
		b, err := AppendMessage(nil, &Message{Kind: MessageReport, Report: &Report{Delivered: 7, Executed: c.executed, Hears: []Hearing{{1, 2}}}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMessage(b)
		if r := got.Report; err != nil || !r.Executed.Equal(c.want) || r.Delivered != 7 || len(r.Hears) != 1 {
			t.Errorf("a set of %d bytes came as one of %d, error %v", size(c.executed), size(r.Executed), err)
		}
	}
	b, err := next.AppendBinary([]byte{byte(MessageReport), 7, 0, 0, 0, 0, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeMessage(append(b, 0)); !errors.Is(err, ErrMessage) {
		t.Errorf("a set of %d bytes was read, error %v", size(next), err)
	}
}

// There is one way to write a report.
func TestReportHasOneForm(t *testing.T) {
	report := func(flags byte, rest ...byte) []byte {
		return append([]byte{byte(MessageReport), 1, 2, 3, 4, flags, 5, 6, 7, 0}, rest...)
	}
	hears := []byte{10}
	for n := range byte(10) {
		hears = append(hears, n+1, 0)
	}
	for name, b := range map[string][]byte{
		"flags of the future":    report(8, 0),
		"fresher than never":     {byte(MessageReport), 1, 2, 3, 4, 0, 5, 0x80, 0x80, 0x80, 0x80, 0x10, 7, 0, 0},
		"members out of order":   report(0, 2, 5, 0, 4, 0),
		"a member twice":         report(0, 2, 5, 0, 5, 0),
		"a member without id":    report(0, 1, 0, 0),
		"more members than nine": report(0, hears...),
		"more than ever":         report(0, 1, 5, 0x80, 0x80, 0x80, 0x80, 0x10),
		"a long number":          report(0, 1, 0x85, 0, 0),
		"statistics cut off":     report(0, 0, 2, 1),
		"bytes too many":         report(0, 0, 1, 1, 1),
		"too many statistics":    append(report(0, 0, 0x81, 2), make([]byte, 257)...),
		"a set in disorder":      {byte(MessageReport), 1, 2, 3, 4, 0, 5, 6, 7, 7, 0},
	} {
		if m, err := DecodeMessage(b); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: decoded as %+v, error %v", name, m.Report, err)
		}
	}
	for name, b := range map[string][]byte{
		"flags": report(7, 0, 0), "nine members": report(0, append(append([]byte{9}, hears[1:19]...), 0)...),
		"never": report(0, 1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f, 0), "statistics": report(0, 0, 3, 1, 2, 3),
		"as many as can be": append(report(0, 0, 0x80, 2), make([]byte, 256)...),
	} {
		if _, err := DecodeMessage(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
