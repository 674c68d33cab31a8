package certifier

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// numbering hands out the numbers of one UUID and tag. It is a function of the
// calls it gets, so members that certify the same log agree on every number.
//
// With a block size of 1 numbers follow the order of certification and fill the
// lowest hole. With a larger one each member numbers within a block of its own,
// so that the numbers of one origin lie together: the next free numbers, in one
// piece and at most as many as the block size, are reserved for a member when
// it needs some. All blocks are handed back after as many numbers as the block
// size, so that what members leave unused is filled in the end.
//
// This is Group Replication's generator (Gtid_generator_for_sidno, MySQL 8.3
// and later), number by number, up to where that one fails:
//
//   - A block whose rest was taken by GTIDs that callers asked for is given up
//     whatever is left of it. There, it can be read over and over for ever.
//   - Numbers are exhausted when none is free. There, also when none is free
//     above a block that ends at the last number.
//
// Invariants:
//  1. Blocks ascend by member, and a member has at most one.
//  2. No two blocks share a number, and none has more numbers than block, or a
//     number of base.
//  3. What lies above all blocks has not been reserved since the last recompute.
//     What lies below, and is in none of them, is used.
//  4. counter is one more than the numbers handed out since the last recompute,
//     or 0 before the first recompute. Of each block, one has been handed out.
//  5. With a block size of 1 counter is 0. With counter 0, base is empty and
//     there are no blocks.
type numbering struct {
	uuid    gtid.UUID
	tag     gtid.Tag
	block   uint64 // 0 means 1
	counter uint64
	base    gtid.Set // executed of the tag at the last recompute: what is not here is reserved in turn
	blocks  []reservation
}

// reservation is a member's block: the numbers first..last.
type reservation struct {
	member      gtid.UUID
	first, last uint64
}

// newNumbering returns the numbering of a UUID and tag of which no number was
// handed out automatically. Block size 0 means 1.
func newNumbering(uuid gtid.UUID, tag gtid.Tag, block uint64) *numbering {
	return &numbering{uuid: uuid, tag: tag, block: blockSize(block)}
}

// clone returns a numbering that goes on from here on its own.
func (n *numbering) clone() *numbering {
	other := *n
	other.blocks = slices.Clone(n.blocks)
	return &other
}

// blockSize makes one of all sizes that have the same effect.
func blockSize(n uint64) uint64 { return min(max(n, 1), gtid.MaxNumber) }

// next returns the number of a certified transaction of member; false if they
// are exhausted, which changes nothing. executed is everything certified
// before. The caller adds the number to it before the next call.
func (n *numbering) next(executed gtid.Set, member gtid.UUID) (number uint64, ok bool) {
	if n.block <= 1 {
		number = executed.FirstMissing(n.uuid, n.tag, 1)
		return number, number != 0
	}
	handBack := n.counter == 0 || n.counter > n.block
	if !handBack {
		number = n.fromBlock(executed, member)
	}
	if number == 0 {
		if executed.FirstMissing(n.uuid, n.tag, 1) == 0 {
			return 0, false
		}
		if handBack {
			n.recompute(executed)
		}
		number = n.reserve(executed, member)
	}
	n.counter++
	return number, true
}

// recompute hands all blocks back: what is not in executed can be reserved from
// here on. It is due at each view, which also forgets members that have left.
func (n *numbering) recompute(executed gtid.Set) {
	n.blocks = n.blocks[:0]
	if n.block > 1 {
		n.counter, n.base = 1, gtid.Set{}.AddInterval(n.uuid, n.tag, 1, gtid.MaxNumber).Intersect(executed)
	} else {
		n.counter, n.base = 0, gtid.Set{}
	}
}

// setBlock changes the block size, which hands all blocks back. The size that
// it has already changes nothing.
func (n *numbering) setBlock(executed gtid.Set, block uint64) {
	if block = blockSize(block); block != blockSize(n.block) {
		n.block = block
		n.recompute(executed)
	}
}

// fromBlock takes the next number of the block that member has, 0 if there is
// none.
func (n *numbering) fromBlock(executed gtid.Set, member gtid.UUID) uint64 {
	at, found := n.find(member)
	if !found {
		return 0
	}
	number := executed.FirstMissing(n.uuid, n.tag, n.blocks[at].first)
	if number > n.blocks[at].last {
		return 0
	}
	return number
}

// reserve gives member another block and takes the first number of it. Some
// number must be free.
//
// Blocks are cut from the gaps of base, each gap from its beginning. Those that
// were used up before they were reserved, by GTIDs that callers asked for, are
// passed over without a look at each.
func (n *numbering) reserve(executed gtid.Set, member gtid.UUID) uint64 {
	from := n.unreserved()
	for {
		gap := n.base.FirstMissing(n.uuid, n.tag, from)
		free := uint64(0)
		if gap != 0 {
			free = executed.FirstMissing(n.uuid, n.tag, gap)
		}
		if free == 0 {
			n.recompute(executed)
			from = 1
			continue
		}
		end := n.gapEnd(gap, min(free+n.block-1, gtid.MaxNumber))
		if end < free {
			from = end + 1
			continue
		}
		first := gap + (free-gap)/n.block*n.block
		n.put(reservation{member, first, min(first+n.block-1, end)})
		return free
	}
}

