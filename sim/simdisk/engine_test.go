package simdisk

import (
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/enginetest"
)

// engineHarness is an Engine, which is its own disk.
type engineHarness struct{ e *Engine }

func (h engineHarness) Engine() applier.Engine { return h.e }

func (h engineHarness) Reopen() error {
	h.e.Reopen()
	return nil
}

func (h engineHarness) Crash(rng *rand.Rand) error {
	h.e.Crash(func(unsynced int) int { return rng.IntN(unsynced + 1) })
	return nil
}

func (h engineHarness) Close() error { return nil }

func TestEngineConformance(t *testing.T) {
	enginetest.Run(t, enginetest.Options{
		Open: func(testing.TB) enginetest.Harness { return engineHarness{NewEngine()} },
	})
}
