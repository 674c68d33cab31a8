package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// The members of a group that does not exist.
const (
	memberA = "00000000-0000-4000-8000-00000000000a"
	memberB = "00000000-0000-4000-8000-00000000000b"
	memberC = "00000000-0000-4000-8000-00000000000c"

	testIncarnation = "00000000-0000-4000-8000-0000000000f1"
	testPlan        = "00000000-0000-4000-8000-0000000000f2"
	testAction      = "00000000-0000-4000-8000-0000000000f3"
)

// fakeAdmin is a node that says what a test wants said, over a real socket. A
// field that is nil is a call that must not come.
type fakeAdmin struct {
	adminpb.UnimplementedAdminServer

	status *adminpb.StatusResponse
	plan   *adminpb.Plan
	force  *adminpb.ForcePlan
	report *adminpb.ForceReport
	err    error // of every call that changes something
	// action is what is known of a planned change, and how one ends; switched, if
	// it is set, is waited for before that.
	action   *adminpb.Action
	switched chan struct{}
	why      *adminpb.WhyResponse
	future   *adminpb.ActionPlan
	// history is what is sent; steps follows it, to those who follow, once
	// ForceMembers was called.
	history []*adminpb.HistoryResponse
	steps   []*adminpb.Event

	mu     sync.Mutex
	asked  []proto.Message
	steady chan struct{}
	forced chan struct{}
}

// serve serves the fake until the test ends.
func (a *fakeAdmin) serve(t *testing.T) (address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	a.steady, a.forced = make(chan struct{}), make(chan struct{})
	s := grpc.NewServer()
	adminpb.RegisterAdminServer(s, a)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func (a *fakeAdmin) note(r proto.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r)
}

// orders returns what was asked, but for questions that change nothing.
func (a *fakeAdmin) orders() (out []proto.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.asked {
		switch r.(type) {
		case *adminpb.StatusRequest, *adminpb.HistoryRequest, *adminpb.GetActionRequest:
		default:
			out = append(out, r)
		}
	}
	return out
}

func (a *fakeAdmin) Status(_ context.Context, r *adminpb.StatusRequest) (*adminpb.StatusResponse, error) {
	a.note(r)
	return a.status, nil
}

func (a *fakeAdmin) Plan(_ context.Context, r *adminpb.PlanRequest) (*adminpb.PlanResponse, error) {
	a.note(r)
	return &adminpb.PlanResponse{Plan: a.plan}, nil
}

func (a *fakeAdmin) Leave(_ context.Context, r *adminpb.LeaveRequest) (*adminpb.LeaveResponse, error) {
	a.note(r)
	return &adminpb.LeaveResponse{}, a.err
}

func (a *fakeAdmin) Remove(_ context.Context, r *adminpb.RemoveRequest) (*adminpb.RemoveResponse, error) {
	a.note(r)
	return &adminpb.RemoveResponse{}, a.err
}

func (a *fakeAdmin) Join(_ context.Context, r *adminpb.JoinRequest) (*adminpb.JoinResponse, error) {
	a.note(r)
	return &adminpb.JoinResponse{}, a.err
}

func (a *fakeAdmin) Rejoin(_ context.Context, r *adminpb.RejoinRequest) (*adminpb.RejoinResponse, error) {
	a.note(r)
	if !r.GetDiscardErrant() {
		return &adminpb.RejoinResponse{}, a.err
	}
	return &adminpb.RejoinResponse{Discarded: testGroup + ":7-9,\n" + memberA + ":1", SavedTo: "/var/lib/concordat/errant-1.txt"}, a.err
}

func (a *fakeAdmin) Clone(_ context.Context, r *adminpb.CloneRequest) (*adminpb.CloneResponse, error) {
	a.note(r)
	return &adminpb.CloneResponse{}, a.err
}

