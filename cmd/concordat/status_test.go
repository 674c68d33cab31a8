package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// degraded is what a says of three members of which c is gone.
func degraded() *adminpb.StatusResponse {
	b, c := testMember(memberB, 2, "2", adminpb.MemberState_MEMBER_STATE_ONLINE), testMember(memberC, 1<<63, "3", adminpb.MemberState_MEMBER_STATE_UNREACHABLE)
	b.HeardNanos, b.Delivered = int64(40*time.Millisecond), 99
	c.HeardNanos, c.Delivered = int64(95*time.Second), 90
	a := testMember(memberA, 1, "1", adminpb.MemberState_MEMBER_STATE_ONLINE)
	a.Primary, a.Writes = true, true
	return &adminpb.StatusResponse{
		Group: testGroup, Incarnation: testIncarnation, Member: memberA, Address: "10.0.0.1:1", State: adminpb.MemberState_MEMBER_STATE_ONLINE,
		Leader: memberA, Quorum: true, Delivered: 100, Applied: 98,
		View: &adminpb.View{Id: "7", Index: 80, Members: []*adminpb.Member{a, b, c}},
		Diagnosis: &adminpb.Diagnosis{
			Code: "OK_NO_TOLERANCE_PARTIAL", Text: "one of three members is not heard, and no other one may fail; start it again, or replace it",
		},
		Outlook:  &adminpb.Outlook{Members: 3, Voters: 3, Reachable: 2, Quorum: 2},
		Executed: testGroup + ":1-9,\n" + memberA + ":1", Digest: []byte{0xab},
		Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Epoch: 3, Primary: memberA, Protocol: 1, Writable: true, FreshNanos: -1,
	}
}

// waiting is what c says of itself, which has been started again.
func waiting() *adminpb.StatusResponse {
	return &adminpb.StatusResponse{
		Group: testGroup, Member: memberC, Address: "10.0.0.1:3", State: adminpb.MemberState_MEMBER_STATE_OFFLINE,
		Error: "it was expelled", RejoinTry: 2, Waiting: "members a and b", Frozen: testPlan, LogStalled: true,
		Diagnosis: &adminpb.Diagnosis{Code: "OFFLINE", Text: "not asked for"},
		Recovery: &adminpb.Recovery{
			Method: adminpb.Recovery_METHOD_CLONE, Donor: memberB, DonorAddress: "10.0.0.1:2",
			Done: 512 << 20, Total: 1 << 30, Rate: 80 << 20, LeftNanos: int64(6400 * time.Millisecond),
		},
	}
}

func TestStatusTable(t *testing.T) {
	first, second := (&fakeAdmin{status: waiting()}).serve(t), (&fakeAdmin{status: degraded()}).serve(t)
	out, _ := here(t, exitOK, "status", "--address", first+","+second)
	const want = `OK_NO_TOLERANCE_PARTIAL: one of three members is not heard, and no other one may fail; start it again, or replace it

group ` + testGroup + `, view 7, seen by ` + memberA + `
3 members, 2 of 3 voters reachable, majority 2, tolerance 0
single-primary, epoch 3, protocol 1, primary ` + memberA + ` (10.0.0.1:1)

MEMBER                                ADDRESS     STATE    ROLE       LEADS  VERSION  WEIGHT  HEARD  APPLIED  EXECUTED                                                                         DIGEST
` + memberA + `  10.0.0.1:1  ONLINE   PRIMARY    yes    0.1.0    50      -      98       ` + testGroup + `:1-9,` + memberA + `:1  ab
` + memberB + `  10.0.0.1:2  ONLINE   SECONDARY  -      0.1.0    50      0s     -        -                                                                                -
` + memberC + `  10.0.0.1:3  OFFLINE  SECONDARY  -      0.1.0    50      1m35s  -        -                                                                                -

` + memberC + ` is OFFLINE: it was expelled

` + memberC + ` tries to come back, for the 2nd time

` + memberC + ` waits for members a and b

` + memberC + ` catches up: clone from ` + memberB + `, 512.0MiB of 1.0GiB, 80.0MiB per second, 6.4s left

` + memberC + ` cannot write its log: its disk hangs

` + memberC + ` is frozen for plan ` + testPlan + `; run concordat force-members again with that plan or a new one
`
	if diff := cmp.Diff(want, noTrailing(out)); diff != "" {
		t.Error(diff)
	}
}

