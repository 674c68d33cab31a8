package certifier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrWriteSet marks what is not a write set.
var ErrWriteSet = errors.New("certifier: malformed write set")

const (
	// MaxItems bounds the items of one transaction. What a count claims is
	// checked against the bytes that follow before anything is read.
	MaxItems = 1 << 24
	// MaxRanges bounds the scanned ranges of one transaction: each is compared
	// with every recent write.
	MaxRanges = 1 << 8
	// MaxPlace is how much of a written key is kept to compare it with scanned
	// ranges. Keys that agree so far are taken to be in a range together.
	MaxPlace = 32

	itemLen = 8
)

// WriteSet is what a transaction touched, as its origin composes it for
// certification: one item for each row and each of its unique keys, both
// images of an update, and the ranges that a serializable one has scanned. The
// zero value is empty. It belongs to one goroutine.
//
// The methods keep the first error of a value that does not fit its column;
// [WriteSet.AppendBinary] returns it.
type WriteSet struct {
	items  [Kinds][]Item
	places [2][]byte // of writes and of deltas, encoded
	ranges []byte    // encoded
	count  int       // of ranges
	spaces []Space
	number map[Space]int // of spaces, once they are many
	last   Index         // whose space is lastAt
	lastAt int
	text   []byte // scratch
	key    []byte // scratch
	err    error
}

// Add notes that the transaction does k, which must be a kind, with the row
// with this key: it is Write, Delta, Reference or Read by name.
func (w *WriteSet) Add(k Kind, x Index, parts ...Part) bool { return w.add(k, x, parts) }

// Write notes that a row with this key was inserted, changed or deleted. A key
// with a NULL part adds nothing, and false is returned.
func (w *WriteSet) Write(x Index, parts ...Part) bool { return w.add(Write, x, parts) }

// Update notes that a row's key was changed from one value to another: both
// are written. When they are equal it is one write.
func (w *WriteSet) Update(x Index, before, after []Part) {
	w.add(Write, x, before)
	same := slices.EqualFunc(before, after, func(a, b Part) bool {
		return a.null == b.null && slices.Equal(a.value(), b.value())
	})
	if !same {
		w.add(Write, x, after)
	}
}

// Delta notes that a number was added to the row with this key.
func (w *WriteSet) Delta(x Index, parts ...Part) bool { return w.add(Delta, x, parts) }

// Reference notes that the row with this key must not vanish: x is an index of
// the parent table, and the parts are the child's values. A reference with a
// NULL part refers to nothing.
func (w *WriteSet) Reference(x Index, parts ...Part) bool { return w.add(Reference, x, parts) }

// Read notes that the row with this key was read, or looked for and not found,
// and must be as it was when the transaction commits.
func (w *WriteSet) Read(x Index, parts ...Part) bool { return w.add(Read, x, parts) }

// Range notes that the keys from <= key < to were scanned, and must all be as
// they were, none missing and none new, when the transaction commits. A nil
// bound is none. A bound may have fewer parts than the key.
func (w *WriteSet) Range(x Index, from, to []Part) {
	if w.count++; w.count > MaxRanges {
		w.fail("more than %d ranges; scan fewer and longer ones", MaxRanges)
		return
	}
	w.ranges = binary.AppendUvarint(w.ranges, uint64(w.space(x)))
	for _, bound := range [2][]Part{from, to} {
		if bound == nil {
			w.ranges = append(w.ranges, 0)
			continue
		}
		if len(bound) == 0 || !w.fits(x, bound, len(bound)) {
			w.fail("bound of %d parts in a range over %s, which has %d", len(bound), x.Name, x.columns())
			return
		}
		w.key = appendOrder(w.key[:0], x.columns(), bound)
		w.ranges = append(w.ranges, 1)
		w.ranges = binary.AppendUvarint(w.ranges, uint64(len(w.key)))
		w.ranges = append(w.ranges, w.key...)
	}
}

// Len is the number of items.
func (w *WriteSet) Len() int {
	n := 0
	for k := range w.items {
		n += len(w.items[k])
	}
	return n
}

// Ranges is the number of scanned ranges.
func (w *WriteSet) Ranges() int { return w.count }

// Count is the number of items of a kind.
func (w *WriteSet) Count(k Kind) int { return len(w.items[k]) }

// Kind returns the kind of the i-th item of the encoded write set, and how many
// of that kind come before it.
func (w *WriteSet) Kind(i int) (k Kind, nth int) {
	for ; k < Read && i >= len(w.items[k]); k++ {
		i -= len(w.items[k])
	}
	return k, i
}

// Size is about how many bytes the encoding takes.
func (w *WriteSet) Size() int {
	return 16 + w.Len()*itemLen + len(w.spaces)*itemLen + len(w.places[0]) + len(w.places[1]) + len(w.ranges)
}

// Err returns the first value that does not fit its column, as AppendBinary
// will; nil if there is none.
func (w *WriteSet) Err() error { return w.err }

// IsEmpty reports whether nothing was noted.
func (w *WriteSet) IsEmpty() bool { return w.Len() == 0 && w.count == 0 && w.err == nil }

func (w *WriteSet) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: "+format, append([]any{ErrWriteSet}, args...)...)
	}
}

// fits checks the parts of a key or bound, of which there must be want.
func (w *WriteSet) fits(x Index, parts []Part, want int) bool {
	if len(parts) != want || want > x.columns() {
		w.fail("%d parts in a key of %s of %s.%s, which has %d", len(parts), x.Name, x.Schema, x.Table, x.columns())
		return false
	}
	for i := range parts {
		if err := parts[i].err; err != nil && w.err == nil {
			w.err = err
		}
	}
	return w.err == nil
}

