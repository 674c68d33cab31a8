package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/outcome"
	"github.com/concordatdb/concordat/internal/statecheck"
)

// ErrState marks a checkpoint that is not a member's state.
var ErrState = errors.New("replica: malformed state")

// stateFormat follows a 0, which no state without a format began with.
const stateFormat = 1

// ErrFormat marks a checkpoint of a format that this version does not read.
var ErrFormat = fmt.Errorf("%w: its format is not one of this version; start the version that wrote it, or remove the member's directory and join it anew", ErrState)

// ErrProtocol marks a member that does not speak its group's protocol.
var ErrProtocol = errors.New("replica: the group's protocol is none that this version speaks")

func (r *Replica) checkProtocol() error {
	if p := r.elect.Protocol(); !r.cfg.Self.Speaks(p) {
		return fmt.Errorf("%w: it is %d, and %s speaks %d to %d; start the version that this member ran, or a newer one",
			ErrProtocol, p, r.cfg.Self.Version, r.cfg.Self.Oldest, r.cfg.Self.Newest)
	}
	return nil
}

// serialise returns the replicated state after the last delivery.
//
//	state := 0 1  uvarint len  giants  uvarint len  group state  settings  forks  election  checks  faults
//	         uvarint len  outcomes  certifier state
func (r *Replica) serialise() gcs.Checkpoint { return r.serialiseWith(r.group.AppendState(nil)) }

func (r *Replica) serialiseWith(group []byte) gcs.Checkpoint {
	b := appendSection([]byte{0, stateFormat}, r.giants.AppendState(nil))
	b = appendSection(b, group)
	b = r.settings.append(b)
	b, err := appendForks(b, r.forks)
	if err == nil {
		b, err = r.faults.state.AppendState(r.checks.state.AppendState(r.elect.AppendState(b)))
	}
	if err == nil {
		b, err = r.cert.AppendState(appendSection(b, r.outcomes.AppendState(nil)))
	}
	if err != nil {
		// Only a GTID that the certifier made itself could be impossible to
		// write down.
		panic(fmt.Sprintf("replica: state at %d: %v", r.last.Index, err))
	}
	return gcs.Checkpoint{Index: r.last.Index, Term: r.last.Term, Data: b}
}

func appendSection(b, section []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(section))), section...)
}

// takeSection takes off the front of b what appendSection appended.
func takeSection(b []byte, what string) (section, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 || size > uint64(len(b)-n) {
		return nil, nil, fmt.Errorf("%w: %s of %d bytes, %d are left", ErrState, what, size, len(b))
	}
	end := n + int(size)
	return b[n:end], b[end:], nil
}

// restore takes up what serialise wrote behind the group's state.
func (r *Replica) restore(b []byte) (err error) {
	if r.settings, b, err = takeSettings(b); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if r.forks, b, err = takeForks(b); err != nil {
		return err
	}
	if r.elect, b, err = election.Restore(b); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if why := misfit(r.elect.Snapshot(), r.group.View()); why != "" {
		return fmt.Errorf("%w: %s", ErrState, why)
	}
	if r.checks.state, b, err = statecheck.Restore(b); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if r.faults.state, b, err = statecheck.RestoreFaults(b); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	outcomes, b, err := takeSection(b, "outcomes")
	if err != nil {
		return err
	}
	if r.outcomes, err = outcome.Restore(outcomes, r.cfg.Seed); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if r.outcomes.Limit() != r.settings.Outcomes {
		return fmt.Errorf("%w: %d outcomes are remembered, the settings say %d", ErrState, r.outcomes.Limit(), r.settings.Outcomes)
	}
	r.cert, err = certifier.Restore(b, r.settings.Certifier)
	return err
}

// splitState takes a checkpoint apart: giants, the group's state, and the rest.
func splitState(c gcs.Checkpoint) (giants, group, own []byte, err error) {
	if c.Index == 0 {
		return nil, nil, nil, nil
	}
	b := c.Data
	if len(b) < 2 || b[0] != 0 || b[1] != stateFormat {
		return nil, nil, nil, fmt.Errorf("checkpoint at %d: %w", c.Index, ErrFormat)
	}
	giants, own, err = takeSection(b[2:], "giants")
	if err == nil {
		group, own, err = takeSection(own, "group")
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("checkpoint at %d: %w", c.Index, err)
	}
	return giants, group, own, nil
}

// misfit says why an election is not that of a view, "" when it is.
func misfit(s election.Snapshot, v gcs.View) string {
	if s.View != v.ID || len(s.Members) != len(v.Members) {
		return fmt.Sprintf("the election is of view %d with %d members, the group's is view %d with %d", s.View, len(s.Members), v.ID, len(v.Members))
	}
	for i, m := range v.Members {
		if e := s.Members[i]; e.RaftID != m.RaftID || e.UUID != m.UUID || e.Online != (m.State == gcs.Online) {
			return fmt.Sprintf("the election has member %s (%d), ONLINE %t, where the view has %s (%d), %s", e.UUID, e.RaftID, e.Online, m.UUID, m.RaftID, m.State)
		}
	}
	return ""
}

// CheckpointView returns the view that a checkpoint holds, for a member that
// has nothing else to say who is in its group.
func CheckpointView(c gcs.Checkpoint) (gcs.View, error) {
	_, group, _, err := splitState(c)
	if err != nil {
		return gcs.View{}, err
	}
	return gcs.StateView(group)
}

// CheckpointElection returns who may write by a checkpoint, for a member that has
// nothing else to say it.
func CheckpointElection(c gcs.Checkpoint) (election.Snapshot, error) {
	_, _, b, err := splitState(c)
	if err != nil || c.Index == 0 {
		return election.New().Snapshot(), err
	}
	if _, b, err = takeSettings(b); err != nil {
		return election.Snapshot{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	if _, b, err = takeForks(b); err != nil {
		return election.Snapshot{}, err
	}
	s, _, err := election.Restore(b)
	if err != nil {
		return election.Snapshot{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	return s.Snapshot(), nil
}
