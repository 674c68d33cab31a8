package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// openAction is a change that waits for a.
func openAction() *adminpb.Action {
	return &adminpb.Action{
		Id: testAction, Kind: adminpb.Action_KIND_SET_PRIMARY, Target: memberB, Asker: memberC, Reason: "a is to rest",
		Pending: []string{memberA}, Epoch: 3, Index: 90,
	}
}

// doneAction is how it ends.
func doneAction() *adminpb.Action {
	a := openAction()
	a.Result, a.Text, a.Pending, a.Epoch, a.Index, a.TookNanos = adminpb.Action_RESULT_DONE, memberB+" is primary since epoch 4", nil, 4, 92, 85e6
	return a
}

func testWhy() *adminpb.WhyResponse {
	return &adminpb.WhyResponse{
		Epoch: &adminpb.EpochRecord{
			Number: 3, Index: 70, Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Primary: memberA, Cause: "primary silent", Reason: "a has the highest weight, 70",
		},
		Winner: memberA,
		Ranking: []*adminpb.Rank{
			{Member: memberA, Rank: 1, Verdict: adminpb.Rank_VERDICT_ELECTED, Text: "it has the highest weight, 70", Version: 1 << 8, Weight: 70},
			{Member: memberB, Rank: 2, Verdict: adminpb.Rank_VERDICT_OUTRANKED_BY_WEIGHT, Text: "its weight is 50, that of the first 70", Version: 1 << 8, Weight: 50},
			{Member: memberC, Verdict: adminpb.Rank_VERDICT_NEWER_VERSION, Text: "it runs 0.2.0, and the oldest ONLINE member 0.1.0", Version: 2 << 8, Weight: 90},
		},
	}
}

func TestPrimaryCommand(t *testing.T) {
	s := degraded()
	s.View.Members[0].ClientAddress = "10.0.0.1:7500"
	s.Action = openAction()
	address := (&fakeAdmin{status: s, why: testWhy()}).serve(t)
	const want = `primary      ` + memberA + `
for clients  10.0.0.1:7500
for members  10.0.0.1:1
mode         single-primary
epoch        3, since log index 70
why          primary silent: a has the highest weight, 70
seen by      ` + memberA + `

planned change ` + testAction + ` (set primary, primary is to be ` + memberB + `) waits for ` + memberA + ` (10.0.0.1:1); concordat primary cancel takes it back
`
	out, _ := here(t, exitOK, "primary", "--address", address)
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	out, _ = here(t, exitOK, "primary", "--why", "--address", address)
	const why = want + `
were it elected now:

RANK  MEMBER                                VERSION  WEIGHT  BEHIND  VERDICT              WHY
1     ` + memberA + `  0.1.0    70      0       elected              it has the highest weight, 70
2     ` + memberB + `  0.1.0    50      0       outranked by weight  its weight is 50, that of the first 70
-     ` + memberC + `  0.2.0    90      0       newer version        it runs 0.2.0, and the oldest ONLINE member 0.1.0
`
	if diff := cmp.Diff(why, out); diff != "" {
		t.Error(diff)
	}
	var got primaryJSON
	out, _ = here(t, exitOK, "primary", "--json", "--why", "--address", address)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	wanted := primaryJSON{
		SeenBy: memberA, Mode: "single-primary", Epoch: 3, Since: 70, Cause: "primary silent", Reason: "a has the highest weight, 70",
		Primary: memberA, Address: "10.0.0.1:1", ClientAddress: "10.0.0.1:7500", Writers: []string{memberA},
		Action: &actionJSON{
			ID: testAction, Kind: "set primary", Result: "under way", Target: memberB, Asker: memberC, Reason: "a is to rest",
			Pending: []string{memberA}, Epoch: 3, Index: 90,
		},
		Winner: memberA,
		Ranking: []rankJSON{
			{memberA, 1, "elected", 0, "it has the highest weight, 70", "0.1.0", 70},
			{memberB, 2, "outranked by weight", 0, "its weight is 50, that of the first 70", "0.1.0", 50},
			{memberC, 0, "newer version", 0, "it runs 0.2.0, and the oldest ONLINE member 0.1.0", "0.2.0", 90},
		},
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Error(diff)
	}
}

