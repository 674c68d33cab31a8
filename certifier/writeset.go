package certifier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/spaolacci/murmur3"
)

// ErrWriteSet marks bytes that are not a write set.
var ErrWriteSet = errors.New("certifier: malformed write set")

// separator is U+00BD in UTF-8, which MySQL puts between the parts of an item.
const separator = "\xc2\xbd"

// PrimaryIndex is the name of a table's primary key in an item's text.
const PrimaryIndex = "PRIMARY"

// MaxItems bounds the items of one transaction. What a count claims is checked
// against the bytes that follow before anything is read.
const MaxItems = 1 << 24

const itemLen = 8

// Item is the hash of what a transaction wrote: one row, by one unique key.
// Two rows with equal items are certified as if they were one, which can only
// refuse too much.
type Item uint64

// AppendItemText appends the text of the item for one row and one of its
// unique keys: the index's name, schema, table, and the values of the key's
// parts in memory-comparable form. A row whose key has a NULL part has no item
// for that key.
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
		b = append(b, part...)
		b = append(b, separator...)
		b = strconv.AppendInt(b, int64(len(part)), 10)
	}
	return b
}

// HashItem returns the item with the given text.
func HashItem(text []byte) Item { return Item(murmur3.Sum64(text)) }

// AppendWriteSet appends the encoding of items to b, in their order.
func AppendWriteSet(b []byte, items []Item) []byte {
	b = binary.AppendUvarint(b, uint64(len(items)))
	for _, item := range items {
		b = binary.LittleEndian.AppendUint64(b, uint64(item))
	}
	return b
}

// WriteSet is what a transaction wrote, as it stands in the log. The zero
// value is empty.
type WriteSet struct{ items []byte }

// DecodeWriteSet takes a write set off the front of b. It aliases b.
func DecodeWriteSet(b []byte) (ws WriteSet, rest []byte, err error) {
	count, n := binary.Uvarint(b)
	switch left := uint64(len(b) - max(n, 0)); {
	case n <= 0:
		return WriteSet{}, nil, fmt.Errorf("%w: the number of items is cut off", ErrWriteSet)
	case n > 1 && b[n-1] == 0:
		return WriteSet{}, nil, fmt.Errorf("%w: the number of items is not in its shortest form", ErrWriteSet)
	case count > MaxItems:
		return WriteSet{}, nil, fmt.Errorf("%w: %d items, the limit is %d", ErrWriteSet, count, MaxItems)
	case count*itemLen > left:
		return WriteSet{}, nil, fmt.Errorf("%w: %d items in %d bytes", ErrWriteSet, count, left)
	}
	end := n + int(count)*itemLen
	return WriteSet{b[n:end:end]}, b[end:], nil
}

// Len is the number of items.
func (w WriteSet) Len() int { return len(w.items) / itemLen }

// Item returns the i-th item.
func (w WriteSet) Item(i int) Item {
	return Item(binary.LittleEndian.Uint64(w.items[i*itemLen:]))
}
