package pebblekv

import (
	"errors"
	"flag"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/enginetest"
)

// TestMain checks that no goroutine of this package is left behind. What Pebble
// runs for engines whose disk failed is: those cannot be closed. That all
// others give back all of Pebble's too, TestConformance checks.
func TestMain(m *testing.M) {
	const pebble = "github.com/cockroachdb/pebble/v2"
	var abandoned []goleak.Option
	for _, function := range []string{
		"github.com/concordatdb/concordat/applier/pebblekv.park",
		pebble + ".(*DB).AsyncFlush",
		pebble + ".(*DB).flush",
		pebble + ".(*DB).applyInternal",
		pebble + ".(*Snapshot).Close",
		pebble + ".(*ConcurrencyLimitScheduler).periodicGranter",
		pebble + ".(*cleanupManager).mainLoop",
		pebble + "/internal/genericcache.(*shard[...]).releaseLoop",
		pebble + "/record.(*LogWriter).flushLoop",
	} {
		abandoned = append(abandoned, goleak.IgnoreAnyFunction(function))
	}
	goleak.VerifyTestMain(m, abandoned...)
}

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
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	checkModel(t)
	enginetest.Run(t, enginetest.Options{
		Open:       func(t testing.TB) enginetest.Harness { return newHarness(t) },
		Concurrent: true,
	})
}

// checkModel sets how many sequences of calls the model is tried on, unless
// somebody has said it.
func checkModel(t *testing.T) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	if f.Value.String() != f.DefValue {
		return
	}
	if err := f.Value.Set(modelChecks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Value.Set(f.DefValue); err != nil {
			t.Error(err)
		}
	})
}
