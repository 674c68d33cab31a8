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

func TestFlowOfANode(t *testing.T) {
	at := atNode(startNode(t, t.TempDir(), "--bootstrap", "--flow-control-mode", "quota"))
	if got := want(t, exitOK, at("flow")...); !strings.Contains(got, "QUOTA, nobody is slowed") {
		t.Errorf("a new node says\n%s", got)
	}
	if got := want(t, exitOK, at("flow", "--json")...); !strings.Contains(got, `"mode":"QUOTA"`) {
		t.Errorf("a new node says\n%s", got)
	}
}
