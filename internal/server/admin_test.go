package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

const stranger = "00000000-0000-4000-8000-0000000000aa"

// Every call of a server without a node says that there is none.
func TestMembershipBeforeThereIsANode(t *testing.T) {
	ctx := testContext(t)
	_, c := start(t, nil, Config{})
	_, plan := c.Plan(ctx, &adminpb.PlanRequest{Verb: adminpb.Verb_VERB_LEAVE})
	_, leave := c.Leave(ctx, &adminpb.LeaveRequest{})
	_, remove := c.Remove(ctx, &adminpb.RemoveRequest{Member: stranger})
	_, join := c.Join(ctx, &adminpb.JoinRequest{})
	_, rejoin := c.Rejoin(ctx, &adminpb.RejoinRequest{})
	_, clone := c.Clone(ctx, &adminpb.CloneRequest{})
	_, planForce := c.PlanForceMembers(ctx, &adminpb.PlanForceMembersRequest{Members: []string{stranger}})
	_, force := c.ForceMembers(ctx, &adminpb.ForceMembersRequest{Plan: stranger, Members: []string{stranger}})
	stream, history := c.History(ctx, &adminpb.HistoryRequest{})
	if history == nil {
		_, history = stream.Recv()
	}
	for i, err := range []error{plan, leave, remove, join, rejoin, clone, planForce, force, history} {
		if !errors.Is(err, concordat.ErrNotOnline) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// What names no member or no change is refused before the node is asked.
func TestMembershipArguments(t *testing.T) {
	ctx := testContext(t)
	_, c := start(t, openNode(t), Config{})
	_, noVerb := c.Plan(ctx, &adminpb.PlanRequest{Member: stranger})
	_, badPlan := c.Plan(ctx, &adminpb.PlanRequest{Verb: adminpb.Verb_VERB_REMOVE, Member: "a"})
	_, noMember := c.Remove(ctx, &adminpb.RemoveRequest{})
	_, badReplaces := c.Join(ctx, &adminpb.JoinRequest{Replaces: "a"})
	_, badList := c.PlanForceMembers(ctx, &adminpb.PlanForceMembersRequest{Members: []string{stranger, "a"}})
	_, badPlans := c.PlanForceMembers(ctx, &adminpb.PlanForceMembersRequest{Members: []string{stranger}, Supersede: []string{"a"}})
	_, noPlan := c.ForceMembers(ctx, &adminpb.ForceMembersRequest{Members: []string{stranger}})
	_, worsePlans := c.ForceMembers(ctx, &adminpb.ForceMembersRequest{Plan: stranger, Supersede: []string{stranger, "a"}})
	for i, err := range []error{noVerb, badPlan, noMember, badReplaces, badList, badPlans, noPlan, worsePlans} {
		if !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// A member that is alone cannot leave, nobody who is no member can be removed,
// and both are said with force and without.
func TestChangesOfALonelyMember(t *testing.T) {
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	for _, force := range []bool{false, true} {
		if _, err := c.Remove(ctx, &adminpb.RemoveRequest{Member: stranger, Force: force}); !errors.Is(err, concordat.ErrRefused) {
			t.Errorf("removing a stranger, force %t: %v", force, err)
		}
		if _, err := c.Leave(ctx, &adminpb.LeaveRequest{Force: force}); !errors.Is(err, concordat.ErrRefused) {
			t.Errorf("the last leaves, force %t: %v", force, err)
		}
	}
	if s := n.Status(); s.State != concordat.Online {
		t.Errorf("the member is %s", s.State)
	}
}

func TestPlans(t *testing.T) {
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	self := n.Status().Member.String()

	r, err := c.Plan(ctx, &adminpb.PlanRequest{Verb: adminpb.Verb_VERB_LEAVE})
	if err != nil {
		t.Fatal(err)
	}
	if p := r.GetPlan(); !strings.Contains(p.GetRefused(), "last ONLINE") || p.GetForceable() || p.GetOutlook().GetVoters() != 1 {
		t.Errorf("to leave: %v", p)
	}

	if r, err = c.Plan(ctx, &adminpb.PlanRequest{Verb: adminpb.Verb_VERB_JOIN, Member: stranger}); err != nil {
		t.Fatal(err)
	}
	p := r.GetPlan()
	now, then, later := p.GetOutlook(), p.GetOutlookAfter(), p.GetOutlookLater()
	if p.GetRefused() != "" || now.GetMembers() != 1 || then.GetVoters() != 1 || then.GetRecovering() != 1 || later.GetQuorum() != 2 {
		t.Errorf("to join: %v", p)
	}
	if p.GetLeader() != self || len(p.GetPrimaries()) != 1 || p.GetPrimaries()[0] != self || len(p.GetWarnings()) == 0 {
		t.Errorf("to join: %v", p)
	}
	before, after := p.GetView(), p.GetViewAfter()
	if before.GetId() == "" || after.GetId() != "" || after.GetIndex() != 0 || len(after.GetMembers()) != 2 {
		t.Errorf("the view is %v, and would be %v", before, after)
	}
	if v := n.Status().View; len(v.Members) != 1 {
		t.Errorf("a plan has changed the view: %v", v)
	}
}

// receive reads the history until the stream ends, or stop says that it is
// enough.
func receive(t *testing.T, stream grpc.ServerStreamingClient[adminpb.HistoryResponse], stop func(*adminpb.Event) bool) (views []*adminpb.ViewRecord, events []*adminpb.Event) {
	t.Helper()
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return views, events
		}
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, r.GetViews()...)
		for _, e := range r.GetEvents() {
			events = append(events, e)
			if stop(e) {
				return views, events
			}
		}
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	stream, err := c.History(ctx, &adminpb.HistoryRequest{})
	if err != nil {
		t.Fatal(err)
	}
	views, events := receive(t, stream, func(*adminpb.Event) bool { return false })
	if len(views) != 1 || views[0].GetId() != "1" || views[0].GetCause() == "" || views[0].GetIncarnation() != n.Status().Incarnation.String() {
		t.Errorf("views %v", views)
	}
	want := n.Events(0)
	if len(events) < 2 || len(events) > len(want) {
		t.Fatalf("%d events arrived of %d", len(events), len(want))
	}
	for i, e := range events {
		if w := want[i]; e.GetSeq() != w.Seq || e.GetKind() != string(w.Kind) || e.GetText() != w.Text || e.GetUnixNanos() != w.Time.UnixNano() {
			t.Errorf("event %v, want %+v", e, w)
		}
	}

	last := events[len(events)-1].GetSeq()
	if stream, err = c.History(ctx, &adminpb.HistoryRequest{After: last - 1}); err != nil {
		t.Fatal(err)
	}
	if _, rest := receive(t, stream, func(*adminpb.Event) bool { return false }); len(rest) == 0 || rest[0].GetSeq() != last {
		t.Errorf("after %d: %v", last-1, rest)
	}
}

// What began a view and why are told apart.
func TestViewRecordsTravel(t *testing.T) {
	got := viewRecord(concordat.ViewRecord{ID: 3, Index: 40, Incarnation: gtid.UUID{2: 2}, Cause: "m expelled", Reason: "nobody has heard it"})
	want := &adminpb.ViewRecord{Id: "3", Index: 40, Incarnation: gtid.UUID{2: 2}.String(), Cause: "m expelled", Reason: "nobody has heard it"}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// Who follows the history gets what happens, and does not keep the server.
func TestHistoryIsFollowed(t *testing.T) {
	ctx := testContext(t)
	n := openNode(t)
	s, c := start(t, n, Config{})
	events := n.Events(0)
	last := events[len(events)-1].Seq
	stream, err := c.History(ctx, &adminpb.HistoryRequest{After: last, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // the views: it follows now
		t.Fatal(err)
	}
	// To go on with a plan that nobody knows is refused, and noted.
	if _, err := c.ForceMembers(ctx, &adminpb.ForceMembersRequest{Plan: stranger}); !errors.Is(err, concordat.ErrRefused) {
		t.Fatal(err)
	}
	_, news := receive(t, stream, func(e *adminpb.Event) bool { return e.GetKind() == string(concordat.EventForce) })
	if len(news) == 0 || news[0].GetSeq() != last+1 {
		t.Errorf("followed from %d: %v", last, news)
	}
	s.Stop(ctx)
	if ctx.Err() != nil {
		t.Error("the server waited for the one who follows")
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, concordat.ErrClosed) {
		t.Errorf("the history ends with %v", err)
	}
}

// A caller who gives up waiting for a member to come stops nothing.
func TestComingOutlivesTheCaller(t *testing.T) {
	n := openNode(t)
	s, _ := start(t, n, Config{})
	a := &admin{server: s}
	ctx, cancel := context.WithCancel(t.Context())
	began, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	given := make(chan error, 1)
	go func() {
		given <- a.come(ctx, func(ctx context.Context, _ *concordat.Node) error {
			close(began)
			select {
			case <-goOn:
			case <-ctx.Done():
			}
			ended <- ctx.Err()
			return nil
		})
	}()
	<-began
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller gets %v", err)
	}
	close(goOn)
	if err := <-ended; err != nil {
		t.Errorf("the order ended with its caller: %v", err)
	}
}

func TestRecoveriesTravel(t *testing.T) {
	donor := uuid(t, stranger)
	for _, test := range []struct {
		sent *concordat.Recovery
		want *adminpb.Recovery
	}{
		{nil, nil},
		{
			&concordat.Recovery{Method: concordat.RecoveryClone, Donor: donor, Address: "a:1", Done: 3, Total: 9, Rate: 1.5, Left: 4 * time.Second},
			&adminpb.Recovery{Method: adminpb.Recovery_METHOD_CLONE, Donor: stranger, DonorAddress: "a:1", Done: 3, Total: 9, Rate: 1.5, LeftNanos: 4e9},
		},
		{
			&concordat.Recovery{Method: concordat.RecoveryLog, Position: 70, Target: 90, Rate: 10, Left: 2 * time.Second},
			&adminpb.Recovery{Method: adminpb.Recovery_METHOD_LOG, Done: 70, Total: 90, Rate: 10, LeftNanos: 2e9},
		},
	} {
		if diff := cmp.Diff(test.want, recovery(test.sent), protocmp.Transform()); diff != "" {
			t.Errorf("%+v: %s", test.sent, diff)
		}
	}
}

// Each state has its own form on the network.
func TestStatesTravel(t *testing.T) {
	seen := map[adminpb.MemberState]bool{adminpb.MemberState_MEMBER_STATE_UNSPECIFIED: true}
	for _, s := range []concordat.State{concordat.Offline, concordat.Recovering, concordat.Online, concordat.Error, concordat.Unreachable} {
		over := state(s)
		if seen[over] || over.String() != "MEMBER_STATE_"+string(s) {
			t.Errorf("%s is sent as %s", s, over)
		}
		seen[over] = true
	}
}

func TestStatusOfALonelyMember(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	_, c := start(t, n, Config{})
	s, err := c.Status(testContext(t), &adminpb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if s.GetAddress() != n.Address() || !s.GetQuorum() || s.GetWaiting() != "" || s.GetRecovery() != nil || s.GetFrozen() != "" {
		t.Errorf("status %v", s)
	}
	if d := s.GetDiagnosis(); d.GetCode() != "OK_NO_TOLERANCE" || !strings.Contains(d.GetText(), "Join 2 members more") {
		t.Errorf("diagnosis %v", d)
	}
	if o := s.GetOutlook(); o.GetMembers() != 1 || o.GetVoters() != 1 || o.GetReachable() != 1 || o.GetQuorum() != 1 || o.GetTolerance() != 0 {
		t.Errorf("outlook %v", o)
	}
}

// A group that has its quorum is not forced.
func TestForceWithQuorum(t *testing.T) {
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	self := n.Status().Member.String()
	_, plan := c.PlanForceMembers(ctx, &adminpb.PlanForceMembersRequest{Members: []string{self}})
	_, force := c.ForceMembers(ctx, &adminpb.ForceMembersRequest{Plan: stranger, Members: []string{self}})
	for _, err := range []error{plan, force} {
		if refused, ok := errors.AsType[*concordat.RefusedError](err); !ok || refused.Forceable || !errors.Is(err, concordat.ErrRefused) {
			t.Errorf("%v", err)
		}
	}
}

// A member that is OFFLINE joins by order, is served from then on, and leaves
// by order: with it a group of two can lose nobody, so nothing gets worse.
func TestMemberComesAndGoes(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	founder := openNode(t)
	_, c := start(t, founder, Config{})
	fresh, err := concordat.Start(ctx, concordat.Config{
		Group: founder.Status().Group.String(), Dir: t.TempDir(), Listen: "127.0.0.1:0", TickInterval: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fresh.Close() })
	l := listen(t)
	s := Start(Config{Listener: l})
	t.Cleanup(func() { s.Stop(t.Context()) })
	s.SetNode(fresh)
	comes := dial(t, l)
	watch, err := grpc_health_v1.NewHealthClient(plain(t, l)).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := comes.Plan(ctx, &adminpb.PlanRequest{Verb: adminpb.Verb_VERB_JOIN}); !errors.Is(err, concordat.ErrNotOnline) {
		t.Errorf("a plan of one in no group: %v", err)
	}
	if _, err := comes.Join(ctx, &adminpb.JoinRequest{Seeds: []string{founder.Address()}}); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, watch, grpc_health_v1.HealthCheckResponse_SERVING)
	r, err := comes.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r.GetState() != adminpb.MemberState_MEMBER_STATE_ONLINE || r.GetOutlook().GetVoters() != 2 || r.GetOutlook().GetQuorum() != 2 {
		t.Errorf("status %v", r)
	}
	if _, err := comes.Join(ctx, &adminpb.JoinRequest{}); !errors.Is(err, concordat.ErrRefused) {
		t.Errorf("joining again: %v", err)
	}
	heard := &adminpb.RemoveRequest{Member: fresh.Status().Member.String()}
	if refused, ok := errors.AsType[*concordat.RefusedError](fail(c.Remove(ctx, heard))); !ok || !refused.Forceable {
		t.Errorf("removing one that is heard: %v", refused)
	}
	if _, err := comes.Leave(ctx, &adminpb.LeaveRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Remove(ctx, heard); !errors.Is(err, concordat.ErrRefused) {
		t.Errorf("removing one that has left: %v", err)
	}
}

// Who waits in a minority until the deadline hears that nothing has happened, and
// need not take it for unknown.
func TestMinorityIsToldInTime(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	hasty := func(c *concordat.Config) { c.MemberSuspectTimeout = 200 * time.Millisecond }
	n := openNode(t, hasty)
	other := openNode(t, hasty, func(c *concordat.Config) { c.Bootstrap, c.Seeds = false, []string{n.Address()} })
	_, c := start(t, n, Config{})
	settings, err := c.GetSettings(ctx, &adminpb.GetSettingsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	seen := uint64(0)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for n.Status().Quorum {
		events, err := n.WaitEvents(ctx, seen)
		if err != nil {
			t.Fatal(err)
		}
		seen = events[len(events)-1].Seq
	}
	for name, do := range map[string]func(context.Context) error{
		"put": func(ctx context.Context) error {
			return fail(c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Key: []byte("k"), TransactionId: someID}))
		},
		"settings": func(ctx context.Context) error {
			return fail(c.SetSettings(ctx, &adminpb.SetSettingsRequest{Settings: settings.GetSettings()}))
		},
		"remove": func(ctx context.Context) error {
			return fail(c.Remove(ctx, &adminpb.RemoveRequest{Member: other.Status().Member.String(), Force: true}))
		},
	} {
		if err := inTheEnd(ctx, do); !errors.Is(err, concordat.ErrNoQuorum) || errors.Is(err, concordat.ErrOutcomeUnknown) {
			t.Errorf("%s: %v, want ErrNoQuorum", name, err)
		}
	}
}

// inTheEnd returns what a call with a deadline is told before it. A busy machine may
// need longer than the half second that there is for that, so it is made again until
// ctx ends.
func inTheEnd(ctx context.Context, do func(context.Context) error) error {
	for {
		short, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
		err := do(short)
		late := short.Err() != nil
		cancel()
		if !late || ctx.Err() != nil {
			return err
		}
	}
}

func fail[T any](_ T, err error) error { return err }
