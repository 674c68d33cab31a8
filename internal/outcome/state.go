package outcome

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/wire"
)

// ErrState marks bytes that are not a window's state of this format.
var ErrState = errors.New("outcome: malformed state")

const stateFormat = 1

// entryLen is the least that an entry takes: a head and an index.
const entryLen = 1 + 1

// kindBits is the part of an entry's head that is its kind.
const kindBits = 2

// AppendState appends all that later answers depend on. How much of what the
// window has left behind has been given back is not part of it: members may
// differ in that, and in nothing else.
//
//	state  := 1  uvarint limit, from, count  entry*   (oldest first)
//	entry  := uvarint head, index  id(16)  [number]  [reason]
//	head   := source << 2 | kind
//	kind   := 0 superseded: no id | 1 committed | 2 refused | 3 refused, with a winner
//
// An index is what it adds to the one before, the first to from. The id is
// missing only from a superseded entry, which has no more than its head and its
// index; kinds 1 and 3 have a number, kinds 2 and 3 a reason of one byte.
//
// A GTID is the number of its source, counted from 1 as the sources come up,
// and what its own number adds to that of the GTID before of the same source,
// as a signed varint. Of a source that comes up for the first time stands the
// whole GTID in the binary form of package gtid. Without a GTID the source is 0.
// So each state has one encoding.
func (w *Window) AppendState(b []byte) []byte {
	b = append(b, stateFormat)
	b = binary.AppendUvarint(b, uint64(w.limit))
	b = binary.AppendUvarint(b, w.from)
	b = binary.AppendUvarint(b, w.next-w.first)
	enc := encoder{w: w, names: make([]written, len(w.sources.list)), index: w.from}
	for p := w.first; p < w.next; p++ {
		b = enc.append(b, w.at(p))
	}
	return b
}

// written is a source as it stands in a state: its number there, 0 before it
// comes up, and the last GTID number.
type written struct {
	as   uint64
	last uint64
}

type encoder struct {
	w     *Window
	names []written // by the window's own number of a source
	count uint64
	index uint64
}

func (enc *encoder) append(b []byte, e *entry) []byte {
	name := &enc.names[e.source]
	first := e.source != 0 && name.as == 0
	if first {
		enc.count++
		name.as = enc.count
	}
	b = binary.AppendUvarint(b, name.as<<kindBits|uint64(e.kind))
	b = binary.AppendUvarint(b, e.index-enc.index)
	enc.index = e.index
	if e.kind == superseded {
		return b
	}
	b = append(b, e.id[:]...)
	switch {
	case first:
		s := enc.w.sources.of(e.source)
		b = appendGTID(b, gtid.GTID{UUID: s.uuid, Tag: s.tag, Number: e.number})
	case e.source != 0:
		b = binary.AppendVarint(b, int64(e.number-name.last))
	}
	if e.source != 0 {
		name.last = e.number
	}
	if e.kind != committed {
		b = append(b, e.reason)
	}
	return b
}

// appendGTID appends a GTID that Note or Restore found valid.
func appendGTID(b []byte, g gtid.GTID) []byte {
	b, _ = g.AppendBinary(b)
	return b
}

// Restore returns the window whose state was appended by AppendState, and keeps
// no reference to b. Bytes that are not such a state are an error that wraps
// ErrState; of those that happen to look like one it makes a window that keeps
// its invariants.
func Restore(b []byte, seed uint64) (*Window, error) {
	d := &decoder{Decoder: wire.Decoder{Rest: b, Kind: ErrState}}
	if format := d.Bytes(1); len(format) == 1 && format[0] != stateFormat {
		return nil, fmt.Errorf("%w: format %d is not known to this version", ErrState, format[0])
	}
	limit, from, count := d.Uvarint(), d.Uvarint(), d.Uvarint()
	if limit > MaxLimit || count > limit {
		d.Fail("%d transactions, limit %d, where %d is the highest", count, limit, MaxLimit)
	}
	if count > uint64(len(d.Rest)/entryLen) {
		d.Fail("%d transactions in %d bytes", count, len(d.Rest))
	}
	if d.Err != nil {
		return nil, d.Err
	}
	w := New(int(limit), seed)
	w.from, d.index = from, from
	for ; count > 0 && d.Err == nil; count-- {
		d.entry(w)
	}
	if len(d.Rest) != 0 {
		d.Fail("%d bytes too many", len(d.Rest))
	}
	if w.next > w.first && w.at(w.next-1).kind == superseded {
		d.Fail("the newest transaction is superseded")
	}
	if d.Err != nil {
		return nil, d.Err
	}
	return w, nil
}

// decoder takes a state apart.
type decoder struct {
	wire.Decoder
	names []gtid.GTID // the sources that came up, each with its last GTID
	known map[source]bool
	index uint64
}

// entry reads an entry and adds it to the window.
func (d *decoder) entry(w *Window) {
	head, add := d.Uvarint(), d.Uvarint()
	k, number := kind(head&(1<<kindBits-1)), head>>kindBits
	if (k == committed || k == lost) != (number != 0) {
		d.Fail("source %d of a transaction of kind %d", number, k)
	}
	d.index += add
	if d.index < add || d.index == 0 {
		d.Fail("index %d where it cannot be", d.index)
	}
	if d.Err != nil {
		return
	}
	if k == superseded {
		w.pushSuperseded(d.index)
		return
	}
	var id ID
	copy(id[:], d.Bytes(len(id)))
	f := Fate{Index: d.index, Committed: k == committed}
	switch k {
	case committed:
		f.GTID = d.gtid(number)
	case lost:
		f.Winner = d.gtid(number)
	case refused, superseded:
	}
	if k != committed {
		if reason := d.Bytes(1); len(reason) == 1 {
			f.Reason = reason[0]
		}
	}
	if d.Err != nil {
		return
	}
	if _, ok := w.Find(id); ok {
		d.Fail("transaction %v has two fates", id)
		return
	}
	w.push(id, w.hash(id), f)
}

// gtid reads a GTID of the source with a number, which may be the next one.
func (d *decoder) gtid(number uint64) gtid.GTID {
	if number > uint64(len(d.names)) {
		return d.newSource(number)
	}
	g := &d.names[number-1]
	g.Number += uint64(d.Varint())
	if !g.Valid() {
		d.Fail("GTID %v is not valid", g)
	}
	return *g
}

func (d *decoder) newSource(number uint64) gtid.GTID {
	if number != uint64(len(d.names))+1 {
		d.Fail("source %d where %d can be the next", number, len(d.names)+1)
		return gtid.GTID{}
	}
	g := d.GTID()
	name := source{g.UUID, g.Tag}
	if !g.Valid() || d.known[name] {
		d.Fail("GTID %v where a new source should come up", g)
		return gtid.GTID{}
	}
	if d.known == nil {
		d.known = map[source]bool{}
	}
	d.known[name] = true
	d.names = append(d.names, g)
	return g
}
