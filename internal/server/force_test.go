package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/outlook"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// member is the nth member of a group that does not exist.
func member(n byte, state gcs.MemberState) gcs.Member {
	return gcs.Member{
		UUID: gtid.UUID{8: 0x80, 15: n}, RaftID: uint64(n), Address: "m" + string('0'+rune(n)) + ":7400",
		Version: 1 << 16, Weight: 50, State: state,
	}
}

func text(n byte) string { return gtid.UUID{8: 0x80, 15: n}.String() }

const testTick = 100 * time.Millisecond

// forcing is a plan to go on with two of five: one of the others is alive, and
// two are not.
func forcing(t *testing.T) (*concordat.ForcePlan, *concordat.Status) {
	t.Helper()
	set, err := gtid.ParseSet(text(9) + ":7-8")
	if err != nil {
		t.Fatal(err)
	}
	a, b, c, d, e := member(1, gcs.Online), member(2, gcs.Online), member(3, gcs.Online), member(4, gcs.Online), member(5, gcs.Recovering)
	p := &concordat.ForcePlan{
		Decision: forced.Decision{
			Order: forced.Order{Plan: gtid.UUID{1: 1}, Begins: gtid.UUID{3: 3}, Members: []gcs.Member{a, b}},
			Seed:  2, Last: 100,
		},
		View: gcs.View{ID: 7, Index: 40, Incarnation: gtid.UUID{2: 2}, Members: []gcs.Member{a, b, c, d, e}},
		Survivors: []forced.Survivor{
			{Member: a, Term: 6, Last: 98, LastTerm: 5, Delivered: 90, Cut: 1, Fetch: 3, Phase: forced.Frozen},
			{Member: b, Term: 5, Last: 100, LastTerm: 5, Delivered: 99},
		},
		Excluded: []forced.Excluded{
			{Member: c, Seen: true, Ticks: 50, Delivered: 102, AtRisk: set},
			{Member: d},
			{Member: e, Answers: true, Seen: true, Delivered: 3},
		},
		Executed: set, Known: true, Primary: b.UUID,
		Warnings: []forced.Warning{{Member: c.UUID, Text: "is late"}, {Text: "be careful"}},
	}
	// As it is once the plan is done: who is left out is not in the view.
	status := &concordat.Status{View: concordat.View{ID: 8, Index: 101}}
	return p, status
}

