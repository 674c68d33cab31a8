package concordat

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/standing"
)

// phase is a part of a node's life from which another one follows; nil is the
// end. It returns soon after ctx has ended, whatever it waits for, and leaves
// the directory as one from which any phase can go on.
type phase func(ctx context.Context) phase

// errBusy is the answer to an order that comes while another one is carried out.
var errBusy = errors.New("concordat: another order of an operator is being carried out; wait for it")

// orders lets an operator change the course of a node: an order ends the
// present phase, and what it returns comes next.
type orders struct {
	mu      sync.Mutex
	pending phase
	busy    bool
	end     context.CancelFunc // of the present phase
}

// begin returns the context of a phase.
func (o *orders) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end = cancel; o.pending != nil {
		cancel()
	}
	return ctx, cancel
}

// take returns the order that was given, nil if there is none.
func (o *orders) take() phase {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pending
	o.pending = nil
	return p
}

// give puts p in the place of what the present phase would lead to, unless
// there is an order already.
func (o *orders) give(p phase) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy {
		return errBusy
	}
	o.busy, o.pending = true, p
	if o.end != nil {
		o.end()
	}
	return nil
}

func (o *orders) done() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = false
}

// order has main carry something out between two phases, and returns its
// error. The phase that it interrupts is n.interrupted meanwhile, for what
// changes nothing to lead back to. Where ctx ends first it is carried out all the
// same, or not at all if it had not begun: what is called looks at its own ctx.
func (n *Node) order(ctx context.Context, carryOut func(ctx context.Context) (phase, error)) error {
	if n.closed.Load() {
		return ErrClosed
	}
	result := make(chan error, 1)
	var once sync.Once
	answer := func(err error) { once.Do(func() { result <- err }) }
	err := n.orders.give(func(lifetime context.Context) phase {
		working, cancel := context.WithCancelCause(lifetime)
		defer cancel(nil)
		defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
		next, err := carryOut(working)
		n.orders.done() // who has the answer may give the next order
		answer(err)
		return next
	})
	if err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-n.ended:
	}
	select {
	case err := <-result:
		return err
	default:
		return errors.Join(n.failed(), ErrClosed)
	}
}

// main runs one phase after the other until the node is closed or fails. What a
// phase leads to by itself comes before an order, which would find things half
// done otherwise: it ends soon, for the order has ended its ctx already.
func (n *Node) main(ctx context.Context) {
	defer close(n.ended)
	for now := n.firstPhase(); ; {
		working, end := n.orders.begin(ctx)
		next := now(working)
		end()
		if ctx.Err() != nil {
			return
		}
		if next == nil {
			if next = n.orders.take(); next != nil {
				n.interrupted = now
				now = next
				continue
			}
			next = n.idle
		}
		n.last, n.interrupted = nil, nil // only an order has a use for them
		now = next
	}
}

// idle waits for an order, or for the end.
func (n *Node) idle(ctx context.Context) phase {
	n.changed.broadcast()
	<-ctx.Done()
	return nil
}

// firstPhase is what the directory and the configuration ask for.
func (n *Node) firstPhase() phase {
	id := n.log.Identity()
	switch {
	case n.partNow().Phase == forced.Frozen:
		return n.frozen
	case id.Incarnation.IsZero() && len(n.seeds()) == 0:
		return n.idle
	case id.Incarnation.IsZero():
		return n.joining
	}
	return n.living
}

// exit is why a member is out of its group.
type exit struct {
	err   error
	final bool // nothing is tried any more before an operator's order
	never bool // it never was in the group: OFFLINE, not ERROR
	kept  bool // it gave up by itself: as far as it knows it has its place still
}

// lost returns why the member is out of the group, nil if it is not.
func (n *Node) lost() *exit { return n.exit.Load() }

func (n *Node) setExit(e *exit) {
	n.exit.Store(e)
	n.wake()
}

// keepsPlace reports whether a member in ERROR has not lost its place as far as
// it knows.
func (n *Node) keepsPlace() bool {
	e := n.lost()
	return e != nil && e.kept && !n.log.Identity().Incarnation.IsZero()
}

// out is the phase of a member that has lost its place in the group.
func (n *Node) out(cause standing.Trigger, reason error) phase {
	return func(context.Context) phase {
		n.note(EventLost, n.id.Member, "%v", reason)
		n.recovery.end()
		n.setExit(&exit{err: reason, kept: cause == standing.MinorityTimeout})
		if cause != standing.MinorityTimeout {
			n.triesMade = 0
		}
		if n.state() != Error || cause == standing.Superseded {
			n.move(cause)
		}
		return n.tries(cause, reason)
	}
}

// tries is the phase in which such a member asks to be taken back as often as it
// may, and then does its ExitStateAction. One that is interrupted goes on with
// the tries that are left.
func (n *Node) tries(cause standing.Trigger, reason error) phase {
	made, last := n.triesMade, reason
	return func(ctx context.Context) phase {
		policy := standing.Policy{AutoRejoinTries: n.cfg.AutoRejoinTries, Action: standing.Action(n.cfg.ExitStateAction)}
		for ; standing.AfterExit(cause, made, policy).Rejoin; made++ {
			n.rejoinTry.Store(int32(made + 1))
			n.move(standing.RejoinBegan)
			n.triesMade = made + 1
			next, err := n.rejoin(ctx, false)
			switch {
			case err == nil:
				return next
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, ErrDiverged):
				cause = standing.Diverged
			case errors.Is(err, ErrJoinRefused):
				cause = standing.TriesUsedUp // no further one will do better
			}
			n.move(standing.TryFailed)
			again := standing.AfterExit(cause, made+1, policy).Rejoin
			tried := fmt.Sprintf("try %d of %d to come back", made+1, n.cfg.AutoRejoinTries)
			if !again {
				tried += ", the last one"
			}
			last = fmt.Errorf("%w; %s: %w", reason, tried, err)
			n.setExit(&exit{err: last, kept: n.keepsPlace()})
			if again && !pause(ctx, n.cfg.AutoRejoinInterval) {
				made++
				return nil
			}
		}
		n.rejoinTry.Store(0)
		if cause == standing.Diverged {
			n.move(cause)
		} else {
			n.move(standing.TriesUsedUp)
		}
		n.exitStateAction(last)
		return n.idle
	}
}

// exitStateAction ends a member's efforts.
func (n *Node) exitStateAction(reason error) {
	n.setExit(&exit{err: reason, final: true, kept: n.keepsPlace()})
	n.act(reason)
}

// act lets the program know that the member is out for good. It is told once in
// a node's life, and nobody waits for its answer, which may well be to close the
// node.
func (n *Node) act(reason error) {
	n.note(EventExitStateAction, n.id.Member, "%s: %v", n.cfg.ExitStateAction, reason)
	if n.cfg.OnExit != nil {
		n.exited.Do(func() { go n.cfg.OnExit(reason) })
	}
}
