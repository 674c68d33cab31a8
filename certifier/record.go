package certifier

import (
	"math"

	"github.com/concordatdb/concordat/gtid"
)

// What the history is reckoned to take, in bytes.
const (
	recordBytes    = 16
	itemBytes      = 24
	linkBytes      = 24
	placeBytes     = 64
	asideBytes     = 256
	milestoneBytes = 128
	intervalBytes  = 32
)

// record is what a conflict is judged by and explained with, of a transaction
// with a GTID of the group and a snapshot version that is E(n).
type record struct {
	back   uint32 // from the sequence before to n
	low    uint32 // of the GTID's number
	high   uint16
	origin uint16 // in origins, or apart
}

const (
	// apart is the origin of a record whose transaction is in asides.
	apart = math.MaxUint16
	// maxPlain is the highest number of a GTID that fits into a record.
	maxPlain = 1<<48 - 1
)

// aside is what is remembered of a transaction that does not fit into a record.
type aside struct {
	gtid      gtid.GTID
	origin    gtid.UUID
	prefix    uint64 // its snapshot version is E(prefix), unless irregular
	irregular bool
	snapshot  gtid.Set // if irregular
	stray     bool     // snapshot has what was not certified before
}

// origins numbers the members that transactions came from.
type origins struct {
	uuids  []gtid.UUID
	number map[gtid.UUID]uint16
}

// find returns the number of a member, apart if there are too many.
func (o *origins) find(uuid gtid.UUID) uint16 {
	// Members are few, and few of them write much.
	for i := range min(len(o.uuids), 4) {
		if o.uuids[i] == uuid {
			return uint16(i)
		}
	}
	if n, found := o.number[uuid]; found {
		return n
	}
	if len(o.uuids) == apart {
		return apart
	}
	if o.number == nil {
		o.number = map[gtid.UUID]uint16{}
	}
	n := uint16(len(o.uuids))
	o.number[uuid] = n
	o.uuids = append(o.uuids, uuid)
	return n
}

func (c *Certifier) record(sequence uint64) *record { return c.records.At(int(sequence - c.swept - 1)) }

// plain returns the GTID of a record that is not apart.
func (c *Certifier) plain(r *record) gtid.GTID {
	return gtid.GTID{UUID: c.group, Number: uint64(r.high)<<32 | uint64(r.low)}
}

// author returns who is remembered at a sequence.
func (c *Certifier) author(sequence uint64) (id gtid.GTID, origin gtid.UUID) {
	r := c.record(sequence)
	if r.origin == apart {
		a := c.asides[sequence]
		return a.gtid, a.origin
	}
	return c.plain(r), c.origins.uuids[r.origin]
}

// isPlain reports whether a GTID fits into a record.
func (c *Certifier) isPlain(id gtid.GTID) bool {
	return id.UUID == c.group && id.Tag == "" && id.Number <= maxPlain
}

// remember adds the record of the transaction that is being certified.
func (c *Certifier) remember(id gtid.GTID, origin gtid.UUID, snapshot gtid.Set, v *seen) {
	back := c.now.sequence - 1 - v.prefix
	if c.isPlain(id) && v.exact && back <= math.MaxUint32 {
		if n := c.origins.find(origin); n != apart {
			c.records.Push(record{uint32(back), uint32(id.Number), uint16(id.Number >> 32), n})
			return
		}
	}
	a := &aside{gtid: id, origin: origin, prefix: v.prefix}
	if !v.exact {
		a.irregular, a.snapshot = true, snapshot
		if a.stray = !snapshot.SubsetOf(c.executed); a.stray {
			c.stray = c.now.sequence
		}
	}
	c.asides[c.now.sequence] = a
	c.records.Push(record{origin: apart})
}

// execute adds a GTID to what is executed, after its record.
func (c *Certifier) execute(id gtid.GTID) {
	c.executed = c.executed.Add(id)
	c.straight.extend(c.now.sequence, id)
}

// cost is what a transaction is reckoned to take without its items. It
// must depend on nothing but the log.
func (c *Certifier) cost(id gtid.GTID, r *Request, v *seen) uint64 {
	bytes := uint64(recordBytes)
	if !c.isPlain(id) || !v.exact {
		bytes += asideBytes
	}
	if !v.exact {
		bytes += intervals(r.Snapshot) * intervalBytes
	}
	return bytes
}

func intervals(s gtid.Set) (n uint64) {
	for range s.Intervals() {
		n++
	}
	return n
}

// link is one transaction's delta or reference of an item. Links have numbers,
// in their order, from 1 on.
type link struct {
	stamp uint64 // of the transaction: its sequence, and the kind
	prev  uint64 // link of the one before in the run, 0 for the first
	base  uint64 // stamp of what touched the item before the run, or 0
}

func (c *Certifier) link(number uint64) *link { return c.links.At(int(number - c.unlinked - 1)) }

// lastOf returns the sequence of a stamp, 0 if it is dead.
func (c *Certifier) lastOf(stamp uint64) uint64 {
	if c.table.dead(stamp) {
		return 0
	}
	number, k := splitStamp(stamp)
	if k == Write {
		return number
	}
	return c.link(number).stamp >> 2
}

// touchAll notes what the transaction that is being certified does with its
// items, and returns the sequence of the last one that it depends on for that.
func (c *Certifier) touchAll(ws *Encoded) (depends uint64) {
	looked := ws.Len() <= lookupBatch // so the table knows all places
	var stamps [lookupBatch]uint64
	i := 0
	for k := range Read {
		for range ws.Count(k) {
			if !looked && i%lookupBatch == 0 {
				c.table.lookup(ws.items[i*itemLen:], &stamps)
			}
			depends = max(depends, c.touch(&c.table.finds[i%lookupBatch], k))
			i++
		}
	}
	return depends
}

// touch notes what the transaction that is being certified does with an item,
// and returns the sequence of the last one that it depends on for that.
func (c *Certifier) touch(f *find, kind Kind) (depends uint64) {
	if kind == Write {
		old := c.table.swapAt(f, stampOf(c.now.sequence, Write))
		if last := c.lastOf(old); last < c.now.sequence {
			return last
		}
		return 0
	}
	old := c.table.swapAt(f, stampOf(c.now.links+1, kind))
	last := c.lastOf(old)
	number, k := splitStamp(old)
	switch {
	case last == c.now.sequence && (k == kind || k == Write):
		c.table.swapAt(f, old)
	case last == c.now.sequence:
		// In two ways at once: that excludes all that a write does.
		c.table.swapAt(f, stampOf(last, Write))
	case last == 0:
		c.pushLink(kind, 0, 0)
	case k != kind:
		c.pushLink(kind, 0, old)
		return last
	default:
		base := c.link(number).base
		c.pushLink(kind, number, base)
		if kind == Reference {
			return c.lastOf(base)
		}
		return last
	}
	return 0
}

func (c *Certifier) pushLink(kind Kind, prev, base uint64) {
	c.now.links++
	c.links.Push(link{stampOf(c.now.sequence, kind), prev, base})
}