// A group in which nobody can write, or all do, says so.
func TestPrimaryOfOtherGroups(t *testing.T) {
	vacant := degraded()
	vacant.Primary, vacant.View.Members[0].Primary, vacant.View.Members[0].Writes = "", false, false
	many := degraded()
	many.Mode, many.Primary, many.View.Members[0].Primary, many.View.Members[1].Writes = adminpb.Mode_MODE_MULTI_PRIMARY, "", false, true
	for _, c := range []struct {
		status        *adminpb.StatusResponse
		primary, mode string
	}{
		{vacant, "primary  none: nobody can be it\nmode     single-primary\n", "single-primary, since epoch 3: nobody may write\n"},
		{many, "primaries  " + memberA + ", " + memberB + "\nmode       multi-primary\n", "multi-primary, since epoch 3: " + memberA + ", " + memberB + " may write\n"},
	} {
		address := (&fakeAdmin{status: c.status, why: testWhy()}).serve(t)
		if out, _ := here(t, exitOK, "primary", "--address", address); !strings.HasPrefix(out, c.primary) {
			t.Errorf("%s\ndoes not begin with\n%s", out, c.primary)
		}
		if out, _ := here(t, exitOK, "mode", "--address", address); out != c.mode {
			t.Errorf("%q, want %q", out, c.mode)
		}
	}
	var got modeJSON
	out, _ := here(t, exitOK, "mode", "--json", "--address", (&fakeAdmin{status: many}).serve(t))
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Mode != "multi-primary" || len(got.Writers) != 2 || got.Epoch != 3 {
		t.Errorf("%v, %+v", err, got)
	}
}

// withoutIDs takes the ids away that the command has drawn, each of which has to be
// another one.
func withoutIDs(t *testing.T, orders []proto.Message, seen map[string]bool) []proto.Message {
	t.Helper()
	for _, o := range orders {
		if r, ok := o.(interface{ GetTerms() *adminpb.SwitchTerms }); ok {
			id := r.GetTerms().GetId()
			if checkUUID(id) != nil || seen[id] {
				t.Errorf("id %q", id)
			}
			seen[id] = true
			r.GetTerms().Id = ""
		}
	}
	return orders
}

// Each command asks the node for what its flags say, and tells what became of it.
func TestSwitchCommands(t *testing.T) {
	grace := func(seconds int64) *int64 { nanos := seconds * 1e9; return &nanos }
	seen := map[string]bool{}
	for _, c := range []struct {
		args  []string
		order proto.Message
	}{
		{[]string{"primary", "set", memberB}, &adminpb.SetPrimaryRequest{Member: memberB, Terms: &adminpb.SwitchTerms{GraceNanos: grace(10)}}},
		{
			[]string{"primary", "set", "10.0.0.1:2", "--grace", "0s", "--insist", "--reason", "to test"},
			&adminpb.SetPrimaryRequest{Member: memberB, Terms: &adminpb.SwitchTerms{GraceNanos: grace(0), Insist: true, Reason: "to test"}},
		},
		{[]string{"primary", "set", "10.0.0.1:7502"}, &adminpb.SetPrimaryRequest{Member: memberC, Terms: &adminpb.SwitchTerms{GraceNanos: grace(10)}}},
		{
			[]string{"mode", "single"},
			&adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Terms: &adminpb.SwitchTerms{GraceNanos: grace(10)}},
		},
		{
			[]string{"mode", "single", memberC, "--grace", "1m"},
			&adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Member: memberC, Terms: &adminpb.SwitchTerms{GraceNanos: grace(60)}},
		},
		{[]string{"mode", "multi"}, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_MULTI_PRIMARY, Terms: &adminpb.SwitchTerms{}}},
		{[]string{"protocol", "set", "2", "--insist"}, &adminpb.SetProtocolRequest{Protocol: 2, Terms: &adminpb.SwitchTerms{Insist: true}}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			node := &fakeAdmin{status: degraded(), action: doneAction()}
			node.status.View.Members[2].ClientAddress = "10.0.0.1:7502"
			address := node.serve(t)
			out, errOut := here(t, exitOK, append(c.args, "--address", address)...)
			const done = "done: " + memberB + " is primary since epoch 4 (85ms)\nOK_NO_TOLERANCE_PARTIAL: "
			if !strings.HasPrefix(out, done) || errOut != "" {
				t.Errorf("it printed\n%s%s\nwant\n%s", out, errOut, done)
			}
			if diff := cmp.Diff([]proto.Message{c.order}, withoutIDs(t, node.orders(), seen), protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			var got actionJSON
			out, _ = here(t, exitOK, append(c.args, "--json", "--address", address)...)
			if err := json.Unmarshal([]byte(out), &got); err != nil || got.Result != "done" || got.Target != memberB || got.Epoch != 4 || got.TookSeconds != 0.085 {
				t.Errorf("%v, %+v", err, got)
			}
		})
	}
}

