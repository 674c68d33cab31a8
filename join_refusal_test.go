package concordat

import (
	"errors"
	"fmt"
	"testing"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// A newcomer that the view does not take is told which of the things that
// differ it is: a full group is not cured by another name.
func TestJoinRefusals(t *testing.T) {
	t.Parallel()
	named := func(n byte) gcs.Member {
		return gcs.Member{UUID: gtid.UUID{15: n}, RaftID: uint64(n), Address: fmt.Sprintf("10.0.0.%d:7400", n), State: gcs.Online}
	}
	view := func(members byte) (v gcs.View) {
		for n := range members {
			v.Members = append(v.Members, named(n+1))
		}
		return v
	}
	change := func(kind gcs.ChangeKind) error {
		return fmt.Errorf("wrapped: %w", &gcs.RefusedChangeError{Change: gcs.Change{Kind: kind}, Reason: "as the view is"})
	}
	at := func(m gcs.Member, address string) gcs.Member {
		m.Address = address
		return m
	}
	for name, c := range map[string]struct {
		reason error
		view   gcs.View
		asker  gcs.Member
		want   peerpb.RefusalReason
	}{
		"a tenth member":        {change(gcs.Joined), view(gcs.MaxMembers), named(10), peerpb.RefusalReason_REFUSAL_REASON_GROUP_FULL},
		"in a full group, too":  {change(gcs.Joined), view(gcs.MaxMembers), at(named(10), named(3).Address), peerpb.RefusalReason_REFUSAL_REASON_GROUP_FULL},
		"a ninth member":        {change(gcs.Joined), view(gcs.MaxMembers - 1), named(9), peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN},
		"at another's address":  {change(gcs.Joined), view(3), at(named(4), named(3).Address), peerpb.RefusalReason_REFUSAL_REASON_ADDRESS_TAKEN},
		"a replacement":         {change(gcs.Replaced), view(gcs.MaxMembers), named(10), peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN},
		"at its own address":    {change(gcs.Replaced), view(3), named(3), peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN},
		"for what it has":       {&replica.DivergedError{}, view(gcs.MaxMembers), named(10), peerpb.RefusalReason_REFUSAL_REASON_EXTRA_TRANSACTIONS},
		"for where it is from":  {replica.ErrOtherLineage, view(gcs.MaxMembers), named(10), peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION},
		"for what is not known": {errors.New("else"), view(gcs.MaxMembers), named(10), peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN},
	} {
		if r, ok := errors.AsType[*transport.RefusedError](refusedJoin(c.reason, c.view, c.asker)); !ok || r.Reason != c.want || r.Text != c.reason.Error() {
			t.Errorf("%s: %v, want %v", name, r, c.want)
		}
	}
}
