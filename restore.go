package concordat

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// restoredName is the file by which Bootstrap knows that the data were restored, and
// may be founded upon.
const restoredName = "RESTORED"

// restoreBatch is about how many bytes of changes are applied at a time.
const restoreBatch = 1 << 20

// RestoreOptions say what to restore, and where.
type RestoreOptions struct {
	// Dir is the directory of the member to be. It must be new or empty.
	Dir string
	// Changes are those of an archive, in commit order, that are applied on the
	// dump; those that the dump has are passed over. nil for none.
	Changes iter.Seq2[Archived, error]
	// Until is the transaction behind which nothing is applied. The zero value
	// applies all.
	Until gtid.GTID
	// Engine, if set, takes the place of the built-in store. It must be empty. The
	// caller closes it, and opens the member with it.
	Engine applier.Engine
	// ChangeRetentionBytes is that of the member to be: whether the changes in the
	// dump are kept, for those who followed the former group.
	ChangeRetentionBytes int64
	// ChangeOldValues keeps with the changes that are applied the values before them.
	ChangeOldValues bool
	// Logger gets what happens. nil: silence.
	Logger *slog.Logger
}

// Archived is a change of an archive.
type Archived struct {
	Change

	// After is what was left out of the archive: it is complete behind that.
	After gtid.Set
}

// Restored is what came of a Restore.
type Restored struct {
	Dump DumpInfo
	// Applied is how many changes were applied on the dump.
	Applied uint64
	// Position and Digest are those of the data now.
	Position applier.Position
	Digest   Digest
}

// Restore makes of a dump the data of a member that founds a new group: it is opened
// in that directory with Config.Bootstrap, and a name and address of its own. The
// group goes on with the executed set and the log indexes of the former one. Its
// other members join, and copy the state.
//
// With changes it is restored to a point in time: all that an archive has, or up to a
// transaction, which has to be there. A gap between the dump and the archive, or a
// change that does not follow on the others, is an error.
//
// An error that wraps [ErrDump] says that the dump is none, [ErrDirectory] that the
// directory cannot be used, [ErrInvalid] that the changes do not fit. The directory is
// then of no use: empty it.
func Restore(ctx context.Context, dump io.Reader, o RestoreOptions) (r Restored, err error) {
	if o.Dir == "" {
		return r, fmt.Errorf("%w: Dir is empty; name a new directory", ErrInvalid)
	}
	if r.Dump, err = ReadDumpInfo(dump); err != nil {
		return r, err
	}
	if err := emptyDirectory(o.Dir); err != nil {
		return r, err
	}
	engine := o.Engine
	if engine == nil {
		built, err := pebblekv.Open(filepath.Join(o.Dir, dataDir), pebblekv.Options{
			Logger: o.Logger, ChangeBytes: o.ChangeRetentionBytes, ChangeOldValues: o.ChangeOldValues,
		})
		if err != nil {
			return r, fmt.Errorf("%w: %w", ErrDirectory, err)
		}
		defer func() { err = errors.Join(err, built.Close()) }()
		engine = built
	}
	if at := engine.Position(); at.Index != 0 {
		return r, fmt.Errorf("%w: the engine has data up to log index %d; restore into an empty one", ErrDirectory, at.Index)
	}
	if err := r.importDump(ctx, engine, dump); err != nil {
		return r, err
	}
	if err := r.replay(ctx, engine, o); err != nil {
		return r, err
	}
	if err := engine.Flush(ctx); err != nil {
		return r, fmt.Errorf("restore: %w", err)
	}
	if r.Digest, r.Position, err = engine.Digest(); err != nil {
		return r, fmt.Errorf("restore: %w", err)
	}
	return r, writeRestored(o.Dir, r.Position.Index, r.Digest)
}

// emptyDirectory makes sure that there is a directory with nothing in it.
func emptyDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty; restore into a new directory", ErrDirectory, dir)
	}
	return nil
}

func (r *Restored) importDump(ctx context.Context, engine applier.Engine, dump io.Reader) error {
	at, err := engine.Import(ctx, dump)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	digest, _, err := engine.Digest()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if d := &r.Dump; at.Index != d.Position.Index || !at.Executed.Equal(d.Position.Executed) || digest != d.Digest {
		return fmt.Errorf("%w: it says log index %d and digest %v, and holds %d and %v", ErrDump, d.Position.Index, d.Digest, at.Index, digest)
	}
	return nil
}

// replay applies the changes that the dump has not.
func (r *Restored) replay(ctx context.Context, engine applier.Engine, o RestoreOptions) error {
	until := o.Until
	at := engine.Position()
	if !until.IsZero() && at.Executed.Contains(until) {
		return fmt.Errorf("%w: the dump has %v already, and more; restore an older one", ErrInvalid, until)
	}
	p := replayer{engine: engine, at: at}
	if o.Changes != nil {
		if err := p.run(ctx, o.Changes, until); err != nil {
			return err
		}
	}
	r.Applied = p.applied
	if !until.IsZero() && !p.at.Executed.Contains(until) {
		return fmt.Errorf("%w: %v is neither in the dump nor in the changes, which end with %v", ErrInvalid, until, p.at.Executed)
	}
	return nil
}

