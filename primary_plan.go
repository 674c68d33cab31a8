package concordat

import (
	"errors"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
)

// ActionPlan is what a planned change would do, as a member sees its group.
type ActionPlan struct {
	Kind   ActionKind
	Target gtid.UUID // who would be primary, zero if nobody in particular
	// Pending are the members that would lose the right to write, and whose
	// transactions it would wait for.
	Pending []gtid.UUID
	// NoChange: it is so already.
	NoChange bool
	// Objection is why it would be refused, "" if it would not be. Forceable: not if
	// the operator insists, see [InsistOnRecovering].
	Objection string
	Forceable bool
}

// PlanAction returns what [Node.SetPrimary], the switches of the mode, or
// [Node.SetProtocol] would do if they were called now. It changes nothing. The
// member may be zero and the protocol 0 where the kind has no use for them. What can
// never be is an error that matches [ErrInvalid].
func (n *Node) PlanAction(kind ActionKind, member gtid.UUID, protocol uint32, opts ...SwitchOption) (ActionPlan, error) {
	p := ActionPlan{Kind: kind}
	a, o, err := n.newAction(kind, election.Protocol(protocol), opts)
	if err != nil {
		return p, err
	}
	if err := n.serving(); err != nil {
		return p, err
	}
	s := n.standing.Load()
	e := &s.Election
	if err := n.mayChange(s, &a, member, &o); err != nil {
		p.Objection = err.Error()
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			p.Objection, p.Forceable = refused.Reason, refused.Forceable
		}
	} else if !s.Quorum && !s.QuorumUnknown {
		p.Objection = ErrNoQuorum.Error()
	}
	switch kind {
	case election.SetPrimary:
		p.NoChange = a.Target != 0 && a.Target == e.Primary
	case election.ToSingle:
		p.NoChange = e.Mode == SinglePrimary
		if a.Target == 0 && !p.NoChange {
			a.Target = e.Why(nil, nil).Winner
		}
	case election.ToMulti:
		p.NoChange = e.Mode == MultiPrimary
	case election.SetProtocol:
		p.NoChange = a.Protocol == e.Protocol
	}
	if m, ok := e.Member(a.Target); ok {
		p.Target = m.UUID
	}
	takes := (kind == election.SetPrimary || kind == election.ToSingle) && !p.NoChange && p.Objection == ""
	for _, m := range e.Members {
		if takes && m.Writes && m.RaftID != a.Target {
			p.Pending = append(p.Pending, m.UUID)
		}
	}
	return p, nil
}
