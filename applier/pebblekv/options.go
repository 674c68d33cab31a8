package pebblekv

import (
	"cmp"
	"log/slog"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Defaults of [Options].
const (
	DefaultCacheBytes    = 64 << 20
	DefaultMemTableBytes = 64 << 20
	// MaxWorkers bounds Workers where nobody has set it.
	MaxWorkers = 4
)

// pebbleFormat is pinned, not "newest": raising it is a one-way door for a
// downgrade, and a group upgrades one member at a time.
const pebbleFormat = pebble.FormatTableFormatV6

// Options configure an engine. The zero value is useful.
type Options struct {
	// FS is where the directory lives. Nil means the operating system's.
	FS vfs.FS
	// CacheBytes is the size of the block cache, in bytes. A miss costs a read
	// from the page cache and a decompression. 0 means [DefaultCacheBytes].
	CacheBytes int64
	// MemTableBytes is how much is gathered in memory before it is flushed to a
	// table, in bytes. Up to four such tables may be in memory. A larger one
	// writes less to disk in all, and leaves more for the group's log to
	// replay after a crash. 0 means [DefaultMemTableBytes].
	MemTableBytes uint64
	// Workers is how many goroutines build a batch, if it is large enough. 0 means
	// as many as Go runs at a time, at most [MaxWorkers] by itself.
	Workers int
	// ChangeBytes is how many bytes of changes are kept for [applier.ChangeLog],
	// and ChangeAge for how long at most. Both are looked at with each batch, the age
	// also by TrimChanges, and what is forgotten is forgotten in steps of a 64th. 0
	// bytes keeps none, and forgets those that there are; 0 for the age is no bound.
	ChangeBytes int64
	ChangeAge   time.Duration
	// ChangeOldValues keeps with each change the values before it. It costs a read
	// for each mutation.
	ChangeOldValues bool
	// Now is the clock by which changes grow old. Nil means time.Now.
	Now func() time.Time
	// Logger receives what Pebble reports: errors of background work and
	// corruption as errors, stalls as warnings, the rest as debug messages.
	// Nil means silence.
	Logger *slog.Logger
	// OnFatal is called once if the disk fails the engine, with an error that
	// wraps [ErrFailed], on a goroutine of its own. Close waits for it to
	// return, so it must not call Close. Nil means that the error is only
	// logged and returned from later calls.
	OnFatal func(error)

	stateNumber uint64 // of the state that is to be opened
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.CacheBytes = cmp.Or(o.CacheBytes, DefaultCacheBytes)
	if o.Workers <= 0 {
		o.Workers = min(MaxWorkers, runtime.GOMAXPROCS(0))
	}
	o.MemTableBytes = cmp.Or(o.MemTableBytes, DefaultMemTableBytes)
	return o
}

// pebbleOptions returns Pebble's options for one store. Writes are never synced
// one by one, and most values are overwritten before long, so a large memtable
// and lazy writing out pay.
func (o Options) pebbleOptions(g *guard, cache *pebble.Cache) *pebble.Options {
	logger := &logger{guard: g, log: o.Logger}
	p := &pebble.Options{
		FS:                          g,
		Logger:                      logger,
		EventListener:               logger.events(),
		Cache:                       cache,
		FormatMajorVersion:          pebbleFormat,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		// The default of 12 stalls bulk loads.
		L0StopWritesThreshold: 1000,
		LBaseMaxBytes:         64 << 20,
		BytesPerSync:          512 << 10,
		WALBytesPerSync:       512 << 10,
		// Deleting a large file at once holds up the syncs of others.
		TargetByteDeletionRate: 128 << 20,
		CompactionConcurrencyRange: func() (lower, upper int) {
			return 1, max(1, runtime.GOMAXPROCS(0)/2)
		},
	}
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionBalanced })
	for i := range p.Levels {
		// Apply reads the old value of every key it writes. The filter spares
		// it a disk read where there is none.
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return p
}
