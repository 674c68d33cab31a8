package certifier

import "encoding/binary"

// maxExpected bounds the items that there is room for ahead of their transactions,
// all together. It is 17 bytes each, and 8 for who expects them.
const maxExpected = 1 << 20

// Expected are the items of a transaction that is yet to be certified, and of which
// the write set comes in pieces. The certifier makes room for them as they come,
// which is most of what it costs to certify a transaction of very many items. No
// verdict depends on that, nor does what the certifier writes of its state.
type Expected struct {
	c     *Certifier
	head  []byte // of the write set, until it can be read
	items []byte // those with room, and the beginning of one
	want  int    // items, 0 until the head is read
	made  int    // items with room
	ended bool
}

// Expect begins with a transaction.
func (c *Certifier) Expect() *Expected { return &Expected{c: c} }

// Add takes the next bytes of the encoded write set, or what follows it: only as much
// as is of use is looked at. They stay the caller's.
func (e *Expected) Add(b []byte) {
	if e.ended {
		return
	}
	if e.want == 0 {
		e.head = append(e.head, b...)
		if b = e.begin(); e.want == 0 {
			return
		}
	}
	e.items = append(e.items, b[:min(len(b), e.want*itemLen-len(e.items))]...)
	whole := len(e.items) / itemLen
	e.c.table.reserve(e.items[e.made*itemLen : whole*itemLen])
	e.made = whole
	e.ended = e.made == e.want
}

// begin reads the head of the write set, and returns what follows it. Items that are
// only read come last, and are not remembered.
func (e *Expected) begin() []byte {
	rest := e.head
	want := uint64(0)
	for k := range int(Kinds) + 2 {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			// A head that is none is for whoever decodes the whole to refuse.
			e.ended = size < 0 || len(e.head) > (int(Kinds)+2)*binary.MaxVarintLen64
			return nil
		}
		rest = rest[size:]
		if k < int(Read) {
			want += min(n, maxExpected+1)
		}
	}
	e.head = nil
	if want == 0 || want > uint64(maxExpected-e.c.expected) {
		e.ended = true
		return nil
	}
	e.want = int(want)
	e.c.expected += e.want
	return rest
}

// Done ends the expectation: the transaction was judged, or will not be. Nothing may
// be added any more.
func (e *Expected) Done(o Outcome) {
	if o != Certified {
		e.c.table.unreserve(e.items[:e.made*itemLen])
	}
	e.c.expected -= e.want
	*e = Expected{c: e.c, ended: true}
}
