package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

const someAction = "00000000-0000-4000-8000-0000000000bb"

// eventually waits for what has to come.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx := testContext(t)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// pair is a single-primary group of two members, the first of which is primary, each
// served to a client.
type pair struct {
	nodes   [2]*concordat.Node
	clients [2]*Client
	uuids   [2]string
}

func openPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{}
	for i := range p.nodes {
		p.nodes[i] = openNode(t, func(c *concordat.Config) {
			c.FoundingMode, c.ClientAddress = concordat.SinglePrimary, fmt.Sprintf("db%d.example:7500", i)
			if i > 0 {
				c.Bootstrap, c.Seeds = false, []string{p.nodes[0].Address()}
			}
		})
		_, p.clients[i] = start(t, p.nodes[i], Config{})
		p.uuids[i] = p.nodes[i].Status().Member.String()
	}
	eventually(t, "both members are ONLINE to both, and have said where clients reach them", func() bool {
		for _, n := range p.nodes {
			v := n.Status().View
			if len(v.Members) != 2 || slices.ContainsFunc(v.Members, func(m concordat.Member) bool {
				return m.State != concordat.Online || m.ClientAddress == ""
			}) {
				return false
			}
		}
		return true
	})
	return p
}

func (p *pair) status(t *testing.T, at int) *adminpb.StatusResponse {
	t.Helper()
	s, err := p.clients[at].Status(testContext(t), &adminpb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A group is switched in every way through any of its members, and each one tells
// the same of it.
func TestPlannedChanges(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	p := openPair(t)
	s := p.status(t, 1)
	if s.GetMode() != adminpb.Mode_MODE_SINGLE_PRIMARY || s.GetEpoch() != 1 || s.GetPrimary() != p.uuids[0] || s.GetWritable() || s.GetProtocol() != 1 {
		t.Errorf("a secondary says %v", s)
	}
	for _, m := range s.GetView().GetMembers() {
		primary := m.GetUuid() == p.uuids[0]
		if m.GetPrimary() != primary || m.GetWrites() != primary || !strings.HasSuffix(m.GetClientAddress(), ".example:7500") {
			t.Errorf("member %v", m)
		}
	}

	set, err := p.clients[1].SetPrimary(ctx, &adminpb.SetPrimaryRequest{Member: p.uuids[1], Terms: &adminpb.SwitchTerms{Id: someAction, Reason: "a test"}})
	if err != nil {
		t.Fatal(err)
	}
	want := &adminpb.Action{
		Id: someAction, Kind: adminpb.Action_KIND_SET_PRIMARY, Result: adminpb.Action_RESULT_DONE, Target: p.uuids[1], Asker: p.uuids[1],
		Reason: "a test", Epoch: 2, Text: p.uuids[1] + " is primary since epoch 2",
	}
	unsaid := protocmp.IgnoreFields(&adminpb.Action{}, "index", "took_nanos")
	if diff := cmp.Diff(want, set.GetAction(), protocmp.Transform(), unsaid); diff != "" || set.GetAction().GetTookNanos() <= 0 || set.GetAction().GetIndex() == 0 {
		t.Errorf("%v\n%s", set, diff)
	}
	eventually(t, "the other member knows", func() bool { return p.status(t, 0).GetEpoch() == 2 })
	got, err := p.clients[0].GetAction(ctx, &adminpb.GetActionRequest{Id: someAction})
	if diff := cmp.Diff(want, got.GetAction(), protocmp.Transform(), unsaid); diff != "" || err != nil || got.GetAction().GetIndex() != set.GetAction().GetIndex() {
		t.Errorf("%v: %s", err, diff)
	}
	if s := p.status(t, 1); !s.GetWritable() || s.GetPrimary() != p.uuids[1] {
		t.Errorf("the new primary says %v", s)
	}

	multi, err := p.clients[0].SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_MULTI_PRIMARY})
	if err != nil || multi.GetAction().GetResult() != adminpb.Action_RESULT_DONE || multi.GetAction().GetId() == "" || multi.GetAction().GetEpoch() != 3 {
		t.Errorf("%v, %v", multi, err)
	}
	single, err := p.clients[0].SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Member: p.uuids[0]})
	if err != nil || single.GetAction().GetKind() != adminpb.Action_KIND_TO_SINGLE || single.GetAction().GetTarget() != p.uuids[0] {
		t.Errorf("%v, %v", single, err)
	}
	protocol, err := p.clients[0].SetProtocol(ctx, &adminpb.SetProtocolRequest{Protocol: 1})
	if err != nil || protocol.GetAction().GetResult() != adminpb.Action_RESULT_NO_CHANGE {
		t.Errorf("%v, %v", protocol, err)
	}

	stream, err := p.clients[0].History(ctx, &adminpb.HistoryRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || len(first.GetEpochs()) != 4 {
		t.Fatalf("%v, %v", first, err)
	}
	last := first.GetEpochs()[3]
	if last.GetNumber() != 4 || last.GetPrimary() != p.uuids[0] || last.GetCause() != "switched to single-primary" || last.GetReason() == "" || last.GetIndex() == 0 {
		t.Errorf("epoch %v", last)
	}
	why, err := p.clients[0].Why(ctx, &adminpb.WhyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(last, why.GetEpoch(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if r := why.GetRanking(); len(r) != 2 || r[0].GetMember() != why.GetWinner() || r[0].GetVerdict() != adminpb.Rank_VERDICT_ELECTED || r[0].GetRank() != 1 ||
		r[1].GetVerdict() != adminpb.Rank_VERDICT_OUTRANKED_BY_UUID || r[1].GetText() == "" || r[1].GetWeight() != 50 || r[1].GetVersion() != concordat.Version {
		t.Errorf("%v", why)
	}
}

// A plan says what would be done or refused, and does not do it.
func TestActionPlans(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	p := openPair(t)
	for _, c := range []struct {
		what string
		ask  *adminpb.PlanActionRequest
		want *adminpb.ActionPlan
		text string // in what is refused
	}{
		{
			"another one", &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_SET_PRIMARY, Member: p.uuids[1]},
			&adminpb.ActionPlan{Target: p.uuids[1], Pending: []string{p.uuids[0]}}, "",
		},
		{
			"the same", &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_SET_PRIMARY, Member: p.uuids[0]},
			&adminpb.ActionPlan{Target: p.uuids[0], NoChange: true}, "",
		},
		{"a stranger", &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_SET_PRIMARY, Member: stranger}, &adminpb.ActionPlan{}, "no member"},
		{"many", &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_MULTI}, &adminpb.ActionPlan{}, ""},
		{"one", &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_SINGLE}, &adminpb.ActionPlan{NoChange: true}, ""},
		{"the protocol", &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_SET_PROTOCOL, Protocol: 1}, &adminpb.ActionPlan{NoChange: true}, ""},
		{"one to come", &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_SET_PROTOCOL, Protocol: 9}, &adminpb.ActionPlan{}, "speaks protocols"},
	} {
		r, err := p.clients[1].PlanAction(ctx, c.ask)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if refused := r.GetPlan().GetRefused(); (refused == "") != (c.text == "") || !strings.Contains(refused, c.text) {
			t.Errorf("%s: refused for %q", c.what, refused)
		}
		c.want.Kind = c.ask.GetKind()
		if diff := cmp.Diff(c.want, r.GetPlan(), protocmp.Transform(), protocmp.IgnoreFields(&adminpb.ActionPlan{}, "refused")); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
	}
	if s := p.status(t, 0); s.GetEpoch() != 1 || s.GetAction() != nil {
		t.Errorf("plans have changed something: %v", s)
	}
	if _, err := p.clients[0].SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_MULTI_PRIMARY}); err != nil {
		t.Fatal(err)
	}
	r, err := p.clients[0].PlanAction(ctx, &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_SINGLE})
	lowest := slices.Min(p.uuids[:])
	if plan := r.GetPlan(); err != nil || plan.GetTarget() != lowest || len(plan.GetPending()) != 1 || plan.GetPending()[0] == lowest {
		t.Errorf("to one of many: %v, %v", r, err)
	}
}

