// Package enginetest is the conformance suite of [applier.Engine]. Whoever
// brings a database of their own runs it in an ordinary test:
//
//	func TestConformance(t *testing.T) {
//		enginetest.Run(t, enginetest.Options{Open: openMine, Concurrent: true})
//	}
//
// It owns the reading of the interface: what is not checked here is not
// promised to a member. Each road into the engine that it has, by Apply, as
// [applier.Pipelined] or as [applier.Parallel], is taken with the same streams of
// transactions, and, where the harness can crash, cut off at every call. It knows an engine only by the interface, and payloads
// only as those of package applier, which the engine under test must apply.
package enginetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// Options say what to run the suite on.
type Options struct {
	// Open returns a harness around a new, empty engine. Errors end the test.
	Open func(t testing.TB) Harness
	// Concurrent says that the engine may be called from many goroutines, as
	// applier.Engine demands. Without it, the suite calls from one only, for
	// engines that a simulator steps.
	Concurrent bool
	// Changes says that the engine is an applier.ChangeLog that keeps the changes
	// of all that the suite applies, some MiB, and OldValues that it keeps the
	// values before them.
	Changes   bool
	OldValues bool
}

// Harness is an engine with the disk it lives on.
type Harness interface {
	// Engine returns the engine that is open, or that was until it was closed.
	Engine() applier.Engine
	// Reopen closes the engine, unless the test has, and opens it again on the
	// same disk.
	Reopen() error
	// Close closes the engine, unless the test has, and frees the disk.
	Close() error
}

// Crasher is implemented by a [Harness] that can lose power. The suite then
// checks what may be lost.
type Crasher interface {
	// Crash abandons the engine as it is, also in the middle of a call, takes
	// from the disk an arbitrary part of what was not durable, drawn from rng,
	// and opens a new engine on the rest.
	Crash(rng *rand.Rand) error
}

// Run checks the engine. Each part opens engines of its own.
func Run(t *testing.T, opts Options) {
	s := &suite{opts: opts}
	for _, part := range []struct {
		name string
		run  func(*suite, *testing.T)
	}{
		{"Empty", (*suite).empty},
		{"Apply", (*suite).apply},
		{"ApplyRefuses", (*suite).applyRefuses},
		{"Adds", (*suite).adds},
		{"AddsRefused", (*suite).addsRefused},
		{"AddsCommute", (*suite).addsCommute},
		{"Payload is not kept", (*suite).payloadNotKept},
		{"Keys", (*suite).keys},
		{"Bounds", (*suite).bounds},
		{"ScanStops", (*suite).scanStops},
		{"Snapshots", (*suite).snapshots},
		{"Digest", (*suite).digest},
		{"Reopen", (*suite).reopen},
		{"Closed", (*suite).closed},
		{"CloseInsideScan", (*suite).closeInsideScan},
		{"Transfer", (*suite).transfer},
		{"TransferDamaged", (*suite).transferDamaged},
		{"TransferResumed", (*suite).transferResumed},
		{"TransferMixed", (*suite).transferMixed},
		{"TransferCancelled", (*suite).transferCancelled},
		{"ImportEndsSnapshots", (*suite).importEndsSnapshots},
		{"Model", (*suite).model},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(s, t) })
	}
	if opts.Concurrent {
		t.Run("Concurrent", s.concurrent)
	}
	if s.canCheck(t) {
		t.Run("Checks", s.checks)
	}
	if opts.Changes {
		RunChanges(t, opts)
	}
	crashes := s.canCrash(t)
	if crashes {
		t.Run("Crash", s.crash)
		t.Run("CrashReplay", s.crashReplay)
		t.Run("CrashDuringImport", s.crashDuringImport)
	}
	for _, r := range roads {
		if s.asked(t, func(h Harness) bool { return r.has(h.Engine()) }) {
			t.Run(r.name, func(t *testing.T) { s.road(t, r, crashes) })
		}
	}
}

// RunChanges checks only the log of changes of an [applier.ChangeLog]. Run does so
// too; this is for further configurations of an engine that it has checked.
func RunChanges(t *testing.T, opts Options) {
	s := &suite{opts: opts}
	t.Run("Changes", s.changes)
	t.Run("ChangesResumed", s.changesResumed)
	t.Run("ChangesTransfer", s.changesTransfer)
	crashes := s.canCrash(t)
	if crashes {
		t.Run("ChangesCrash", s.changesCrash)
	}
	for _, r := range roads {
		if s.asked(t, func(h Harness) bool { return r.has(h.Engine()) }) {
			t.Run("Changes"+r.name, func(t *testing.T) { s.changesOnRoad(t, r, crashes) })
		}
	}
}

type suite struct{ opts Options }

// open returns a harness that is closed when the test ends.
func (s *suite) open(t *testing.T) Harness {
	t.Helper()
	h := s.opts.Open(t)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close harness: %v", err)
		}
	})
	return h
}

// asked asks something of a harness that is good for nothing else.
func (s *suite) asked(t *testing.T, what func(Harness) bool) bool {
	h := s.opts.Open(t)
	defer func() {
		if err := h.Close(); err != nil {
			t.Errorf("close harness: %v", err)
		}
	}()
	return what(h)
}

// canCheck reports whether the engine's data can be compared with those of other
// members.
func (s *suite) canCheck(t *testing.T) bool {
	return s.asked(t, func(h Harness) bool {
		snapshot, err := h.Engine().Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = snapshot.Close() }()
		_, ok := snapshot.(applier.Checker)
		return ok
	})
}

func (s *suite) canCrash(t *testing.T) bool {
	return s.asked(t, func(h Harness) bool { _, ok := h.(Crasher); return ok })
}

// crash crashes h, which must be able to.
func crash(h Harness, rng *rand.Rand) error {
	c, ok := h.(Crasher)
	if !ok {
		return fmt.Errorf("harness %T cannot crash", h)
	}
	return c.Crash(rng)
}