// Who was heard just now, and is not trusted yet, is told from one that was never
// heard.
func TestHeard(t *testing.T) {
	seen := degraded()
	seen.View.Members[1].State, seen.View.Members[1].HeardNanos = adminpb.MemberState_MEMBER_STATE_UNREACHABLE, 0
	seen.View.Members[2].HeardNanos = -1
	address := (&fakeAdmin{status: seen}).serve(t)
	for _, verb := range []string{"status", "members"} {
		out, _ := here(t, exitOK, verb, "--address", address)
		for member, heard := range map[string]string{memberA: "-", memberB: "0s", memberC: "never"} {
			line, found := "", false
			for line = range strings.Lines(out) {
				if found = strings.HasPrefix(line, member); found {
					break
				}
			}
			if fields := strings.Fields(line); !found || fields[7] != heard {
				t.Errorf("%s shows %q, want %s", verb, line, heard)
			}
		}
		out, _ = here(t, exitOK, verb, "--json", "--address", address)
		var got struct{ Members []row }
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		for i, never := range []bool{false, false, true} {
			if m := got.Members[i]; m.HeardSeconds != 0 || m.NeverHeard != never {
				t.Errorf("%s --json has %+v", verb, m)
			}
		}
	}
}

// What a member's data or its engine did otherwise than the others' is a sentence each,
// and those of transactions that stand are told by who could not apply them.
func TestFindingsAreShown(t *testing.T) {
	seen := degraded()
	seen.StateCheck = &adminpb.StateCheck{Findings: []*adminpb.StateFinding{{Text: "a key differs"}}}
	seen.ApplyFaults = &adminpb.ApplyFaults{
		Refused: 1,
		Votes: []*adminpb.ApplyVote{
			{Gtid: testGroup + ":1", Index: 7, Verdict: "STANDS", Text: "it stands", Said: []*adminpb.ApplyOpinion{{Member: memberA, Class: 1}}},
			{Gtid: testGroup + ":2", Index: 9, Verdict: "REFUSED", Class: 1, Text: "it is refused", Missing: []string{memberB}},
		},
		Odd: []*adminpb.ApplyFault{{Index: 8, Member: memberA, Gtid: testGroup + ":1", Class: 1, Text: "one could not"}},
	}
	address := (&fakeAdmin{status: seen}).serve(t)
	out, _ := here(t, exitOK, "status", "--address", address)
	if !strings.HasSuffix(out, "\na key differs\n\nit is refused\n\none could not\n") {
		t.Errorf("it ends as\n%s", out)
	}
	var got statusJSON
	out, _ = here(t, exitOK, "status", "--json", "--address", address)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	want := applyFaultsJSON{
		Refused: 1,
		Votes: []applyVoteJSON{
			{GTID: testGroup + ":1", Index: 7, Verdict: "STANDS", Said: []applyOpinionJSON{{memberA, 1}}, Text: "it stands"},
			{GTID: testGroup + ":2", Index: 9, Verdict: "REFUSED", Class: 1, Said: []applyOpinionJSON{}, Missing: []string{memberB}, Text: "it is refused"},
		},
		Odd: []applyFaultJSON{{Index: 8, Member: memberA, GTID: testGroup + ":1", Class: 1, Text: "one could not"}},
	}
	if diff := cmp.Diff(want, got.ApplyFaults); diff != "" {
		t.Error(diff)
	}
}

// A node that is in no view is a row of its own.
func TestStatusOfNodeOutside(t *testing.T) {
	out, _ := here(t, exitOK, "status", "--address", (&fakeAdmin{status: waiting()}).serve(t))
	for _, text := range []string{"OFFLINE: not asked for\n", memberC + "  10.0.0.1:3  OFFLINE", "waits for members a and b"} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in\n%s", text, out)
		}
	}
}