// A member that is not heard speaks against a change, unless the operator insists.
func TestInsistingOnAChange(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	hasty := func(c *concordat.Config) {
		c.FoundingMode, c.MemberSuspectTimeout, c.MemberExpelTimeout = concordat.SinglePrimary, time.Second, time.Hour
	}
	n := openNode(t, hasty)
	_, c := start(t, n, Config{})
	joins := func(c *concordat.Config) { c.Bootstrap, c.Seeds = false, []string{n.Address()} }
	_, gone := openNode(t, hasty, joins), openNode(t, hasty, joins)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is UNREACHABLE, and the two others are ONLINE", func() bool {
		members := n.Status().View.Members
		return len(members) == 3 && !slices.ContainsFunc(members, func(m concordat.Member) bool {
			return (m.UUID == gone.Status().Member) != (m.State == concordat.Unreachable) || m.State == concordat.Recovering
		})
	})
	ask := func(insist bool) *adminpb.PlanActionRequest {
		return &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_MULTI, Terms: &adminpb.SwitchTerms{Insist: insist}}
	}
	for insist, want := range map[bool]string{false: "are UNREACHABLE", true: ""} {
		r, err := c.PlanAction(ctx, ask(insist))
		if p := r.GetPlan(); err != nil || !strings.Contains(p.GetRefused(), want) || (p.GetRefused() != "") == insist || p.GetForceable() == insist {
			t.Errorf("insisting %t: %v, %v", insist, r, err)
		}
	}
	mode := &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_MULTI_PRIMARY, Terms: &adminpb.SwitchTerms{}}
	if refused, ok := errors.AsType[*concordat.RefusedError](fail(c.SwitchMode(ctx, mode))); !ok || !refused.Forceable {
		t.Errorf("refused for %v", refused)
	}
	mode.Terms.Insist = true
	if r, err := c.SwitchMode(ctx, mode); err != nil || r.GetAction().GetResult() != adminpb.Action_RESULT_DONE {
		t.Errorf("insisting: %v, %v", r, err)
	}
}

