package running

import (
	"iter"
	"math/bits"

	"github.com/concordatdb/concordat/certifier"
)

// kindSet is a set of kinds, a bit for each.
type kindSet uint8

func (s kindSet) has(k certifier.Kind) bool { return s>>k&1 != 0 }

// first returns the least kind of a set that is not empty.
func (s kindSet) first() certifier.Kind { return certifier.Kind(bits.TrailingZeros8(uint8(s))) }

var (
	// losesTo has, for each kind of an earlier transaction, the kinds of
	// incoming ones that lose to it.
	losesTo = matrix(func(earlier, incoming certifier.Kind) bool { return incoming.ConflictsWith(earlier) })
	// beatenBy has the same the other way round.
	beatenBy = matrix(func(incoming, earlier certifier.Kind) bool { return incoming.ConflictsWith(earlier) })
)

func matrix(cell func(row, column certifier.Kind) bool) (sets [certifier.Kinds]kindSet) {
	for row := range certifier.Kind(certifier.Kinds) {
		for column := range certifier.Kind(certifier.Kinds) {
			if cell(row, column) {
				sets[row] |= 1 << column
			}
		}
	}
	return sets
}

// counts has the number of touches of one item by kind.
type counts [certifier.Kinds]uint32

// kinds returns those of which there are any.
func (c *counts) kinds() (s kindSet) {
	for k, n := range c {
		if n != 0 {
			s |= 1 << k
		}
	}
	return s
}

// entry is what is known of one item.
type entry[O any] struct {
	item     certifier.Item
	head     *touch[O]
	touches  int // in the list that begins at head
	running  counts
	onItsWay counts
	// newest has the numbers of the deliveries remembered last, 0 for none.
	newest [certifier.Kinds]uint64
	spare  *entry[O]
}

// unused reports whether nothing is known any more.
func (e *entry[O]) unused() bool {
	return e.touches == 0 && e.newest == [certifier.Kinds]uint64{}
}

// touch is what one transaction did with one item.
type touch[O any] struct {
	entry      *entry[O]
	of         *Transaction[O]
	prev, next *touch[O] // in the list of the entry
	kinds      kindSet
}

// add notes a kind, of a transaction that is active.
func (own *touch[O]) add(kind certifier.Kind) {
	if !own.kinds.has(kind) {
		own.kinds |= 1 << kind
		own.entry.running[kind]++
	}
}

// depart counts the touch among those of transactions on their way.
func (own *touch[O]) depart() {
	for s := own.kinds; s != 0; s &= s - 1 {
		own.entry.running[s.first()]--
		own.entry.onItsWay[s.first()]++
	}
}

// rival returns the first transaction on its way that an active one would lose
// to for this touch, nil if there is none.
func (own *touch[O]) rival() (rival *Transaction[O]) {
	var beats kindSet
	for s := own.kinds; s != 0; s &= s - 1 {
		beats |= beatenBy[s.first()]
	}
	if own.entry.onItsWay.kinds()&beats == 0 {
		return nil
	}
	for at := own.entry.head; at != nil; at = at.next {
		if at.of.state == onItsWay && at.kinds&beats != 0 && (rival == nil || at.of.place < rival.place) {
			rival = at.of
		}
	}
	return rival
}

// block holds touches of one transaction, which must not move.
type block[O any] struct {
	touches [16]touch[O]
	n       int
	older   *block[O]
}

// all yields the touches of the transaction.
func (t *Transaction[O]) all() iter.Seq[*touch[O]] {
	return func(yield func(*touch[O]) bool) {
		for b := t.blocks; b != nil; b = b.older {
			for i := range b.n {
				if !yield(&b.touches[i]) {
					return
				}
			}
		}
	}
}

// find returns what the transaction did with the item, nil if nothing. It looks
// at the item's touches or the transaction's, whichever are fewer: a hot item
// costs no more than a small transaction has.
func find[O any](t *Transaction[O], e *entry[O]) *touch[O] {
	if e.touches <= t.touches {
		for at := e.head; at != nil; at = at.next {
			if at.of == t {
				return at
			}
		}
		return nil
	}
	for own := range t.all() {
		if own.entry == e {
			return own
		}
	}
	return nil
}

// attach adds a touch, of no kind yet, to the transaction and to the entry.
func (r *Registry[O]) attach(t *Transaction[O], e *entry[O]) *touch[O] {
	if t.blocks == nil || t.blocks.n == len(t.blocks.touches) {
		t.blocks = r.spares.block(t.blocks)
	}
	own := &t.blocks.touches[t.blocks.n]
	t.blocks.n++
	t.touches++
	*own = touch[O]{entry: e, of: t, next: e.head}
	if e.head != nil {
		e.head.prev = own
	}
	e.head = own
	e.touches++
	return own
}

// detach takes back all touches of a transaction, which still has the state in
// which they are counted.
func (r *Registry[O]) detach(t *Transaction[O]) {
	for own := range t.all() {
		e := own.entry
		counted := &e.running
		if t.state == onItsWay {
			counted = &e.onItsWay
		}
		for s := own.kinds; s != 0; s &= s - 1 {
			counted[s.first()]--
		}
		if own.prev == nil {
			e.head = own.next
		} else {
			own.prev.next = own.next
		}
		if own.next != nil {
			own.next.prev = own.prev
		}
		e.touches--
		r.tidy(e)
	}
	for b := t.blocks; b != nil; {
		older := b.older
		r.spares.keepBlock(b)
		b = older
	}
	t.blocks, t.touches = nil, 0
}
