package concordat

import (
	"bytes"
	"slices"

	"github.com/concordatdb/concordat/certifier"
)

// Isolation says what a transaction may not see happen beside it.
type Isolation byte

// The isolation levels. A group runs transactions of both beside each other;
// each has what its own level promises.
const (
	// Snapshot: of two transactions that wrote the same key and of which
	// neither saw the other, one commits. Two that each read what the other
	// wrote may both commit (write skew).
	Snapshot Isolation = iota
	// Serializable: what the transaction read, keys and scanned ranges, and
	// keys found missing, is certified too. The transactions that commit at
	// this level are as if they had run one after the other, in the order of
	// their commits. One that only reads needs no certification: its snapshot
	// is a place in that order.
	Serializable
)

// String returns the level as SQL writes it.
func (i Isolation) String() string {
	if i == Serializable {
		return "SERIALIZABLE"
	}
	return "SNAPSHOT"
}

// tableKey names a key that a transaction touched.
type tableKey struct {
	table Table
	key   []byte
}

func (k tableKey) item(text []byte) (certifier.Item, []byte) {
	text = certifier.AppendItemText(text[:0], certifier.PrimaryIndex, k.table.Schema, k.table.Name, k.key)
	return certifier.HashItem(text), text
}

// tableRange is a part of a table that was scanned: from <= key < to, where nil
// is no bound.
type tableRange struct {
	table    Table
	from, to []byte
}

func (r tableRange) overlaps(o tableRange) bool {
	return r.table == o.table &&
		(r.to == nil || bytes.Compare(o.from, r.to) <= 0) && (o.to == nil || bytes.Compare(r.from, o.to) <= 0)
}

// hull is the least range that covers both.
func (r tableRange) hull(o tableRange) tableRange {
	if bytes.Compare(o.from, r.from) < 0 { // nil is the least
		r.from = o.from
	}
	if r.to != nil && (o.to == nil || bytes.Compare(o.to, r.to) > 0) {
		r.to = o.to
	}
	return r
}

// readSet is what a serializable transaction has read.
type readSet struct {
	points []tableKey
	known  map[certifier.Item]struct{}
	ranges []tableRange
	bytes  int // about what the message will take
}

// point enters a key and reports whether it is new. The key is copied.
func (s *readSet) point(item certifier.Item, k tableKey) bool {
	if _, known := s.known[item]; known {
		return false
	}
	if s.known == nil {
		s.known = map[certifier.Item]struct{}{}
	}
	s.known[item] = struct{}{}
	s.points = append(s.points, tableKey{k.table, bytes.Clone(k.key)})
	s.bytes += 8 + len(k.key)
	return true
}

// scanned enters a range, which belongs to the set from here on. Ranges that
// touch become one; beyond the limit all those of the table do, which can only
// refuse too much.
func (s *readSet) scanned(r tableRange) {
	merged := func(o tableRange) bool {
		if !r.overlaps(o) {
			return false
		}
		r = r.hull(o)
		return true
	}
	for before := -1; before != len(s.ranges); {
		before = len(s.ranges)
		s.ranges = slices.DeleteFunc(s.ranges, merged)
	}
	if len(s.ranges) == certifier.MaxRanges {
		s.ranges = slices.DeleteFunc(s.ranges, func(o tableRange) bool {
			if o.table != r.table {
				return false
			}
			r = r.hull(o)
			return true
		})
	}
	s.ranges = append(s.ranges, r)
	s.bytes += 8 + len(r.from) + len(r.to)
}
