package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// writeFrom returns what x writes from a byte on, at most limit bytes of it.
func writeFrom(t *testing.T, x applier.Export, from int64, limit int) []byte {
	t.Helper()
	out := brokenPipe{room: limit}
	err := x.WriteTo(t.Context(), &out, from)
	if whole := from+int64(len(out.got)) == x.Size(); err != nil && !errors.Is(err, io.ErrClosedPipe) || err == nil && !whole {
		t.Fatalf("write from byte %d of %d on: %d bytes, %v", from, x.Size(), len(out.got), err)
	}
	return out.got
}

// brokenPipe takes as many bytes as it has room for.
type brokenPipe struct {
	room int
	got  []byte
}

func (p *brokenPipe) Write(b []byte) (n int, err error) {
	n = min(len(b), p.room-len(p.got))
	p.got = append(p.got, b[:n]...)
	if n < len(b) {
		err = io.ErrClosedPipe
	}
	return n, err
}

// transferResumed copies over a link that breaks, while batches go on.
func (s *suite) transferResumed(t *testing.T) {
	h, m := s.open(t), newModel()
	donor := h.Engine()
	m.fill(t, donor, "v")
	if err := donor.Flush(t.Context()); err != nil { // so that there is more to the export than a log
		t.Fatal(err)
	}
	m.fill(t, donor, "w")
	pinned := m.clone()
	x, err := donor.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(t, x)
	const all = 1 << 30
	stream := writeFrom(t, x, 0, all)
	if int64(len(stream)) != x.Size() {
		t.Fatalf("an export of %d bytes says that it has %d", len(stream), x.Size())
	}
	m.fill(t, donor, "later")
	if err := donor.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	step := max(1, len(stream)/100)
	for from := 0; from <= len(stream); from++ {
		if from >= 100 && from < len(stream)-100 && from%step != 0 {
			continue
		}
		if got := writeFrom(t, x, int64(from), all); !bytes.Equal(got, stream[from:]) {
			t.Fatalf("written from byte %d on, the export has other bytes", from)
		}
	}
	for _, from := range []int64{-1, x.Size() + 1} {
		if err := x.WriteTo(t.Context(), io.Discard, from); err == nil {
			t.Errorf("an export of %d bytes is written from byte %d on", x.Size(), from)
		}
	}

	rng := rand.New(rand.NewPCG(1, 2))
	var pieces []byte
	for breaks := 0; int64(len(pieces)) < x.Size(); breaks++ {
		pieces = append(pieces, writeFrom(t, x, int64(len(pieces)), rng.IntN(1+len(stream)/5))...)
		m.apply(t, donor, tx{put(accounts, "a", fmt.Sprint(breaks))})
	}
	to := s.open(t).Engine()
	if at, err := to.Import(t.Context(), bytes.NewReader(pieces)); err != nil || at.Index != pinned.position.Index {
		t.Fatalf("import of what came in pieces: at %d, %v", at.Index, err)
	}
	pinned.check(t, to)
	m.check(t, donor)
}

// transferMixed imports streams whose pieces were lost, repeated, exchanged, or
// taken from another export, as a resumption gone wrong would have them.
func (s *suite) transferMixed(t *testing.T) {
	m := newModel()
	donor := s.open(t).Engine()
	m.fill(t, donor, "v")
	if err := donor.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	one := exportOf(t.Context(), t, donor)
	m.apply(t, donor, tx{put(accounts, "a", "other")})
	two := exportOf(t.Context(), t, donor)

	h, old := s.open(t), newModel()
	e := h.Engine()
	old.fill(t, e, "old")
	refused := func(what string, at int, stream []byte) {
		t.Helper()
		if bytes.Equal(stream, one) || bytes.Equal(stream, two) {
			return
		}
		if _, err := e.Import(t.Context(), bytes.NewReader(stream)); err == nil {
			t.Fatalf("import of a stream %s at byte %d: no error", what, at)
		}
	}
	block := max(1, len(one)/40)
	for at := 0; at+2*block <= min(len(one), len(two)); at += block {
		head, a, b, tail := one[:at], one[at:at+block], one[at+block:at+2*block], one[at+2*block:]
		refused("with a piece lost", at, slices.Concat(head, b, tail))
		refused("with a piece repeated", at, slices.Concat(head, a, a, b, tail))
		refused("with pieces exchanged", at, slices.Concat(head, b, a, tail))
		refused("with a piece of another export", at, slices.Concat(head, two[at:at+block], b, tail))
		refused("that goes on as another export", at, slices.Concat(one[:at+block], two[at+block:]))
	}
	old.check(t, e)
	if _, err := e.Import(t.Context(), bytes.NewReader(two)); err != nil {
		t.Fatal(err)
	}
	m.check(t, e)
}
