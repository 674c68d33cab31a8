package outcome

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// uv is the encoding of numbers.
func uv(numbers ...uint64) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func idBytes(n uint64) []byte {
	id := idOf(n)
	return id[:]
}

func whole(g gtid.GTID) []byte { return appendGTID(nil, g) }

// soundWindow has forgotten index 5, and has an entry of each kind.
func soundWindow() *Window {
	w := New(5, 7)
	w.Note(idOf(1), commit(7, 5))
	w.Note(idOf(2), refuse(3, 6))
	w.Note(idOf(3), commit(8, 6))
	w.Note(idOf(2), lose(5, 300))
	tagged := commit(1, 301)
	tagged.GTID.Tag = "b"
	w.Note(idOf(4), tagged)
	w.Note(idOf(5), refuse(0, 301))
	return w
}

// soundState is the state of soundWindow, in the pieces that tests put together
// wrongly.
func soundState() [][]byte {
	return [][]byte{
		0: {stateFormat},
		1: uv(5), 2: uv(5), 3: uv(5),
		4: uv(0, 1),
		5: join(uv(1<<2|1, 0), idBytes(3), whole(gtid.GTID{UUID: group, Number: 8})),
		6: join(uv(1<<2|3, 294), idBytes(2), []byte{5, 2}), // 8 - 3, reason 2
		7: join(uv(2<<2|1, 1), idBytes(4), whole(gtid.GTID{UUID: group, Tag: "b", Number: 1})),
		8: join(uv(0<<2|2, 0), idBytes(5), []byte{0}),
	}
}

func TestStateBytes(t *testing.T) {
	want := join(soundState()...)
	if got := soundWindow().AppendState(nil); !bytes.Equal(got, want) {
		t.Fatalf("state\n%x, want\n%x", got, want)
	}
	if got := soundWindow().AppendState([]byte("ab")); !bytes.Equal(got, join([]byte("ab"), want)) {
		t.Errorf("appended state\n%x", got)
	}
	w, err := Restore(want, 9)
	if err != nil {
		t.Fatal(err)
	}
	clear(want)
	wantCover(t, w, 5, 5)
	if w.Limit() != 5 {
		t.Errorf("limit %d", w.Limit())
	}
	wantFate(t, w, idOf(1), Fate{})
	wantFate(t, w, idOf(2), lose(5, 300))
	wantFate(t, w, idOf(3), commit(8, 6))
	wantFate(t, w, idOf(5), refuse(0, 301))
}

// TestStateOfTheForgotten checks that what was given back, or not yet, cannot
// be seen in the state.
func TestStateOfTheForgotten(t *testing.T) {
	many, few := New(3000, 7), New(10, 7)
	for i := uint64(1); i <= 3000; i++ {
		f := commit(i, i)
		f.GTID.UUID[2] = byte(i % 100)
		many.Note(idOf(i), f)
		few.Note(idOf(i), f)
	}
	many.SetLimit(10)
	if a, b := many.AppendState(nil), few.AppendState(nil); !bytes.Equal(a, b) {
		t.Errorf("states\n%x\n%x", a, b)
	}
}

