// Package running lets transactions that would lose do so early: while they
// run, or before they are broadcast.
//
// It owns the local transactions of one member that have not ended, what they
// have touched, and what was delivered lately. It promises that whatever it
// dooms would be refused if it were certified next, that no transaction waits
// for one that waits, and that its memory is bounded by the transactions that
// run now. It does not promise to catch all that will be refused: certification
// does. It must never know what a transaction reads or writes beyond the hashes
// of it, nor how anybody waits.
package running

import (
	"iter"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/queue"
)

const (
	// DefaultWindow is how many touches of delivered transactions a member
	// remembers unless it has a reason for something else: at most some 7 MB.
	DefaultWindow = 1 << 15
	// MaxTouches is how many items are tracked of one transaction, so that its
	// end is quick. Nothing is found out here about others that it touches.
	MaxTouches = 1 << 14
)

// Doom says why a transaction cannot be certified any more.
type Doom struct {
	Item certifier.Item
	// Incoming is what the transaction did with the item, Earlier what the
	// winner did.
	Incoming, Earlier certifier.Kind
	Winner            gtid.GTID
	Member            gtid.UUID // the winner's
	Index             uint64    // of the log, where the winner was delivered
}

type state byte

const (
	active   state = iota // may touch, may be doomed
	doomed                // is not tracked any more
	onItsWay              // broadcast, not yet delivered
	ended
)

// Transaction is a local transaction. It belongs to its registry, and is not
// used for another one after its end.
type Transaction[O any] struct {
	// Owner is whatever the caller wants to find here. The registry never looks
	// at it.
	Owner O

	snapshot uint64
	state    state
	doom     Doom
	place    uint64    // in the order of submission, once it is on its way
	blocks   *block[O] // of touches, the newest first
	touches  int

	waitsFor    *Transaction[O]
	before      *Transaction[O] // in the line of those that wait for the same
	after       *Transaction[O]
	first, last *Transaction[O] // of those that wait for this one
}

// Doom returns why the transaction cannot be certified any more, nil if nothing
// is known against it.
func (t *Transaction[O]) Doom() *Doom {
	if t.doom.Index == 0 {
		return nil
	}
	return &t.doom
}

// Registry holds the transactions of one member that have not ended. It belongs
// to one goroutine at a time.
//
// A caller that must wait, in Submit, prepares what it waits on while it still
// has the registry to itself, and reaches it by Owner: since only Delivered and
// End, which need the registry too, name those to be woken, no wake-up is lost.
// It must also be ready to be woken for nothing.
//
// Invariants:
//  1. A transaction that is active or on its way has one touch for each of its
//     items, up to MaxTouches; one that is doomed or ended has none.
//  2. An entry lists the touches of its item, counts them by kind, apart for
//     those on their way, and has the number of the newest remembered delivery
//     that touched it in each kind. One with neither is not in entries.
//  3. stamps holds the remembered touches of deliveries, oldest first, at most
//     window; deliveries those that still have one, numbered consecutively up
//     to delivered.
//  4. Only active transactions wait, and only for one that is on its way. So
//     whoever waits keeps nobody waiting, and there is no deadlock; and whom it
//     waits for went on its way before it can, and the group will say what
//     becomes of it.
type Registry[O any] struct {
	window     int
	entries    table[O]
	stamps     queue.Queue[stamp[O]]
	deliveries queue.Queue[delivery]
	delivered  uint64
	submitted  uint64
	open       int // transactions that have not ended
	spares     spares[O]
	named      []*Transaction[O] // the last answer of Delivered or End
}

// New returns an empty registry that remembers window touches of delivered
// transactions, at least one. The seed is any number that users cannot guess:
// it keeps them from making it slow by their choice of keys, and what the
// registry answers does not depend on it.
func New[O any](window int, seed uint64) *Registry[O] {
	r := &Registry[O]{window: max(1, window), entries: table[O]{factor: seed | 1}}
	r.entries.resize(fewSlots)
	return r
}

// Begin returns a transaction that runs on the snapshot at a log index. It must
// have seen nothing that is delivered behind that index, or it may be doomed
// wrongly; whether it has seen everything before is for certification. Each
// must come to its End.
func (r *Registry[O]) Begin(snapshot uint64, owner O) *Transaction[O] {
	r.open++
	return &Transaction[O]{Owner: owner, snapshot: snapshot}
}

// Len is the number of transactions that have not come to their End.
func (r *Registry[O]) Len() int { return r.open }

// Touch notes that the transaction does kind, which must be one, with an item.
// It returns why the transaction is doomed, if it is: already, or because a
// delivered transaction that it has not seen, and that is still remembered,
// touched the item in a conflicting way. What was submitted or has ended is
// left as it is.
func (r *Registry[O]) Touch(t *Transaction[O], item certifier.Item, kind certifier.Kind) *Doom {
	if t.state != active {
		return t.Doom()
	}
	e := r.entries.find(item)
	if e != nil {
		if earlier, d := r.unseen(e, t.snapshot, kind); d != nil {
			r.condemn(t, d, Doom{Item: item, Incoming: kind, Earlier: earlier})
			return &t.doom
		}
		if own := find(t, e); own != nil {
			own.add(kind)
			return nil
		}
	}
	if t.touches == MaxTouches {
		return nil
	}
	if e == nil {
		e = r.entry(item)
	}
	r.attach(t, e).add(kind)
	return nil
}

