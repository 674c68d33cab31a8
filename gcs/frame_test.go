package gcs

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// accepted is the naive picture of the rule: everything that was delivered,
// and the question whether a frame comes right after it.
type accepted []frameHeader

func (log accepted) next(h frameHeader) bool {
	session, seq := uint64(0), uint64(0)
	for _, old := range log {
		if old.origin == h.origin {
			session, seq = old.session, old.seq
		}
	}
	if h.session == session {
		return h.seq == seq+1
	}
	return h.session > session && h.seq == 1
}

// without forgets an origin that left.
func (log accepted) without(origin uint64) accepted {
	return slices.DeleteFunc(slices.Clone(log), func(h frameHeader) bool { return h.origin == origin })
}

func drawHeader(t *rapid.T) frameHeader {
	return frameHeader{
		origin:  rapid.Uint64Range(1, 4).Draw(t, "origin"),
		session: rapid.Uint64Range(1, 3).Draw(t, "session"),
		seq:     rapid.Uint64Range(1, 4).Draw(t, "seq"),
	}
}

// TestFIFO holds the rule against the naive picture while members come and go
// and the state is written down and read back.
func TestFIFO(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := group(online(1), online(2))
		var f fifo
		f.align(members)
		var log accepted
		t.Repeat(map[string]func(*rapid.T){
			"frame": func(t *rapid.T) {
				h := drawHeader(t)
				_, present := members.Member(h.origin)
				want := present && log.next(h)
				if expected := f.expected(h); want && expected != h.seq {
					t.Fatalf("expected(%v) is %d, yet the frame comes next", h, expected)
				}
				if got := f.accept(h); got != want {
					t.Fatalf("accept(%v) is %v after %v", h, got, log)
				}
				if want {
					log = append(log, h)
				}
			},
			"view": func(t *rapid.T) {
				id := rapid.Uint64Range(1, 4).Draw(t, "id")
				if _, present := members.Member(id); present {
					members.Members = slices.DeleteFunc(slices.Clone(members.Members), func(m Member) bool { return m.RaftID == id })
					log = log.without(id)
				} else {
					i, _ := members.find(id)
					members.Members = slices.Insert(slices.Clone(members.Members), i, recovering(id))
				}
				f.align(members)
			},
			"restart": func(t *rapid.T) {
				d := decoder{rest: f.append(nil)}
				read := d.fifo()
				if err := d.finish(ErrState); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(f.append(nil), read.append(nil)); diff != "" {
					t.Fatalf("(-written +read):\n%s", diff)
				}
				f = read
			},
			"": func(t *rapid.T) { checkOrigins(t, &f, members) },
		})
	})
}

func checkOrigins(t *rapid.T, f *fifo, v View) {
	if len(f.origins) != len(v.Members) {
		t.Fatalf("%d origins in a view of %d", len(f.origins), len(v.Members))
	}
	for i, m := range v.Members {
		if f.origins[i].id != m.RaftID {
			t.Fatalf("origins %v of members %s", f.origins, standing(v))
		}
	}
}

func TestExpected(t *testing.T) {
	f := fifo{origins: []origin{{id: 1, session: 3, next: 7}, {id: 2}}}
	for _, c := range []struct {
		header frameHeader
		want   uint64
	}{
		{frameHeader{origin: 1, session: 3, seq: 9}, 7},
		{frameHeader{origin: 1, session: 3, seq: 2}, 7},
		{frameHeader{origin: 1, session: 4, seq: 9}, 1},
		{frameHeader{origin: 1, session: 2, seq: 7}, 0},
		{frameHeader{origin: 2, session: 1, seq: 1}, 1},
		{frameHeader{origin: 5, session: 1, seq: 1}, 0},
	} {
		if got := f.expected(c.header); got != c.want {
			t.Errorf("expected(%v) is %d, want %d", c.header, got, c.want)
		}
	}
}

func drawMessages(t *rapid.T) [][]byte {
	return rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 40), 0, 20).Draw(t, "messages")
}

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := frameHeader{
			origin:  rapid.Uint64Min(1).Draw(t, "origin"),
			session: rapid.Uint64Min(1).Draw(t, "session"),
			seq:     rapid.Uint64Min(1).Draw(t, "seq"),
		}
		msgs := drawMessages(t)
		b := appendFrame(nil, h, msgs)
		gotHeader, gotMsgs, err := decodeFrame(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if gotHeader != h || !slices.EqualFunc(gotMsgs, msgs, bytes.Equal) {
			t.Fatalf("got %v %q, want %v %q", gotHeader, gotMsgs, h, msgs)
		}
		for n := range b {
			if _, _, err := decodeFrame(b[:n], nil); !errors.Is(err, ErrFrame) {
				t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
			}
		}
	})
}

func TestDecodeFrameRefuses(t *testing.T) {
	one := [][]byte{[]byte("x")}
	header := frameHeader{origin: 1, session: 1, seq: 1}
	many := make([][]byte, MaxFrameMessages+1)
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"a later format":       {2, 1, 1, 1, 0},
		"a byte too many":      append(appendFrame(nil, header, one), 0),
		"too many messages":    appendFrame(nil, header, many),
		"a message too long":   {entryFrame, 1, 1, 1, 1, 5, 'x'},
		"an endless number":    append([]byte{entryFrame}, bytes.Repeat([]byte{0xff}, 11)...),
		"nobody's":             appendFrame(nil, frameHeader{session: 1, seq: 1}, one),
		"session 0":            appendFrame(nil, frameHeader{origin: 1, seq: 1}, one),
		"sequence number 0":    appendFrame(nil, frameHeader{origin: 1, session: 1}, one),
		"a length of all ones": append([]byte{entryFrame, 1, 1, 1, 1}, bytes.Repeat([]byte{0xff}, 9)...),
	} {
		t.Run(name, func(t *testing.T) {
			if h, msgs, err := decodeFrame(b, nil); !errors.Is(err, ErrFrame) {
				t.Errorf("decoded %v with %d messages, error %v", h, len(msgs), err)
			}
		})
	}
}

// What is decoded is the log entry's own memory, and no message can grow into
// the next.
func TestDecodeFrameAliases(t *testing.T) {
	b := appendFrame(nil, frameHeader{origin: 1, session: 1, seq: 1}, [][]byte{[]byte("one"), []byte("two")})
	into := make([][]byte, 0, 8)
	_, msgs, err := decodeFrame(b, into)
	if err != nil {
		t.Fatal(err)
	}
	if &msgs[0] != &into[:1][0] {
		t.Error("the slice of messages was not reused")
	}
	if got := string(append(msgs[0], "!!!!"...)); got != "one!!!!" || string(msgs[1]) != "two" {
		t.Errorf("appending to the first message made the second %q", msgs[1])
	}
	b[len(b)-1] = 'O'
	if string(msgs[1]) != "twO" {
		t.Error("the messages are copies")
	}
}