// What cannot be is found before a node is asked to change anything.
func TestSwitchUsage(t *testing.T) {
	node := &fakeAdmin{status: degraded()}
	address := node.serve(t)
	for text, args := range map[string][]string{
		"takes MEMBER":                        {"primary", "set"},
		`"m3" is neither the UUID nor`:        {"primary", "set", "m3"},
		memberC + " (10.0.0.1:3)":             {"mode", "single", "10.0.0.9:1"},
		"takes MEMBER, got 2":                 {"mode", "single", memberA, memberB},
		"takes no arguments":                  {"mode", "both"},
		"unknown flag: --grace":               {"mode", "multi", "--grace", "1s"},
		`"now" is no duration`:                {"primary", "set", memberA, "--grace", "now"},
		`"first" is no protocol`:              {"protocol", "set", "first"},
		`"0" is no protocol`:                  {"protocol", "set", "0"},
		`"a" is not the UUID of a planned`:    {"primary", "cancel", "a"},
		`"b" is not the UUID of a planned`:    {"primary", "action", "b"},
		"concordat primary takes no argument": {"primary", "is", "who"},
	} {
		if _, errOut := here(t, exitUsage, append(args, "--address", address)...); !strings.Contains(errOut, text) {
			t.Errorf("%v said %q, want %q in it", args, errOut, text)
		}
	}
	if orders := node.orders(); len(orders) > 0 {
		t.Errorf("the node was told %v", orders)
	}
}

// A change that is refused, one that was given up, and one of which nothing is known
// have exit codes of their own; of the last one the commands are named that help.
func TestSwitchFails(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code int
		want []string
	}{
		{
			"refused", refused(t, &concordat.RefusedError{Reason: "it is RECOVERING"}, &adminpb.Refusal{Kind: adminpb.Refusal_KIND_REFUSED, Text: "it is RECOVERING"}),
			exitRefused,
			[]string{"it is RECOVERING"},
		},
		{
			"forceable", refused(t, &concordat.RefusedError{Reason: "c is RECOVERING", Forceable: true},
				&adminpb.Refusal{Kind: adminpb.Refusal_KIND_REFUSED, Text: "c is RECOVERING", Forceable: true}),
			exitRefused,
			[]string{"c is RECOVERING", "--insist"},
		},
		{"cancelled", refused(t, errors.New("set-primary cancelled: cancelled"), &adminpb.Refusal{Kind: adminpb.Refusal_KIND_CANCELLED}), exitGivenUp, []string{"cancelled"}},
		{"aborted", refused(t, errors.New("set-primary aborted: it is gone"), &adminpb.Refusal{Kind: adminpb.Refusal_KIND_ABORTED}), exitGivenUp, []string{"it is gone"}},
		{
			"unknown", errors.New("the cable"), exitUnknown,
			[]string{"the cable", "is not taken back", "concordat primary action ", "concordat primary cancel ", "--address "},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := (&fakeAdmin{status: degraded(), err: c.err}).serve(t)
			for _, args := range [][]string{{"primary", "set", memberB}, {"mode", "single"}, {"mode", "multi"}, {"protocol", "set", "2"}} {
				_, errOut := here(t, c.code, append(args, "--address", address)...)
				for _, text := range c.want {
					if !strings.Contains(errOut, text) {
						t.Errorf("%v said\n%s\nwant %q in it", args, errOut, text)
					}
				}
				if taken := strings.Contains(errOut, "taken back"); taken != (c.code == exitUnknown) {
					t.Errorf("%v said\n%s", args, errOut)
				}
			}
		})
	}
	if got := exitCode(server.ErrGivenUp); got != exitGivenUp {
		t.Errorf("exit code %d", got)
	}
}