// Submit asks whether the transaction may be broadcast. If it is doomed, Submit
// says why. If it would lose to another local one that is on its way, should
// that one commit, Submit returns the first such: call again once Delivered or
// End has named t. If both are nil, it is on its way: it is not doomed any
// more, the group judges it, and it must be broadcast after all that went on
// their way before it.
//
// Nobody is kept waiting by one that waits itself, so another one may go on its
// way meanwhile; each such that commits dooms t, and t waits again for one that
// does not.
func (r *Registry[O]) Submit(t *Transaction[O]) (wait *Transaction[O], doom *Doom) {
	if t.state != active {
		return nil, t.Doom()
	}
	for own := range t.all() {
		if rival := own.rival(); rival != nil && (wait == nil || rival.place < wait.place) {
			wait = rival
		}
	}
	if wait != t.waitsFor {
		t.leaveLine()
		if wait != nil {
			t.joinLine(wait)
		}
	}
	if wait != nil {
		return wait, nil
	}
	for own := range t.all() {
		own.depart()
	}
	t.state = onItsWay
	r.submitted++
	t.place = r.submitted
	return nil, nil
}

// End forgets a transaction: its verdict has come, or it was rolled back. One
// that is on its way must not end before its verdict is known, and if it was
// certified, Delivered comes first. End returns those that waited for it, the
// one that waited longest first: they are to Submit again. The list is good
// until the next call of End or Delivered. Ending twice does nothing.
func (r *Registry[O]) End(t *Transaction[O]) (retry []*Transaction[O]) {
	r.forgetNamed()
	if t.state == ended {
		return nil
	}
	r.open--
	r.detach(t)
	t.leaveLine()
	t.state = ended
	for t.first != nil {
		w := t.first
		w.leaveLine()
		r.named = append(r.named, w)
	}
	return r.named
}

// Delivered notes that a certified transaction was delivered at a log index,
// which is never less than the one before, and what it did with which items. It
// may be one of this member's own. Delivered returns the transactions that are
// doomed by it; those that waited do not wait any more. The list is good until
// the next call of End or Delivered. What a transaction does not say that it
// touched dooms nobody.
func (r *Registry[O]) Delivered(
	index uint64, origin gtid.UUID, id gtid.GTID, items iter.Seq2[certifier.Item, certifier.Kind],
) (losers []*Transaction[O]) {
	r.forgetNamed()
	d := delivery{index: index, member: origin, id: id}
	pushed := false
	for item, kind := range items {
		if losesTo[kind] == 0 {
			continue
		}
		if !pushed {
			r.deliveries.Push(d)
			r.delivered++
			pushed = true
		}
		e := r.entry(item)
		r.remember(e, kind)
		if e.running.kinds()&losesTo[kind] != 0 {
			r.condemnAll(e, &d, kind)
		}
	}
	return r.named
}

// condemnAll dooms those that lose to what a delivered transaction did with an
// item.
func (r *Registry[O]) condemnAll(e *entry[O], d *delivery, earlier certifier.Kind) {
	for at := e.head; at != nil; {
		t, lost := at.of, at.kinds&losesTo[earlier]
		at = at.next // t has no other touch of this item, and takes only its own with it
		if lost != 0 && t.state == active && t.snapshot < d.index {
			r.condemn(t, d, Doom{Item: e.item, Incoming: lost.first(), Earlier: earlier})
			r.named = append(r.named, t)
		}
	}
}

// condemn dooms a transaction. Nothing more can be found out about it, so what
// it touched need not be known any more.
func (r *Registry[O]) condemn(t *Transaction[O], d *delivery, doom Doom) {
	doom.Winner, doom.Member, doom.Index = d.id, d.member, d.index
	r.detach(t)
	t.leaveLine()
	t.doom = doom
	t.state = doomed
}

func (r *Registry[O]) forgetNamed() {
	clear(r.named)
	r.named = r.named[:0]
}

// joinLine puts an active transaction behind those that wait for another one.
func (t *Transaction[O]) joinLine(other *Transaction[O]) {
	t.waitsFor = other
	t.before, other.last = other.last, t
	if t.before == nil {
		other.first = t
	} else {
		t.before.after = t
	}
}

// leaveLine ends the wait, if there is one.
func (t *Transaction[O]) leaveLine() {
	other := t.waitsFor
	if other == nil {
		return
	}
	if t.before == nil {
		other.first = t.after
	} else {
		t.before.after = t.after
	}
	if t.after == nil {
		other.last = t.before
	} else {
		t.after.before = t.before
	}
	t.waitsFor, t.before, t.after = nil, nil, nil
}
