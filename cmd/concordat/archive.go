package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/gtid"
)

// archiveVersion is that of the file's format.
const archiveVersion = 1

// archiveSyncs is how long what was archived may wait to be synced.
const archiveSyncs = time.Second

// archiveHead is the first line of an archive. Its fields stay.
type archiveHead struct {
	Archive int `json:"archive"` // version
	// After is what was left out: the archive has everything that was committed
	// behind it, up to its end.
	After string `json:"after"`
	// Incarnation is that of the group whose GTIDs these are.
	Incarnation string `json:"incarnation,omitempty"`
}

// changesPlace is where a consumer of changes begins: behind a set, whose GTIDs are of
// an incarnation of the group, if that is known.
type changesPlace struct {
	after gtid.Set
	of    gtid.UUID
}

// archive is a file of changes that is written. It is for one goroutine.
type archive struct {
	file   *os.File
	synced time.Time
	line   bytes.Buffer
}

// openArchive begins an archive of what comes after a place, or goes on with the one
// that there is. A new one is of the group's incarnation if begin names none. It
// returns where to go on: behind all that was left out or is in it. What is behind its
// last line end was cut off by a crash, and is removed.
func openArchive(path string, begin changesPlace, incarnation gtid.UUID) (a *archive, at changesPlace, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, at, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	a = &archive{file: file, synced: time.Now()}
	r := &archiveReader{r: bufio.NewReader(file), name: path}
	if at, err = r.place(begin); err != nil {
		return nil, at, err
	}
	if r.whole == 0 && !at.of.IsZero() && at.of != incarnation {
		return nil, at, fmt.Errorf("%w: the membership of the group was forced, its incarnation is %s, and --of names %s; begin with a dump", client.ErrChangesLost, incarnation, at.of)
	}
	if err := file.Truncate(r.whole); err != nil {
		return nil, at, err
	}
	if _, err := file.Seek(r.whole, io.SeekStart); err != nil {
		return nil, at, err
	}
	if r.whole == 0 {
		at.of = cmp.Or(at.of, incarnation)
		err = a.put(archiveHead{Archive: archiveVersion, After: at.after.String(), Incarnation: uuidOrNone(at.of)})
	}
	return a, at, err
}

func (a *archive) put(line any) error {
	a.line.Reset()
	if err := json.NewEncoder(&a.line).Encode(line); err != nil {
		return err
	}
	_, err := a.file.Write(a.line.Bytes())
	return err
}

// add appends a change.
func (a *archive) add(c *client.Change) error {
	if err := a.put(changeLine(c)); err != nil {
		return err
	}
	if time.Since(a.synced) < archiveSyncs {
		return nil
	}
	a.synced = time.Now()
	return a.file.Sync()
}

func (a *archive) close() error { return errors.Join(a.file.Sync(), a.file.Close()) }

// archiveReader reads an archive.
type archiveReader struct {
	r      *bufio.Reader
	name   string
	number int   // of lines read
	whole  int64 // bytes up to the end of the last whole line
}

// line reads one line, which must be whole: at the end of the file, or in what is
// left of a line there, the error is io.EOF.
func (r *archiveReader) line(into any) error {
	text, err := r.r.ReadBytes('\n')
	if err != nil {
		return err
	}
	r.number++
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s:%d: %w", r.name, r.number, err)
	}
	r.whole += int64(len(text))
	return nil
}

func (r *archiveReader) head() (head archiveHead, err error) {
	if err := r.line(&head); err != nil {
		return head, err
	}
	if head.Archive != archiveVersion {
		return head, fmt.Errorf("%s is no archive of version %d, such as concordat changes --out writes", r.name, archiveVersion)
	}
	return head, nil
}

// place reads an archive to its end and returns where to go on, which is where to begin
// if there is none.
func (r *archiveReader) place(begin changesPlace) (at changesPlace, err error) {
	head, err := r.head()
	if errors.Is(err, io.EOF) { // new, or cut off in its first line
		return begin, nil
	}
	if err != nil {
		return at, err
	}
	if at.after, err = gtid.ParseSet(head.After); err != nil {
		return at, fmt.Errorf("%s: after: %w", r.name, err)
	}
	if head.Incarnation != "" {
		if at.of, err = gtid.ParseUUID(head.Incarnation); err != nil {
			return at, fmt.Errorf("%s: incarnation: %w", r.name, err)
		}
	}
	if !begin.after.IsEmpty() && !begin.after.SubsetOf(at.after) {
		return at, usagef("%s begins behind %s, and --after says otherwise; leave it out to go on with that archive", r.name, head.After)
	}
	if !begin.of.IsZero() && begin.of != at.of {
		return at, usagef("%s is of incarnation %s, and --of says otherwise; an archive is of one: begin another file", r.name, orDash(head.Incarnation))
	}
	for {
		c, err := r.next()
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
		at.after = at.after.Add(c.GTID)
	}
}

// next reads one change.
func (r *archiveReader) next() (c concordat.Change, err error) {
	var line changeJSON
	if err := r.line(&line); err != nil {
		return c, err
	}
	if c, err = line.change(); err != nil {
		err = fmt.Errorf("%s:%d: %w", r.name, r.number, err)
	}
	return c, err
}

// change is the line as the library has it.
func (l *changeJSON) change() (c concordat.Change, err error) {
	if c.GTID, err = gtid.Parse(l.GTID); err != nil {
		return c, err
	}
	if c.Origin, err = gtid.ParseUUID(l.Origin); err != nil {
		return c, err
	}
	c.Index, c.Time = l.Index, l.Time
	for _, r := range l.Rows {
		row := concordat.RowChange{
			Table: concordat.Table{Schema: r.Schema, Name: r.Table}, Key: r.Key, New: r.Value, Delta: r.Delta,
			OldKnown: r.Existed != nil, Existed: r.Existed != nil && *r.Existed, Old: r.Old,
		}
		for op, name := range changeOps { // order-free: names are unique
			if name == r.Op {
				row.Op = concordat.ChangeOp(op)
			}
		}
		if row.Op == 0 {
			return c, fmt.Errorf("operation %q is none of put, delete and add", r.Op)
		}
		c.Rows = append(c.Rows, row)
	}
	return c, nil
}
