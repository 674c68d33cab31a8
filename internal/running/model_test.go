package running

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

var (
	me    = gtid.UUID{1}
	other = gtid.UUID{2}
	group = gtid.UUID{3}
)

// did is one line of a write set: what was done with an item.
type did struct {
	item certifier.Item
	kind certifier.Kind
}

func yieldAll(items []did) iter.Seq2[certifier.Item, certifier.Kind] {
	return func(yield func(certifier.Item, certifier.Kind) bool) {
		for _, d := range items {
			if !yield(d.item, d.kind) {
				return
			}
		}
	}
}

// won is a delivered transaction in the model.
type won struct {
	index  uint64
	member gtid.UUID
	id     gtid.GTID
	items  []did
}

// local is a transaction in the model: the whole of it is seen by the model,
// and none of it by the registry, which holds it as the owner.
type local struct {
	handle   *Transaction[*local]
	snapshot uint64
	items    []did
	doom     *Doom
	waitsFor *local
	line     []*local // who waits for it, in order
	sent     bool
}

// world is a registry and a model of it: everything that was delivered, ever,
// and the local transactions as lists.
type world struct {
	t       *rapid.T
	r       *Registry[*local]
	window  int
	history []won
	stamps  []stamped
	locals  []*local // that have not ended
	way     []*local // on their way, in order
}

// stamped is a touch in the model's window: a list in which the same line of
// the same delivery stands once.
type stamped struct {
	by int // in history
	did
}

func (w *world) index() uint64 {
	if len(w.history) == 0 {
		return 0
	}
	return w.history[len(w.history)-1].index
}

// loses is certification: whether a transaction with this snapshot would be
// refused now.
func (w *world) loses(l *local) bool {
	for _, q := range w.history {
		if q.index > l.snapshot && clash(l.items, q.items) {
			return true
		}
	}
	return false
}

func clash(incoming, earlier []did) bool {
	for _, i := range incoming {
		for _, e := range earlier {
			if i.item == e.item && i.kind.ConflictsWith(e.kind) {
				return true
			}
		}
	}
	return false
}

func (w *world) begin() {
	l := &local{snapshot: w.index() - min(w.index(), rapid.Uint64Range(0, 4).Draw(w.t, "age"))}
	l.handle = w.r.Begin(l.snapshot, l)
	w.locals = append(w.locals, l)
}

// touch lets any transaction touch, also one that may not any more.
func (w *world) touch(l *local) {
	d := drawDid(w.t)
	if l.doom == nil && !l.sent {
		l.items = append(l.items, d)
		best := -1
		for _, s := range w.stamps {
			q := w.history[s.by]
			if s.item != d.item || q.index <= l.snapshot || !d.kind.ConflictsWith(s.kind) {
				continue
			}
			if s.by > best || (s.by == best && s.kind < l.doom.Earlier) {
				best = s.by
				l.doom = &Doom{d.item, d.kind, s.kind, q.id, q.member, q.index}
			}
		}
		if l.doom != nil {
			w.unwait(l)
		}
	}
	w.same("Touch", w.r.Touch(l.handle, d.item, d.kind), l.doom)
}

func (w *world) same(what string, got, want *Doom) {
	w.t.Helper()
	if (got == nil) != (want == nil) || (got != nil && *got != *want) {
		w.t.Fatalf("%s says %+v, want %+v", what, got, want)
	}
}

func (w *world) unwait(l *local) {
	if l.waitsFor != nil {
		l.waitsFor.line = slices.DeleteFunc(l.waitsFor.line, func(x *local) bool { return x == l })
		l.waitsFor = nil
	}
}

func (w *world) submit(l *local) {
	wait, doom := w.r.Submit(l.handle)
	w.same("Submit", doom, l.doom)
	if l.doom != nil || l.sent {
		if wait != nil {
			w.t.Fatalf("one that is doomed or on its way is to wait for %+v", wait.Owner)
		}
		return
	}
	var rival *local
	for _, u := range w.way {
		if clash(l.items, u.items) {
			rival = u
			break
		}
	}
	switch {
	case rival == nil && wait == nil:
		w.unwait(l)
		l.sent = true
		w.way = append(w.way, l)
	case rival == nil || wait == nil || wait.Owner != rival:
		w.t.Fatalf("%+v is to wait for %+v, want %+v", l, wait, rival)
	case l.waitsFor != rival:
		w.unwait(l)
		l.waitsFor = rival
		rival.line = append(rival.line, l)
	}
}

