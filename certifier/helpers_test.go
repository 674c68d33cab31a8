package certifier

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// roomy are settings whose limits nothing here reaches.
var roomy = Settings{HistoryItems: 1 << 30, HistoryBytes: 1 << 40, RangeWrites: 1 << 10}

var (
	group   = gtid.UUID{15: 0x0a}
	foreign = gtid.UUID{15: 0x0b}
)

// upTo is the GTID set of a member that has executed the group's first n
// transactions.
func upTo(n uint64) gtid.Set { return gtid.Set{}.AddInterval(group, "", 1, n) }

// doing is what a test's transaction does with an item. Written keys lie in key
// space 1 or 2.
type doing struct {
	item  Item
	kind  Kind
	space Space
	key   string
}

// scan is a range that a test's transaction scans. Empty bounds are none.
type scan struct {
	space    Space
	from, to string
}

// compose makes a write set, in which the doings are sorted by kind.
func compose(doings []doing, scans ...scan) Encoded {
	ws := WriteSet{}
	number := func(s Space) int {
		if at := slices.Index(ws.spaces, s); at >= 0 {
			return at
		}
		ws.spaces = append(ws.spaces, s)
		return len(ws.spaces) - 1
	}
	for kind := range Kind(Kinds) {
		for _, d := range doings {
			if d.kind != kind {
				continue
			}
			ws.items[kind] = append(ws.items[kind], d.item)
			if kind <= Delta {
				ws.places[kind] = appendPlace(ws.places[kind], number(d.space), []byte(d.key))
			}
		}
	}
	for _, s := range scans {
		ws.count++
		ws.ranges = binary.AppendUvarint(ws.ranges, uint64(number(s.space)))
		for _, bound := range []string{s.from, s.to} {
			if bound == "" {
				ws.ranges = append(ws.ranges, 0)
				continue
			}
			ws.ranges = binary.AppendUvarint(append(ws.ranges, 1), uint64(len(bound)))
			ws.ranges = append(ws.ranges, bound...)
		}
	}
	b, err := ws.AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	e, rest, err := DecodeWriteSet(b)
	if err != nil || len(rest) > 0 {
		panic(err)
	}
	return e
}

// does is a write set that does the same with all items given, whose keys are
// the items' bytes.
func does(kind Kind, list ...Item) Encoded {
	doings := make([]doing, len(list))
	for i, item := range list {
		doings[i] = doing{item, kind, 1, string(binary.BigEndian.AppendUint64(nil, uint64(item)))}
	}
	return compose(doings)
}

func writes(list ...Item) Encoded { return does(Write, list...) }

// encodeWrites encodes writes of the items given.
func encodeWrites(list []Item) []byte {
	ws := writes(list...)
	b, err := ws.AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	return b
}

func repeated(item Item, n int) []Item {
	return itemsOf(n, func(int) Item { return item })
}

func itemsOf(n int, item func(i int) Item) []Item {
	list := make([]Item, n)
	for i := range list {
		list[i] = item(i)
	}
	return list
}

func judge(c *Certifier, snapshot gtid.Set, ws Encoded) Verdict {
	return c.Certify(&Request{Snapshot: snapshot, WriteSet: ws})
}

// lost is the verdict on writes of which the one at item was written before.
func lost(item int, winner gtid.GTID) Verdict {
	return Verdict{Outcome: Conflict, Clash: Clash{Item: item, Range: -1, Winner: winner, Sequence: winner.Number}}
}

func markableItems(c *Certifier, limit int) uint64 {
	return markableWithin(c, limit, 1<<40)
}

func markableWithin(c *Certifier, items, bytes int) uint64 {
	s := c.settings
	defer func() { c.settings = s }()
	c.settings.HistoryItems, c.settings.HistoryBytes = items, bytes
	return c.MarkableLimit()
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func appendState(t fataler, c *Certifier) []byte {
	const before = "before"
	state, err := c.AppendState([]byte(before))
	if err != nil {
		t.Fatalf("state: %v", err)
	}
	return bytes.TrimPrefix(state, []byte(before))
}
