package concordat

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// newTestNode has the parts of an ONLINE member that a commit passes through,
// and nobody who decides.
func newTestNode() (*Node, *life) {
	n := &Node{commits: newAdmission(1, 100), early: newEarly(), conflicts: newConflictLog(), flow: newThrottle()}
	n.standing.Store(&known{Status: gcs.Status{Quorum: true}, State: replica.Online})
	n.own.now = Online
	n.quorum.set(true)
	l := newLife(n, nil)
	n.life.Store(l)
	return n, l
}

// newTestTx returns a transaction that has run and written nothing.
func (n *Node) newTestTx() *Tx {
	tx := &Tx{node: n, id: gtid.UUID{1}, writes: &writeBuffer{}}
	tx.running = n.early.registry.Begin(0, tx)
	return tx
}

// end ends a life as life.run and Node.main do.
func (l *life) end() {
	l.inbox.close()
	close(l.done)
	l.calls.abandon(l.node.commits)
}

// A commit that comes when the life has just ended was not handed to anybody,
// and keeps no place.
func TestCommitAfterEndOfLife(t *testing.T) {
	n, l := newTestNode()
	l.end()
	_, err := n.commit(t.Context(), n.newTestTx(), nil, nil)
	if !errors.Is(err, ErrNotOnline) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("commit: %v, want ErrNotOnline", err)
	}
	if n.commits.calls != 1 {
		t.Error("the place is still taken")
	}
}

// Its answer frees the place of a commit, not the caller who goes.
func TestCommitGivesUpWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, l := newTestNode()
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			_, err := n.commit(ctx, n.newTestTx(), []byte("message"), nil)
			result <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("commit: %v, want ErrOutcomeUnknown for a cancelled context", err)
		}
		if n.commits.calls != 0 {
			t.Fatal("the place was given back before the answer")
		}
		submitted, ok := l.inbox.take(nil)[0].(replica.Submitted)
		if !ok || string(submitted.Message) != "message" {
			t.Fatalf("submitted %+v", submitted)
		}
		l.calls.answer(replica.Answer{Ticket: submitted.Ticket}, n.commits)
		if n.commits.calls != 1 {
			t.Error("the place is still taken after the answer")
		}
		l.end()
	})
}
