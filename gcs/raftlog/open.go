package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Open opens the log in dir, which is created if it does not exist, and reads
// all of it once.
//
// The error wraps [ErrInUse] if a running member has the log open,
// [ErrNewerFormat] if a later version of Concordat wrote it, and
// [gcs.ErrLogCorrupt] if its contents cannot be what was written. What a crash
// left half-written is not corruption: it is dropped, since nobody was told
// that it was durable.
func Open(dir string, opts Options) (*Log, error) {
	opts = opts.withDefaults()
	if err := makeDir(opts.FS, dir); err != nil {
		return nil, fmt.Errorf("raftlog: creating directory %s: %w", dir, err)
	}
	lock, err := lockDir(opts.FS, dir)
	if err != nil {
		return nil, err
	}
	f := newFailure(opts)
	warm := 0
	if opts.WarmSegments {
		warm = opts.SegmentBytes
	}
	s, err := openStore(dir, opts.pebble(f, lock), f, warm)
	if err != nil {
		return nil, errors.Join(openError(dir, err), unlock(lock, f))
	}
	l := &Log{
		dir:     dir,
		opts:    opts,
		logger:  opts.Logger,
		lock:    lock,
		failure: f,
		store:   s,
		memory:  memory{tailLimit: opts.TailBytes},
	}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("raftlog: %s: %w", dir, err), l.release())
	}
	return l, nil
}

// makeDir creates dir and whatever is missing above it, durably.
func makeDir(fsys vfs.FS, dir string) error {
	var missing []string
	for d := dir; ; d = fsys.PathDir(d) {
		if _, err := fsys.Stat(d); err == nil || d == fsys.PathDir(d) {
			break
		}
		missing = append(missing, d)
	}
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range missing {
		parent, err := fsys.OpenDir(fsys.PathDir(d))
		if err != nil {
			return err
		}
		if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
			return err
		}
	}
	return nil
}

func lockDir(fsys vfs.FS, dir string) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, fsys)
	if err == nil {
		return lock, nil
	}
	// Only the locking itself does not speak of a path.
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("raftlog: locking directory %s: %w", dir, err)
	}
	return nil, fmt.Errorf("%w: %s: stop that member, or give this one a directory of its own (%w)",
		ErrInUse, dir, err)
}

// unlock gives the directory back, unless a part of Pebble is stuck in it.
func unlock(lock *pebble.Lock, f *failure) error {
	select {
	case <-f.lost:
		return nil
	default:
		return lock.Close()
	}
}

func openError(dir string, err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("raftlog: %s: %w", dir, corrupt("%v", err))
	}
	return fmt.Errorf("raftlog: opening %s: %w", dir, err)
}

// load reads the whole log into memory, as far as it is kept there, and checks
// it.
func (l *Log) load() error {
	if err := l.loadFormat(); err != nil {
		return err
	}
	if err := l.loadRecords(); err != nil {
		return err
	}
	if err := l.loadEntries(); err != nil {
		return err
	}
	if c := l.hardState.commit; c > l.memory.last {
		return corrupt("commit index %d is beyond the last entry %d", c, l.memory.last)
	}
	if err := l.loadHeads(); err != nil {
		return err
	}
	if err := l.removeOrphans(); err != nil {
		return err
	}
	return l.beginSegment()
}

// beginSegment writes the format version and goes on in a new segment. Pebble
// creates a directory in its oldest format and raises it then; a segment that
// is open since before has no marks from which a torn end could be told from a
// flipped bit.
//
// If segments are to be warm, it also brings Pebble to full-sized memtables: a
// record of nearly half the largest size needs one that is half of it, and the
// one after that has all. The record goes in the batch that writes it, so it
// never reaches a table. What Open has used of segments by then is reused.
func (l *Log) beginSegment() error {
	if err := l.writable(); err != nil {
		return err
	}
	if l.opts.WarmSegments {
		filler := []byte{kindFiller}
		put(l.batch, filler, make([]byte, l.opts.SegmentBytes/16*7))
		remove(l.batch, filler)
	}
	key := []byte{kindFormat}
	put(l.batch, key, encodeFormat(key, formatVersion))
	if err := l.commit(true); err != nil {
		return err
	}
	if err := l.store.flush(); err != nil {
		return err
	}
	l.store.serve()
	return nil
}

