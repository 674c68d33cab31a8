package pebblekv

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

var _ applier.Checker = (*snapshot)(nil)

// Pairs implements [applier.Checker]. What it reads goes through the checksums of
// Pebble's blocks, and is not what the digest was made of.
func (s *snapshot) Pairs(from applier.Place) iter.Seq2[applier.Place, []byte] {
	return func(yield func(applier.Place, []byte) bool) {
		sc := &scan{snapshot: s}
		if !sc.openAll(from) {
			return
		}
		defer sc.close()
		var at applier.Place
		var table []byte // the encoded name of at's table
		for sc.step() {
			if !bytes.HasPrefix(sc.key, table) || len(table) == 0 {
				var err error
				if at.Table, table, err = splitTable(sc.key); err != nil {
					sc.fail(err)
					return
				}
			}
			at.Key = sc.key[len(table):]
			if !yield(at, sc.value) {
				return
			}
		}
	}
}

// openAll is open for the pairs of all tables, keys with their prefixes.
func (sc *scan) openAll(from applier.Place) bool {
	s := sc.snapshot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = s.ended; s.err != nil {
		return false
	}
	lower := []byte{spaceData}
	if !from.IsZero() {
		lower = appendKey(nil, from.Table, from.Key)
	}
	sc.iter, s.err = s.reader.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{spaceData + 1}})
	if s.err != nil {
		return false
	}
	s.scans = append(s.scans, sc)
	return true
}

// fail notes why a scan ends early.
func (sc *scan) fail(err error) {
	sc.snapshot.mu.Lock()
	defer sc.snapshot.mu.Unlock()
	sc.snapshot.err = err
}

// splitTable takes the table off a key, and returns what names it there.
func splitTable(key []byte) (t applier.Table, prefix []byte, err error) {
	schema, rest, ok := bytes.Cut(key[1:], []byte{0})
	name, _, ok2 := bytes.Cut(rest, []byte{0})
	if !ok || !ok2 {
		return t, nil, fmt.Errorf("%w: key %.64q names no table", ErrCorrupt, key)
	}
	t = applier.Table{Schema: string(schema), Name: string(name)}
	return t, bytes.Clone(key[:1+len(schema)+1+len(name)+1]), nil
}
