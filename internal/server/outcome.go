package server

import (
	"context"
	"errors"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Outcome implements kvpb.KVServer.
func (k *kv) Outcome(ctx context.Context, r *kvpb.OutcomeRequest) (*kvpb.OutcomeResponse, error) {
	id, err := transactionID(r.GetTransactionId())
	if err != nil {
		return nil, toStatus(err)
	}
	n, err := k.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	before := n.Status().Incarnation
	o, err := n.Outcome(ctx, id)
	if err != nil {
		return nil, toStatus(err)
	}
	out := outcome(&o)
	if now := n.Status().Incarnation; now == before {
		out.Incarnation = uuidText(now)
	}
	return out, nil
}

func outcome(o *concordat.Outcome) *kvpb.OutcomeResponse {
	out := &kvpb.OutcomeResponse{
		State: kvpb.OutcomeResponse_STATE_UNKNOWN, Gtid: gtidText(o.GTID), Winner: gtidText(o.Winner),
		Index: o.Index, From: o.From, Until: o.Until,
	}
	switch o.State {
	case concordat.OutcomeUnknown:
	case concordat.OutcomeCommitted:
		out.State = kvpb.OutcomeResponse_STATE_COMMITTED
	case concordat.OutcomeRefused:
		out.State, out.Reason = kvpb.OutcomeResponse_STATE_REFUSED, codeOf(o.Reason)
	}
	return out
}

func codeOf(err error) kvpb.ErrorInfo_Code {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return kvpb.ErrorInfo_CODE_UNSPECIFIED
}