// end ends one that is not on its way, or whose verdict is known.
func (w *world) end(l *local) (retry []*local) {
	w.unwait(l)
	want := l.line
	l.line = nil
	for _, x := range want {
		x.waitsFor = nil
	}
	w.locals = slices.DeleteFunc(w.locals, func(x *local) bool { return x == l })
	for _, x := range w.r.End(l.handle) {
		retry = append(retry, x.Owner)
	}
	if !slices.Equal(retry, want) {
		w.t.Fatalf("the end of %+v names %v, want %v", l, retry, want)
	}
	return retry
}

// deliver lets a certified transaction be delivered.
func (w *world) deliver(member gtid.UUID, items []did) {
	q := won{
		index:  max(1, w.index()+rapid.Uint64Range(0, 2).Draw(w.t, "entries")),
		member: member, items: items,
		id: gtid.GTID{UUID: group, Number: uint64(len(w.history) + 1)},
	}
	w.history = append(w.history, q)
	var want []*local
	for _, d := range items {
		w.stamp(stamped{len(w.history) - 1, d})
		for _, l := range w.locals {
			if l.doom != nil || l.sent || l.snapshot >= q.index || !clash(l.items, []did{d}) {
				continue
			}
			incoming := certifier.Kind(certifier.Kinds)
			for _, i := range l.items {
				if i.item == d.item && i.kind.ConflictsWith(d.kind) {
					incoming = min(incoming, i.kind)
				}
			}
			l.doom = &Doom{d.item, incoming, d.kind, q.id, q.member, q.index}
			w.unwait(l)
			want = append(want, l)
		}
	}
	got := map[*local]bool{}
	for _, x := range w.r.Delivered(q.index, q.member, q.id, yieldAll(items)) {
		got[x.Owner] = true
	}
	if len(got) != len(want) || slices.ContainsFunc(want, func(l *local) bool { return !got[l] }) {
		w.t.Fatalf("%+v dooms %v, want %v", q, got, want)
	}
}

func (w *world) stamp(s stamped) {
	if s.kind == certifier.Read || slices.Contains(w.stamps, s) {
		return
	}
	w.stamps = append(w.stamps, s)
	w.stamps = w.stamps[max(0, len(w.stamps)-w.window):]
}

// deliverOwn gives the first that is on its way its verdict, and lets those
// that waited for it try again.
func (w *world) deliverOwn() {
	l := w.way[0]
	w.way = w.way[1:]
	if !w.loses(l) {
		w.deliver(me, l.items)
	} else if w.window == unbounded {
		for _, q := range w.history {
			if q.member == me && q.index > l.snapshot && clash(l.items, q.items) {
				w.t.Fatalf("%+v was broadcast to lose to %+v of the same member", l, q)
			}
		}
	}
	for _, x := range w.end(l) {
		w.submit(x)
	}
}

// judge compares what is known of every transaction with certification.
func (w *world) judge() {
	for _, l := range w.locals {
		w.same("Doom", l.handle.Doom(), l.doom)
		switch {
		case l.doom != nil && !w.loses(l):
			w.t.Fatalf("%+v is doomed, and would be certified", l)
		case l.doom == nil && !l.sent && w.window == unbounded && w.loses(l):
			w.t.Fatalf("%+v would be refused, and is not doomed", l)
		}
	}
	if err := w.r.check(); err != nil {
		w.t.Fatal(err)
	}
}

func drawDid(t *rapid.T) did {
	return did{
		certifier.Item(rapid.Uint64Range(0, 5).Draw(t, "item")),
		certifier.Kind(rapid.IntRange(0, certifier.Kinds-1).Draw(t, "kind")),
	}
}

// unbounded is a window that nothing drops out of.
const unbounded = 1 << 20