// replayer applies changes in batches of whole log entries.
type replayer struct {
	engine  applier.Engine
	at      applier.Position // of the batch being filled
	batch   applier.Batch
	bytes   int
	applied uint64
}

func (p *replayer) run(ctx context.Context, changes iter.Seq2[Archived, error], until gtid.GTID) error {
	for c, err := range changes {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if p.at.Executed.Contains(c.GTID) {
			continue
		}
		if !c.After.SubsetOf(p.at.Executed) {
			return fmt.Errorf("%w: the archive begins behind %v, of which %v is missing here; use an older archive or a newer dump",
				ErrInvalid, c.After, c.After.Subtract(p.at.Executed))
		}
		if err := p.add(&c.Change); err != nil {
			return err
		}
		if c.GTID == until {
			break
		}
	}
	return p.flush()
}

// add takes the next change.
func (p *replayer) add(c *Change) error {
	switch {
	case c.Index < p.at.Index || c.Index == p.at.Index && len(p.batch.Transactions) == 0:
		return fmt.Errorf("%w: change %v of log index %d comes after %d; the changes are of another history, or out of order",
			ErrInvalid, c.GTID, c.Index, p.at.Index)
	case c.Index > p.at.Index && p.bytes >= restoreBatch:
		if err := p.flush(); err != nil {
			return err
		}
	}
	t := applier.Transaction{GTID: c.GTID, Index: c.Index, Origin: c.Origin, Time: c.Time.UnixMicro()}
	t.Sequence = p.at.Executed.Count() + 1
	t.LastCommitted = t.Sequence - 1
	for i := range c.Rows {
		row := &c.Rows[i]
		m := applier.Mutation{Op: row.Op, Table: row.Table, Key: row.Key}
		switch row.Op {
		case ChangePut:
			m.Value = row.New
		case ChangeAdd:
			m.Delta = row.Delta
		case ChangeDelete:
		}
		if err := m.Check(); err != nil {
			return fmt.Errorf("%w: change %v: %w", ErrInvalid, c.GTID, err)
		}
		t.Payload = applier.AppendMutation(t.Payload, m)
	}
	p.at.Index, p.at.Executed = c.Index, p.at.Executed.Add(c.GTID)
	p.batch.Transactions = append(p.batch.Transactions, t)
	p.bytes += len(t.Payload)
	return nil
}

func (p *replayer) flush() error {
	if len(p.batch.Transactions) == 0 {
		return nil
	}
	p.batch.To = p.at
	if err := p.engine.Apply(p.batch); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	p.applied += uint64(len(p.batch.Transactions))
	p.batch, p.bytes = applier.Batch{}, 0
	return nil
}

// A restored directory says so, so that data without a log, which nothing explains,
// are not taken for restored ones.
//
//	restored := index(8) digest(16) sum(4)
//
// big-endian, with the CRC-32C of what comes before.

func writeRestored(dir string, index uint64, digest Digest) error {
	b := append(binary.BigEndian.AppendUint64(nil, index), digest[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	file, err := os.OpenFile(filepath.Join(dir, restoredName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close(), syncDirectory(dir)); err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	return nil
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// restored reports whether an engine's data are those that Restore left in a
// directory.
func restored(dir string, engine applier.Engine) (bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, restoredName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	digest, at, err := engine.Digest()
	if err != nil {
		return false, err
	}
	want := append(binary.BigEndian.AppendUint64(nil, at.Index), digest[:]...)
	want = binary.BigEndian.AppendUint32(want, crc32.Checksum(want, castagnoli))
	if !bytes.Equal(b, want) {
		return false, fmt.Errorf("%w: the data at log index %d are not those that were restored into %s; restore again, into an empty directory", ErrDirectory, at.Index, dir)
	}
	return true, nil
}

// refound founds a group on the data that were restored. As in any founding the
// identity comes last, so that a crash before it leaves a directory with which it can
// be done again.
func (n *Node) refound(id gcs.Identity) (gcs.Identity, error) {
	at := n.engine.Position()
	c, err := replica.Refound(id, n.describe(id), at.Index, at.Executed)
	if err != nil {
		return id, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	entry := gcs.RefoundEntry(id, at.Index, n.cfg.foundingMessages()...)
	err = n.log.Reset(c, gcs.RefoundHardState(at.Index))
	if err == nil {
		err = n.log.Write([]gcs.LogWrite{entry})
	}
	id.Session++ // the founding was the first
	if err == nil {
		err = n.log.SetIdentity(id)
	}
	if err == nil {
		err = os.Remove(filepath.Join(n.cfg.Dir, restoredName))
	}
	return id, err
}
