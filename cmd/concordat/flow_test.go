package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

const flowShown = `member a: ADAPTIVE, slowed for 5s: so much for b; 3 wait
since it was started 7 transactions have waited for 1.5s

MEMBER  LAG    OLDEST  WAITING  CAN DO  DEMAND  HELD  WAITED  NOTE
a       0s     0s      0        -       900     7     1.5s    
b *     2.25s  2s      12       500     0       0     0s      
c       0s     0s      0        -       0       0     0s      EXEMPT RECOVERING
d       0s     0s      0        -       0       0     0s      not heard

TAG   WEIGHT  WAIT NOW  HELD  WAITED
-     1       0         4     500ms
bulk  2       3         3     1s
`

func TestFlowIsShown(t *testing.T) {
	a := &adminpb.FlowResponse{
		Member: "a", Mode: "ADAPTIVE", Throttled: true, SinceUnixNanos: time.Unix(100, 0).UnixNano(), Limiting: "b", Inputs: "so much for b",
		Waiting: 3, Held: 7, WaitedNanos: 1.5e9,
		Members: []*adminpb.FlowMember{
			{Member: "a", Counts: true, Demand: 900, Held: 7, WaitedNanos: 1.5e9},
			{Member: "b", Counts: true, LagNanos: 2.25e9, AgeNanos: 2e9, Waiting: 10, Backlog: 2, Capacity: 500},
			{Member: "c", Exempt: true, Recovering: true},
			{Member: "d"},
		},
		Tags: []*adminpb.FlowTag{{Weight: 1, Held: 4, WaitedNanos: 5e8}, {Tag: "bulk", Weight: 2, Waiting: 3, Held: 3, WaitedNanos: 1e9}},
	}
	var b strings.Builder
	if err := printFlow(&b, a, time.Unix(105, 0)); err != nil || b.String() != flowShown {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), flowShown)
	}
	out, err := json.Marshal(flowOf(a))
	if err != nil || !strings.Contains(string(out), `"since":"1970-01-01T00:01:40Z"`) || !strings.Contains(string(out), `"tag":"bulk"`) {
		t.Errorf("%s, %v", out, err)
	}
}

// A member that hangs is told from one that is slow, and what to do is said only where
// the group is slowed for it.
func TestHungMemberIsShown(t *testing.T) {
	a := &adminpb.FlowResponse{
		Member: "a", Mode: "ADAPTIVE", Throttled: true, SinceUnixNanos: time.Unix(100, 0).UnixNano(), Limiting: "b", Inputs: "100 of 100, for b", Waiting: 3,
		Members: []*adminpb.FlowMember{
			{Member: "a", Counts: true, StillNanos: 9e9},
			{Member: "b", Counts: true, AgeNanos: 35e9, StillNanos: 35e9, Waiting: 10},
			{Member: "c", Exempt: true, StillNanos: 12e9},
		},
	}
	shown := func() string {
		var b strings.Builder
		if err := printFlow(&b, a, time.Unix(135, 0)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	out := shown()
	for _, text := range []string{
		"slowed for 35s: 100 of 100, for b, and has finished nothing for 35s; 3 wait\n",
		"STANDS STILL for 35s\n", "EXEMPT STANDS STILL for 12s\n",
		"\nb has finished nothing for 35s: its store hangs", "concordat settings --set flow-control-scope=MAJORITY\n",
	} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in\n%s", text, out)
		}
	}
	if n := strings.Count(out, "STANDS STILL"); n != 2 {
		t.Errorf("%d stand still in\n%s", n, out)
	}
	for name, other := range map[string]func(){ // order-free: each is undone
		"slow":        func() { a.Members[1].StillNanos = 2e9 },
		"not slowed":  func() { a.Throttled = false },
		"for another": func() { a.Limiting = "a" },
	} {
		other()
		if out := shown(); strings.Contains(out, "its store hangs") {
			t.Errorf("%s:\n%s", name, out)
		}
		a.Members[1].StillNanos, a.Throttled, a.Limiting = 35e9, true, "b"
	}
}

func TestFlowOfANode(t *testing.T) {
	at := atNode(startNode(t, t.TempDir(), "--bootstrap", "--flow-control-mode", "quota"))
	if got := want(t, exitOK, at("flow")...); !strings.Contains(got, "QUOTA, nobody is slowed") {
		t.Errorf("a new node says\n%s", got)
	}
	if got := want(t, exitOK, at("flow", "--json")...); !strings.Contains(got, `"mode":"QUOTA"`) {
		t.Errorf("a new node says\n%s", got)
	}
}
