package pebblekv

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// writesBehind is how many chunks may wait to be written: what the disk may
	// lag behind the network for a moment.
	writesBehind = 4
	// syncsBehind is how many files may be synced at a time, beside the one that
	// is written. Their syncs share the work of the file system's journal.
	syncsBehind = 4
	// startWriting is after how many bytes the disk is told to begin, so that the
	// sync of a file finds most of it written.
	startWriting = 4 << 20
)

// fileWriter writes files behind the goroutine that receives them: while that
// one waits for the network and checks what came, chunks are written and whole
// files synced. It never holds up for good who calls it, unless the disk does:
// after an error it takes everything, and does nothing with it.
type fileWriter struct {
	fs      vfs.FS
	dir     string
	jobs    chan fileJob
	free    chan []byte   // buffers that nobody uses
	syncing chan struct{} // holds one token for each file being synced
	keep    bool          // the last file is complete; set before jobs is closed
	writer  sync.WaitGroup
	syncers sync.WaitGroup

	mu  sync.Mutex
	err error // the first

	// The writing goroutine's own.
	file    vfs.File // nil: none
	at      int64    // the next byte of file
	started int64    // up to where the disk was told to begin
}

// fileJob begins a file, or writes the next bytes of it.
type fileJob struct {
	name string // of the file to begin; "": write
	data []byte
	buf  []byte // what data lies in
}

// newFileWriter starts the writing goroutine. The caller calls finish.
func newFileWriter(fs vfs.FS, dir string) *fileWriter {
	w := &fileWriter{
		fs: fs, dir: dir,
		jobs:    make(chan fileJob, writesBehind),
		free:    make(chan []byte, writesBehind),
		syncing: make(chan struct{}, syncsBehind),
	}
	for range writesBehind {
		w.free <- nil // made when it is needed
	}
	w.writer.Go(w.run)
	return w
}

// begin ends the file before, if any, and begins another one.
func (w *fileWriter) begin(name string) error {
	w.jobs <- fileJob{name: name}
	return w.check()
}

// write writes data, which lie in buf, at the end of the file. It keeps buf and
// returns another one in its place, which may be of any size.
func (w *fileWriter) write(data, buf []byte) ([]byte, error) {
	w.jobs <- fileJob{data: data, buf: buf}
	return <-w.free, w.check()
}

// finish ends the last file, synced unless it will be discarded, and returns,
// when nothing is under way any more, the first error that there was.
func (w *fileWriter) finish(keep bool) error {
	w.keep = keep
	close(w.jobs)
	w.writer.Wait()
	w.syncers.Wait()
	return w.check()
}

func (w *fileWriter) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *fileWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// run does the jobs in their order.
func (w *fileWriter) run() {
	for job := range w.jobs {
		if w.check() == nil {
			w.fail(w.do(job))
		}
		if job.name == "" {
			w.free <- job.buf
		}
	}
	w.endFile(w.keep)
}

func (w *fileWriter) do(job fileJob) (err error) {
	if job.name != "" {
		w.endFile(true)
		file, err := w.fs.Create(w.fs.PathJoin(w.dir, job.name), vfs.WriteCategoryUnspecified)
		if err == nil {
			w.file, w.at, w.started = file, 0, 0
		}
		return err
	}
	n, err := w.file.Write(job.data)
	if w.at += int64(n); err == nil && w.at-w.started >= startWriting {
		w.started = w.at
		_, err = w.file.SyncTo(w.at)
	}
	return err
}

// endFile has the file being written synced, if it is to be kept, and closed.
func (w *fileWriter) endFile(keep bool) {
	f := w.file
	w.file = nil
	switch {
	case f == nil:
	case !keep || w.check() != nil:
		w.fail(f.Close())
	default:
		w.syncing <- struct{}{}
		w.syncers.Go(func() {
			w.fail(errors.Join(f.Sync(), f.Close()))
			<-w.syncing
		})
	}
}