// unreserved is the number above all blocks.
func (n *numbering) unreserved() uint64 {
	last := uint64(0)
	for i := range n.blocks {
		last = max(last, n.blocks[i].last)
	}
	return last + 1
}

// gapEnd returns the last number, up to limit, of the gap in base that first
// lies in. It looks further at each try, so that what lies behind a short gap
// costs nothing.
func (n *numbering) gapEnd(first, limit uint64) uint64 {
	if n.base.Last(n.uuid, n.tag) < first {
		return limit
	}
	for width := uint64(1 << 6); ; width <<= 3 { // up to 1 << 63
		last := limit
		if limit-first >= width {
			last = first + width - 1
		}
		gaps := gtid.Set{}.AddInterval(n.uuid, n.tag, first, last).Subtract(n.base)
		end := gaps.FirstMissing(n.uuid, n.tag, first) - 1
		if end < last || last == limit {
			return end
		}
	}
}

func (n *numbering) find(member gtid.UUID) (at int, found bool) {
	return slices.BinarySearchFunc(n.blocks, member, func(r reservation, m gtid.UUID) int {
		return r.member.Compare(m)
	})
}

func (n *numbering) put(r reservation) {
	at, found := n.find(r.member)
	if found {
		n.blocks[at] = r
	} else {
		n.blocks = slices.Insert(n.blocks, at, r)
	}
}

// ahead is what there is to number above the blocks, used or not.
func (n *numbering) ahead() gtid.Set {
	return gtid.Set{}.AddInterval(n.uuid, n.tag, n.unreserved(), gtid.MaxNumber)
}

// appendState appends all that later numbers depend on, apart from the UUID and
// the tag:
//
//	numbering   := uvarint block
//	               uvarint counter                       (if block > 1)
//	               base  uvarint count  reservation*     (if counter > 0)
//	reservation := member(16)  uvarint first, last - first
//
// Of base, a set in the binary form of package gtid, only what lies above the
// blocks still counts and is written.
func (n *numbering) appendState(b []byte) []byte {
	b = binary.AppendUvarint(b, blockSize(n.block))
	if n.block <= 1 {
		return b
	}
	b = binary.AppendUvarint(b, n.counter)
	if n.counter == 0 {
		return b
	}
	b, _ = n.ahead().Intersect(n.base).AppendBinary(b) // its error is always nil
	b = binary.AppendUvarint(b, uint64(len(n.blocks)))
	for _, r := range n.blocks {
		b = append(b, r.member[:]...)
		b = binary.AppendUvarint(b, r.first)
		b = binary.AppendUvarint(b, r.last-r.first)
	}
	return b
}

// reservationLen is the least that a reservation takes.
const reservationLen = len(gtid.UUID{}) + 1 + 1

// restoreNumbering takes the state of a numbering off d. The result counts only
// if d has no error. The block size is the one that was saved.
func restoreNumbering(d *decoder, uuid gtid.UUID, tag gtid.Tag) *numbering {
	n := &numbering{uuid: uuid, tag: tag, block: d.Uvarint()}
	if n.block != blockSize(n.block) {
		d.Fail("block size %d, it can be from 1 to %d", n.block, gtid.MaxNumber)
	}
	if d.Err != nil || n.block == 1 {
		return n
	}
	if n.counter = d.Uvarint(); d.Err != nil || n.counter == 0 {
		return n
	}
	n.base = d.Set()
	count := d.Uvarint()
	if count > uint64(len(d.Rest)/reservationLen) {
		d.Fail("%d blocks in %d bytes", count, len(d.Rest))
	}
	if n.counter-1 > n.block || count > n.counter-1 || count == 0 && n.counter > 1 {
		d.Fail("%d blocks of at most %d numbers after %d", count, n.block, n.counter-1)
	}
	if d.Err != nil {
		return n
	}
	n.blocks = make([]reservation, 0, count)
	for ; count > 0 && d.Err == nil; count-- {
		n.restoreReservation(d)
	}
	if !disjoint(n.blocks) {
		d.Fail("blocks that share numbers")
	}
	if !n.base.SubsetOf(n.ahead()) {
		d.Fail("%v where the blocks end at %d", n.base, n.unreserved()-1)
	}
	return n
}

func (n *numbering) restoreReservation(d *decoder) {
	var r reservation
	copy(r.member[:], d.Bytes(len(r.member)))
	r.first = d.Uvarint()
	more := d.Uvarint()
	if r.first < 1 || r.first > gtid.MaxNumber || more >= n.block || more > gtid.MaxNumber-r.first {
		d.Fail("block of %d numbers from %d on", more, r.first)
		return
	}
	if k := len(n.blocks); k > 0 && n.blocks[k-1].member.Compare(r.member) >= 0 {
		d.Fail("block of %v where it cannot be", r.member)
		return
	}
	r.last = r.first + more
	n.blocks = append(n.blocks, r)
}

// disjoint reports whether no two blocks share a number.
func disjoint(blocks []reservation) bool {
	sorted := slices.Clone(blocks)
	slices.SortFunc(sorted, func(a, b reservation) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].first <= sorted[i-1].last {
			return false
		}
	}
	return true
}
