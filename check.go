package concordat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// CheckReport says whether a directory would be accepted by its group, and what
// it holds.
type CheckReport struct {
	// Accepted is true if a member opened on the directory would be in the group,
	// or be taken in.
	Accepted bool
	// Reasons are why not, or what else the operator should know.
	Reasons []string

	New         bool // there is no member in the directory yet
	Group       gtid.UUID
	Incarnation gtid.UUID // that its log is of; zero for one on its way back
	Member      gtid.UUID
	RaftID      uint64
	// First and Last are the ends of its log, Applied how far the data go.
	First, Last, Applied uint64
	Executed             gtid.Set
	// Errant are transactions that the group does not have.
	Errant gtid.Set
}

// Check tells whether the group would accept the member that cfg describes with
// what its directory holds, and why not. Nobody may run on the directory, and
// nothing in it is changed. Who is asked are the Seeds, and the members that the
// directory knows; if none of them answers, the report says so. An error says
// that the directory, or cfg, cannot be looked at.
func Check(ctx context.Context, cfg Config) (report CheckReport, err error) {
	if err := cfg.Validate(); err != nil {
		return report, err
	}
	n := &Node{cfg: cfg.withDefaults()}
	n.logger = slog.New(slog.DiscardHandler)
	n.standing.Store(&known{})
	if n.address = n.cfg.Advertise; n.address == "" {
		n.address = n.cfg.Listen
	}
	n.id.Group, _ = gtid.ParseUUID(n.cfg.Group) // Validate has seen it
	n.id.Member, _ = gtid.ParseUUID(n.cfg.Member)
	report.Group, report.Member, report.New = n.id.Group, n.id.Member, true
	claim := replica.Claim{}
	if _, err := os.Stat(n.cfg.Dir); err == nil {
		var open closers
		defer func() { err = errors.Join(err, open.close()) }()
		if err := n.openStores(&open); err != nil {
			return report, err
		}
		if claim, err = n.inspect(ctx, &report); err != nil {
			return report, err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return report, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	if len(report.Reasons) > 0 {
		return report, nil
	}
	err = n.askWhetherAccepted(ctx, claim, &report)
	return report, err
}

// inspect reads what the directory holds. What rules it out whatever the group
// says becomes a reason.
func (n *Node) inspect(ctx context.Context, r *CheckReport) (claim replica.Claim, err error) {
	id := n.log.Identity()
	at := n.engine.Position()
	r.Applied, r.Executed = at.Index, at.Executed
	if r.First, err = n.log.FirstIndex(); err != nil {
		return claim, err
	}
	if r.Last, err = n.log.LastIndex(); err != nil {
		return claim, err
	}
	if r.New = id.RaftID == 0; r.New {
		if r.Last > 0 || r.Applied > 0 {
			r.Reasons = append(r.Reasons, "it holds data and is nobody's; empty it")
		}
		return claim, nil
	}
	object := func(format string, args ...any) { r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...)) }
	if id.Group != n.id.Group {
		object("it belongs to group %s, not %s; use another directory", id.Group, n.id.Group)
	}
	if !n.id.Member.IsZero() && id.Member != n.id.Member {
		object("it belongs to member %s, not %s; use another directory", id.Member, n.id.Member)
	}
	if n.cfg.Bootstrap {
		object("it holds member %s already; open it without Bootstrap", id.Member)
	}
	n.id = id
	r.Group, r.Member, r.RaftID, r.Incarnation = id.Group, id.Member, id.RaftID, id.Incarnation
	kept, err := decodeRecord(n.log.Record())
	if err != nil {
		return claim, err
	}
	n.onRecord.Store(&kept)
	if kept.Plan != nil {
		part, err := forced.DecodeRecord(kept.Plan)
		if err != nil {
			return claim, fmt.Errorf("%w: its part in a plan of force-members: %w", ErrDirectory, err)
		}
		if part.Phase == forced.Frozen {
			object("it is frozen for plan %s of force-members; open it and run that plan again", part.Order.Plan)
		}
	}
	if len(r.Reasons) > 0 {
		return claim, nil
	}
	claim, err = n.claim(ctx)
	if errors.Is(err, errNeedsClone) {
		return replica.Claim{}, nil // its data will be replaced, whatever they are
	}
	return claim, err
}

// askWhetherAccepted asks whoever can be reached until somebody knows.
func (n *Node) askWhetherAccepted(ctx context.Context, claim replica.Claim, r *CheckReport) error {
	if n.log != nil {
		if err := n.knowView(); err != nil {
			return err
		}
	}
	id := n.id
	if id.RaftID == 0 { // one that nobody has, for the time
		id.RaftID = newRaftID()
	}
	if id.Member.IsZero() {
		id.Member = gtid.UUID{15: 1}
	}
	req := n.cfg.joinRequest(transport.IdentityOf(id, n.address), claim)
	req.DryRun = true
	ask := n.seeds()
	for i := 0; i < len(ask) && i <= 2*gcs.MaxMembers; i++ {
		response, err := n.askToJoin(ctx, ask[i], req)
		refused, isRefusal := errors.AsType[*transport.RefusedError](err)
		switch {
		case isRefusal && refused.Reason == peerpb.RefusalReason_REFUSAL_REASON_EXTRA_TRANSACTIONS:
			return n.diverged(ctx, refused, claim, r)
		case isRefusal:
			r.Reasons = append(r.Reasons, refused.Text)
			return nil
		case err != nil:
			r.Reasons = append(r.Reasons, fmt.Sprintf("%s does not answer: %v", ask[i], err))
		case response.GetAccepted():
			r.Accepted, r.Reasons = true, []string{"the group has this member in its view"}
			return nil
		case response.GetText() != "":
			r.Accepted, r.Reasons = true, []string{response.GetText()}
			return nil
		case response.GetLeaderAddress() != "" && response.GetLeaderAddress() != ask[i]:
			ask = append(ask, response.GetLeaderAddress())
		}
	}
	r.Reasons = append(r.Reasons, "nobody who could be asked knows: the group has no quorum, or its members cannot be reached; name some in Seeds")
	return nil
}

func (n *Node) diverged(ctx context.Context, refused *transport.RefusedError, claim replica.Claim, r *CheckReport) error {
	err := n.refusal(ctx, refused, claim)
	var diverged *DivergedError
	switch {
	case err == nil:
		r.Accepted = true
		r.Reasons = append(r.Reasons, "its history parted from the group's, and holds no transaction after that; it will be replaced by a copy of the group's state")
	case errors.As(err, &diverged):
		r.Errant = diverged.Extra
		r.Reasons = append(r.Reasons, err.Error())
	default:
		return err
	}
	return nil
}
