package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// traceTo names the environment variable by which TestSameTraceInTwoProcesses
// tells its children where to write a trace.
const traceTo = "CONCORDAT_SIM_TRACE"

// TestSameTraceInTwoProcesses runs one seed in two processes that collect
// garbage differently and have different numbers of processors.
func TestSameTraceInTwoProcesses(t *testing.T) {
	const seed = 11
	if path := os.Getenv(traceTo); path != "" {
		writeTrace(t, seed, path)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var traces [2][]byte
	for i, env := range [][]string{{"GOMAXPROCS=1", "GOGC=400"}, {"GOMAXPROCS=2", "GOGC=30"}} {
		path := filepath.Join(t.TempDir(), "trace")
		child := exec.CommandContext(t.Context(), program, "-test.run=^TestSameTraceInTwoProcesses$")
		child.Env = append(append(os.Environ(), traceTo+"="+path), env...)
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("child %d: %v\n%s", i, err, out)
		}
		if traces[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if len(traces[0]) == 0 {
		t.Fatal("the trace is empty")
	}
	compareTraces(t, traces[0], traces[1])
}

func writeTrace(t *testing.T, seed uint64, path string) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Options{First: seed, Seeds: 1, Trace: f}); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// compareTraces shows the first line that differs.
func compareTraces(t *testing.T, a, b []byte) {
	t.Helper()
	if bytes.Equal(a, b) {
		return
	}
	linesA, linesB := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(linesA), len(linesB)) {
		if !bytes.Equal(linesA[i], linesB[i]) {
			t.Fatalf("line %d is\n%s\nand\n%s", i+1, linesA[i], linesB[i])
		}
	}
	t.Fatalf("one trace has %d lines, the other %d", len(linesA), len(linesB))
}

// TestSameTraceAgain runs seeds twice in one process, which finds what a world
// inherits from another one.
func TestSameTraceAgain(t *testing.T) {
	seen := map[[sha256.Size]byte]uint64{}
	for seed := range uint64(sweepSeeds) / 4 {
		a, b := traceHash(t, seed), traceHash(t, seed)
		if a != b {
			t.Errorf("seed %d has two traces", seed)
		}
		if other, ok := seen[a]; ok {
			t.Errorf("seeds %d and %d have one trace", seed, other)
		}
		seen[a] = seed
	}
}

func traceHash(t *testing.T, seed uint64) (sum [sha256.Size]byte) {
	t.Helper()
	h := sha256.New()
	if _, err := Run(t.Context(), Options{First: seed, Seeds: 1, Trace: h}); err != nil {
		t.Fatal(err)
	}
	h.Sum(sum[:0])
	return sum
}

// TestTraceCannotBeWritten: a trace that is not complete is worse than none.
func TestTraceCannotBeWritten(t *testing.T) {
	r, w := io.Pipe()
	full := errors.New("disk is full")
	if err := r.CloseWithError(full); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Options{First: 1, Seeds: 1, Trace: w}); !errors.Is(err, full) {
		t.Errorf("Run gives error %v, want %v", err, full)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	report, err := Run(ctx, Options{First: 1, Seeds: 5, Progress: func(int, int) { cancel(enough) }})
	if !errors.Is(err, enough) || report.Worlds != 1 {
		t.Errorf("Run gives %d worlds and error %v, want one and %v", report.Worlds, err, enough)
	}
}

func TestNoSeeds(t *testing.T) {
	if _, err := Run(t.Context(), Options{First: 1}); !errors.Is(err, ErrNoSeeds) {
		t.Errorf("Run gives error %v, want %v", err, ErrNoSeeds)
	}
}