// loadFormat looks at the format version before anything else is believed. A
// directory without one must be empty.
func (l *Log) loadFormat() error {
	v, err := l.record(kindFormat, formatLen)
	if err != nil {
		return err
	}
	if v != nil {
		version := binary.LittleEndian.Uint32(v[crcLen:])
		if version > formatVersion {
			return fmt.Errorf("%w: %d, this version knows %d: use the Concordat that wrote it or a later one",
				ErrNewerFormat, version, formatVersion)
		}
		return nil
	}
	empty, err := l.empty()
	if err != nil {
		return err
	}
	if !empty {
		return corrupt("the format version is missing")
	}
	return nil
}

func (l *Log) empty() (bool, error) {
	it, err := l.store.db.NewIter(nil)
	if err != nil {
		return false, readError("directory", err)
	}
	defer func() { _ = it.Close() }()
	found := it.First()
	if err := it.Error(); err != nil {
		return false, readError("directory", err)
	}
	return !found, nil
}

// recordNames names the records of which there is one, for errors.
var recordNames = [...]string{
	kindFormat:    "format version",
	kindIdentity:  "identity",
	kindHardState: "hard state",
	kindCut:       "cut",
	kindRecord:    "record",
}

// record returns a copy of the value of a record of which there is one, nil if
// there is none. A format version may grow, and the record has any length; the
// rest have theirs.
func (l *Log) record(kind byte, minLen int) ([]byte, error) {
	key := []byte{kind}
	v, closer, err := l.store.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(recordNames[kind], err)
	}
	v = slices.Clone(v)
	if err := closer.Close(); err != nil {
		return nil, readError(recordNames[kind], err)
	}
	if !intact(key, v, minLen) {
		return nil, corrupt("%s does not match its checksum", recordNames[kind])
	}
	return v, nil
}

func (l *Log) loadRecords() error {
	v, err := l.record(kindIdentity, identityLen)
	if err != nil {
		return err
	}
	if v != nil {
		l.identity = decodeIdentity(v)
	}
	if v, err = l.record(kindHardState, hardStateLen); err != nil {
		return err
	}
	if v != nil {
		l.hardState = decodeHardState(v)
	}
	if v, err = l.record(kindRecord, crcLen); err != nil {
		return err
	}
	if v != nil {
		l.recorded = v[crcLen:]
	}
	if v, err = l.record(kindCut, cutLen); err != nil {
		return err
	}
	if v != nil {
		l.memory.reset(decodeCut(v))
	}
	return nil
}

// loadEntries notes the terms of all entries. The entries themselves stay on
// disk: what raft needs of them after a restart, it reads in order.
func (l *Log) loadEntries() error {
	it, err := l.store.db.NewIter(&pebble.IterOptions{
		LowerBound: indexKey(kindEntry, l.memory.cut+1),
		UpperBound: []byte{kindEntry + 1},
	})
	if err != nil {
		return readError("entries", err)
	}
	defer func() { _ = it.Close() }()
	term := l.memory.cutTerm
	for ok := it.First(); ok; ok = it.Next() {
		index := l.memory.last + 1
		value, err := entryValue(it, index)
		if err != nil {
			return err
		}
		if t := entryTerm(value); t < term {
			return corrupt("entry %d has term %d after term %d", index, t, term)
		}
		term = entryTerm(value)
		l.memory.extend(term)
	}
	if err := it.Error(); err != nil {
		return readError(fmt.Sprintf("entry %d", l.memory.last+1), err)
	}
	return nil
}
