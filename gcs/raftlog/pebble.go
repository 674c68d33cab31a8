package raftlog

import (
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// formatMajorVersion pins the format of Pebble's own files. It only ever goes
// up, and a directory that was opened with a higher one cannot be opened by an
// older Concordat. From FormatWALSyncChunks on, Pebble can tell a write that a
// crash tore from a record that rotted.
const formatMajorVersion = pebble.FormatWALSyncChunks

// pebble returns Pebble's options for this log.
func (o Options) pebble(f *failure, lock *pebble.Lock) *pebble.Options {
	po := &pebble.Options{
		FS:                 o.FS,
		Lock:               lock,
		Logger:             logger{log: o.Logger, failure: f},
		EventListener:      o.listener(f),
		FormatMajorVersion: formatMajorVersion,
		CacheSize:          o.CacheBytes,

		// A second flush may be queued before writers are stopped, and level
		// 0 may grow: entries die young, so the debt mostly pays itself.
		MemTableSize:                uint64(o.SegmentBytes),
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       1000,

		// Give the disk back after a truncation even if nobody writes.
		FlushDelayDeleteRange: 10 * time.Second,
		// Spread the writing of big batches; a sync then has less left to do.
		WALBytesPerSync: 512 << 10,
	}
	// A compaction hinted at by reads needs Pebble's main lock on the reader's
	// goroutine, which a failed writer may hold for ever.
	po.Experimental.ReadSamplingMultiplier = -1
	po.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		return pebble.DBCompressionNone
	})
	return po
}

// listener passes on the events that an operator should see.
func (o Options) listener(f *failure) *pebble.EventListener {
	stall := &stall{failure: f}
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			o.Logger.Warn("log: background work will be retried", "err", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			f.report(corrupt("file %s: %v", info.Path, info.Details))
		},
		FlushEnd: func(info pebble.FlushInfo) { stall.flushed(info.Err) },
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			o.Logger.Warn("log: writes stall", "reason", info.Reason)
			stall.begin()
		},
		WriteStallEnd: func() {
			o.Logger.Warn("log: writes go on")
			stall.end()
		},
	}
}

// stall notices writes that wait for a flush that cannot succeed. Pebble
// retries such a flush for ever, for instance while the disk is full, and would
// let a writer wait as long.
type stall struct {
	failure  *failure
	mu       sync.Mutex
	stalled  bool
	flushErr error // of the last flush
}

func (s *stall) flushed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushErr = err
	s.judge()
}

func (s *stall) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = true
	s.judge()
}

func (s *stall) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = false
}

func (s *stall) judge() {
	if s.stalled && s.flushErr != nil {
		s.failure.lose(fmt.Errorf("raftlog: disk failed: writes wait for a flush: %w", s.flushErr))
	}
}
