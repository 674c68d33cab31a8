package outcome

import (
	"fmt"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/queue"
)

// MaxLimit is the highest limit of a window, in transactions.
const MaxLimit = 1 << 24

// chunkLen is how many entries are allocated, and given back, together.
const chunkLen = 512

// releases is how many forgotten entries, and how many needless buckets, one
// Note gives back. More than one, so that it gains on what it adds.
const releases = 4

// ID identifies a transaction to its caller. It is unique among transactions
// that the caller means to be different; any value will do, the zero one too.
type ID = gtid.UUID

// Fate is what became of a transaction.
type Fate struct {
	// Committed tells whether it committed. That is final.
	Committed bool
	// GTID is the name it committed under, zero if it was refused.
	GTID gtid.GTID
	// Reason is the code of whoever refused it, 0 if it committed.
	Reason byte
	// Winner is the transaction it lost against, zero unless it was refused for
	// a conflict.
	Winner gtid.GTID
	// Index is the log index of its delivery, counted from 1. Transactions that
	// were delivered together share it.
	Index uint64
}

// sound reports whether the fate is one that a transaction can have.
func (f *Fate) sound() bool {
	if f.Committed {
		return f.GTID.Valid() && f.Reason == 0 && f.Winner.IsZero()
	}
	return f.GTID.IsZero() && (f.Winner.IsZero() || f.Winner.Valid())
}

// kind tells what an entry holds.
type kind byte

const (
	superseded kind = iota // nothing: its id was noted again
	committed              // a GTID
	refused                // a reason
	lost                   // a reason and a winner
)

// entry is a fate as it is kept. It has no pointers, so that the collector of
// garbage passes over it; what a walk reads stands together.
type entry struct {
	id     ID
	link   uint32 // to the next older entry of the bucket
	source uint32 // of the GTID or the winner
	kind   kind
	reason byte
	number uint64 // of the GTID or the winner
	index  uint64
}

// Window is the fates of the last transactions. It belongs to one goroutine.
//
// Each transaction noted takes the next position, counted from chunkLen, so
// that a zero link leads nowhere. Invariants:
//
//  1. head <= first <= next, and next - first <= limit. The positions
//     first..next-1 are the window; those from head on still hold memory.
//  2. The chain of a bucket has exactly the entries of the window whose ids
//     fall into it, without the superseded ones, newest first.
//  3. No two entries of the window have the same id, superseded ones aside.
//  4. The newest entry is not superseded, and no index is below the one before.
type Window struct {
	limit int
	from  uint64

	chunks            queue.Queue[*[chunkLen]entry]
	spare             *[chunkLen]entry // so that a full window allocates nothing
	base              uint64           // the position at the start of the first chunk
	head, first, next uint64

	seed    uint64
	buckets buckets
	sources sources
}

// New returns a window that remembers the last limit transactions: 0 is to
// remember nothing. A limit outside of 0..MaxLimit counts as the nearest in it.
// The seed is any number that users cannot guess: it keeps them from making the
// window slow by their choice of ids, and what it answers does not depend on it.
func New(limit int, seed uint64) *Window { return newAt(limit, seed, chunkLen) }

// NewAfter returns a window that remembers nothing yet, and covers what comes after a
// log index: what was before happened elsewhere.
func NewAfter(index, seed uint64) *Window {
	w := New(0, seed)
	w.from = index
	return w
}

// newAt returns a window whose first position is start, a multiple of chunkLen
// that is not zero.
func newAt(limit int, seed, start uint64) *Window {
	w := &Window{base: start, head: start, first: start, next: start, seed: seed}
	w.buckets.init()
	w.sources.init()
	w.SetLimit(limit)
	return w
}

// Limit returns how many transactions the window remembers.
func (w *Window) Limit() int { return w.limit }

// Len returns how many delivered transactions the window covers. Those that
// were refused, and whose id was noted again, count too.
func (w *Window) Len() int { return int(w.next - w.first) }

// From returns the log index after which the window covers everything: 0 if it
// has forgotten nothing. Of what was delivered at that very index it may have a
// part.
func (w *Window) From() uint64 { return w.from }

// SetLimit changes how many transactions the window remembers, to the nearest
// in 0..MaxLimit. What a lower limit excludes is forgotten at once, and a higher
// one does not bring it back. It takes constant time.
func (w *Window) SetLimit(n int) {
	w.limit = min(max(n, 0), MaxLimit)
	w.trim(uint64(w.limit))
}

// trim forgets all but the n newest.
func (w *Window) trim(n uint64) {
	if w.next-w.first <= n {
		return
	}
	w.first = w.next - n
	w.from = w.at(w.first - 1).index
}

