package pebblekv

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/enginetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Engines whose disk failed are abandoned, with what Pebble runs.
		goleak.IgnoreAnyFunction(pkg+".park"),
	)
}

const pkg = "github.com/concordatdb/concordat/applier/pebblekv"

// testDir is where engines live on file systems in memory.
const testDir = "/var/lib/member/data"

// harness is an engine on a file system in memory that can lose power.
type harness struct {
	t         testing.TB
	fs        *vfs.MemFS
	engine    *Engine
	abandoned []*Engine // by Crash; closed in the end, to give memory back
	opts      Options
}

func newHarness(t testing.TB) *harness {
	h := &harness{t: t, fs: vfs.NewCrashableMem(), opts: testOptions()}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	return h
}

// testOptions keep memtables small, so that tests flush and compact too.
func testOptions() Options {
	return Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10, Logger: slog.New(slog.DiscardHandler)}
}

func (h *harness) open() (err error) {
	opts := h.opts
	opts.FS = h.fs
	h.engine, err = Open(testDir, opts)
	return err
}

func (h *harness) Engine() applier.Engine { return h.engine }

func (h *harness) Reopen() error {
	return errors.Join(closeEngine(h.engine), h.open())
}

func (h *harness) Crash(rng *rand.Rand) error {
	h.abandoned = append(h.abandoned, h.engine)
	percent := []int{0, 0, 1, 30, 70, 99, 100}[rng.IntN(7)]
	h.fs = h.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
	return h.open()
}

func (h *harness) Close() error {
	var errs []error
	for _, e := range append(h.abandoned, h.engine) {
		errs = append(errs, closeEngine(e))
	}
	return errors.Join(errs...)
}

// closeEngine closes an engine unless the test has.
func closeEngine(e *Engine) error {
	if err := e.Close(); !errors.Is(err, applier.ErrClosed) {
		return err
	}
	return nil
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, enginetest.Options{
		Open:       func(t testing.TB) enginetest.Harness { return newHarness(t) },
		Concurrent: true,
	})
}

// diskHarness is an engine on the real file system.
type diskHarness struct {
	dir    string
	engine *Engine
}

func (h *diskHarness) Engine() applier.Engine { return h.engine }

func (h *diskHarness) Reopen() (err error) {
	if err := closeEngine(h.engine); err != nil {
		return err
	}
	h.engine, err = Open(h.dir, testOptions())
	return err
}

func (h *diskHarness) Close() error { return closeEngine(h.engine) }