func TestForcePlansTravel(t *testing.T) {
	p, _ := forcing(t)
	shown := func(n byte, s adminpb.MemberState) *adminpb.Member {
		return &adminpb.Member{Uuid: text(n), RaftId: uint64(n), Address: member(n, 0).Address, State: s, Version: 1 << 16, Weight: 50}
	}
	const (
		online      = adminpb.MemberState_MEMBER_STATE_ONLINE
		recovering  = adminpb.MemberState_MEMBER_STATE_RECOVERING
		unreachable = adminpb.MemberState_MEMBER_STATE_UNREACHABLE
	)
	want := &adminpb.ForcePlan{
		Id: gtid.UUID{1: 1}.String(), Seed: text(2),
		View: &adminpb.View{Id: "7", Index: 40, Incarnation: gtid.UUID{2: 2}.String(), Members: []*adminpb.Member{
			shown(1, online), shown(2, online), shown(3, unreachable), shown(4, unreachable), shown(5, recovering),
		}},
		Survivors: []*adminpb.ForceSurvivor{
			{Member: text(1), Address: "m1:7400", Term: 5, Last: 98, Delivered: 90, Cut: 1, Fetch: 3, Frozen: gtid.UUID{1: 1}.String()},
			{Member: text(2), Address: "m2:7400", Term: 5, Last: 100, Delivered: 99},
		},
		Excluded: []*adminpb.ForceExcluded{
			{Member: text(3), Address: "m3:7400", State: unreachable, HeardNanos: 5e9, Delivered: 102},
			{Member: text(4), Address: "m4:7400", State: unreachable},
			{Member: text(5), Address: "m5:7400", State: recovering, Answers: true, Delivered: 3},
		},
		AtRisk:       []*adminpb.ForceRisk{{Transactions: text(9) + ":7-8", First: 101, Last: 102, Member: text(3), Address: "m3:7400"}},
		Warnings:     []string{text(3) + " is late", "be careful"},
		OutlookAfter: &adminpb.Outlook{Members: 2, Voters: 2, Reachable: 2, Quorum: 2},
		Executed:     text(9) + ":7-8", ExecutedComplete: true, Primary: text(2),
	}
	if diff := cmp.Diff(want, forcePlan(p, testTick), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// The report has the new view, and says what is left to do.
func TestForceReportsTravel(t *testing.T) {
	p, status := forcing(t)
	got := forceReport(status, &concordat.ForceReport{Plan: *p, Members: []forced.Progress{
		{Member: member(1, gcs.Online), Survivor: true, Adopted: true},
		{Member: member(2, gcs.Online), Survivor: true},
		{Member: member(3, gcs.Online)},
	}}, testTick)
	if got.GetView().GetId() != "8" || got.GetView().GetIncarnation() != p.Begins.String() || got.GetPlan() != p.Plan.String() ||
		got.GetSeed() != text(2) || len(got.GetSurvivors()) != 2 || len(got.GetExcluded()) != 3 || len(got.GetAtRisk()) != 1 {
		t.Errorf("report %v", got)
	}
	if heard := got.GetExcluded()[0].GetHeardNanos(); heard != 5e9 {
		t.Errorf("who is left out was heard %v ago", time.Duration(heard))
	}
	want := []string{
		text(2) + " (m2:7400) has not adopted the view yet: run the plan again with its id",
		text(5) + " (m5:7400) was left out and alive: stop it, or bring it back with rejoin",
	}
	if diff := cmp.Diff(want, got.GetWarnings()); diff != "" {
		t.Error(diff)
	}
}

// A plan shows whom the member does not hear, before the change and after it,
// and a newcomer of whom nothing is known.
func TestPlansTravel(t *testing.T) {
	v := gcs.View{ID: 7, Index: 40, Members: []gcs.Member{member(1, gcs.Online), member(2, gcs.Online), member(3, gcs.Online)}}
	status := &concordat.Status{Leader: v.Members[0].UUID, View: concordat.View{ID: 7, Index: 40}}
	for _, m := range v.Members {
		seen := concordat.Member{UUID: m.UUID, RaftID: m.RaftID, Address: m.Address, State: concordat.Online, Delivered: 9}
		if m.RaftID == 3 {
			seen.State, seen.Heard = concordat.Unreachable, time.Minute
		}
		status.View.Members = append(status.View.Members, seen)
	}
	made := outlook.Make(outlook.Sight{View: v, Unreachable: []uint64{3}}, outlook.Ask{Verb: outlook.Replace, Member: v.Members[2].UUID})
	got := plan(status, &made)
	if n := got.GetView().GetMembers()[2]; n.GetState() != adminpb.MemberState_MEMBER_STATE_UNREACHABLE || n.GetHeardNanos() != 60e9 {
		t.Errorf("the dead member is %v", n)
	}
	after := got.GetViewAfter()
	if after.GetId() != "" || len(after.GetMembers()) != 3 {
		t.Fatalf("the view after it is %v", after)
	}
	if n := after.GetMembers()[0]; n.GetUuid() != "" || n.GetState() != adminpb.MemberState_MEMBER_STATE_RECOVERING {
		t.Errorf("the newcomer is %v", n)
	}
	if n := after.GetMembers()[1]; n.GetUuid() != text(1) || n.GetDelivered() != 9 {
		t.Errorf("who stays is %v", n)
	}
	if got.GetLeader() != text(1) || got.GetLeaderAfter() != text(1) {
		t.Errorf("leader %s, then %s", got.GetLeader(), got.GetLeaderAfter())
	}

	made = outlook.Make(outlook.Sight{View: v}, outlook.Ask{Verb: outlook.Leave, Member: v.Members[0].UUID})
	got = plan(status, &made)
	want := &adminpb.Plan{
		View: got.GetView(), ViewAfter: got.GetViewAfter(), Leader: text(1),
		Outlook:      &adminpb.Outlook{Members: 3, Voters: 3, Reachable: 3, Quorum: 2, Tolerance: 1},
		OutlookAfter: &adminpb.Outlook{Members: 2, Voters: 2, Reachable: 2, Quorum: 2},
		OutlookLater: &adminpb.Outlook{Members: 2, Voters: 2, Reachable: 2, Quorum: 2},
		Primaries:    []string{text(2), text(3)},
		Refused:      made.Objection, Forceable: true, Warnings: made.Warnings,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}
