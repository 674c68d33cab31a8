// Package logtest is the conformance suite of [gcs.Log]. Every implementation
// runs it, so that what the simulator's log does in memory is what the durable
// one does on disk.
//
// The suite drives a log and a naive [model] of it with the same random calls,
// and compares everything that the log can be asked after each. A crash may
// lose what was not synced, but only from the end: what the log holds then must
// be one of the states that the model went through since the last sync.
package logtest

import (
	"testing"

	"github.com/concordatdb/concordat/gcs"
)

// Disk is what outlives a log: it is opened, closed, and loses power.
type Disk interface {
	// Open opens the log that is on the disk, an empty one the first time.
	// The one opened before has been closed, or has met a crash.
	Open() (gcs.Log, error)
	// Crash cuts the power while the log is open. Of what was not synced,
	// any prefix may survive; seed decides. The open log is abandoned.
	Crash(seed uint64)
}

// Options says what is tested.
type Options struct {
	// New returns an empty disk. It is called many times in one test, and
	// must leave nothing behind that the test's end does not clear away.
	New func(t testing.TB) Disk
	// OneGoroutine is set for an implementation that does without locks,
	// because its user has only one goroutine.
	OneGoroutine bool
}

// Run runs the suite.
func Run(t *testing.T, o Options) {
	t.Run("fresh", func(t *testing.T) { testFresh(t, o) })
	t.Run("shorter tail leaves no ghosts", func(t *testing.T) { testGhosts(t, o) })
	t.Run("size limits", func(t *testing.T) { testSizes(t, o) })
	t.Run("checkpoints", func(t *testing.T) { testCheckpoints(t, o) })
	t.Run("record", func(t *testing.T) { testRecord(t, o) })
	t.Run("adoption", func(t *testing.T) { testAdopt(t, o) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, o) })
	t.Run("refused adoptions", func(t *testing.T) { testAdoptRefuses(t, o) })
	t.Run("closed", func(t *testing.T) { testClosed(t, o) })
	t.Run("random calls", func(t *testing.T) { testRandom(t, o) })
	if !o.OneGoroutine {
		t.Run("reader beside writer", func(t *testing.T) { testConcurrent(t, o) })
	}
}
