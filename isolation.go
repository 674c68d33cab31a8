package concordat

import (
	"bytes"
	"fmt"
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

// What a point and a range take in a message, beside keys.
const (
	pointBytes = 8
	rangeBytes = 8
)

// readSet is what a serializable transaction has read.
type readSet struct {
	points []tableKey
	known  map[certifier.Item]struct{}
	ranges []tableRange
	open   []*tableRange // being scanned; as far as the scan may yet go
	bytes  int           // about what the message will take
}

// point enters a key, unless it is known. The key is copied.
func (s *readSet) point(item certifier.Item, k tableKey) {
	if _, known := s.known[item]; known {
		return
	}
	if s.known == nil {
		s.known = map[certifier.Item]struct{}{}
	}
	s.known[item] = struct{}{}
	s.points = append(s.points, tableKey{k.table, bytes.Clone(k.key)})
	s.bytes += pointBytes + len(k.key)
}

// begin enters a range that is being scanned, and end what was seen of it.
func (s *readSet) begin(r *tableRange) { s.open = append(s.open, r) }

func (s *readSet) end(r *tableRange) error {
	n := len(s.open)
	s.open = slices.DeleteFunc(s.open, func(o *tableRange) bool { return o == r })
	if len(s.open) == n {
		return nil // the transaction has ended inside the loop
	}
	return s.scanned(*r)
}

// endAll enters what is being scanned as if it had been seen to its end.
func (s *readSet) endAll() error {
	open := s.open
	s.open = nil
	for _, r := range open {
		if err := s.scanned(*r); err != nil {
			return err
		}
	}
	return nil
}

// scanned enters a range, which belongs to the set from here on. Ranges that
// touch become one; beyond the limit all those of the table with most of them
// do, which can only refuse too much.
func (s *readSet) scanned(r tableRange) error {
	for before := -1; before != len(s.ranges); {
		before = len(s.ranges)
		r = s.absorb(r, r.overlaps)
	}
	s.enter(r)
	if len(s.ranges) <= certifier.MaxRanges {
		return nil
	}
	crowded, most := Table{}, 1
	counts := map[Table]int{}
	for _, o := range s.ranges {
		if counts[o.table]++; counts[o.table] > most {
			crowded, most = o.table, counts[o.table]
		}
	}
	if most == 1 {
		return fmt.Errorf("%w: a serializable transaction that scans more than %d tables; split it", ErrTooLarge, certifier.MaxRanges)
	}
	first := s.ranges[slices.IndexFunc(s.ranges, func(o tableRange) bool { return o.table == crowded })]
	s.enter(s.absorb(first, func(o tableRange) bool { return o.table == crowded }))
	return nil
}

func (s *readSet) enter(r tableRange) {
	s.ranges = append(s.ranges, r)
	s.bytes += rangeBytes + len(r.from) + len(r.to)
}

// absorb takes out the ranges that are wanted, and returns the hull of them
// and r.
func (s *readSet) absorb(r tableRange, wanted func(tableRange) bool) tableRange {
	s.ranges = slices.DeleteFunc(s.ranges, func(o tableRange) bool {
		if !wanted(o) {
			return false
		}
		s.bytes -= rangeBytes + len(o.from) + len(o.to)
		r = r.hull(o)
		return true
	})
	return r
}
