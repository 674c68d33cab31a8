package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrFailed is wrapped by every error that an engine returns after its disk
// failed it. Restart the member once the disk is sound; the group's log, or
// another member, has whatever this engine lost.
var ErrFailed = errors.New("pebblekv: engine has failed")

// failure is the one-way switch of an engine from working to failed.
type failure struct {
	once sync.Once
	done chan struct{} // closed when err is set
	err  error
}

func newFailure() *failure { return &failure{done: make(chan struct{})} }

// set records the first error and lets go of everyone who waits for done.
func (f *failure) set(cause error) {
	f.once.Do(func() {
		f.err = fmt.Errorf("%w: restart the member when its disk is sound: %w", ErrFailed, cause)
		close(f.done)
	})
}

// get returns the error that engine calls return from now on, or nil.
func (f *failure) get() error {
	select {
	case <-f.done:
		return f.err
	default:
		return nil
	}
}

// park ends the use of a goroutine of Pebble's without ending it. Letting it
// return would have Pebble go on in a state it declared broken; ending it would
// run deferred unlocks of mutexes it does not hold.
func park() { select {} }

// guard stands between a Pebble store and its file system. Once armed, it turns
// the first failed write, of any kind to any file of the store, into the
// failure of the engine, and parks whoever would write after that.
//
// Pebble itself would answer such an error with Logger.Fatalf, or, where a WAL
// cannot be closed or created, with a panic on the way out of which it unlocks
// a mutex that it does not hold: that ends the process, and no recover helps.
// Stopping the goroutine in the call that failed is before all that, and there
// Pebble holds no lock that a reader needs: it does no I/O under one.
//
// Before it is armed, while the store is being opened, errors go to Pebble,
// which returns them from Open.
type guard struct {
	vfs.FS
	dir     string // the store's; other paths are exports, whose errors are returned
	failure *failure
	armed   atomic.Bool
	opening atomic.Pointer[error] // what Fatalf said before arming
}

// Unwrap implements [vfs.FS].
func (g *guard) Unwrap() vfs.FS { return g.FS }

// enter is called before a write, leave after it.
func (g *guard) enter() {
	if g.armed.Load() && g.failure.get() != nil {
		park()
	}
}

func (g *guard) leave(op, name string, err error) error {
	if err != nil && g.armed.Load() {
		g.failure.set(fmt.Errorf("%s %s: %w", op, name, err))
		park()
	}
	return err
}

func (g *guard) mine(name string) bool {
	return name == g.dir || strings.HasPrefix(name, g.PathJoin(g.dir, "x")[:len(g.dir)+1])
}

// do runs a write-side operation on name under guard.
func (g *guard) do(op, name string, f func() error) error {
	if !g.mine(name) {
		return f()
	}
	g.enter()
	return g.leave(op, name, f())
}

// open runs an operation that yields a file to write or sync.
func (g *guard) open(op, name string, f func() (vfs.File, error)) (file vfs.File, err error) {
	if !g.mine(name) {
		return f()
	}
	err = g.do(op, name, func() error {
		file, err = f()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &guardedFile{File: file, guard: g, name: name}, nil
}

// Create implements [vfs.FS].
func (g *guard) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open("create", name, func() (vfs.File, error) { return g.FS.Create(name, category) })
}

// OpenReadWrite implements [vfs.FS].
func (g *guard) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	return g.open("open", name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite implements [vfs.FS].
func (g *guard) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open("reuse as", newname, func() (vfs.File, error) {
		return g.FS.ReuseForWrite(oldname, newname, category)
	})
}

// OpenDir implements [vfs.FS].
func (g *guard) OpenDir(name string) (vfs.File, error) {
	return g.open("open", name, func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

// Rename implements [vfs.FS].
func (g *guard) Rename(oldname, newname string) error {
	return g.do("rename to", newname, func() error { return g.FS.Rename(oldname, newname) })
}

// MkdirAll implements [vfs.FS].
func (g *guard) MkdirAll(name string, perm os.FileMode) error {
	return g.do("create", name, func() error { return g.FS.MkdirAll(name, perm) })
}

// guardedFile is a file of the store that Pebble writes or syncs.
type guardedFile struct {
	vfs.File
	guard *guard
	name  string
}

func (f *guardedFile) Write(p []byte) (n int, err error) {
	f.guard.enter()
	n, err = f.File.Write(p)
	return n, f.guard.leave("write", f.name, err)
}

func (f *guardedFile) WriteAt(p []byte, off int64) (n int, err error) {
	f.guard.enter()
	n, err = f.File.WriteAt(p, off)
	return n, f.guard.leave("write", f.name, err)
}

func (f *guardedFile) Sync() error {
	f.guard.enter()
	return f.guard.leave("sync", f.name, f.File.Sync())
}

func (f *guardedFile) SyncData() error {
	f.guard.enter()
	return f.guard.leave("sync", f.name, f.File.SyncData())
}

func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	f.guard.enter()
	full, err = f.File.SyncTo(length)
	return full, f.guard.leave("sync", f.name, err)
}

func (f *guardedFile) Close() error {
	f.guard.enter()
	return f.guard.leave("close", f.name, f.File.Close())
}

// logger is what Pebble talks to.
type logger struct {
	guard *guard
	log   *slog.Logger
}

// Infof implements [pebble.Logger].
func (l *logger) Infof(format string, args ...any) { l.print(slog.LevelDebug, format, args) }

// Errorf implements [pebble.Logger].
func (l *logger) Errorf(format string, args ...any) { l.print(slog.LevelError, format, args) }

func (l *logger) print(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "pebble", "text", fmt.Sprintf(format, args...))
	}
}

// Fatalf implements [pebble.Logger]. Pebble expects it not to return. While the
// store is being opened it ends the goroutine, so that Pebble's deferred calls
// give back what Open had taken; afterwards it fails the engine and parks.
func (l *logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.print(slog.LevelError, format, args)
	if !l.guard.armed.Load() {
		l.guard.opening.CompareAndSwap(nil, &err)
		runtime.Goexit()
	}
	l.guard.failure.set(err)
	park()
}

// events returns the listener that passes on what an operator should know. It
// is called with locks of Pebble held, so it only logs.
func (l *logger) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { l.log.Error("pebble: background work failed, will be retried", "err", err) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.log.Error("pebble: data corruption", "file", info.Path, "err", info.Details)
		},
		LowDiskSpace: func(info pebble.LowDiskSpaceInfo) { l.log.Warn("pebble: low disk space", "text", info.String()) },
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			l.log.Warn("pebble: writes stall", "reason", info.Reason)
		},
		WriteStallEnd:     func() { l.log.Info("pebble: writes go on") },
		PossibleAPIMisuse: func(info pebble.PossibleAPIMisuseInfo) { l.log.Error("pebble: possible misuse", "text", info.String()) },
	}
}
