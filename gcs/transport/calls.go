package transport

import (
	"context"
	"fmt"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// MaxPayloadBytes bounds a survey, an order, and the answer to one.
const MaxPayloadBytes = 4 << 20

// answer has the handler answer a call that id makes, unless the transport
// itself refuses it.
func answer[T any](t *Transport, id *peerpb.Identity, refused *RefusedError, handle func() (T, error)) (T, error) {
	var none T
	if refused != nil {
		t.logRefused(id, refused)
		return none, t.statusOf(refused)
	}
	response, err := handle()
	if err != nil {
		t.logRefused(id, err)
		return none, t.statusOf(err)
	}
	return response, nil
}

// Join passes the request on to the handler.
func (s service) Join(ctx context.Context, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	r := s.t.identity().checkGroup(req.GetIdentity())
	if r == nil {
		r = checkJoin(req)
	}
	return answer(s.t, req.GetIdentity(), r, func() (*peerpb.JoinResponse, error) {
		return s.t.cfg.Handler.Join(ctx, req)
	})
}

// checkJoin says what is wrong with a request, of a member of the group, to
// join.
func checkJoin(req *peerpb.JoinRequest) *RefusedError {
	if req.GetReplaces() == req.GetIdentity().GetRaftId() {
		return malformedRequest("member %d asks to take its own place; draw a new raft id", req.GetReplaces())
	}
	if req.GetClaim() == nil {
		return nil
	}
	if _, err := ParseClaim(req.GetClaim()); err != nil {
		return malformedRequest("%v", err)
	}
	return nil
}

func malformedRequest(format string, args ...any) *RefusedError {
	return refuse(peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_REQUEST, format, args...)
}

// Change passes the request on to the handler, as long as this member is of the
// incarnation that it was made for.
func (s service) Change(ctx context.Context, req *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
	ctx, leave, r := s.t.enter(ctx, req.GetIdentity())
	if r == nil {
		defer leave()
		r = checkChange(req)
	}
	return answer(s.t, req.GetIdentity(), r, func() (*peerpb.ChangeResponse, error) {
		return s.t.cfg.Handler.Change(ctx, req)
	})
}

// checkChange says what is wrong with a member's call for a change.
func checkChange(req *peerpb.ChangeRequest) *RefusedError {
	member := len(req.GetMember())
	switch {
	case req.GetKind() != peerpb.ChangeKind_CHANGE_KIND_REMOVE:
		return malformedRequest("change of kind %d is not known here", req.GetKind())
	case (req.GetRaftId() != 0) == (member != 0) || member != 0 && member != len(gcs.Identity{}.Member):
		return malformedRequest("the change names a member by raft id %d and by a UUID of %d bytes; give one of the two, a UUID has 16 bytes",
			req.GetRaftId(), member)
	case len(req.GetReason()) > gcs.MaxReason:
		return malformedRequest("the reason has %d bytes; make it at most %d", len(req.GetReason()), gcs.MaxReason)
	}
	return nil
}

// Survey passes the request on to the handler.
func (s service) Survey(ctx context.Context, req *peerpb.SurveyRequest) (*peerpb.SurveyResponse, error) {
	r := s.t.identity().checkGroup(req.GetIdentity())
	return answer(s.t, req.GetIdentity(), r, func() (*peerpb.SurveyResponse, error) {
		survey, err := s.t.cfg.Handler.Survey(ctx, req.GetIdentity())
		if err == nil {
			err = checkPayload("survey", survey)
		}
		return &peerpb.SurveyResponse{Survey: survey}, err
	})
}

// Order passes the request on to the handler.
func (s service) Order(ctx context.Context, req *peerpb.OrderRequest) (*peerpb.OrderResponse, error) {
	r := s.t.identity().checkGroup(req.GetIdentity())
	if err := checkPayload("order", req.GetOrder()); r == nil && err != nil {
		r = malformedRequest("%v", err)
	}
	return answer(s.t, req.GetIdentity(), r, func() (*peerpb.OrderResponse, error) {
		result, err := s.t.cfg.Handler.Order(ctx, req.GetIdentity(), req.GetOrder())
		if err == nil {
			err = checkPayload("answer to an order", result)
		}
		return &peerpb.OrderResponse{Answer: result}, err
	})
}

func checkPayload(what string, b []byte) error {
	if len(b) > MaxPayloadBytes {
		return fmt.Errorf("transport: %s of %d bytes is above the limit of %d", what, len(b), MaxPayloadBytes)
	}
	return nil
}

// Lineage passes the request on to the handler.
func (s service) Lineage(ctx context.Context, req *peerpb.LineageRequest) (*peerpb.LineageResponse, error) {
	r := s.t.identity().checkGroup(req.GetIdentity())
	return answer(s.t, req.GetIdentity(), r, func() (*peerpb.LineageResponse, error) {
		ancestry, err := s.t.cfg.Handler.Lineage(ctx, req.GetIdentity())
		return ancestry.proto(), err
	})
}