func (a *fakeAdmin) SetPrimary(ctx context.Context, r *adminpb.SetPrimaryRequest) (*adminpb.SetPrimaryResponse, error) {
	a.note(r)
	return &adminpb.SetPrimaryResponse{Action: a.action}, a.ended(ctx)
}

func (a *fakeAdmin) SwitchMode(ctx context.Context, r *adminpb.SwitchModeRequest) (*adminpb.SwitchModeResponse, error) {
	a.note(r)
	return &adminpb.SwitchModeResponse{Action: a.action}, a.ended(ctx)
}

func (a *fakeAdmin) SetProtocol(ctx context.Context, r *adminpb.SetProtocolRequest) (*adminpb.SetProtocolResponse, error) {
	a.note(r)
	return &adminpb.SetProtocolResponse{Action: a.action}, a.ended(ctx)
}

func (a *fakeAdmin) ended(ctx context.Context) error {
	if a.switched != nil {
		select {
		case <-a.switched:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return a.err
}

func (a *fakeAdmin) PlanAction(_ context.Context, r *adminpb.PlanActionRequest) (*adminpb.PlanActionResponse, error) {
	a.note(r)
	return &adminpb.PlanActionResponse{Plan: a.future}, nil
}

func (a *fakeAdmin) CancelAction(_ context.Context, r *adminpb.CancelActionRequest) (*adminpb.CancelActionResponse, error) {
	a.note(r)
	return &adminpb.CancelActionResponse{}, a.err
}

func (a *fakeAdmin) GetAction(_ context.Context, r *adminpb.GetActionRequest) (*adminpb.GetActionResponse, error) {
	a.note(r)
	return &adminpb.GetActionResponse{Action: a.action}, nil
}

func (a *fakeAdmin) Why(_ context.Context, r *adminpb.WhyRequest) (*adminpb.WhyResponse, error) {
	a.note(r)
	return a.why, nil
}

func (a *fakeAdmin) PlanForceMembers(_ context.Context, r *adminpb.PlanForceMembersRequest) (*adminpb.PlanForceMembersResponse, error) {
	a.note(r)
	return &adminpb.PlanForceMembersResponse{Plan: a.force}, nil
}

// ForceMembers answers once its steps were sent to who follows.
func (a *fakeAdmin) ForceMembers(ctx context.Context, r *adminpb.ForceMembersRequest) (*adminpb.ForceMembersResponse, error) {
	a.note(r)
	close(a.forced)
	if len(a.steps) > 0 {
		select {
		case <-a.steady:
		case <-ctx.Done():
		}
	}
	return &adminpb.ForceMembersResponse{Report: a.report}, a.err
}

func (a *fakeAdmin) History(r *adminpb.HistoryRequest, stream grpc.ServerStreamingServer[adminpb.HistoryResponse]) error {
	a.note(r)
	parts := a.history
	if r.GetAfter() > 0 {
		parts = nil
	}
	for _, part := range append(parts, &adminpb.HistoryResponse{}) {
		if err := stream.Send(part); err != nil {
			return err
		}
	}
	if !r.GetFollow() {
		return nil
	}
	select {
	case <-a.forced:
		for _, e := range a.steps {
			if err := stream.Send(&adminpb.HistoryResponse{Events: []*adminpb.Event{e}}); err != nil {
				return err
			}
		}
		close(a.steady)
	case <-stream.Context().Done():
	}
	<-stream.Context().Done()
	return nil
}

// here runs one command line in this process, which has to end with code.
func here(t *testing.T, code int, args ...string) (out, errOut string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if got := run(args, &stdout, &stderr); got != code {
		t.Fatalf("concordat %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

// noTrailing takes the blanks away with which a table fills its last column.
func noTrailing(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func testMember(uuid string, id uint64, port string, state adminpb.MemberState) *adminpb.Member {
	return &adminpb.Member{Uuid: uuid, RaftId: id, Address: "10.0.0.1:" + port, State: state, Version: 1 << 8, Weight: 50}
}