// A signal, or the timeout, ends the command and not the change.
func TestSwitchInterrupted(t *testing.T) {
	node := &fakeAdmin{status: degraded(), action: openAction(), switched: make(chan struct{})}
	node.status.Running = 3
	address := node.serve(t)
	_, errOut := here(t, exitUnknown, "mode", "single", "--timeout", "50ms", "--address", address)
	if !strings.Contains(errOut, "is not taken back") {
		t.Error(errOut)
	}

	cmd := command(testContext(t), t, "primary", "set", memberB, "--address", address)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text []byte
	for buffer := make([]byte, 1024); ; {
		n, err := out.Read(buffer)
		if text = append(text, buffer[:n]...); err != nil {
			break
		}
		if bytes.Contains(text, []byte("waits for 3 transactions at "+memberA)) && !bytes.Contains(text, []byte("interrupted")) {
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitUnknown {
		t.Errorf("%v\n%s", err, text)
	}
	var id string
	for _, o := range node.orders() {
		switch r := o.(type) {
		case *adminpb.SetPrimaryRequest:
			id = r.GetTerms().GetId()
		case *adminpb.CancelActionRequest:
			t.Error("it took the change back")
		}
	}
	for _, want := range []string{"interrupted", "primary cancel " + id + " --address " + address, "primary action " + id + " --address " + address} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s\nhas no %q", text, want)
		}
	}
}

