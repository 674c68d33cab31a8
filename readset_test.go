package concordat

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
)

// What a read set remembers covers all that was scanned, within its limit, and
// what it says of its size follows.
func TestReadSetRanges(t *testing.T) {
	t.Parallel()
	tables := []Table{{Schema: "s", Name: "a"}, {Schema: "s", Name: "b"}}
	rapid.Check(t, func(t *rapid.T) {
		var s readSet
		var seen []tableRange
		for range rapid.IntRange(1, 40).Draw(t, "scans") {
			from := rapid.IntRange(0, 200).Draw(t, "from")
			r := tableRange{rapid.SampledFrom(tables).Draw(t, "table"), []byte{byte(from)}, []byte{byte(from + rapid.IntRange(0, 20).Draw(t, "length"))}}
			if rapid.IntRange(0, 20).Draw(t, "open") == 0 {
				r.to = nil
			}
			seen = append(seen, r)
			open := r
			s.begin(&open)
			if err := s.end(&open); err != nil {
				t.Fatal(err)
			}
		}
		size := 0
		for i, r := range s.ranges {
			size += rangeBytes + len(r.from) + len(r.to)
			for _, o := range s.ranges[:i] {
				if r.overlaps(o) {
					t.Fatalf("%v and %v could be one", r, o)
				}
			}
		}
		if s.bytes != size {
			t.Fatalf("%d bytes are reckoned, the ranges take %d", s.bytes, size)
		}
		for _, r := range seen {
			for key := range 256 {
				k := []byte{byte(key)}
				if r.has(k) && !s.has(r.table, k) {
					t.Fatalf("%v was scanned, and %x is in none of %v", r, k, s.ranges)
				}
			}
		}
	})
}

func (r tableRange) has(k []byte) bool {
	return bytes.Compare(k, r.from) >= 0 && (r.to == nil || bytes.Compare(k, r.to) < 0)
}

func (s *readSet) has(t Table, k []byte) bool {
	for _, r := range s.ranges {
		if r.table == t && r.has(k) {
			return true
		}
	}
	return false
}

// Beyond the limit, the table with most ranges has one instead, also when the
// range that is too many is another's. Too many tables are an error.
func TestReadSetLimit(t *testing.T) {
	var s readSet
	scan := func(table, key string) error {
		return s.scanned(tableRange{Table{Schema: "s", Name: table}, []byte(key), []byte(key + "!")})
	}
	for i := range certifier.MaxRanges {
		if err := scan("many", fmt.Sprintf("%05d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := scan("other", "x"); err != nil || len(s.ranges) != 2 || !s.has(Table{Schema: "s", Name: "many"}, []byte("00000")) {
		t.Errorf("error %v, and %d ranges, want 2", err, len(s.ranges))
	}
	s = readSet{}
	var err error
	for i := range certifier.MaxRanges + 1 {
		err = scan(fmt.Sprint("table", i), "x")
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("a scan of one table too many: %v", err)
	}
}
