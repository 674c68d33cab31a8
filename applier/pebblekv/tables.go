package pebblekv

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableBytes is how large a table becomes that is written beside Pebble. What its
// last one holds is synced when the transaction comes to its turn.
const tableBytes = 4 << 20

// tableRun writes keys in ascending order to tables of Pebble's, one after the other.
// Each is synced when it is full.
type tableRun struct {
	fs     vfs.FS
	path   string // of the tables, but for their numbers
	opts   *pebble.Options
	table  *sstable.Writer // nil: none is open
	room   int             // bytes in it
	paths  []string        // of all tables begun
	failed error
}

func newTableRun(fs vfs.FS, dir, name string, opts *pebble.Options) tableRun {
	return tableRun{fs: fs, path: fs.PathJoin(dir, name), opts: opts}
}

// set writes a pair, which stays the caller's.
func (r *tableRun) set(key, value []byte) error {
	return r.do(len(key)+len(value), func() error { return r.table.Set(key, value) })
}

// delete writes that there is no such key.
func (r *tableRun) delete(key []byte) error {
	return r.do(len(key), func() error { return r.table.Delete(key) })
}

func (r *tableRun) do(bytes int, write func() error) error {
	if r.table == nil && r.failed == nil {
		r.failed = r.begin()
	}
	if r.failed == nil {
		r.failed = write()
	}
	if r.room -= bytes; r.room <= 0 && r.failed == nil {
		return r.finish()
	}
	return r.failed
}

func (r *tableRun) begin() error {
	path := fmt.Sprintf("%s-%06d.sst", r.path, len(r.paths))
	file, err := r.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	file = vfs.NewSyncingFile(file, vfs.SyncingFileOptions{BytesPerSync: r.opts.BytesPerSync})
	r.paths, r.room = append(r.paths, path), tableBytes
	r.table = sstable.NewWriter(objstorageprovider.NewFileWritable(file),
		r.opts.MakeWriterOptions(0, r.opts.FormatMajorVersion.MaxTableFormat()))
	return nil
}

// finish completes the table that is open, if any is, and syncs it. The error is the
// first that there was.
func (r *tableRun) finish() error {
	if r.table != nil {
		err := r.table.Close()
		r.table = nil
		if r.failed == nil {
			r.failed = err
		}
	}
	return r.failed
}

// ingest has Pebble take tables in, which lead to a state, and the files away. They
// become readable all at once, and durable with everything before them: Pebble either
// puts a record of them into its log, behind what is there, and syncs both, or first
// flushes what they overlap with, which every batch does by the position.
func (s *store) ingest(tables []string, next *state) error {
	return s.call(func() error {
		err := s.show(next, func() error { return s.db.Ingest(context.Background(), tables) })
		if err != nil {
			return fmt.Errorf("take tables into %s: %w", s.dir, err)
		}
		return nil
	})
}

// tableOptions are Pebble's for the tables that are written beside it.
func tableOptions(o *pebble.Options) *pebble.Options {
	o = o.Clone()
	o.EnsureDefaults()
	return o
}
