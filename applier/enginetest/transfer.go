package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
)

// exportOf returns what an export of e writes.
func exportOf(ctx context.Context, t rapid.TB, e applier.Engine) []byte {
	t.Helper()
	x, err := e.NewExport()
	if err != nil {
		t.Fatalf("new export: %v", err)
	}
	var out bytes.Buffer
	if err := x.WriteTo(ctx, &out, 0); err != nil {
		t.Fatalf("write export: %v", err)
	}
	closeIt(t, x)
	return out.Bytes()
}

// writerFunc calls a function before each write.
type writerFunc struct {
	w    io.Writer
	call func()
}

func (w writerFunc) Write(p []byte) (int, error) {
	w.call()
	return w.w.Write(p)
}

// transfer exports while batches go on, and imports into an empty engine, an
// engine with other contents, and the exporter itself.
func (s *suite) transfer(t *testing.T) {
	h, m := s.open(t), newModel()
	donor := h.Engine()
	m.fill(t, donor, "v")
	m.apply(t, donor, tx{del(accounts, "a")})
	pinned := m.clone()
	x, err := donor.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	m.fill(t, donor, "later")
	var out bytes.Buffer
	writes := 0
	err = x.WriteTo(t.Context(), writerFunc{&out, func() {
		if writes++; writes%8 == 1 {
			m.apply(t, donor, tx{put(accounts, "a", fmt.Sprint(writes)), del(accounts, "b")})
		}
	}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := samePosition(x.Position(), pinned.position); err != nil {
		t.Errorf("export: %v", err)
	}
	closeIt(t, x)
	m.check(t, donor)

	fresh, used := s.open(t), s.open(t)
	newModel().fill(t, used.Engine(), "other")
	for _, to := range []Harness{fresh, used, h} {
		// What follows the export in the stream is not Import's.
		stream := bytes.NewBuffer(append(bytes.Clone(out.Bytes()), "next message"...))
		at, err := to.Engine().Import(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if err := samePosition(at, pinned.position); err != nil {
			t.Errorf("import: %v", err)
		}
		if stream.String() != "next message" {
			t.Errorf("import left %q of what follows the export", stream)
		}
		if d, err := to.Engine().Durable(); err != nil || d != at.Index {
			t.Errorf("durable after import: %d, %v, want %d", d, err, at.Index)
		}
		goOn := pinned.clone()
		goOn.check(t, to.Engine())
		goOn.apply(t, to.Engine(), tx{put(accounts, "a", "after"), del(accounts, "b")})
		goOn.check(t, to.Engine())
		if err := to.Reopen(); err != nil {
			t.Fatal(err)
		}
		goOn.check(t, to.Engine())
	}
}

// transferDamaged imports cut and flipped exports. They must be refused.
func (s *suite) transferDamaged(t *testing.T) {
	m := newModel()
	donor := s.open(t).Engine()
	m.fill(t, donor, "v")
	stream := exportOf(t.Context(), t, donor)

	h, old := s.open(t), newModel()
	e := h.Engine()
	old.fill(t, e, "old")
	snap := begin(t, e)
	refused := func(what string, r io.Reader, want error) {
		t.Helper()
		_, err := e.Import(t.Context(), r)
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Fatalf("import of a stream %s: got %v, want %v", what, err, want)
		}
	}
	// Every offset near the ends, and a spread of them in between.
	step := max(1, len(stream)/64)
	near := func(i int) bool { return i < 64 || i >= len(stream)-32 || i%step == 0 }
	for i := range stream {
		if !near(i) {
			continue
		}
		refused(fmt.Sprintf("cut to %d bytes", i), bytes.NewReader(stream[:i]), nil)
		flipped := bytes.Clone(stream)
		flipped[i] ^= 1 << (i % 8)
		refused(fmt.Sprintf("with byte %d flipped", i), bytes.NewReader(flipped), nil)
	}
	broken := errors.New("the network broke")
	for _, n := range []int{0, len(stream) / 2, len(stream) - 1} {
		r := io.MultiReader(bytes.NewReader(stream[:n]), failingReader{broken})
		refused(fmt.Sprintf("whose reader fails after %d bytes", n), r, broken)
	}
	if err := old.diff(snap); err != nil {
		t.Errorf("snapshot after refused imports: %v", err)
	}
	closeIt(t, snap)
	old.check(t, e)
	old.apply(t, e, tx{put(accounts, "a", "on")})
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	old.check(t, h.Engine())
	if _, err := h.Engine().Import(t.Context(), bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	m.check(t, h.Engine())
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func (s *suite) transferCancelled(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.fill(t, e, "v")
	stream := exportOf(t.Context(), t, e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x, err := e.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	if err := x.WriteTo(ctx, io.Discard, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("write cancelled: %v", err)
	}
	closeIt(t, x)
	if _, err := e.Import(ctx, bytes.NewReader(stream)); !errors.Is(err, context.Canceled) {
		t.Errorf("import cancelled: %v", err)
	}
	m.check(t, e)
}

// importEndsSnapshots imports from the body of a scan.
func (s *suite) importEndsSnapshots(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.fill(t, e, "v")
	stream := exportOf(t.Context(), t, e)
	imported := m.clone()
	m.fill(t, e, "later")
	snap := begin(t, e)
	steps := 0
	for range snap.Scan(accounts, nil, nil, true) {
		steps++
		if _, err := e.Import(t.Context(), bytes.NewReader(stream)); err != nil {
			t.Fatal(err)
		}
	}
	if steps != 1 || snap.Err() == nil {
		t.Errorf("scan across an import: %d steps, %v, want 1 and an error", steps, snap.Err())
	}
	if _, _, err := snap.Get(accounts, nil); err == nil {
		t.Error("get from a snapshot of a state that was replaced: no error")
	}
	closeIt(t, snap)
	imported.check(t, e)
}
