package running

import (
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// delivery is a delivered transaction of which a touch is remembered.
type delivery struct {
	index  uint64
	member gtid.UUID
	id     gtid.GTID
}

// stamp is one of its touches.
type stamp[O any] struct {
	entry  *entry[O]
	number uint64 // of the delivery
	kind   certifier.Kind
}

// delivery returns the remembered one with this number.
func (r *Registry[O]) delivery(number uint64) *delivery {
	back := int(r.delivered - number)
	return r.deliveries.At(r.deliveries.Len() - 1 - back)
}

// remember notes that the newest delivery touched an item, and forgets the
// oldest touches beyond the window.
func (r *Registry[O]) remember(e *entry[O], kind certifier.Kind) {
	if e.newest[kind] == r.delivered {
		return
	}
	e.newest[kind] = r.delivered
	r.stamps.Push(stamp[O]{entry: e, number: r.delivered, kind: kind})
	for r.stamps.Len() > r.window {
		r.forgetStamp()
	}
}

func (r *Registry[O]) forgetStamp() {
	s := r.stamps.Pop()
	// A newer stamp of the same kind keeps the entry. So when an entry has no
	// number left, no stamp refers to it, and it can be another item's.
	if s.entry.newest[s.kind] == s.number {
		s.entry.newest[s.kind] = 0
		r.tidy(s.entry)
	}
	if r.stamps.At(0).number != s.number {
		r.deliveries.Pop()
	}
}

// unseen returns the newest remembered delivery behind the snapshot that makes
// an incoming transaction lose if it does kind with the entry's item, and what
// it did; nil if there is none. Of the remembered ones that did the same with
// the item only the newest counts: if the others are unseen, so is it.
func (r *Registry[O]) unseen(e *entry[O], snapshot uint64, kind certifier.Kind) (earlier certifier.Kind, d *delivery) {
	var newest uint64
	for s := beatenBy[kind]; s != 0; s &= s - 1 {
		if k := s.first(); e.newest[k] > newest {
			earlier, newest = k, e.newest[k]
		}
	}
	if newest == 0 {
		return 0, nil
	}
	if d = r.delivery(newest); d.index <= snapshot {
		return 0, nil
	}
	return earlier, d
}

// entry returns what is known of an item, so far nothing perhaps.
func (r *Registry[O]) entry(item certifier.Item) *entry[O] {
	e := r.entries.find(item)
	if e == nil {
		e = r.spares.entry()
		e.item = item
		r.entries.add(e)
	}
	return e
}

// tidy takes out an entry of which nothing is known any more.
func (r *Registry[O]) tidy(e *entry[O]) {
	if e.unused() {
		r.entries.remove(e.item)
		r.spares.keepEntry(e)
	}
}

// How many spares are kept: enough for what comes and goes all the time.
const (
	spareEntries = 1 << 10
	spareBlocks  = 1 << 8
)

// spares are entries and blocks that can be used again.
type spares[O any] struct {
	entries    *entry[O]
	entryCount int
	blocks     *block[O]
	blockCount int
}

func (s *spares[O]) entry() *entry[O] {
	e := s.entries
	if e == nil {
		return &entry[O]{}
	}
	s.entries, e.spare = e.spare, nil
	s.entryCount--
	return e
}

// keepEntry takes an unused entry, whose counts are therefore all zero.
func (s *spares[O]) keepEntry(e *entry[O]) {
	if s.entryCount < spareEntries {
		e.spare, s.entries = s.entries, e
		s.entryCount++
	}
}

// block returns an empty block with older ones behind it.
func (s *spares[O]) block(older *block[O]) *block[O] {
	b := s.blocks
	if b == nil {
		return &block[O]{older: older}
	}
	s.blocks, b.older = b.older, older
	s.blockCount--
	return b
}

// keepBlock takes a block that nothing refers to. What it refers to, it lets
// go of.
func (s *spares[O]) keepBlock(b *block[O]) {
	if s.blockCount < spareBlocks {
		clear(b.touches[:b.n])
		b.n = 0
		b.older, s.blocks = s.blocks, b
		s.blockCount++
	}
}
