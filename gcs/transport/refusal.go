package transport

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// ErrClosed says that the transport was closed.
var ErrClosed = errors.New("transport: closed")

// RefusedError says that one member does not talk to another one, and why. It
// travels to the member that asked, as the detail of a gRPC status.
type RefusedError struct {
	Reason peerpb.RefusalReason
	Text   string // a sentence that names what differs, and the remedy

	// Incarnation is that of the member that refused, as it says; zero if it
	// has none, or if this member is the one that refused. A member that is
	// refused for WRONG_INCARNATION learns from it that there is another one,
	// and from [Lineage] whether it was left out.
	Incarnation gtid.UUID

	// Extra and CommonIndex explain EXTRA_TRANSACTIONS: what the refused member
	// has and the group does not, a GTID set as text; and the log index up to
	// which the two agree, 0 when that is not known. Extra is lost on the way
	// when it is longer than [MaxExtraBytes].
	Extra       string
	CommonIndex uint64
}

// MaxExtraBytes bounds [RefusedError].Extra: a refusal travels in the header of
// an answer.
const MaxExtraBytes = 64 << 10

// Error returns the reason and the sentence.
func (e *RefusedError) Error() string {
	name := strings.TrimPrefix(e.Reason.String(), "REFUSAL_REASON_")
	return fmt.Sprintf("refused for %s: %s", strings.ToLower(strings.ReplaceAll(name, "_", " ")), e.Text)
}

func refuse(reason peerpb.RefusalReason, format string, args ...any) *RefusedError {
	return &RefusedError{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// refusalStatus is the form of e that goes over the network.
func refusalStatus(e *RefusedError, refuser *peerpb.Identity) error {
	st := status.New(codes.FailedPrecondition, e.Error())
	detail := &peerpb.Refusal{Reason: e.Reason, Text: e.Text, Refuser: refuser, Extra: e.Extra, CommonIndex: e.CommonIndex}
	if len(detail.GetExtra()) > MaxExtraBytes {
		detail.Extra = ""
	}
	detailed, err := st.WithDetails(detail)
	if err != nil { // only for a status of code OK
		return st.Err()
	}
	return detailed.Err()
}

// fromStatus turns a status with a refusal back into a *RefusedError and
// leaves other errors as they are.
func fromStatus(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, detail := range st.Details() {
		if r, ok := detail.(*peerpb.Refusal); ok {
			e := &RefusedError{Reason: r.GetReason(), Text: r.GetText(), Extra: r.GetExtra(), CommonIndex: r.GetCommonIndex()}
			if of := r.GetRefuser().GetIncarnation(); len(of) == len(e.Incarnation) {
				copy(e.Incarnation[:], of)
			}
			return e
		}
	}
	return err
}

// self is who this member is, together with where it answers.
type self struct {
	gcs.Identity
	address string
}

func (s self) proto() *peerpb.Identity {
	id := &peerpb.Identity{
		ProtocolVersion: ProtocolVersion,
		Group:           s.Group[:],
		Member:          s.Member[:],
		RaftId:          s.RaftID,
		Session:         s.Session,
		Address:         s.address,
	}
	if !s.Incarnation.IsZero() {
		id.Incarnation = s.Incarnation[:]
	}
	return id
}

// checkGroup says whether id, who speaks to s, is complete and of its group.
// It does not look at the incarnation.
func (s self) checkGroup(id *peerpb.Identity) *RefusedError {
	if id == nil {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY, "the speaker does not say who it is")
	}
	if v := id.GetProtocolVersion(); v != ProtocolVersion {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_WRONG_PROTOCOL_VERSION,
			"member at %q speaks protocol version %d, the one at %q speaks %d; run the same release on both",
			id.GetAddress(), v, s.address, ProtocolVersion)
	}
	incarnation := len(id.GetIncarnation())
	if len(id.GetGroup()) != len(s.Group) || len(id.GetMember()) != len(s.Member) ||
		(incarnation != 0 && incarnation != len(s.Incarnation)) || id.GetRaftId() == 0 || id.GetAddress() == "" {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY,
			"the identity of the member at %q lacks a part; only a member of a group can connect here", id.GetAddress())
	}
	if !bytes.Equal(id.GetGroup(), s.Group[:]) {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_WRONG_GROUP,
			"member at %q belongs to group %s, the one at %q to group %s; correct the address or the name of the group",
			id.GetAddress(), uuidText(id.GetGroup()), s.address, s.Group)
	}
	return nil
}

// checkMember says whether id, who speaks to s, is a member of the same
// incarnation of its group.
func (s self) checkMember(id *peerpb.Identity) *RefusedError {
	if r := s.checkGroup(id); r != nil {
		return r
	}
	if s.Incarnation.IsZero() {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION,
			"member at %q is only joining and knows no incarnation of the group yet; try again later", s.address)
	}
	if !bytes.Equal(id.GetIncarnation(), s.Incarnation[:]) {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION,
			"member at %q belongs to incarnation %s of the group, the one at %q to %s; the one left out has to join anew",
			id.GetAddress(), uuidText(id.GetIncarnation()), s.address, s.Incarnation)
	}
	return nil
}

// checkHello says whether the speaker of hello may send messages to s.
func (s self) checkHello(hello *peerpb.Hello) *RefusedError {
	id := hello.GetIdentity()
	if r := s.checkMember(id); r != nil {
		return r
	}
	if target := hello.GetTargetRaftId(); target != s.RaftID {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_NOT_THIS_MEMBER,
			"raft id %d was looked for at %q, where %d answers; the address has passed to another member", target, s.address, s.RaftID)
	}
	if id.GetRaftId() == s.RaftID {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN,
			"member at %q goes by raft id %d, which is that of the member at %q; is one a copy of the other's data?",
			id.GetAddress(), s.RaftID, s.address)
	}
	if bytes.Equal(id.GetMember(), s.Member[:]) {
		return refuse(peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN,
			"raft id %d at %q goes by the UUID of raft id %d at %q, %s; give one of them a UUID of its own",
			id.GetRaftId(), id.GetAddress(), s.RaftID, s.address, s.Member)
	}
	return nil
}

// uuidText prints a UUID from the network, whatever its length.
func uuidText(b []byte) string {
	if len(b) == 0 {
		return "none"
	}
	var u gtid.UUID
	copy(u[:], b)
	return u.String()
}