func TestRestoreRefuses(t *testing.T) {
	other := gtid.GTID{UUID: gtid.UUID{9}, Number: 1}
	for name, change := range map[string]func(s [][]byte){
		"format 2":              func(s [][]byte) { s[0] = []byte{2} },
		"limit too high":        func(s [][]byte) { s[1] = uv(MaxLimit + 1) },
		"more than the limit":   func(s [][]byte) { s[1] = uv(4) },
		"a limit padded":        func(s [][]byte) { s[1] = []byte{0x85, 0} },
		"fewer than counted":    func(s [][]byte) { s[3] = uv(4) },
		"more than counted":     func(s [][]byte) { s[1], s[3] = uv(9), uv(6) },
		"more than bytes":       func(s [][]byte) { s[1], s[3] = uv(MaxLimit), uv(MaxLimit) },
		"bytes too many":        func(s [][]byte) { s[8] = append(s[8], 0) },
		"superseded, source":    func(s [][]byte) { s[4] = uv(1<<2, 1) },
		"refused, source":       func(s [][]byte) { s[8][0] = 1<<2 | 2 },
		"committed, no source":  func(s [][]byte) { s[5][0] = 1 },
		"source out of turn":    func(s [][]byte) { s[7][0] = 3<<2 | 1 },
		"source comes up again": func(s [][]byte) { s[7] = join(uv(2<<2|1, 1), idBytes(4), whole(gtid.GTID{UUID: group, Number: 9})) },
		"source without number": func(s [][]byte) { s[7] = join(uv(2<<2|1, 1), idBytes(4), whole(gtid.GTID{})) },
		"source cut off":        func(s [][]byte) { s[5] = s[5][:20]; s[6], s[7], s[8] = nil, nil, nil },
		"GTID number 0":         func(s [][]byte) { s[6] = join(uv(1<<2|3, 294), idBytes(2), []byte{15, 2}) },
		"GTID number padded":    func(s [][]byte) { s[6] = join(uv(1<<2|3, 294), idBytes(2), []byte{0x85, 0, 2}) },
		"GTID number too high": func(s [][]byte) {
			s[6] = join(uv(1<<2|3, 294), idBytes(2), binary.AppendVarint(nil, int64(gtid.MaxNumber-8+1)), []byte{2})
		},
		"two fates of one id": func(s [][]byte) { copy(s[8][2:], idBytes(4)) },
		"index wraps":         func(s [][]byte) { s[4] = uv(0, 1<<64-1) },
		"index 0":             func(s [][]byte) { s[2], s[4] = uv(0), uv(0, 0) },
		"newest superseded":   func(s [][]byte) { s[8] = uv(0, 0) },
		"reason cut off":      func(s [][]byte) { s[8] = s[8][:len(s[8])-1] },
		"id cut off":          func(s [][]byte) { s[8] = s[8][:9] },
		"kind takes a source": func(s [][]byte) { s[8] = join(uv(3<<2|2, 0), idBytes(5), whole(other), []byte{0}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := soundState()
			change(s)
			if w, err := Restore(join(s...), 9); !errors.Is(err, ErrState) || w != nil {
				t.Errorf("restored with %v", err)
			}
		})
	}
	sound := join(soundState()...)
	for n := range sound {
		if _, err := Restore(sound[:n], 9); !errors.Is(err, ErrState) {
			t.Errorf("the first %d bytes of a state: %v", n, err)
		}
	}
}

// TestRestoreCountsFirst checks that a count alone takes no memory.
func TestRestoreCountsFirst(t *testing.T) {
	state := join([]byte{stateFormat}, uv(MaxLimit, 0, MaxLimit), make([]byte, 100))
	allocs := testing.AllocsPerRun(10, func() {
		if _, err := Restore(state, 9); err == nil || !strings.Contains(err.Error(), "transactions in 100 bytes") {
			t.Errorf("restored with %v", err)
		}
	})
	if allocs > 20 {
		t.Errorf("%v allocations for a count", allocs)
	}
}

// FuzzRestore checks that whatever is taken keeps the invariants, comes back
// as the same bytes, and goes on.
func FuzzRestore(f *testing.F) {
	f.Add([]byte{})
	f.Add(New(0, 7).AppendState(nil))
	f.Add(New(MaxLimit, 7).AppendState(nil))
	f.Add(join(soundState()...))
	f.Add(join(slices.Insert(soundState(), 5, uv(0, 0))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := Restore(b, 9)
		if err != nil {
			if !errors.Is(err, ErrState) || w != nil {
				t.Fatalf("error %v, window %v", err, w)
			}
			return
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
		if again := w.AppendState(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x comes back as %x", b, again)
		}
		for n := uint64(1); n <= 8; n++ {
			if f, ok := w.Find(idOf(n)); !ok || !f.Committed {
				w.Note(idOf(n), commit(n, max(w.last(), 1)))
			}
			w.SetLimit(w.Limit() - 1)
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	})
}
