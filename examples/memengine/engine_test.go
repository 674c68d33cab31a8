package memengine

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/enginetest"
)

// harness is an engine in a directory, and can lose power: an engine that was not
// closed keeps its memory to itself.
type harness struct {
	dir    string
	engine *Engine
}

func newHarness(t testing.TB) enginetest.Harness {
	h := &harness{dir: t.TempDir()}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *harness) open() (err error) {
	h.engine, err = Open(h.dir)
	return err
}

func (h *harness) Engine() applier.Engine { return h.engine }

func (h *harness) Reopen() error { return errors.Join(h.Close(), h.open()) }

// Crash leaves, perhaps, the beginning of a file that was being written.
func (h *harness) Crash(rng *rand.Rand) error {
	h.engine.opened.Store(new(applier.ErrClosed)) // it must not write to the disk of the next one
	if rng.IntN(2) == 0 {
		half := bytes.Repeat([]byte(magic), rng.IntN(5))
		if err := os.WriteFile(filepath.Join(h.dir, fileName+".new"), half, 0o600); err != nil {
			return err
		}
	}
	return h.open()
}

func (h *harness) Close() error {
	if err := h.engine.Close(); !errors.Is(err, applier.ErrClosed) {
		return err
	}
	return nil
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, enginetest.Options{Open: newHarness, Concurrent: true})
}

func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	e, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrStream) {
			t.Fatalf("with byte %d of %d changed: %v", i, len(whole), err)
		}
	}
}

// FuzzDecode checks that no bytes make a panic, and that what decodes is what was
// encoded.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(magic))
	f.Add(encode(&state{pairs: newPairs()}))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := decode(bytes.NewReader(b))
		if err != nil && !errors.Is(err, ErrStream) {
			t.Fatalf("%v", err)
		}
		if err == nil {
			if again, err := decode(bytes.NewReader(encode(st))); err != nil || again.digest != st.digest {
				t.Fatalf("decoded again: %v", err)
			}
		}
	})
}
