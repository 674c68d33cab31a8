package main

import (
	"bufio"
	"bytes"
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
}

// archive is a file of changes that is written. It is for one goroutine.
type archive struct {
	file   *os.File
	synced time.Time
	line   bytes.Buffer
}

// openArchive begins an archive of what comes after a set, or goes on with the one
// that there is. It returns the set of all that was left out or is in it. What is
// behind its last line end was cut off by a crash, and is removed.
func openArchive(path string, after gtid.Set) (a *archive, seen gtid.Set, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, seen, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	a = &archive{file: file, synced: time.Now()}
	whole := int64(0)
	r := &archiveReader{r: bufio.NewReader(file), name: path}
	head, err := r.head()
	switch {
	case errors.Is(err, io.EOF): // new, or cut off in its first line
		seen = after
	case err != nil:
		return nil, seen, err
	default:
		if seen, err = gtid.ParseSet(head.After); err != nil {
			return nil, seen, fmt.Errorf("%s: after: %w", path, err)
		}
		if !after.SubsetOf(seen) && !after.IsEmpty() {
			return nil, seen, usagef("%s begins behind %s, and --after says otherwise; leave it out to go on with that archive", path, head.After)
		}
		for {
			c, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, seen, err
			}
			seen = seen.Add(c.GTID)
		}
		whole = r.whole
	}
	if err := file.Truncate(whole); err != nil {
		return nil, seen, err
	}
	if _, err := file.Seek(whole, io.SeekStart); err != nil {
		return nil, seen, err
	}
	if whole == 0 {
		err = a.put(archiveHead{Archive: archiveVersion, After: after.String()})
	}
	return a, seen, err
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
