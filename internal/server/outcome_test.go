package server

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func TestOutcome(t *testing.T) {
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	ask := func() *kvpb.OutcomeResponse {
		t.Helper()
		r, err := c.Outcome(ctx, &kvpb.OutcomeRequest{TransactionId: someID})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	put(t, c, "k", "")
	r := ask()
	if r.GetState() != kvpb.OutcomeResponse_STATE_UNKNOWN || r.GetUntil() == 0 || r.GetFrom() > r.GetUntil() || r.GetIndex() != 0 {
		t.Errorf("before it was sent: %v", r)
	}

	// Refused, by a wish that somebody else has had.
	first := put(t, c, "k", "")
	_, err := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, TransactionId: someID, Gtid: first})
	if !errors.Is(err, concordat.ErrGTIDTaken) {
		t.Fatal(err)
	}
	r = ask()
	if r.GetState() != kvpb.OutcomeResponse_STATE_REFUSED || !errors.Is(ErrorOf(r.GetReason()), concordat.ErrGTIDTaken) || r.GetIndex() == 0 || r.GetGtid() != "" {
		t.Errorf("refused: %v", r)
	}

	// Under the same id it can be tried again.
	p, err := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, TransactionId: someID})
	if err != nil {
		t.Fatal(err)
	}
	r = ask()
	if r.GetState() != kvpb.OutcomeResponse_STATE_COMMITTED || r.GetGtid() != p.GetGtid() || r.GetReason() != 0 || r.GetIndex() > r.GetUntil() {
		t.Errorf("committed: %v, want %v", r, p)
	}
}

func TestOutcomesTravel(t *testing.T) {
	g := gtid.GTID{UUID: uuid(t, testGroupName), Tag: "t", Number: 7}
	for _, test := range []struct {
		sent concordat.Outcome
		want *kvpb.OutcomeResponse
	}{
		{
			concordat.Outcome{From: 3, Until: 9},
			&kvpb.OutcomeResponse{State: kvpb.OutcomeResponse_STATE_UNKNOWN, From: 3, Until: 9},
		},
		{
			concordat.Outcome{State: concordat.OutcomeCommitted, GTID: g, Index: 5, From: 3, Until: 9},
			&kvpb.OutcomeResponse{State: kvpb.OutcomeResponse_STATE_COMMITTED, Gtid: g.String(), Index: 5, From: 3, Until: 9},
		},
		{
			concordat.Outcome{State: concordat.OutcomeRefused, Reason: concordat.ErrConflict, Winner: g, Index: 5, From: 3, Until: 9},
			&kvpb.OutcomeResponse{
				State: kvpb.OutcomeResponse_STATE_REFUSED, Reason: kvpb.ErrorInfo_CODE_CONFLICT, Winner: g.String(),
				Index: 5, From: 3, Until: 9,
			},
		},
	} {
		if diff := cmp.Diff(test.want, outcome(&test.sent), protocmp.Transform()); diff != "" {
			t.Errorf("%+v: %s", test.sent, diff)
		}
	}
	for _, reason := range []error{concordat.ErrConflict, concordat.ErrSnapshotTooOld, concordat.ErrGTIDTaken, concordat.ErrExhausted, concordat.ErrInvalid} {
		if got := ErrorOf(codeOf(reason)); !errors.Is(got, reason) {
			t.Errorf("%v arrives as %v", reason, got)
		}
	}
	if code, err := codeOf(errors.New("another one")), ErrorOf(kvpb.ErrorInfo_CODE_UNSPECIFIED); code != 0 || err != nil {
		t.Errorf("no known reason: %v, %v", code, err)
	}
}

func TestOutcomeRefused(t *testing.T) {
	s, c := start(t, nil, Config{})
	for text, want := range map[string]error{
		"": concordat.ErrInvalid, "somebody": concordat.ErrInvalid, gtid.UUID{}.String(): concordat.ErrInvalid,
		someID: concordat.ErrNotOnline,
	} {
		if _, err := c.Outcome(testContext(t), &kvpb.OutcomeRequest{TransactionId: text}); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	n := openNode(t)
	s.SetNode(n)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Outcome(testContext(t), &kvpb.OutcomeRequest{TransactionId: someID}); !errors.Is(err, concordat.ErrClosed) {
		t.Error(err)
	}
}
