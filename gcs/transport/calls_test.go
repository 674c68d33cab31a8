package transport

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// isRefused fails unless err is a refusal for that reason, and returns it.
func isRefused(t *testing.T, what string, err error, want peerpb.RefusalReason) *RefusedError {
	t.Helper()
	r, ok := errors.AsType[*RefusedError](err)
	if !ok || r.Reason != want || r.Text == "" {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
	return r
}

// called makes each of the calls that ask for something once, as asker, and
// returns their errors by name.
func called(t *testing.T, address string, asker *peerpb.Identity) map[string]error {
	t.Helper()
	errs := map[string]error{}
	_, errs["join"] = Join(t.Context(), address, &peerpb.JoinRequest{Identity: asker}, nil)
	_, errs["change"] = Change(t.Context(), address, &peerpb.ChangeRequest{
		Identity: asker, Kind: peerpb.ChangeKind_CHANGE_KIND_REMOVE, RaftId: 7,
	}, nil)
	_, errs["survey"] = Survey(t.Context(), address, asker, nil)
	_, errs["order"] = Order(t.Context(), address, asker, []byte("order"), nil)
	_, errs["lineage"] = Lineage(t.Context(), address, asker, nil)
	errs["entries"] = Entries(t.Context(), address, &peerpb.EntriesRequest{
		Identity: asker, First: 1, Last: 1, PlanId: make([]byte, 16),
	}, nil, func([]*raftpb.Entry) error { return nil })
	return errs
}

// willing starts a member that grants whatever it is asked for.
func willing(t *testing.T, id uint64, configures ...configure) node {
	t.Helper()
	n := start(t, id, configures...)
	n.join = func(*peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
		return &peerpb.JoinResponse{Accepted: true}, nil
	}
	n.alter = func(context.Context, *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
		return &peerpb.ChangeResponse{Done: true}, nil
	}
	n.survey = func(*peerpb.Identity) ([]byte, error) { return []byte("survey"), nil }
	n.order = func(_ *peerpb.Identity, order []byte) ([]byte, error) { return order, nil }
	n.lineage = func() (Ancestry, error) { return Ancestry{Incarnation: testIncarnation}, nil }
	n.entries = func(_ context.Context, req *peerpb.EntriesRequest, send func(*raftpb.Entry) error) error {
		for i := req.GetFirst(); i <= req.GetLast(); i++ {
			if err := send(logEntry(i, 1, 10)); err != nil {
				return err
			}
		}
		return nil
	}
	return n
}

// Everything is refused to another group, a change to another incarnation, and
// what is asked between two incarnations is answered.
func TestCallsCheckWhoAsks(t *testing.T) {
	a := willing(t, 1)
	for name, err := range called(t, a.address, start(t, 2).Identity()) {
		if err != nil {
			t.Errorf("%s of a member: %v", name, err)
		}
	}
	foreign := start(t, 3, func(c *Config) { c.Identity.Group = gtid.UUID{1} }).Identity()
	for name, err := range called(t, a.address, foreign) {
		isRefused(t, name+" of another group", err, peerpb.RefusalReason_REFUSAL_REASON_WRONG_GROUP)
	}
	old := start(t, 4).Identity()
	old.ProtocolVersion = 9
	for name, err := range called(t, a.address, old) {
		isRefused(t, name+" in another version", err, peerpb.RefusalReason_REFUSAL_REASON_WRONG_PROTOCOL_VERSION)
	}
	for name, err := range called(t, a.address, nil) {
		isRefused(t, name+" of nobody", err, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY)
	}
	left := start(t, 5, func(c *Config) { c.Identity.Incarnation = gtid.UUID{2} }).Identity()
	for name, err := range called(t, a.address, left) {
		if name != "change" && err != nil {
			t.Errorf("%s of another incarnation: %v", name, err)
		}
		if name == "change" {
			r := isRefused(t, "change of another incarnation", err, peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION)
			if r.Incarnation != testIncarnation {
				t.Errorf("the refusal names incarnation %s", r.Incarnation)
			}
		}
	}
}

// A refusal of the handler, and its other errors, reach who asks.
func TestCallsTellErrors(t *testing.T) {
	a := start(t, 1) // which can do nothing
	asker := start(t, 2).Identity()
	for name, err := range called(t, a.address, asker) {
		if err == nil || !strings.Contains(err.Error(), "here") || !strings.Contains(err.Error(), a.address) {
			t.Errorf("%s: %v", name, err)
		}
	}
	frozen := refuse(peerpb.RefusalReason_REFUSAL_REASON_FROZEN, "busy")
	a.join = func(*peerpb.JoinRequest) (*peerpb.JoinResponse, error) { return nil, frozen }
	a.alter = func(context.Context, *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) { return nil, frozen }
	a.survey = func(*peerpb.Identity) ([]byte, error) { return nil, frozen }
	a.order = func(*peerpb.Identity, []byte) ([]byte, error) { return nil, frozen }
	a.lineage = func() (Ancestry, error) { return Ancestry{}, frozen }
	a.entries = func(context.Context, *peerpb.EntriesRequest, func(*raftpb.Entry) error) error { return frozen }
	for name, err := range called(t, a.address, asker) {
		isRefused(t, name, err, frozen.Reason)
	}
	for name, err := range called(t, nobody(t), asker) {
		if !Refused(err) {
			t.Errorf("%s where nobody listens: %v", name, err)
		}
	}
}

func TestChange(t *testing.T) {
	a := start(t, 1)
	var asked *peerpb.ChangeRequest
	a.alter = func(_ context.Context, req *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
		asked = req
		return &peerpb.ChangeResponse{LeaderAddress: "10.0.0.3:7400", Members: []*peerpb.Identity{{RaftId: 8}}}, nil
	}
	id := start(t, 2).Identity()
	const remove = peerpb.ChangeKind_CHANGE_KIND_REMOVE
	member := make([]byte, 16)
	for _, sound := range []*peerpb.ChangeRequest{
		{Identity: id, Kind: remove, RaftId: 7, Reason: strings.Repeat("r", gcs.MaxReason), Force: true},
		{Identity: id, Kind: remove, Member: member},
	} {
		response, err := Change(t.Context(), a.address, sound, nil)
		if err != nil || response.GetLeaderAddress() != "10.0.0.3:7400" || response.GetMembers()[0].GetRaftId() != 8 {
			t.Errorf("%v: got %v, %v", sound, response, err)
		}
		if asked.GetRaftId() != sound.GetRaftId() || !bytes.Equal(asked.GetMember(), sound.GetMember()) ||
			asked.GetReason() != sound.GetReason() || asked.GetForce() != sound.GetForce() {
			t.Errorf("the handler got %v, not %v", asked, sound)
		}
	}
	asked = nil
	for name, bad := range map[string]*peerpb.ChangeRequest{
		"no kind":      {Identity: id, RaftId: 7},
		"unknown kind": {Identity: id, Kind: 99, RaftId: 7},
		"nobody":       {Identity: id, Kind: remove},
		"two":          {Identity: id, Kind: remove, RaftId: 7, Member: member},
		"short UUID":   {Identity: id, Kind: remove, Member: member[:15]},
		"long reason":  {Identity: id, Kind: remove, RaftId: 7, Reason: strings.Repeat("r", gcs.MaxReason+1)},
	} {
		_, err := Change(t.Context(), a.address, bad, nil)
		isRefused(t, name, err, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_REQUEST)
	}
	if asked != nil {
		t.Errorf("the handler got %v", asked)
	}
}

// A change that was let in for an incarnation ends with it, and SetIdentity
// returns only then.
func TestChangeEndsWithTheIncarnation(t *testing.T) {
	a := start(t, 1)
	begun, ended := make(chan struct{}), false
	a.alter = func(ctx context.Context, _ *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
		close(begun)
		<-ctx.Done()
		ended = true
		return nil, context.Cause(ctx)
	}
	answered := make(chan error, 1)
	request := &peerpb.ChangeRequest{Identity: start(t, 2).Identity(), Kind: peerpb.ChangeKind_CHANGE_KIND_REMOVE, RaftId: 7}
	go func() {
		_, err := Change(t.Context(), a.address, request, nil)
		answered <- err
	}()
	<-begun
	a.setIncarnation(gtid.UUID{2})
	if !ended {
		t.Error("the change outlived the incarnation")
	}
	if err := <-answered; err == nil || !strings.Contains(err.Error(), errIdentity.Error()) {
		t.Errorf("the change was answered with %v", err)
	}
	_, err := Change(t.Context(), a.address, request, nil)
	isRefused(t, "a change later", err, peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION)
}

func TestSurveyAndOrder(t *testing.T) {
	a := start(t, 1)
	id := start(t, 2).Identity()
	a.survey = func(asker *peerpb.Identity) ([]byte, error) { return []byte(asker.GetAddress()), nil }
	if got, err := Survey(t.Context(), a.address, id, nil); err != nil || string(got) != id.GetAddress() {
		t.Errorf("survey: got %q, %v", got, err)
	}
	a.order = func(asker *peerpb.Identity, order []byte) ([]byte, error) {
		if asker.GetRaftId() != 2 {
			return nil, errors.New("who is that?")
		}
		return slices.Concat(order, order), nil
	}
	if got, err := Order(t.Context(), a.address, id, []byte("ab"), nil); err != nil || string(got) != "abab" {
		t.Errorf("order: got %q, %v", got, err)
	}
	if got, err := Order(t.Context(), a.address, id, nil, nil); err != nil || len(got) != 0 {
		t.Errorf("an empty order: got %q, %v", got, err)
	}
}

// The largest payloads pass, and nothing larger does.
func TestPayloadsAreBounded(t *testing.T) {
	a := start(t, 1)
	id := start(t, 2).Identity()
	a.survey = func(*peerpb.Identity) ([]byte, error) { return make([]byte, MaxPayloadBytes), nil }
	a.order = func(_ *peerpb.Identity, order []byte) ([]byte, error) { return order, nil }
	if got, err := Survey(t.Context(), a.address, id, nil); err != nil || len(got) != MaxPayloadBytes {
		t.Errorf("survey: %d bytes, %v", len(got), err)
	}
	if got, err := Order(t.Context(), a.address, id, make([]byte, MaxPayloadBytes), nil); err != nil || len(got) != MaxPayloadBytes {
		t.Errorf("order: %d bytes, %v", len(got), err)
	}
	_, err := Order(t.Context(), a.address, id, make([]byte, MaxPayloadBytes+1), nil)
	isRefused(t, "a larger order", err, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_REQUEST)
	a.survey = func(*peerpb.Identity) ([]byte, error) { return make([]byte, MaxPayloadBytes+1), nil }
	if _, err := Survey(t.Context(), a.address, id, nil); err == nil || !strings.Contains(err.Error(), "above the limit") {
		t.Errorf("a larger survey: %v", err)
	}
	a.order = func(*peerpb.Identity, []byte) ([]byte, error) { return make([]byte, MaxPayloadBytes+1), nil }
	if _, err := Order(t.Context(), a.address, id, nil, nil); err == nil || !strings.Contains(err.Error(), "above the limit") {
		t.Errorf("a larger answer: %v", err)
	}
}

func TestLineage(t *testing.T) {
	a := start(t, 1)
	id := start(t, 2).Identity()
	want := Ancestry{Incarnation: testIncarnation, Forks: []Fork{{gtid.UUID{1}, 10}, {gtid.UUID{2}, 10}, {gtid.UUID{3}, 12}}}
	a.lineage = func() (Ancestry, error) { return want, nil }
	got, err := Lineage(t.Context(), a.address, id, nil)
	if err != nil || got.Incarnation != want.Incarnation || !slices.Equal(got.Forks, want.Forks) {
		t.Errorf("got %v, %v", got, err)
	}
	want.Forks = nil
	for i := range uint64(maxForks + 5) {
		want.Forks = append(want.Forks, Fork{gtid.UUID{1, byte(i)}, i})
	}
	got, err = Lineage(t.Context(), a.address, id, nil)
	if err != nil || !slices.Equal(got.Forks, want.Forks[5:]) {
		t.Errorf("of many forks: got %v, %v", got, err)
	}
}

func TestAncestryIsChecked(t *testing.T) {
	u := make([]byte, 16)
	u[0] = 1
	for name, bad := range map[string]*peerpb.LineageResponse{
		"nothing":           nil,
		"no incarnation":    {Incarnation: make([]byte, 16)},
		"short incarnation": {Incarnation: u[:15]},
		"long incarnation":  {Incarnation: append(slices.Clone(u), 1)},
		"fork of nothing":   {Incarnation: u, Forks: []*peerpb.Fork{{Index: 1}}},
		"forks fall":        {Incarnation: u, Forks: []*peerpb.Fork{{Incarnation: u, Index: 2}, {Incarnation: u, Index: 1}}},
		"many forks":        {Incarnation: u, Forks: slices.Repeat([]*peerpb.Fork{{Incarnation: u}}, maxForks+1)},
	} {
		if got, err := parseAncestry(bad); !errors.Is(err, ErrAncestry) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	id := start(t, 2).Identity()
	if _, err := Lineage(t.Context(), liar{}.serve(t), id, nil); !errors.Is(err, ErrAncestry) {
		t.Errorf("a liar's lineage gives %v", err)
	}
}

// What a refusal says beyond its reason arrives, up to a bound.
func TestRefusalDetails(t *testing.T) {
	a := start(t, 1)
	refusal := refuse(peerpb.RefusalReason_REFUSAL_REASON_EXTRA_TRANSACTIONS, "you know more")
	refusal.CommonIndex = 77
	a.join = func(*peerpb.JoinRequest) (*peerpb.JoinResponse, error) { return nil, refusal }
	for size, want := range map[int]int{0: 0, 10: 10, MaxExtraBytes: MaxExtraBytes, MaxExtraBytes + 1: 0} {
		refusal.Extra = strings.Repeat("x", size)
		_, err := Join(t.Context(), a.address, &peerpb.JoinRequest{Identity: start(t, 2).Identity()}, nil)
		got := isRefused(t, "join", err, refusal.Reason)
		if got.CommonIndex != 77 || got.Text != refusal.Text || got.Incarnation != testIncarnation || len(got.Extra) != want {
			t.Errorf("%d bytes of extra arrive as %d, with %d, %s", size, len(got.Extra), got.CommonIndex, got.Incarnation)
		}
	}
	joiner := start(t, 3, func(c *Config) { c.Identity.Incarnation = gtid.UUID{} })
	_, err := Join(t.Context(), joiner.address, &peerpb.JoinRequest{Identity: start(t, 4, func(c *Config) { c.Identity.Group = gtid.UUID{1} }).Identity()}, nil)
	if r := isRefused(t, "join", err, peerpb.RefusalReason_REFUSAL_REASON_WRONG_GROUP); !r.Incarnation.IsZero() {
		t.Errorf("a member without an incarnation refuses as of %s", r.Incarnation)
	}
}