// A change that waits for a transaction outlives its caller, is told by every member
// with what it waits for, and is taken back by its id; who asked is told that.
func TestCancelledChange(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	p := openPair(t)
	tx, err := p.nodes[0].Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hour := int64(time.Hour)
	ask := func(ctx context.Context, id string) error {
		return fail(p.clients[1].SetPrimary(ctx, &adminpb.SetPrimaryRequest{Member: p.uuids[1], Terms: &adminpb.SwitchTerms{Id: id, GraceNanos: &hour}}))
	}
	impatient, cancel := context.WithCancel(ctx)
	gone := make(chan error, 1)
	go func() { gone <- ask(impatient, someAction) }()
	eventually(t, "the change waits", func() bool {
		return p.status(t, 0).GetAction().GetId() == someAction && p.status(t, 1).GetAction() != nil
	})
	cancel()
	if err := <-gone; !errors.Is(err, concordat.ErrOutcomeUnknown) {
		t.Errorf("the caller who went gets %v", err)
	}
	s := p.status(t, 0)
	if a := s.GetAction(); a.GetResult() != adminpb.Action_RESULT_UNSPECIFIED || !slices.Equal(a.GetPending(), p.uuids[:1]) || a.GetTarget() != p.uuids[1] || s.GetRunning() != 1 {
		t.Errorf("under way: %v", s)
	}
	if err := ask(ctx, stranger); !errors.Is(err, concordat.ErrRefused) || errors.Is(err, ErrGivenUp) || !strings.Contains(err.Error(), someAction) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := p.clients[0].CancelAction(ctx, &adminpb.CancelActionRequest{Id: someAction}); err != nil {
		t.Fatal(err)
	}
	r, err := p.clients[0].GetAction(ctx, &adminpb.GetActionRequest{Id: someAction})
	if err != nil || r.GetAction().GetResult() != adminpb.Action_RESULT_CANCELLED {
		t.Errorf("%v, %v", r, err)
	}

	const second = "00000000-0000-4000-8000-0000000000cc"
	go func() { gone <- ask(ctx, second) }()
	eventually(t, "it waits again", func() bool { return p.status(t, 0).GetAction().GetId() == second })
	if _, err := p.clients[1].CancelAction(ctx, &adminpb.CancelActionRequest{Id: second}); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; !errors.Is(err, ErrGivenUp) || !errors.Is(err, concordat.ErrRefused) || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("who asked gets %v", err)
	}
	if err := tx.Put(accounts, []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		t.Errorf("the transaction that it waited for: %v", err)
	}
	if s := p.status(t, 0); s.GetAction() != nil || s.GetEpoch() != 1 || s.GetRunning() != 0 || !s.GetWritable() {
		t.Errorf("after all: %v", s)
	}
}

