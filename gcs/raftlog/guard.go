package raftlog

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segmentCategory is how Pebble marks the files of its write-ahead log.
const segmentCategory vfs.DiskWriteCategory = "pebble-wal"

// guardFS keeps errors of the write-ahead log from Pebble.
//
// Pebble has no way on from them. It calls Fatalf for some; for others, when a
// full segment is closed and the next one created, it panics in a function
// whose deferred unlock then finds the mutex unlocked, and that is an error of
// the Go runtime which nothing can recover from: the process would end because
// a disk did. So the goroutine to which such an error would be returned is
// parked in the file system instead, after the failure has been recorded.
//
// While the log is being opened and closed Pebble returns these errors like
// any other, and they pass. Not so when a directory cannot be synced: that
// makes Pebble panic at any time, and on goroutines of its own.
type guardFS struct {
	vfs.FS
	failure *failure
	serving atomic.Bool

	// warm is how many bytes of a new segment are written in advance, 0 for
	// none: see warmSegment.
	warm atomic.Int64
}

// check parks the caller if err is an error and the log is in service.
func (g *guardFS) check(what string, err error) error {
	if err != nil && g.serving.Load() {
		g.park(what, err)
	}
	return err
}

// park does not return.
func (g *guardFS) park(what string, err error) {
	g.failure.lose(fmt.Errorf("raftlog: disk failed: %s: %w", what, err))
	select {}
}

// Create implements vfs.FS.
func (g *guardFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if warm := g.warm.Load(); warm > 0 && category == segmentCategory {
		if f, err := g.warmSegment(name, warm); err == nil {
			return g.segment(name, category, f, nil)
		}
	}
	f, err := g.FS.Create(name, category)
	return g.segment(name, category, f, err)
}

// warmSegment creates a segment whose blocks exist, filled with zeros, just as
// Pebble reuses an old segment. To the reader of a segment zeros are the end.
//
// A failure costs speed only, and Pebble is told nothing of it.
func (g *guardFS) warmSegment(name string, size int64) (vfs.File, error) {
	// A name of its own, so that a crash leaves at most one file behind, and
	// that one is used up the next time.
	scratch := g.PathJoin(g.PathDir(name), "segment.warm")
	f, err := g.FS.Create(scratch, segmentCategory)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, min(size, 1<<20))
	for ; size > 0 && err == nil; size -= int64(len(zeros)) {
		_, err = f.Write(zeros)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, g.Remove(scratch))
	}
	return g.FS.ReuseForWrite(scratch, name, segmentCategory)
}

// ReuseForWrite implements vfs.FS.
func (g *guardFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, category)
	return g.segment(newname, category, f, err)
}

func (g *guardFS) segment(name string, category vfs.DiskWriteCategory, f vfs.File, err error) (vfs.File, error) {
	if category != segmentCategory {
		return f, err
	}
	if err := g.check("creating "+name, err); err != nil {
		return nil, err
	}
	return &guardFile{File: f, name: name, fs: g}, nil
}

// OpenDir implements vfs.FS.
func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardDir{File: f, name: name, fs: g}, nil
}

// Unwrap implements vfs.FS.
func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// guardDir is the directory, whose sync makes new segments, tables and markers
// count.
type guardDir struct {
	vfs.File
	name string
	fs   *guardFS
}

// Sync implements vfs.File.
func (d *guardDir) Sync() error {
	if err := d.File.Sync(); err != nil {
		d.fs.park("syncing directory "+d.name, err)
	}
	return nil
}

// guardFile is a segment of the write-ahead log.
type guardFile struct {
	vfs.File
	name string
	fs   *guardFS
}

// Write implements vfs.File.
func (f *guardFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.check("writing ", err)
}

// Sync implements vfs.File.
func (f *guardFile) Sync() error { return f.check("syncing ", f.File.Sync()) }

// SyncData implements vfs.File.
func (f *guardFile) SyncData() error { return f.check("syncing ", f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *guardFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.check("syncing ", err)
}

// Stat implements vfs.File.
func (f *guardFile) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	return info, f.check("reading the size of ", err)
}

// Close implements vfs.File.
func (f *guardFile) Close() error { return f.check("closing ", f.File.Close()) }

func (f *guardFile) check(doing string, err error) error {
	if err == nil {
		return nil
	}
	return f.fs.check(doing+f.name, err)
}
