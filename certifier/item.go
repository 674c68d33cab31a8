package certifier

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/spaolacci/murmur3"
)

// separator is U+00BD in UTF-8, which MySQL puts between the parts of an item.
const separator = "\xc2\xbd"

// PrimaryIndex is the name of a table's primary key in an item's text.
const PrimaryIndex = "PRIMARY"

// Item is the hash of what a transaction touched: one row, by one unique key.
// Two rows with equal items are certified as if they were one, which can only
// refuse too much.
type Item uint64

// Index names one unique key of a table.
type Index struct {
	Name   string // PrimaryIndex for the primary key
	Schema string
	Table  string
	// Columns is how many parts the key has; 0 means 1.
	Columns int
}

func (x Index) columns() int { return max(1, x.Columns) }

// AppendItemText appends the text of the item for one row and one of its
// unique keys: the index's name, schema, table, and the values of the key's
// parts in memory-comparable form, each with its length. It is MySQL's layout
// (sql/rpl_write_set_handler.cc, add_pke). A row whose key has a NULL part has
// no item for that key.
func AppendItemText(b []byte, index, schema, table string, parts ...[]byte) []byte {
	b = append(b, index...)
	b = append(b, separator...)
	b = append(b, schema...)
	b = append(b, separator...)
	b = strconv.AppendInt(b, int64(len(schema)), 10)
	b = append(b, table...)
	b = append(b, separator...)
	b = strconv.AppendInt(b, int64(len(table)), 10)
	for _, part := range parts {
		b = appendItemPart(b, part)
	}
	return b
}

func appendItemPart(b, part []byte) []byte {
	b = append(b, part...)
	b = append(b, separator...)
	return strconv.AppendInt(b, int64(len(part)), 10)
}

// HashItem returns the item with the given text: the first half of the 128-bit
// murmur3 with seed 0. It is frozen: members of all versions must agree.
func HashItem(text []byte) Item { return Item(murmur3.Sum64(text)) }

// Space is the hash of an index's name, schema and table: the key space that a
// scan ranges over.
type Space uint64

// Space returns the index's key space.
func (x Index) Space() Space {
	return Space(HashItem(AppendItemText(nil, x.Name, x.Schema, x.Table)))
}

// Part is one part of a key, in the form in which values compare as bytes.
type Part struct {
	bytes []byte
	fixed [8]byte
	width int // of fixed, 0 when bytes counts
	null  bool
	err   error
}

// Int returns a signed integer of a column of width bytes, 1 to 8: big-endian
// with the sign bit flipped, as MySQL sorts it.
func Int(v int64, width int) Part {
	if width < 1 || width > 8 || (v>>(8*min(width, 8)-1) != 0 && v>>(8*min(width, 8)-1) != -1) {
		return Part{err: fmt.Errorf("%w: %d does not fit a signed integer of %d bytes", ErrWriteSet, v, width)}
	}
	return fixedPart(uint64(v)^1<<(8*width-1), width)
}

// Uint returns an unsigned integer of a column of width bytes, 1 to 8.
func Uint(v uint64, width int) Part {
	if width < 1 || width > 8 || (width < 8 && v>>(8*width) != 0) {
		return Part{err: fmt.Errorf("%w: %d does not fit an unsigned integer of %d bytes", ErrWriteSet, v, width)}
	}
	return fixedPart(v, width)
}

func fixedPart(v uint64, width int) Part {
	p := Part{width: width}
	binary.BigEndian.PutUint64(p.fixed[:], v<<(64-8*width))
	return p
}

// Text returns a string by its sort key in the column's collation: texts that
// are equal to the collation must have equal sort keys. It is not copied.
func Text(sortKey []byte) Part { return Part{bytes: sortKey} }

// Bytes returns a binary value, which sorts as it is. It is not copied.
func Bytes(value []byte) Part { return Part{bytes: value} }

// Null returns the missing value. A key with such a part has no item.
func Null() Part { return Part{null: true} }

func (p *Part) value() []byte {
	if p.width > 0 {
		return p.fixed[:p.width]
	}
	return p.bytes
}

// appendOrder appends the form of a key in which whole keys compare as bytes.
// A key of one part is its value. Of several, each is escaped and ended, so
// that none runs into the next: 00 becomes 00 FF, and 00 01 ends the part.
func appendOrder(b []byte, columns int, parts []Part) []byte {
	if columns == 1 {
		return append(b, parts[0].value()...)
	}
	for i := range parts {
		for rest := parts[i].value(); len(rest) > 0; {
			n := bytes.IndexByte(rest, 0)
			if n < 0 {
				b = append(b, rest...)
				break
			}
			b = append(b, rest[:n]...)
			b = append(b, 0, 0xff)
			rest = rest[n+1:]
		}
		b = append(b, 0, 1)
	}
	return b
}
