package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// afterTheLoss is a group of three that goes on without c.
func afterTheLoss() (*adminpb.ForcePlan, *adminpb.ForceReport) {
	survivors := []*adminpb.ForceSurvivor{
		{Member: memberA, Address: "10.0.0.1:1", Term: 4, Last: 100, Delivered: 98},
		{Member: memberB, Address: "10.0.0.1:2", Term: 3, Last: 97, Delivered: 95, Cut: 2, Fetch: 5, Frozen: testPlan},
	}
	excluded := []*adminpb.ForceExcluded{{
		Member: memberC, Address: "10.0.0.1:3", State: adminpb.MemberState_MEMBER_STATE_UNREACHABLE, HeardNanos: 95e9, Delivered: 103,
	}}
	risks := []*adminpb.ForceRisk{
		{Transactions: testGroup + ":91-93,\n" + memberC + ":5", First: 101, Last: 103, Member: memberC, Address: "10.0.0.1:3"},
		{First: 104, Last: 104},
		{Transactions: testGroup + ":99", Member: memberC},
	}
	plan := &adminpb.ForcePlan{
		Id: testPlan, View: &adminpb.View{Id: "7", Incarnation: testIncarnation}, Seed: memberA,
		Survivors: survivors, Excluded: excluded, AtRisk: risks, Warnings: []string{"make sure that " + memberC + " does not run"},
		OutlookAfter: &adminpb.Outlook{Members: 2, Voters: 2, Reachable: 2, Quorum: 2, Recovering: 1}, Executed: testGroup + ":1-90",
	}
	report := &adminpb.ForceReport{
		Plan: testPlan, View: &adminpb.View{Id: "8", Incarnation: memberC}, Seed: memberA, Survivors: survivors, Excluded: excluded,
		Warnings: []string{"remove or rejoin " + memberC},
	}
	return plan, report
}

// goesOn is what a says once the plan is done.
func goesOn() *adminpb.StatusResponse {
	const online = adminpb.MemberState_MEMBER_STATE_ONLINE
	a, b := testMember(memberA, 1, "1", online), testMember(memberB, 2, "2", online)
	b.Delivered = 101
	return &adminpb.StatusResponse{
		Member: memberA, State: online, Incarnation: memberC, View: &adminpb.View{Id: "8", Index: 101, Members: []*adminpb.Member{a, b}},
	}
}

const forceTables = `GOES ON                               ADDRESS     ROLE  LAST TERM  LAST ENTRY  DELIVERED  TO DO           FROZEN FOR
` + memberA + `  10.0.0.1:1  seed  4          100         98         nothing         -
` + memberB + `  10.0.0.1:2  -     3          97          95         cut 2, fetch 5  ` + testPlan + `

LEFT OUT                              ADDRESS     STATE        ANSWERS  LAST HEARD  DELIVERED
` + memberC + `  10.0.0.1:3  UNREACHABLE  no       1m35s       103
`