// What names nothing that can be is refused before the group is asked.
func TestPlannedChangeArguments(t *testing.T) {
	ctx := testContext(t)
	_, c := start(t, openNode(t, func(c *concordat.Config) { c.FoundingMode = concordat.MultiPrimary }), Config{})
	negative, bad := int64(-1), &adminpb.SwitchTerms{Id: "a"}
	_, noMember := c.SetPrimary(ctx, &adminpb.SetPrimaryRequest{})
	_, noID := c.SetPrimary(ctx, &adminpb.SetPrimaryRequest{Member: stranger, Terms: bad})
	_, noMode := c.SwitchMode(ctx, &adminpb.SwitchModeRequest{})
	_, someone := c.SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_MULTI_PRIMARY, Member: stranger})
	_, anyone := c.SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Member: "a"})
	_, noGrace := c.SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Terms: &adminpb.SwitchTerms{GraceNanos: &negative}})
	_, badProtocol := c.SetProtocol(ctx, &adminpb.SetProtocolRequest{Protocol: 1, Terms: bad})
	_, cancelNone := c.CancelAction(ctx, &adminpb.CancelActionRequest{})
	_, getBad := c.GetAction(ctx, &adminpb.GetActionRequest{Id: "a"})
	_, planNone := c.PlanAction(ctx, &adminpb.PlanActionRequest{})
	_, planBad := c.PlanAction(ctx, &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_SINGLE, Member: "a"})
	_, planTerms := c.PlanAction(ctx, &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_MULTI, Terms: bad})
	_, planGrace := c.PlanAction(ctx, &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_SINGLE, Terms: &adminpb.SwitchTerms{GraceNanos: &negative}})
	for i, err := range []error{
		noMember, noID, noMode, someone, anyone, noGrace, badProtocol, cancelNone, getBad, planNone, planBad, planTerms, planGrace,
	} {
		if !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if r, err := c.GetAction(ctx, &adminpb.GetActionRequest{Id: stranger}); err != nil || r.GetAction() != nil {
		t.Errorf("an unknown one: %v, %v", r, err)
	}
	if _, err := c.CancelAction(ctx, &adminpb.CancelActionRequest{Id: stranger}); !errors.Is(err, concordat.ErrRefused) || errors.Is(err, ErrGivenUp) {
		t.Errorf("cancel of an unknown one: %v", err)
	}
}

func TestPlannedChangesBeforeThereIsANode(t *testing.T) {
	ctx := testContext(t)
	_, c := start(t, nil, Config{})
	_, set := c.SetPrimary(ctx, &adminpb.SetPrimaryRequest{Member: stranger})
	_, mode := c.SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_MULTI_PRIMARY})
	_, protocol := c.SetProtocol(ctx, &adminpb.SetProtocolRequest{Protocol: 1})
	_, plan := c.PlanAction(ctx, &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_MULTI})
	_, cancel := c.CancelAction(ctx, &adminpb.CancelActionRequest{Id: stranger})
	_, get := c.GetAction(ctx, &adminpb.GetActionRequest{Id: stranger})
	_, why := c.Why(ctx, &adminpb.WhyRequest{})
	for i, err := range []error{set, mode, protocol, plan, cancel, get, why} {
		if !errors.Is(err, concordat.ErrNotOnline) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if s, err := c.Status(ctx, &adminpb.StatusRequest{}); err != nil || s.GetFreshNanos() >= 0 {
		t.Errorf("%v, %v", s, err)
	}
}

// A change that had begun and came to nothing is told from one that was refused.
func TestGivenUpTravels(t *testing.T) {
	sent := &concordat.RefusedError{Reason: "set-primary aborted: the member is out of the view"}
	for result, want := range map[concordat.ActionResult]bool{election.Cancelled: true, election.Aborted: true, election.Refused: false} {
		over := toStatus(givenUp(sent, result))
		if status.Code(over) != codes.FailedPrecondition {
			t.Errorf("%v: status %v", result, status.Code(over))
		}
		got := fromStatus(over, lostWrite)
		if errors.Is(got, ErrGivenUp) != want || !errors.Is(got, concordat.ErrRefused) || got.Error() != sent.Error() {
			t.Errorf("%v arrives as %v", result, got)
		}
	}
	if err := givenUp(context.Canceled, election.Cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("the end of a wait became %v", err)
	}
}

// Everything that elections say has a form of its own on the network.
func TestElectionsTravel(t *testing.T) {
	seen := map[string]bool{}
	check := func(from fmt.Stringer, over fmt.Stringer) {
		if t.Helper(); strings.HasSuffix(over.String(), "_UNSPECIFIED") || seen[over.String()] {
			t.Errorf("%s is sent as %s", from, over)
		}
		seen[over.String()] = true
	}
	for m := concordat.Mode(1); !strings.HasPrefix(m.String(), "Mode("); m++ {
		check(m, modes[m])
	}
	for k := concordat.ActionKind(1); !strings.HasPrefix(k.String(), "ActionKind("); k++ {
		check(k, actionKinds[k])
	}
	for r := concordat.ActionResult(1); !strings.HasPrefix(r.String(), "Result("); r++ {
		check(r, actionResults[r])
	}
	for v := election.Verdict(1); !strings.HasPrefix(v.String(), "Verdict("); v++ {
		check(v, verdicts[v])
	}
	if len(seen) != 2+4+6+7 {
		t.Errorf("%d are sent", len(seen))
	}
	if got := gate(&concordat.Gate{Index: 7, Waits: []gtid.UUID{uuid(t, stranger)}}); got.GetIndex() != 7 || !slices.Equal(got.GetMissing(), []string{stranger}) {
		t.Errorf("a gate is sent as %v", got)
	}
	if gate(nil) != nil || action(nil) != nil {
		t.Error("nothing is sent as something")
	}
}
