package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Each command asks the node for what its flags say, and tells what the group
// is then.
func TestChangeCommands(t *testing.T) {
	const diagnosis = "OK_NO_TOLERANCE_PARTIAL: one of three members is not heard, and no other one may fail; start it again, or replace it\n"
	for _, c := range []struct {
		args  []string
		order proto.Message
		out   string
	}{
		{[]string{"leave"}, &adminpb.LeaveRequest{}, "member " + memberA + " has left the group\n"},
		{[]string{"leave", "--force"}, &adminpb.LeaveRequest{Force: true}, "member " + memberA + " has left the group\n"},
		{[]string{"leave", "--no-handover"}, &adminpb.LeaveRequest{NoHandover: true}, "member " + memberA + " has left the group\n"},
		{[]string{"remove", memberC}, &adminpb.RemoveRequest{Member: memberC}, "member " + memberC + " is out of the group\n" + diagnosis},
		{[]string{"remove", memberC, "--force"}, &adminpb.RemoveRequest{Member: memberC, Force: true}, "member " + memberC + " is out of the group\n" + diagnosis},
		{[]string{"join"}, &adminpb.JoinRequest{}, "member " + memberA + " is ONLINE\n" + diagnosis},
		{
			[]string{"join", "--seeds", "10.0.0.1:1,10.0.0.1:2", "--donor", memberB},
			&adminpb.JoinRequest{Seeds: []string{"10.0.0.1:1", "10.0.0.1:2"}, Donor: memberB}, "member " + memberA + " is ONLINE\n" + diagnosis,
		},
		{
			[]string{"replace", memberC, "--seeds", "10.0.0.1:1"},
			&adminpb.JoinRequest{Seeds: []string{"10.0.0.1:1"}, Replaces: memberC}, "member " + memberA + " is ONLINE\n" + diagnosis,
		},
		{[]string{"rejoin", "--donor", memberB}, &adminpb.RejoinRequest{Donor: memberB}, "member " + memberA + " is ONLINE\n" + diagnosis},
		{
			[]string{"rejoin", "--discard-errant", "--seeds", "10.0.0.1:2"},
			&adminpb.RejoinRequest{DiscardErrant: true, Seeds: []string{"10.0.0.1:2"}},
			"discarded " + testGroup + ":7-9," + memberA + ":1, saved to /var/lib/concordat/errant-1.txt\nmember " + memberA + " is ONLINE\n" + diagnosis,
		},
		{[]string{"clone", "--donor", memberB}, &adminpb.CloneRequest{Donor: memberB}, "member " + memberA + " is ONLINE\n" + diagnosis},
		{[]string{"clone", "--no-handover"}, &adminpb.CloneRequest{NoHandover: true}, "member " + memberA + " is ONLINE\n" + diagnosis},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			node := &fakeAdmin{status: degraded()}
			out, errOut := here(t, exitOK, append(c.args, "--address", node.serve(t))...)
			if out != c.out || errOut != "" {
				t.Errorf("it printed\n%s%s\nwant\n%s", out, errOut, c.out)
			}
			if diff := cmp.Diff([]proto.Message{c.order}, node.orders(), protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestChangeJSON(t *testing.T) {
	address := (&fakeAdmin{status: degraded()}).serve(t)
	for _, c := range []struct {
		args []string
		want changedJSON
	}{
		{[]string{"leave"}, changedJSON{Verb: "leave", Member: memberA}},
		{[]string{"remove", memberC}, changedJSON{Verb: "remove", Member: memberC, View: "7"}},
		{
			[]string{"rejoin", "--discard-errant"},
			changedJSON{Verb: "rejoin", Member: memberA, State: "ONLINE", View: "7", Discarded: testGroup + ":7-9," + memberA + ":1", SavedTo: "/var/lib/concordat/errant-1.txt"},
		},
	} {
		var got changedJSON
		out, _ := here(t, exitOK, append(c.args, "--json", "--address", address)...)
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if (got.Diagnosis == nil) != (c.args[0] == "leave") {
			t.Errorf("%v: diagnosis %v", c.args, got.Diagnosis)
		}
		got.Diagnosis = nil
		if got != c.want {
			t.Errorf("%v: %+v, want %+v", c.args, got, c.want)
		}
	}
}

// refused returns the status of a call that is refused. The library has put
// the reason as err has it.
func refused(t *testing.T, err error, r *adminpb.Refusal) error {
	t.Helper()
	st, err := status.New(codes.FailedPrecondition, err.Error()).WithDetails(r)
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func gtidSet(t *testing.T, text string) gtid.Set {
	t.Helper()
	set, err := gtid.ParseSet(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// What a node refuses has an exit code of its own, and the reason is told.
func TestChangeRefused(t *testing.T) {
	noQuorum, err := status.New(codes.Unavailable, "").WithDetails(&kvpb.ErrorInfo{Code: kvpb.ErrorInfo_CODE_NO_QUORUM, Text: "1 of 3 voters is here"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		err  error
		code int
		want []string
	}{
		{
			"refused", refused(t, &concordat.RefusedError{Reason: "it is alive", Forceable: true},
				&adminpb.Refusal{Kind: adminpb.Refusal_KIND_REFUSED, Text: "it is alive", Forceable: true}),
			exitRefused,
			[]string{"it is alive", "insist with force"},
		},
		{
			"join refused", refused(t, fmt.Errorf("%w: its name is taken", concordat.ErrJoinRefused), &adminpb.Refusal{Kind: adminpb.Refusal_KIND_JOIN_REFUSED}),
			exitRefused,
			[]string{"its name is taken"},
		},
		{
			"diverged", refused(t, &concordat.DivergedError{Extra: gtidSet(t, testGroup+":7-9"), Common: 42},
				&adminpb.Refusal{Kind: adminpb.Refusal_KIND_DIVERGED, Extra: testGroup + ":7-9", Common: 42}),
			exitRefused,
			[]string{testGroup + ":7-9", "42", "--discard-errant"},
		},
		{
			"force", refused(t, errors.New("the group has its quorum"), &adminpb.Refusal{Kind: adminpb.Refusal_KIND_FORCE}),
			exitRefused,
			[]string{"the group has its quorum"},
		},
		{"no quorum", noQuorum.Err(), exitNoQuorum, []string{"1 of 3 voters is here"}},
		{"no answer", status.Error(codes.Internal, "the cable"), exitUnknown, []string{"the cable"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := (&fakeAdmin{status: degraded(), err: c.err}).serve(t)
			for _, args := range [][]string{
				{"leave"},
				{"remove", memberC},
				{"join"},
				{"rejoin"},
				{"replace", memberC},
				{"clone"},
				{"force-members", "--yes", "--plan-id", testPlan, "--members", memberA},
			} {
				_, errOut := here(t, c.code, append(args, "--address", address)...)
				for _, text := range c.want {
					if !strings.Contains(errOut, text) {
						t.Errorf("%s said\n%s\nwant %q in it", args[0], errOut, text)
					}
				}
				if again := strings.Contains(errOut, "--plan-id"); again != (args[0] == "force-members" && c.code != exitRefused) {
					t.Errorf("%s said\n%s", args[0], errOut)
				}
			}
		})
	}
}

// What cannot be is found before a node is asked.
func TestChangeUsage(t *testing.T) {
	node := &fakeAdmin{status: degraded()}
	address := node.serve(t)
	for text, args := range map[string][]string{
		"MEMBER-UUID":              {"remove"},
		`"m3" is not the UUID`:     {"remove", "m3"},
		"DEAD-MEMBER-UUID":         {"replace"},
		`"127.0.0.1:1" is not the`: {"replace", "127.0.0.1:1"},
		"takes no arguments":       {"join", memberA},
		"unknown flag: --force":    {"join", "--force"},
		"unknown flag: --seeds":    {"clone", "--seeds", "10.0.0.1:1"},
		"one --address":            {"rejoin", "--address", "127.0.0.1:1"},
		`"nowhere"`:                {"join", "--plan", "--plan-at", "nowhere"},
	} {
		if _, errOut := here(t, exitUsage, append(args, "--address", address)...); !strings.Contains(errOut, text) {
			t.Errorf("%v said %q, want %q in it", args, errOut, text)
		}
	}
	if orders := node.orders(); len(orders) > 0 {
		t.Errorf("the node was told %v", orders)
	}
}

// A member that comes shows how far it is, once for each thing that it says.
func TestProgress(t *testing.T) {
	var f comingFlags
	var out strings.Builder
	s := waiting()
	last := f.progress(&out, s, "")
	last = f.progress(&out, s, last)
	s.Recovery = nil
	last = f.progress(&out, s, last)
	s.Waiting, s.State = "", adminpb.MemberState_MEMBER_STATE_RECOVERING
	last = f.progress(&out, s, last)
	f.json = true
	f.progress(&out, waiting(), last)
	want := "OFFLINE: clone from " + memberB + ", 512.0MiB of 1.0GiB, 80.0MiB per second, 6.4s left\nOFFLINE: waits for members a and b\nRECOVERING\n"
	if out.String() != want {
		t.Errorf("it printed\n%s\nwant\n%s", out.String(), want)
	}
}

// testChange is the plan to replace c by another member of the same name.
func testChange() *adminpb.Plan {
	a, b := testMember(memberA, 1, "1", adminpb.MemberState_MEMBER_STATE_ONLINE), testMember(memberB, 2, "2", adminpb.MemberState_MEMBER_STATE_ONLINE)
	old, fresh := testMember(memberC, 3, "3", adminpb.MemberState_MEMBER_STATE_UNREACHABLE), testMember(memberC, 4, "4", adminpb.MemberState_MEMBER_STATE_RECOVERING)
	old.HeardNanos = int64(time.Minute)
	return &adminpb.Plan{
		View:         &adminpb.View{Id: "7", Members: []*adminpb.Member{a, b, old}},
		ViewAfter:    &adminpb.View{Members: []*adminpb.Member{a, b, fresh, testMember("", 0, "5", adminpb.MemberState_MEMBER_STATE_RECOVERING)}},
		Outlook:      &adminpb.Outlook{Members: 3, Voters: 3, Reachable: 2, Quorum: 2},
		OutlookAfter: &adminpb.Outlook{Members: 4, Voters: 2, Reachable: 2, Quorum: 2, Recovering: 2},
		OutlookLater: &adminpb.Outlook{Members: 4, Voters: 4, Reachable: 4, Quorum: 3, Tolerance: 1}, Primaries: []string{memberA, memberB},
		Leader: memberA, Warnings: []string{"the group can bear no failure meanwhile"},
	}
}

func TestPlanTable(t *testing.T) {
	node := &fakeAdmin{status: degraded(), plan: testChange()}
	out, _ := here(t, exitOK, "replace", memberC, "--plan", "--plan-at", node.serve(t), "--address", "127.0.0.1:1")
	const want = `plan: replace ` + memberC + `

             NOW  THEN  LATER
members      3    4     4
catching up  0    2     0
voters       3    2     4
reachable    2    2     4
majority     2    2     3
tolerance    0    0     1

MEMBER                                ADDRESS     NOW          THEN
` + memberA + `  10.0.0.1:1  ONLINE       ONLINE
` + memberB + `  10.0.0.1:2  ONLINE       ONLINE
` + memberC + `  10.0.0.1:3  UNREACHABLE  -
` + memberC + `  10.0.0.1:4  -            RECOVERING
(the newcomer)                        10.0.0.1:5  -            RECOVERING

leader: ` + memberA + ` now, then one that is to be elected

who may write then: ` + memberA + `, ` + memberB + `

WARNING: the group can bear no failure meanwhile

nothing was changed
`
	if diff := cmp.Diff(want, noTrailing(out)); diff != "" {
		t.Error(diff)
	}
	wanted := []proto.Message{&adminpb.PlanRequest{Verb: adminpb.Verb_VERB_REPLACE, Member: memberC}}
	if diff := cmp.Diff(wanted, node.orders(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// A plan that would be refused says so in its exit code, unless force would
// help and is given. Nothing is done in any case.
func TestRefusedPlan(t *testing.T) {
	for _, c := range []struct {
		name      string
		forceable bool
		args      []string
		code      int
		text      string
	}{
		{"refused", false, []string{"remove", memberB}, exitRefused, "refused: it is alive\n"},
		{"force does not help", false, []string{"remove", memberB, "--force"}, exitRefused, "refused: it is alive\n"},
		{"force would help", true, []string{"remove", memberB}, exitRefused, "refused: it is alive; --force insists\n"},
		{"force helps", true, []string{"leave", "--force"}, exitOK, "refused: it is alive; --force insists\n"},
		{"join", false, []string{"join"}, exitRefused, "refused: it is alive\n"},
		{"rejoin", false, []string{"rejoin"}, exitRefused, "refused: it is alive\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testChange()
			p.Refused, p.Forceable = "it is alive", c.forceable
			node := &fakeAdmin{status: degraded(), plan: p}
			args := append(c.args, "--plan", "--address", node.serve(t))
			if out, _ := here(t, c.code, args...); !strings.Contains(out, c.text) {
				t.Errorf("%s\nhas no %q", out, c.text)
			}
			var got planJSON
			out, _ := here(t, c.code, append(args, "--json")...)
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v in\n%s", err, out)
			}
			if got.Verb != c.args[0] && c.args[0] != "rejoin" || got.Refused != p.GetRefused() || got.Forceable != c.forceable || len(got.After.Members) != 4 ||
				got.Now.Outlook.Voters != 3 || got.Now.Leader != memberA || got.Now.Members[2].HeardSeconds != 60 || len(got.Warnings) != 1 ||
				got.OutlookLater.Tolerance != 1 || got.After.Outlook.Recovering != 2 || len(got.Primaries) != 2 {
				t.Errorf("%+v", got)
			}
			for _, o := range node.orders() {
				if _, ok := o.(*adminpb.PlanRequest); !ok {
					t.Errorf("the node was told %T", o)
				}
			}
		})
	}
}

// A node that is down after it has done what was asked is no failure of that.
func TestChangedWithoutStatus(t *testing.T) {
	var out strings.Builder
	c, err := new(clientFlags).dial("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := new(changeFlags).changed(testContext(t), &out, c, changedJSON{}, "it is done"); err != nil || out.String() != "it is done\n" {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestEachExitCode(t *testing.T) {
	for i, e := range exits {
		if got := exitCode(e.err); got != e.code {
			t.Errorf("%v: exit code %d, want %d", e.err, got, e.code)
		}
		for _, other := range exits[:i] {
			if errors.Is(e.err, other.err) {
				t.Errorf("%v comes after %v, and is one", e.err, other.err)
			}
		}
	}
	for want, err := range map[int]error{
		exitRefused: errors.Join(&concordat.RefusedError{Reason: "it is alive"}), exitNoQuorum: fmt.Errorf("remove: %w", concordat.ErrNoQuorum),
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
	}
	if got := exitCode(&concordat.DivergedError{Common: 7}); got != exitRefused {
		t.Errorf("diverged: exit code %d, want %d", got, exitRefused)
	}
	for code := range exitGivenUp + 1 {
		if !strings.Contains(exitHelp, fmt.Sprintf("\n%5d  ", code)) {
			t.Errorf("the help has no exit code %d", code)
		}
	}
}
