package concordat

import (
	"context"
	"fmt"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/internal/replica"
)

// giantBytes is the size from which a transaction travels in fragments: what fits
// into a few log entries is not worth more of them.
const giantBytes = 1 << 20

// sizeLimit is how large a transaction may be, as far as this member knows.
func (n *Node) sizeLimit() int {
	s := &n.standing.Load().Settings
	switch {
	case s.Version == 0:
		return DefaultTransactionSizeLimit
	case s.TransactionSizeLimit == 0:
		return replica.MaxTransactionSize
	}
	return s.TransactionSizeLimit
}

// commitGiant is commit for a transaction that travels in fragments. One at a time
// is cut up and sent; others go on between its fragments.
func (n *Node) commitGiant(ctx context.Context, tx *Tx) (replica.Answer, error) {
	if err := n.serving(); err != nil {
		return replica.Answer{}, err
	}
	if err := n.giants.enter(ctx, 0, n.quorum.lost(ctx)); err != nil {
		return replica.Answer{}, fmt.Errorf("concordat: nothing was committed, another large transaction of this member is on its way: %w", err)
	}
	defer n.giants.leave(0)
	fragments, message, err := tx.fragments()
	if err != nil {
		return replica.Answer{}, err
	}
	return n.commit(ctx, tx, message, fragments)
}

// fragments encodes the transaction in pieces.
func (tx *Tx) fragments() (fragments [][]byte, message []byte, err error) {
	w, err := replica.NewGiantWriter(tx.composed, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	w.Add(tx.payload)
	var scratch []byte
	for i := range tx.writes.writes {
		scratch = applier.AppendMutation(scratch[:0], tx.writes.writes[i])
		w.Add(scratch)
	}
	if err := tx.tooLarge(w.Size()); err != nil {
		return nil, nil, err
	}
	header := tx.header()
	if fragments, message, err = w.Finish(&header); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return fragments, message, nil
}

// leaveBehind ends the wait for a commit, for a cause. What travels in fragments and
// has not come to its end is taken back: then nothing has happened. Of everything
// else the outcome is unknown.
func (n *Node) leaveBehind(l *life, ticket uint64, tx *Tx, c *call, cause error) error {
	if c.fragments > 0 {
		asked, answer := l.withdrawals.add()
		defer l.withdrawals.drop(asked)
		if l.inbox.put(replica.Withdrawn{Ticket: ticket, Asked: asked}) {
			select {
			case done := <-answer:
				if done {
					return fmt.Errorf("concordat: nothing was committed, of %d fragments not all had gone: %w", c.fragments, cause)
				}
			case <-l.done: // it may have been sent to the end before that
			}
		}
	}
	return n.outcomeUnknown(tx, c, cause)
}