func (w *WriteSet) add(k Kind, x Index, parts []Part) bool {
	if !w.fits(x, parts, x.columns()) || slices.ContainsFunc(parts, func(p Part) bool { return p.null }) {
		return false
	}
	w.text = AppendItemText(w.text[:0], x.Name, x.Schema, x.Table)
	for i := range parts {
		w.text = appendItemPart(w.text, parts[i].value())
	}
	w.items[k] = append(w.items[k], HashItem(w.text))
	if k == Write || k == Delta {
		w.key = appendOrder(w.key[:0], x.columns(), parts)
		w.places[k] = appendPlace(w.places[k], w.space(x), w.key)
	}
	return true
}

// space returns the number of an index's key space in this write set.
func (w *WriteSet) space(x Index) int {
	if len(w.spaces) > 0 && x == w.last {
		return w.lastAt
	}
	w.text = AppendItemText(w.text[:0], x.Name, x.Schema, x.Table)
	s := Space(HashItem(w.text))
	at := w.find(s)
	if at < 0 {
		at = len(w.spaces)
		w.spaces = append(w.spaces, s)
		if w.number != nil {
			w.number[s] = at
		}
	}
	w.last, w.lastAt = x, at
	return at
}

// fewSpaces is how many are looked through one by one.
const fewSpaces = 16

// find returns the number of a key space, -1 if it has none.
func (w *WriteSet) find(s Space) int {
	if len(w.spaces) <= fewSpaces {
		return slices.Index(w.spaces, s)
	}
	if w.number == nil {
		w.number = make(map[Space]int, 2*len(w.spaces))
		for at, known := range w.spaces {
			w.number[known] = at
		}
	}
	if at, found := w.number[s]; found {
		return at
	}
	return -1
}

func appendPlace(b []byte, space int, key []byte) []byte {
	cut := uint64(0)
	if len(key) > MaxPlace {
		key, cut = key[:MaxPlace], 1
	}
	b = binary.AppendUvarint(b, uint64(space)<<1|cut)
	b = append(b, byte(len(key)))
	return append(b, key...)
}

// AppendBinary appends the encoding, which [DecodeWriteSet] reads.
//
//	write set := uvarint writes, deltas, references, reads, spaces, ranges
//	             item(8)*  space(8)*  place*  range*
//	place     := uvarint space<<1|cut  len(1)  bytes     of each write and delta
//	range     := uvarint space  bound bound
//	bound     := 0 | 1 uvarint len bytes
//
// Items come by kind, and within a kind in the order in which they were noted.
// Numbers are little-endian. A place holds the first MaxPlace bytes of the key;
// cut says that there were more.
func (w *WriteSet) AppendBinary(b []byte) ([]byte, error) {
	if w.err == nil && w.Len() > MaxItems {
		w.fail("%d items, the limit is %d", w.Len(), MaxItems)
	}
	if w.err != nil {
		return nil, w.err
	}
	w.renumber()
	for k := range w.items {
		b = binary.AppendUvarint(b, uint64(len(w.items[k])))
	}
	b = binary.AppendUvarint(b, uint64(len(w.spaces)))
	b = binary.AppendUvarint(b, uint64(w.count))
	for k := range w.items {
		for _, item := range w.items[k] {
			b = binary.LittleEndian.AppendUint64(b, uint64(item))
		}
	}
	for _, s := range w.spaces {
		b = binary.LittleEndian.AppendUint64(b, uint64(s))
	}
	b = append(b, w.places[Write]...)
	b = append(b, w.places[Delta]...)
	return append(b, w.ranges...), nil
}

// renumber numbers the key spaces as they come up in the encoding, which need
// not be the order in which the transaction touched them: a decoder accepts no
// other, so that a write set has one encoding.
func (w *WriteSet) renumber() {
	if len(w.spaces) < 2 {
		return
	}
	o := spaceOrder{number: make([]int, len(w.spaces))}
	for i := range o.number {
		o.number[i] = -1
	}
	spaces := w.spaces
	for k := range w.places {
		w.places[k] = o.places(w.places[k], spaces)
	}
	w.ranges = o.ranges(w.ranges, spaces)
	w.spaces, w.number, w.lastAt = o.spaces, nil, o.number[w.lastAt]
}

// spaceOrder gives key spaces new numbers.
type spaceOrder struct {
	number []int // by old number, -1 before it comes up
	spaces []Space
}

func (o *spaceOrder) use(old uint64, spaces []Space) uint64 {
	if o.number[old] < 0 {
		o.number[old] = len(o.spaces)
		o.spaces = append(o.spaces, spaces[old])
	}
	return uint64(o.number[old])
}

func (o *spaceOrder) places(b []byte, spaces []Space) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		head, n := binary.Uvarint(b)
		end := n + 1 + int(b[n])
		out = binary.AppendUvarint(out, o.use(head>>1, spaces)<<1|head&1)
		out = append(out, b[n:end]...)
		b = b[end:]
	}
	return out
}

func (o *spaceOrder) ranges(b []byte, spaces []Space) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		number, n := binary.Uvarint(b)
		out = binary.AppendUvarint(out, o.use(number, spaces))
		b = b[n:]
		for range 2 {
			end := 1
			if b[0] == 1 {
				size, n := binary.Uvarint(b[1:])
				end += n + int(size)
			}
			out = append(out, b[:end]...)
			b = b[end:]
		}
	}
	return out
}
