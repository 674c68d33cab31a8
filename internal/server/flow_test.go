package server

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func TestFlow(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	r, err := c.Flow(ctx, &adminpb.FlowRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r.GetMember() != n.Status().Member.String() || r.GetMode() != "ADAPTIVE" || r.GetThrottled() {
		t.Errorf("of a new group: %v", r)
	}
}

// What a node knows of flow control goes over the network.
func TestFlowTravels(t *testing.T) {
	a, b := gtid.UUID{1}, gtid.UUID{2}
	at := time.Unix(5, 7)
	got := flow(a, &concordat.FlowStatus{
		Mode: concordat.FlowAdaptive, Throttled: true, Since: at, Stopped: true, Limiting: b, Lag: 3, Inputs: "why",
		Transactions: 4, Bytes: 5, Group: 6, Waiting: 7, Held: 8, Waited: 9,
		Tags: []concordat.TagFlow{{Tag: "t", Weight: 1, Waiting: 2, Held: 3, Waited: 4}},
		Members: []concordat.MemberFlow{{
			Member: b, Counts: true, Exempt: true, Recovering: true, Heard: 1, Lag: 2, Age: 3, Still: 13, Waiting: 4, Backlog: 5,
			Capacity: 6, CapacityBytes: 7, Applied: 8, Demand: 9, Queue: 10, Held: 11, Waited: 12,
		}},
	})
	want := &adminpb.FlowResponse{
		Member: a.String(), Mode: "ADAPTIVE", Throttled: true, SinceUnixNanos: at.UnixNano(), Stopped: true, Limiting: b.String(), LagNanos: 3,
		Inputs: "why", Transactions: 4, Bytes: 5, Group: 6, Waiting: 7, Held: 8, WaitedNanos: 9,
		Tags: []*adminpb.FlowTag{{Tag: "t", Weight: 1, Waiting: 2, Held: 3, WaitedNanos: 4}},
		Members: []*adminpb.FlowMember{{
			Member: b.String(), Counts: true, Exempt: true, Recovering: true, HeardNanos: 1, LagNanos: 2, AgeNanos: 3, StillNanos: 13, Waiting: 4, Backlog: 5,
			Capacity: 6, CapacityBytes: 7, Applied: 8, Demand: 9, Queue: 10, Held: 11, WaitedNanos: 12,
		}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestFlowControlThatIsNone(t *testing.T) {
	for _, p := range []*adminpb.FlowControl{
		{Mode: "FAST"}, {Mode: "QUOTA", Scope: "SOME"}, {Mode: "QUOTA", TargetLagMillis: 1 << 50}, {Mode: "QUOTA", HardLagMillis: -1 << 50},
	} {
		if _, err := someFlowControl(p); !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("%v: %v, want ErrInvalid", p, err)
		}
	}
	if f, err := someFlowControl(nil); err != nil || f != (concordat.FlowControl{}) {
		t.Errorf("nothing is %+v, %v", f, err)
	}
}
