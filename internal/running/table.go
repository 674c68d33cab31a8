package running

import (
	"math/bits"

	"github.com/concordatdb/concordat/certifier"
)

// table finds entries by their items: open addressing with linear probing. It
// grows and shrinks with what it holds, which a map does not, and forgets
// without leaving gravestones.
//
// A place is given by the upper bits of the item times an odd number, which the
// caller draws: multiply-shift hashing (Dietzfelbinger et al., "A reliable
// randomized algorithm for the closest-pair problem", 1997), so that who
// chooses keys without knowing the number cannot make their items collide.
//
// Invariants:
//  1. len(slots) is a power of two, at least fewSlots, and at most three
//     quarters of the slots are in use.
//  2. No slot is free between an entry's place and its slot.
type table[O any] struct {
	slots  []slot[O]
	used   int
	factor uint64 // odd
	shift  int    // 64 less the bits of a place
}

// slot is free when it has no entry.
type slot[O any] struct {
	item  certifier.Item
	entry *entry[O]
}

const fewSlots = 1 << 6

func (t *table[O]) place(item certifier.Item) int { return int(uint64(item) * t.factor >> t.shift) }

// find returns the entry of the item, nil if there is none.
func (t *table[O]) find(item certifier.Item) *entry[O] { return t.slots[t.slot(item)].entry }

// slot returns where the item is, or the free slot where it would be.
func (t *table[O]) slot(item certifier.Item) int {
	mask := len(t.slots) - 1
	at := t.place(item) & mask
	for t.slots[at].entry != nil && t.slots[at].item != item {
		at = (at + 1) & mask
	}
	return at
}

// add adds an entry whose item is not there.
func (t *table[O]) add(e *entry[O]) {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.resize(2 * len(t.slots))
	}
	t.slots[t.slot(e.item)] = slot[O]{e.item, e}
	t.used++
}

// remove takes out an item that is there, and moves those behind it that were
// not in their place because of it.
func (t *table[O]) remove(item certifier.Item) {
	mask := len(t.slots) - 1
	free := t.slot(item)
	for at := (free + 1) & mask; t.slots[at].entry != nil; at = (at + 1) & mask {
		off := at - t.place(t.slots[at].item)
		if off&mask >= (at-free)&mask {
			t.slots[free] = t.slots[at]
			free = at
		}
	}
	t.slots[free] = slot[O]{}
	t.used--
	// Half as full as after growing, so that a size is not left at once for
	// the one that it came from.
	if 8*t.used < len(t.slots) && len(t.slots) > fewSlots {
		t.resize(len(t.slots) / 2)
	}
}

func (t *table[O]) resize(size int) {
	old := t.slots
	t.slots = make([]slot[O], size)
	t.shift = 64 - bits.TrailingZeros(uint(size))
	for _, s := range old {
		if s.entry != nil {
			t.slots[t.slot(s.item)] = s
		}
	}
}