func TestStatusJSON(t *testing.T) {
	first, second := (&fakeAdmin{status: waiting()}).serve(t), (&fakeAdmin{status: degraded()}).serve(t)
	var got statusJSON
	out, _ := here(t, exitOK, "status", "--json", "--address", first+","+second)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if got.Diagnosis.Code != "OK_NO_TOLERANCE_PARTIAL" || got.Outlook != (outlookJSON{3, 3, 0, 2, 2, 0}) || !got.Quorum ||
		got.SeenBy != memberA || len(got.Members) != 3 || got.Members[2].HeardSeconds != 95 || got.Members[2].State != "OFFLINE" {
		t.Errorf("%+v", got)
	}
	out, _ = here(t, exitOK, "status", "--json", "--address", first)
	got = statusJSON{}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	wanted := recoveryJSON{"CLONE", memberB, "10.0.0.1:2", 512 << 20, 1 << 30, 80 << 20, 6.4}
	if got.Recovery == nil || *got.Recovery != wanted || got.Waiting != "members a and b" || !got.LogStalled ||
		got.Frozen != testPlan || got.RejoinTry != 2 || got.Quorum || len(got.Members) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestMembersCommand(t *testing.T) {
	address := (&fakeAdmin{status: degraded()}).serve(t)
	out, _ := here(t, exitOK, "members", "--address", address)
	const want = `single-primary, epoch 3, protocol 1, primary ` + memberA + ` (10.0.0.1:1)

MEMBER                                ADDRESS     STATE        ROLE       LEADS  VERSION  WEIGHT  HEARD  DELIVERED
` + memberA + `  10.0.0.1:1  ONLINE       PRIMARY    yes    0.1.0    50      -      100
` + memberB + `  10.0.0.1:2  ONLINE       SECONDARY  -      0.1.0    50      0s     99
` + memberC + `  10.0.0.1:3  UNREACHABLE  SECONDARY  -      0.1.0    50      1m35s  90
`
	if diff := cmp.Diff(want, noTrailing(out)); diff != "" {
		t.Error(diff)
	}
	var got membersJSON
	out, _ = here(t, exitOK, "members", "--json", "--address", address)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	last := memberJSON{memberC, 1 << 63, "10.0.0.1:3", "UNREACHABLE", false, "0.1.0", 50, 95, false, 90, "SECONDARY", ""}
	if got.View != "7" || got.SeenBy != memberA || got.Mode != "single-primary" || got.Epoch != 3 || got.Primary != memberA || len(got.Members) != 3 || got.Members[2] != last {
		t.Errorf("%+v", got)
	}
}

// What keeps a member from writing or showing is said, and a change under way.
func TestStatusOfRights(t *testing.T) {
	s := degraded()
	s.Alone, s.Outdated, s.Writable = true, 5, false
	s.Gate = &adminpb.Gate{Index: 77, Missing: []string{memberB, memberC}}
	s.Action = openAction()
	address := (&fakeAdmin{status: s}).serve(t)
	out, _ := here(t, exitOK, "status", "--address", address)
	const want = `
` + memberA + ` is the primary, and too few of the others tell that they hear it: nothing that writes begins there, and another one may have been elected

` + memberA + ` is told that epoch 5 has begun, and has come to epoch 3

` + memberA + ` does not show what is ordered up to log index 77 before ` + memberB + ` (10.0.0.1:2), ` + memberC + ` (10.0.0.1:3) tell that they know of it

planned change ` + testAction + ` (set primary, primary is to be ` + memberB + `) waits for ` + memberA + ` (10.0.0.1:1); concordat primary cancel takes it back
`
	if !strings.HasSuffix(out, want) {
		t.Errorf("it printed\n%s\nwhich does not end with\n%s", out, want)
	}
	var got statusJSON
	out, _ = here(t, exitOK, "status", "--json", "--address", address)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if got.Mode != "single-primary" || got.Epoch != 3 || got.Primary != memberA || got.Protocol != 1 || got.Writable || !got.Alone || got.Outdated != 5 ||
		got.Gate == nil || got.Gate.Index != 77 || len(got.Gate.Missing) != 2 || got.Action == nil || got.Action.ID != testAction || got.Fresh != -1 {
		t.Errorf("%+v", got)
	}
	if m := got.Members; m[0].Role != "PRIMARY" || !m[0].Primary || m[0].FreshSeconds != -1 || m[1].Role != "SECONDARY" || m[1].Primary {
		t.Errorf("%+v", m)
	}
}

// Without a primary, and with many, the group is described as such.
func TestStandingText(t *testing.T) {
	for want, s := range map[string]*adminpb.StatusResponse{
		"":                                   {},
		"multi-primary, epoch 2, protocol 1": {Mode: adminpb.Mode_MODE_MULTI_PRIMARY, Epoch: 2, Protocol: 1},
		"single-primary, epoch 4, protocol 1, nobody is primary": {Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Epoch: 4, Protocol: 1},
	} {
		if got := standingText(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRecoveryText(t *testing.T) {
	for want, r := range map[string]*adminpb.Recovery{
		"log, 0 entries": {},
		"log from " + memberB + ", 10 of 40 entries, 5 per second, 6s left": {
			Method: adminpb.Recovery_METHOD_LOG, Donor: memberB, Done: 10, Total: 40, Rate: 5.5, LeftNanos: 6e9,
		},
		"clone, 1000B of 1.5KiB": {Method: adminpb.Recovery_METHOD_CLONE, Done: 1000, Total: 1536},
	} {
		if got := recoveryText(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		40 * time.Millisecond: "0s", 1234 * time.Millisecond: "1.2s", 95400 * time.Millisecond: "1m35s", 100*time.Minute + 20*time.Second: "1h40m0s",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

func TestOrdinal(t *testing.T) {
	for n, want := range map[uint32]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th", 21: "21st", 111: "111th"} {
		if got := ordinal(n); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
