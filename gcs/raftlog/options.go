package raftlog

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options configures a log. The zero value is ready to use.
type Options struct {
	// FS is the file system of the directory. Default: the operating system's.
	FS vfs.FS

	// Logger receives what Pebble has to say: errors and stalls as Warn,
	// everything else as Debug. Default: silence.
	Logger *slog.Logger

	// OnFatal is called once, with the first error after which nothing more
	// can be written, or after which reads can no longer be trusted. It runs
	// on whatever goroutine found the error, possibly with Pebble's locks
	// held: it must not block and must not call the log. Default: nothing.
	OnFatal func(error)

	// TailBytes bounds the memory for the newest entries, from which readers
	// are served without touching Pebble. It counts the entries' data and
	// about 150 bytes for each. A follower further behind than this is
	// served from disk. Default: 16 MiB.
	TailBytes int

	// SegmentBytes is the size of Pebble's memtables, and so about the size of
	// one segment of its write-ahead log. A log that is truncated before it
	// has filled a segment is never written a second time. Memory use is up
	// to four times this while flushes lag. Default: 64 MiB.
	SegmentBytes int

	// WarmSegments makes the first writes after Open as fast as later ones.
	// Pebble reuses the files of its write-ahead log, and a sync costs less
	// on blocks that exist; but its memtables, and segments with them, start
	// small and grow, and small segments are reused too, so that without this
	// it takes hundreds of megabytes until all segments are full-grown. With
	// it Open writes three whole segments in advance: at 64 MiB that takes
	// about half a second. Default: false.
	WarmSegments bool

	// CacheBytes is the size of Pebble's block cache, used by readers of old
	// entries only, who read in sequence and profit little. Default: 8 MiB.
	CacheBytes int64

	// ChunkBytes is the largest value that a checkpoint is cut into.
	// Default: 256 KiB.
	ChunkBytes int
}

// withDefaults returns o with every unset field at its default.
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
	if o.TailBytes <= 0 {
		o.TailBytes = 16 << 20
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 8 << 20
	}
	if o.ChunkBytes <= 0 {
		o.ChunkBytes = 256 << 10
	}
	return o
}