// Find returns the fate of the transaction with an id, if the window has it.
func (w *Window) Find(id ID) (Fate, bool) {
	for p := w.follow(*w.buckets.head(w.bucket(id)), w.next); p != 0; {
		e := w.at(p)
		if e.id == id && e.kind != superseded {
			return w.fate(e), true
		}
		p = w.follow(e.link, p)
	}
	return Fate{}, false
}

// Note notes the fate of the transaction delivered next, which may push the
// oldest out of the window. An id that was refused is superseded. It panics if f
// contradicts itself, lies before what was noted last, or is of an id that has
// committed and is in the window: ask Find first.
func (w *Window) Note(id ID, f Fate) {
	if !f.sound() || f.Index == 0 || f.Index < w.last() {
		w.broken("no fate that can follow", id, f)
	}
	w.release()
	hash := w.hash(id)
	if !w.supersede(id, hash) {
		w.broken("the id has committed", id, f)
	}
	if w.limit == 0 {
		w.from = f.Index
		return
	}
	w.trim(uint64(w.limit - 1))
	w.push(id, hash, f)
}

// broken ends the member: what it has noted is not what the group decided.
func (w *Window) broken(what string, id ID, f Fate) {
	had, _ := w.Find(id)
	panic(fmt.Sprintf("outcome: noting %+v of %v after index %d, where the window has %+v: %s", f, id, w.last(), had, what))
}

// last is the highest index noted so far.
func (w *Window) last() uint64 {
	if w.next == w.first {
		return w.from
	}
	return w.at(w.next - 1).index
}

// supersede makes room for another fate of an id, unless it has committed.
func (w *Window) supersede(id ID, hash uint64) bool {
	link, before := w.buckets.head(w.buckets.of(hash)), w.next
	for p := w.follow(*link, before); p != 0; p = w.follow(*link, before) {
		e := w.at(p)
		if e.id != id || e.kind == superseded {
			link, before = &e.link, p
			continue
		}
		if e.kind == committed {
			return false
		}
		*link = e.link
		w.sources.release(e.source)
		*e = entry{index: e.index, link: w.nowhere()}
		return true
	}
	return true
}

// Revoke makes a transaction refused that had committed under a GTID, for a reason,
// and reports whether the window has it. It looks at all of the window.
func (w *Window) Revoke(g gtid.GTID, reason byte) bool {
	for p := w.first; p < w.next; p++ {
		e := w.at(p)
		if e.kind != committed || e.number != g.Number || w.fate(e).GTID != g {
			continue
		}
		w.sources.release(e.source)
		e.kind, e.source, e.number, e.reason = refused, 0, 0, reason
		return true
	}
	return false
}

// push adds an entry at the next position.
func (w *Window) push(id ID, hash uint64, f Fate) {
	e := w.room()
	*e = entry{id: id, index: f.Index, kind: committed, reason: f.Reason}
	g := f.GTID
	switch {
	case f.Committed:
	case f.Winner.IsZero():
		e.kind = refused
	default:
		e.kind, g = lost, f.Winner
	}
	if e.kind != refused {
		e.source, e.number = w.sources.take(source{g.UUID, g.Tag}), g.Number
	}
	head := w.buckets.head(w.buckets.of(hash))
	e.link, *head = *head, uint32(w.next)
	w.next++
	w.balance()
}

// pushSuperseded adds an entry whose id has been noted again since.
func (w *Window) pushSuperseded(index uint64) {
	*w.room() = entry{index: index, link: w.nowhere()}
	w.next++
	w.balance()
}

// room returns the entry at the next position.
func (w *Window) room() *entry {
	if w.next-w.base == uint64(w.chunks.Len())*chunkLen {
		if w.spare == nil {
			w.spare = new([chunkLen]entry)
		}
		w.chunks.Push(w.spare)
		w.spare = nil
	}
	return w.at(w.next)
}

// release gives back a little of what the window has left behind.
func (w *Window) release() {
	for n := 0; n < releases && w.head < w.first; n++ {
		w.sources.release(w.at(w.head).source)
		w.head++
		if w.head-w.base == chunkLen {
			w.spare = w.chunks.Pop()
			w.base = w.head
		}
	}
}

// at returns the entry at a position. The pointer is good until it is released.
func (w *Window) at(p uint64) *entry {
	off := p - w.base
	return &(*w.chunks.At(int(off / chunkLen)))[off%chunkLen]
}

func (w *Window) fate(e *entry) Fate {
	f := Fate{Committed: e.kind == committed, Reason: e.reason, Index: e.index}
	s := w.sources.of(e.source)
	switch e.kind {
	case committed:
		f.GTID = gtid.GTID{UUID: s.uuid, Tag: s.tag, Number: e.number}
	case lost:
		f.Winner = gtid.GTID{UUID: s.uuid, Tag: s.tag, Number: e.number}
	case refused, superseded:
	}
	return f
}