func TestForcePlanTable(t *testing.T) {
	plan, _ := afterTheLoss()
	node := &fakeAdmin{force: plan}
	out, _ := here(t, exitOK, "force-members", "--plan", "--members", memberA+","+memberB, "--address", node.serve(t))
	const want = `plan ` + testPlan + `: the membership after view 7 of incarnation ` + testIncarnation + `

` + forceTables + `
AT RISK                                                                            LOG      LAST SEEN ON                          ADDRESS
` + testGroup + `:91-93,` + memberC + `:5  101-103  ` + memberC + `  10.0.0.1:3
-                                                                                  104      -                                     -
` + testGroup + `:99                                            -        ` + memberC + `  -

survives: ` + testGroup + `:1-90 and perhaps more

then: 2 members (1 catching up), 2 of 2 voters reachable, majority 2, tolerance 0

WARNING: make sure that ` + memberC + ` does not run
`
	if diff := cmp.Diff(want, noTrailing(out)); diff != "" {
		t.Error(diff)
	}
	wanted := []proto.Message{&adminpb.PlanForceMembersRequest{Members: []string{memberA, memberB}}}
	if diff := cmp.Diff(wanted, node.orders(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// The plan is shown, its steps as they happen, and the report; and only the
// events of this run are its steps.
func TestForceMembers(t *testing.T) {
	plan, report := afterTheLoss()
	node := &fakeAdmin{
		force: plan, report: report, history: testHistory(), status: goesOn(),
		steps: []*adminpb.Event{{Seq: 5, Kind: "FORCE_MEMBERS", Text: "both are frozen"}, {Seq: 6, Kind: "VIEW", Text: "view 8"}},
	}
	node.history[0].Events = append(node.history[0].Events, &adminpb.Event{Seq: 2, Kind: "FORCE_MEMBERS", Text: "an old run"})
	out, errOut := here(t, exitOK, "force-members", "--yes", "--members", memberA+","+memberB, "--address", node.serve(t))
	_, out, found := strings.Cut(out, "does not run\n")
	const want = `plan ` + testPlan + ` is done: view 8, incarnation ` + memberC + `

` + forceTables + `
no transaction is known to be at risk

all its members are ONLINE

WARNING: remove or rejoin ` + memberC + `
`
	if diff := cmp.Diff(want, noTrailing(out)); !found || diff != "" {
		t.Error(diff)
	}
	if errOut != "both are frozen\n" {
		t.Errorf("it told of %q", errOut)
	}
	wanted := []proto.Message{
		&adminpb.PlanForceMembersRequest{Members: []string{memberA, memberB}},
		&adminpb.ForceMembersRequest{Plan: testPlan, Members: []string{memberA, memberB}},
	}
	if diff := cmp.Diff(wanted, node.orders(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestForceJSON(t *testing.T) {
	plan, report := afterTheLoss()
	node := &fakeAdmin{force: plan, report: report, status: goesOn()}
	var got forceJSON
	out, _ := here(t, exitOK, "force-members", "--yes", "--json", "--members", memberA+","+memberB, "--address", node.serve(t))
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	survivor := forceSurvivorJSON{memberB, "10.0.0.1:2", 3, 97, 95, 5, 2, testPlan, ""}
	excluded := forceExcludedJSON{memberC, "10.0.0.1:3", "UNREACHABLE", false, 95, 103}
	risk := forceRiskJSON{testGroup + ":91-93," + memberC + ":5", 101, 103, memberC, "10.0.0.1:3"}
	if p := got.Plan; p == nil || p.ID != testPlan || p.View != "7" || p.Seed != memberA || p.Survivors[1] != survivor ||
		p.Excluded[0] != excluded || p.AtRisk[0] != risk || len(p.Warnings) != 1 || p.OutlookAfter.Quorum != 2 || p.Executed != testGroup+":1-90" || p.ExecutedComplete {
		t.Errorf("plan %+v", got.Plan)
	}
	survivor.State = "ONLINE"
	if r := got.Report; r == nil || r.View != "8" || r.Incarnation != memberC || r.Survivors[1] != survivor || r.AtRisk == nil || len(r.AtRisk) != 0 {
		t.Errorf("report %+v", got.Report)
	}
}

// Who is not ONLINE in time is told, and the plan is done all the same.
func TestForcedButNotOnline(t *testing.T) {
	const recovering = adminpb.MemberState_MEMBER_STATE_RECOVERING
	for name, c := range map[string]struct {
		change func(*adminpb.StatusResponse)
		states []string
	}{
		"itself":          {func(s *adminpb.StatusResponse) { s.State = recovering }, []string{"RECOVERING", "ONLINE"}},
		"the other":       {func(s *adminpb.StatusResponse) { s.View.Members[1].State = recovering }, []string{"ONLINE", "RECOVERING"}},
		"has no view yet": {func(s *adminpb.StatusResponse) { s.View.Members[1].Delivered = 100 }, []string{"ONLINE", "RECOVERING"}},
		"not heard": {func(s *adminpb.StatusResponse) {
			s.View.Members[1].State = adminpb.MemberState_MEMBER_STATE_UNREACHABLE
		}, []string{"ONLINE", "UNREACHABLE"}},
		"gone":            {func(s *adminpb.StatusResponse) { s.View.Members = s.View.Members[:1] }, []string{"ONLINE", "UNKNOWN"}},
		"old incarnation": {func(s *adminpb.StatusResponse) { s.Incarnation = testIncarnation }, []string{"UNKNOWN", "UNKNOWN"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, report := afterTheLoss()
			node := &fakeAdmin{report: report, status: goesOn()}
			c.change(node.status)
			args := []string{"force-members", "--yes", "--plan-id", testPlan, "--members", memberA, "--timeout", "1s", "--address", node.serve(t)}
			out, _ := here(t, exitOK, append(args, "--json")...)
			var got forceJSON
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v in\n%s", err, out)
			}
			late := 0
			for i, s := range got.Report.Survivors {
				if s.State != c.states[i] {
					t.Errorf("%s is %s, want %s", s.Member, s.State, c.states[i])
				}
				if s.State != "ONLINE" {
					late++
				}
			}
			if w := got.Report.Warnings; len(w) != 1+late || !strings.Contains(w[1], "is not ONLINE yet") {
				t.Errorf("the warnings are %q", w)
			}
			var text strings.Builder
			if err := printForceReport(&text, report, c.states); err != nil || strings.Contains(text.String(), "are ONLINE") {
				t.Errorf("%v in\n%s", err, text.String())
			}
		})
	}
}

// How long nobody was heard who was never heard, and who answers, is no number.
func TestLastHeard(t *testing.T) {
	for want, x := range map[string]*adminpb.ForceExcluded{
		"never": {}, "now": {Answers: true}, "100ms": {HeardNanos: 1e8}, "2m0s": {HeardNanos: 12e10},
	} {
		if got := lastHeard(x); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A plan goes on under its number without being made again.
func TestForcePlanAgain(t *testing.T) {
	_, report := afterTheLoss()
	node := &fakeAdmin{report: report, status: goesOn()}
	here(t, exitOK, "force-members", "--yes", "--plan-id", testPlan, "--members", memberA, "--address", node.serve(t))
	wanted := []proto.Message{&adminpb.ForceMembersRequest{Plan: testPlan, Members: []string{memberA}}}
	if diff := cmp.Diff(wanted, node.orders(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// Plans that are given up are named to the node, for the plan and for its run.
func TestForceSupersedes(t *testing.T) {
	plan, _ := afterTheLoss()
	node := &fakeAdmin{force: plan, err: status.Error(codes.Internal, "b has gone")}
	_, errOut := here(t, exitUnknown, "force-members", "--yes", "--members", memberA, "--supersede", memberC, "--supersede", memberB, "--address", node.serve(t))
	if again := "--plan-id " + testPlan + " --supersede " + memberC + "," + memberB; !strings.Contains(errOut, again) {
		t.Error(errOut)
	}
	given := []string{memberC, memberB}
	wanted := []proto.Message{
		&adminpb.PlanForceMembersRequest{Members: []string{memberA}, Supersede: given},
		&adminpb.ForceMembersRequest{Plan: testPlan, Members: []string{memberA}, Supersede: given},
	}
	if diff := cmp.Diff(wanted, node.orders(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// Who does not hear of the end is told how to go on.
func TestForceFails(t *testing.T) {
	plan, _ := afterTheLoss()
	node := &fakeAdmin{force: plan, err: status.Error(codes.Internal, "b has gone")}
	address := node.serve(t)
	_, errOut := here(t, exitUnknown, "force-members", "--yes", "--members", memberA+","+memberB, "--address", address)
	again := "concordat force-members --address " + address + " --members " + memberA + "," + memberB + " --plan-id " + testPlan
	if !strings.Contains(errOut, "b has gone") || !strings.Contains(errOut, again) {
		t.Error(errOut)
	}
}

func TestForceRefused(t *testing.T) {
	for _, args := range [][]string{{"--plan"}, {"--yes"}, {}} {
		plan, _ := afterTheLoss()
		plan.Refused = "the group has its quorum"
		node := &fakeAdmin{force: plan}
		args = append([]string{"force-members", "--members", memberA, "--address", node.serve(t)}, args...)
		if out, _ := here(t, exitRefused, args...); !strings.HasSuffix(out, "\nrefused: the group has its quorum\n") {
			t.Error(out)
		}
		if len(node.orders()) != 1 {
			t.Errorf("the node was told %v", node.orders())
		}
	}
}

func TestForceUsage(t *testing.T) {
	for text, args := range map[string][]string{
		"--members":                   {},
		`"m1" is not the UUID`:        {"--members", "m1"},
		"named twice":                 {"--members", memberA + "," + memberA},
		"choose":                      {"--members", memberA, "--plan", "--plan-id", testPlan},
		`--supersede "1" is not`:      {"--members", memberA, "--supersede", testPlan + ",1"},
		`--plan-id "1" is not`:        {"--members", memberA, "--plan-id", "1"},
		"takes no arguments":          {memberA},
		"nobody has answered":         {"--members", memberA, "--plan-id", testPlan},
		"go on with plan " + testPlan: {"--members", memberA, "--plan-id", testPlan},
	} {
		node := &fakeAdmin{}
		errOut := want(t, exitUsage, append([]string{"force-members", "--address", node.serve(t)}, args...)...)
		if !strings.Contains(errOut, text) {
			t.Errorf("%v said %q, want %q in it", args, errOut, text)
		}
		if len(node.orders()) > 0 {
			t.Errorf("%v: the node was told %v", args, node.orders())
		}
	}
}

// Only the whole word is a yes, and only from somebody.
func TestForceConfirm(t *testing.T) {
	for _, c := range []struct {
		yes, somebody bool
		answer        string
		code          int
	}{
		{true, false, "", exitOK},
		{false, true, "yes\n", exitOK},
		{false, true, " yes", exitOK},
		{false, true, "y\n", exitFailure},
		{false, true, "YES\n", exitFailure},
		{false, true, "no\nyes\n", exitFailure},
		{false, true, "\nyes\n", exitUsage},
		{false, true, "", exitUsage},
		{false, false, "yes\n", exitUsage},
	} {
		f := forceFlags{yes: c.yes}
		var out strings.Builder
		err := f.confirm(strings.NewReader(c.answer), &out, c.somebody, "impose it")
		if exitCode(err) != c.code {
			t.Errorf("%+v: exit code %d: %v", c, exitCode(err), err)
		}
		if asked := strings.Contains(out.String(), "Type yes to impose it: "); asked != (c.somebody && !c.yes) {
			t.Errorf("%+v: it printed %q", c, out.String())
		}
	}
}

func TestSurvivorTask(t *testing.T) {
	for want, s := range map[string]*adminpb.ForceSurvivor{
		"nothing": {}, "cut 2": {Cut: 2}, "fetch 3": {Fetch: 3}, "cut 2, fetch 3": {Cut: 2, Fetch: 3},
	} {
		if got := survivorTask(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
