package concordat

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/running"
)

// early lets transactions that would lose know before they are broadcast.
type early struct {
	mu       sync.Mutex
	registry *running.Registry[*Tx]
}

func newEarly() *early {
	return &early{registry: running.New[*Tx](running.DefaultWindow, rand.Uint64())}
}

func (e *early) begin(tx *Tx) {
	e.mu.Lock()
	defer e.mu.Unlock()
	tx.running = e.registry.Begin(tx.snapshot.Position().Reached(), tx)
}

func (e *early) touch(tx *Tx, item certifier.Item, kind certifier.Kind) *running.Doom {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.registry.Touch(tx.running, item, kind)
}

func (e *early) end(t *running.Transaction[*Tx]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wake(e.registry.End(t))
}

func (e *early) wake(list []*running.Transaction[*Tx]) {
	for _, t := range list {
		select {
		case t.Owner.wake <- struct{}{}:
		default: // a wake-up waits for it already, or nobody does
		}
	}
}

// submit hands tx to broadcast, if it does not lose to one of this member that
// is on its way; then it reports held, and tx.wake tells when to come again.
// Transactions go on their way in the order in which they are broadcast,
// because both happen under one lock.
func (e *early) submit(tx *Tx, broadcast func() bool) (held bool, doom *running.Doom, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if tx.wake == nil {
		tx.wake = make(chan struct{}, 1)
	}
	first, doom := e.registry.Submit(tx.running)
	if doom != nil || first != nil {
		return first != nil, doom, false
	}
	return false, nil, broadcast()
}

// delivered tells what the group has decided: of certified transactions, so
// that those that lose to them learn it; of this member's own, so that those
// that were held back for them go on.
func (e *early) delivered(judged []replica.Judged, calls *callTable) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range judged {
		j := &judged[i]
		commits := uint64(0)
		if j.Verdict.Outcome == certifier.Certified {
			commits = j.Index
			losers := e.registry.Delivered(j.Index, j.Origin, j.Verdict.GTID, firstTouches(&j.WriteSet))
			for _, t := range losers {
				t.Owner.doomed.Store(t.Doom())
			}
			e.wake(losers)
		}
		if j.Local {
			if tx := calls.decided(j.Ticket, commits); tx != nil {
				e.wake(e.registry.End(tx.running))
			}
		}
	}
}

// firstTouches yields what a transaction touched, as far as it is worth to hold
// up the order: what more there is, certification finds.
func firstTouches(ws *certifier.Encoded) iter.Seq2[certifier.Item, certifier.Kind] {
	return func(yield func(certifier.Item, certifier.Kind) bool) {
		n := 0
		for item, kind := range ws.Items() {
			if n++; n > running.MaxTouches || !yield(item, kind) {
				return
			}
		}
	}
}

// hold waits until tx may be broadcast, and has it broadcast; not longer than
// until lost is closed. If tx would lose,
// the error is a *ConflictError that nobody has counted.
func (n *Node) hold(ctx context.Context, l *life, lost <-chan struct{}, tx *Tx, broadcast func() bool) error {
	for wasHeld := false; ; wasHeld = true {
		held, doom, ok := n.early.submit(tx, broadcast)
		switch {
		case doom != nil:
			where := DoomedRunning
			if wasHeld {
				where = HeldBack
			}
			return tx.doomError(doom, where)
		case ok:
			return nil
		case !held:
			return n.notServing()
		}
		select {
		case <-tx.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-lost:
			return ErrNoQuorum
		case <-l.done:
			return n.notServing()
		}
	}
}