func (w *world) step() {
	pick := func(of []*local) *local { return of[rapid.IntRange(0, len(of)-1).Draw(w.t, "which")] }
	switch n := rapid.IntRange(0, 11).Draw(w.t, "step"); {
	case n <= 1 || len(w.locals) == 0:
		w.begin()
	case n <= 5:
		w.touch(pick(w.locals))
	case n <= 8:
		w.submit(pick(w.locals))
	case n == 9:
		items := make([]did, rapid.IntRange(0, 3).Draw(w.t, "items"))
		for i := range items {
			items[i] = drawDid(w.t)
		}
		w.deliver(other, items)
	case n == 10:
		if len(w.way) > 0 {
			w.deliverOwn()
		}
	default:
		if l := pick(w.locals); !l.sent {
			w.end(l)
		}
	}
}

// TestModel compares the registry with the model step by step, and at the end
// lets all come to their end: none is left waiting.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.SampledFrom([]int{1, 2, 5, unbounded, unbounded}).Draw(t, "window")
		w := &world{t: t, window: window, r: New[*local](window, rapid.SampledFrom([]uint64{0, 0x9e3779b97f4a7c15}).Draw(t, "seed"))}
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			w.step()
			w.judge()
		}
		for _, l := range slices.Clone(w.locals) {
			w.submit(l)
		}
		for len(w.way) > 0 {
			w.deliverOwn()
			w.judge()
		}
		for _, l := range slices.Clone(w.locals) {
			if l.waitsFor != nil || l.doom == nil {
				t.Fatalf("%+v is left without an answer", l)
			}
			w.end(l)
		}
		if n := w.r.entries.used; n > min(window, len(w.stamps)) {
			t.Fatalf("%d entries are left for %d touches of deliveries", n, len(w.stamps))
		}
	})
}

// check checks the invariants of the registry.
func (r *Registry[O]) check() error {
	if r.stamps.Len() > r.window {
		return fmt.Errorf("%d of %d stamps", r.stamps.Len(), r.window)
	}
	newest := map[*entry[O]][certifier.Kinds]uint64{}
	numbers := map[uint64]bool{}
	for i := range r.stamps.Len() {
		s := r.stamps.At(i)
		row := newest[s.entry]
		row[s.kind] = s.number
		newest[s.entry] = row
		numbers[s.number] = true
		if r.entries.find(s.entry.item) != s.entry {
			return fmt.Errorf("stamp %+v of an item that is not there", *s)
		}
	}
	if len(numbers) != r.deliveries.Len() {
		return fmt.Errorf("%d deliveries, %d have stamps", r.deliveries.Len(), len(numbers))
	}
	for n := range r.deliveries.Len() {
		if !numbers[r.delivered-uint64(n)] {
			return fmt.Errorf("delivery %d has no stamp", r.delivered-uint64(n))
		}
	}
	n := 0
	for _, s := range r.entries.slots {
		e := s.entry
		if e == nil {
			continue
		}
		n++
		if e.item != s.item || r.entries.find(s.item) != e || e.unused() || e.newest != newest[e] {
			return fmt.Errorf("entry %+v, newest %v", *e, newest[e])
		}
		if err := e.check(); err != nil {
			return err
		}
	}
	if size := len(r.entries.slots); n != r.entries.used || 4*n > 3*size || (8*n < size && size > fewSlots) {
		return fmt.Errorf("%d entries of %d in %d slots", n, r.entries.used, size)
	}
	return nil
}

func (e *entry[O]) check() error {
	var running, onTheirWay counts
	n := 0
	of := map[*Transaction[O]]bool{}
	for at, prev := e.head, (*touch[O])(nil); at != nil; prev, at = at, at.next {
		n++
		counted := &running
		if at.of.state == onItsWay {
			counted = &onTheirWay
		}
		for k := range counted {
			if at.kinds.has(certifier.Kind(k)) {
				counted[k]++
			}
		}
		if at.prev != prev || at.entry != e || at.kinds == 0 || of[at.of] || at.of.state == doomed || at.of.state == ended {
			return fmt.Errorf("touch %+v of %+v", *at, *e)
		}
		of[at.of] = true
		if w := at.of.waitsFor; w != nil && (at.of.state != active || w.state != onItsWay) {
			return fmt.Errorf("%+v waits for %+v", *at.of, *w)
		}
	}
	if n != e.touches || running != e.running || onTheirWay != e.onItsWay {
		return fmt.Errorf("entry %+v, counted %d, %v, %v", *e, n, running, onTheirWay)
	}
	return nil
}
