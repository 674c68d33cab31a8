package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/outcome"
)

// ErrState marks a checkpoint that is not a member's state.
var ErrState = errors.New("replica: malformed state")

// serialise returns the replicated state after the last delivery.
//
//	state := uvarint len  group state  settings  forks  uvarint len  outcomes  certifier state
func (r *Replica) serialise() gcs.Checkpoint {
	group := r.group.AppendState(nil)
	b := binary.AppendUvarint(nil, uint64(len(group)))
	b = append(b, group...)
	b = r.settings.append(b)
	b, err := appendForks(b, r.forks)
	if err == nil {
		outcomes := r.outcomes.AppendState(nil)
		b = binary.AppendUvarint(b, uint64(len(outcomes)))
		b, err = r.cert.AppendState(append(b, outcomes...))
	}
	if err != nil {
		// Only a GTID that the certifier made itself could be impossible to
		// write down.
		panic(fmt.Sprintf("replica: state at %d: %v", r.last.Index, err))
	}
	return gcs.Checkpoint{Index: r.last.Index, Term: r.last.Term, Data: b}
}

// restore takes up what serialise wrote behind the group's state.
func (r *Replica) restore(b []byte) (err error) {
	if r.settings, b, err = takeSettings(b); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if r.forks, b, err = takeForks(b); err != nil {
		return err
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return fmt.Errorf("%w: outcomes of %d bytes, %d are left", ErrState, size, len(b))
	}
	end := n + int(size)
	if r.outcomes, err = outcome.Restore(b[n:end], r.cfg.Seed); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if r.outcomes.Limit() != r.settings.Outcomes {
		return fmt.Errorf("%w: %d outcomes are remembered, the settings say %d", ErrState, r.outcomes.Limit(), r.settings.Outcomes)
	}
	r.cert, err = certifier.Restore(b[end:], r.settings.Certifier)
	return err
}

func splitState(c gcs.Checkpoint) (group, own []byte, err error) {
	if c.Index == 0 {
		return nil, nil, nil
	}
	size, n := binary.Uvarint(c.Data)
	if n <= 0 || size > uint64(len(c.Data)-n) {
		return nil, nil, fmt.Errorf("%w: checkpoint at %d is cut off", ErrState, c.Index)
	}
	end := n + int(size)
	return c.Data[n:end], c.Data[end:], nil
}

// CheckpointView returns the view that a checkpoint holds, for a member that
// has nothing else to say who is in its group.
func CheckpointView(c gcs.Checkpoint) (gcs.View, error) {
	group, _, err := splitState(c)
	if err != nil {
		return gcs.View{}, err
	}
	return gcs.StateView(group)
}
