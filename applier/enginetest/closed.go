package enginetest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// closed checks that everything says ErrClosed after Close, and that closing
// engine, snapshots and exports in the wrong order is harmless.
func (s *suite) closed(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.fill(t, e, "v")
	snap := begin(t, e)
	x, err := e.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	closeIt(t, e)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Begin":     func() error { _, err := e.Begin(); return err },
		"Digest":    func() error { _, _, err := e.Digest(); return err },
		"Apply":     func() error { return e.Apply(m.clone().batch()) },
		"Durable":   func() error { _, err := e.Durable(); return err },
		"Flush":     func() error { return e.Flush(t.Context()) },
		"NewExport": func() error { _, err := e.NewExport(); return err },
		"Import":    func() error { _, err := e.Import(ctx, bytes.NewReader(nil)); return err },
		"Get":       func() error { _, _, err := snap.Get(accounts, []byte("a")); return err },
		"Scan":      func() error { _, err := scan(snap, accounts, nil, nil, false); return err },
		"WriteTo":   func() error { return x.WriteTo(ctx, io.Discard, 0) },
		"Close":     e.Close,
	} {
		if err := call(); !errors.Is(err, applier.ErrClosed) {
			t.Errorf("%s after Close: got %v, want %v", name, err, applier.ErrClosed)
		}
	}
	if err := samePosition(snap.Position(), m.position); err != nil {
		t.Errorf("closed snapshot: %v", err)
	}
	closeIt(t, snap)
	closeIt(t, x)
	closeIt(t, x)
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	m.check(t, h.Engine())
}

// closeInsideScan closes the engine from the body of a scan.
func (s *suite) closeInsideScan(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.fill(t, e, "v")
	snap := begin(t, e)
	steps := 0
	for k, v := range snap.Scan(accounts, nil, nil, false) {
		steps++
		want := m.tables[accounts][string(k)]
		closeIt(t, e)
		if string(v) != want {
			t.Errorf("value of %q changed to %q under the loop", k, v)
		}
	}
	if steps != 1 || !errors.Is(snap.Err(), applier.ErrClosed) {
		t.Errorf("%d steps, %v, want 1 and %v", steps, snap.Err(), applier.ErrClosed)
	}
}