// What a change waits for is shown once for each thing that is said, with the number
// of transactions where a member tells it.
func TestSwitchProgress(t *testing.T) {
	own := degraded()
	own.Member, own.Running = memberB, 1
	second := (&fakeAdmin{status: own}).serve(t)
	s := degraded()
	s.Running = 2
	s.View.Members[1].ClientAddress = second        // it tells
	s.View.Members[2].ClientAddress = "127.0.0.1:1" // it does not answer
	node := &fakeAdmin{status: s, action: openAction()}
	c, err := new(clientFlags).dial(node.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	var f switchFlags
	var out strings.Builder
	ctx := testContext(t)
	last := f.progress(ctx, &out, c, testAction, "")
	last = f.progress(ctx, &out, c, testAction, last)
	node.action.Pending = []string{memberB, memberC}
	last = f.progress(ctx, &out, c, testAction, last)
	node.action = doneAction()
	last = f.progress(ctx, &out, c, testAction, last)
	node.action = nil
	last = f.progress(ctx, &out, c, testAction, last)
	f.json, node.action = true, openAction()
	f.progress(ctx, &out, c, testAction, last)
	const want = "waits for 2 transactions at " + memberA + " (10.0.0.1:1)\n" +
		"waits for 1 transaction at " + memberB + " (10.0.0.1:2), and for " + memberC + " (10.0.0.1:3)\n" +
		"done: " + memberB + " is primary since epoch 4; waits until " + memberB + " (10.0.0.1:2) has applied what is older\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestSwitchPlans(t *testing.T) {
	s := degraded()
	s.Running = 2
	node := &fakeAdmin{status: s, future: &adminpb.ActionPlan{Kind: adminpb.Action_KIND_SET_PRIMARY, Target: memberB, Pending: []string{memberA, memberC}}}
	address := node.serve(t)
	out, _ := here(t, exitOK, "primary", "set", memberB, "--plan", "--grace", "30s", "--address", address)
	const want = `plan: set primary

who may write now: ` + memberA + ` (10.0.0.1:1)
who may write then: ` + memberB + ` (10.0.0.1:2)
waits for: ` + memberA + ` (10.0.0.1:1), which runs 2 transactions now
waits for: ` + memberC + ` (10.0.0.1:3)
for at most: 30s

nothing was changed
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	node.future = &adminpb.ActionPlan{Kind: adminpb.Action_KIND_SET_PROTOCOL, Refused: "c speaks protocols 1 to 1", Forceable: true}
	out, _ = here(t, exitRefused, "protocol", "set", "2", "--plan", "--address", address)
	const refusedPlan = "plan: set protocol\n\nprotocol: 1 now, then 2\n\nrefused: c speaks protocols 1 to 1; --insist insists\n\nnothing was changed\n"
	if diff := cmp.Diff(refusedPlan, out); diff != "" {
		t.Error(diff)
	}
	node.future = &adminpb.ActionPlan{Kind: adminpb.Action_KIND_TO_MULTI, NoChange: true}
	out, _ = here(t, exitOK, "mode", "multi", "--plan", "--address", address)
	if !strings.Contains(out, "then: all that are ONLINE and of the lowest version\n\nit is so already\n") {
		t.Error(out)
	}
	var got actionPlanJSON
	out, _ = here(t, exitOK, "mode", "multi", "--plan", "--json", "--address", address)
	if err := json.Unmarshal([]byte(out), &got); err != nil || !got.NoChange || got.Kind != "to multi" || got.Mode != "single-primary" || got.Primary != memberA {
		t.Errorf("%v, %+v", err, got)
	}
	for _, o := range node.orders() {
		if _, ok := o.(*adminpb.PlanActionRequest); !ok {
			t.Errorf("the node was told %T", o)
		}
	}
}

func TestActionCommands(t *testing.T) {
	node := &fakeAdmin{status: degraded(), action: openAction()}
	address := node.serve(t)
	out, _ := here(t, exitOK, "primary", "action", testAction, "--address", address)
	const want = `action     ` + testAction + `
kind       set primary
result     under way
target     ` + memberB + ` (10.0.0.1:2)
asked at   ` + memberC + ` (10.0.0.1:3)
reason     a is to rest
waits for  ` + memberA + ` (10.0.0.1:1)
epoch      3
log index  90
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	here(t, exitNotFound, "primary", "action", "--address", address)
	node.status.Action = node.action
	if out, _ = here(t, exitOK, "primary", "action", "--address", address); out != want {
		t.Errorf("the one under way:\n%s", out)
	}
	out, _ = here(t, exitOK, "primary", "cancel", testAction, "--address", address)
	if out != "planned change "+testAction+" is cancelled; nothing has changed\n" {
		t.Error(out)
	}
	if diff := cmp.Diff([]proto.Message{&adminpb.CancelActionRequest{Id: testAction}}, node.orders(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	node.action = doneAction()
	var got actionJSON
	out, _ = here(t, exitOK, "primary", "cancel", testAction, "--json", "--address", address)
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Result != "done" {
		t.Errorf("%v, %+v", err, got)
	}
	node.action, node.err = nil, refused(t, &concordat.RefusedError{Reason: "it has ended"}, &adminpb.Refusal{Text: "it has ended"})
	if _, errOut := here(t, exitRefused, "primary", "cancel", testAction, "--address", address); !strings.Contains(errOut, "it has ended") {
		t.Error(errOut)
	}
	here(t, exitNotFound, "primary", "action", testAction, "--address", address)
}

func TestProtocolCommand(t *testing.T) {
	address := (&fakeAdmin{status: degraded()}).serve(t)
	out, _ := here(t, exitOK, "protocol", "--address", address)
	const want = `the group speaks protocol 1

MEMBER                                ADDRESS     VERSION
` + memberA + `  10.0.0.1:1  0.1.0
` + memberB + `  10.0.0.1:2  0.1.0
` + memberC + `  10.0.0.1:3  0.1.0
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	var got protocolJSON
	out, _ = here(t, exitOK, "protocol", "--json", "--address", address)
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Protocol != 1 || len(got.Members) != 3 || got.Members[2] != (protocolVersionJSON{memberC, "10.0.0.1:3", "0.1.0"}) {
		t.Errorf("%v, %+v", err, got)
	}
}
