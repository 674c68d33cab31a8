package outlook_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/outlook"
	"github.com/concordatdb/concordat/internal/standing"
)

// A short name stands for a member's UUID and address in the texts of a test.
var shorten = strings.NewReplacer(
	uuid(1).String(), "A", uuid(2).String(), "B", uuid(3).String(), "C", uuid(4).String(), "D", uuid(5).String(), "E",
	uuid(99).String(), "PLAN", uuid(98).String(), "INCARNATION",
)

// served are the facts of a member that serves transactions.
func served(v gcs.View, silent ...uint64) outlook.Facts {
	return outlook.Facts{State: standing.Online, View: v, Unreachable: silent, Quorum: true, Leader: true}
}

// slow are the facts of a member that serves transactions and is told that the
// disks of some stall.
func slow(v gcs.View, stalled []uint64, silent ...uint64) outlook.Facts {
	f := served(v, silent...)
	f.Stalled = stalled
	return f
}

// cut are the facts of a member that hears no quorum.
func cut(s standing.State, v gcs.View, silent ...uint64) outlook.Facts {
	return outlook.Facts{State: s, View: v, Unreachable: silent}
}

var diagnoses = []struct {
	name  string
	facts outlook.Facts
	code  outlook.Code
	text  string
}{
	{
		"three", served(group(3, 0)), outlook.OK,
		"The group has 3 members, 3 with a vote, and 1 may fail.",
	},
	{
		"five without one", served(group(5, 0), 2), outlook.OKPartial,
		"The group has 5 members, 5 with a vote, and 1 more may fail. B (m2:7400) is UNREACHABLE: bring back who is missing, " +
			"or give the place away with concordat replace, or end it with concordat remove.",
	},
	{
		"three and a newcomer", served(group(3, 1)), outlook.OKPartial,
		"The group has 4 members, 3 with a vote, and 1 may fail. D (m4:7400) is RECOVERING, and will vote when ONLINE.",
	},
	{
		"one", served(group(1, 0)), outlook.OKNoTolerance,
		"The group has 1 member, 1 with a vote, and none may fail. Join 2 members more, so that one may fail.",
	},
	{
		"two", served(group(2, 0)), outlook.OKNoTolerance,
		"The group has 2 members, 2 with a vote, and none may fail. Join 1 member more, so that one may fail.",
	},
	{
		"two and a newcomer", served(group(2, 1)), outlook.OKNoTolerancePartial,
		"The group has 3 members, 2 with a vote, and none may fail. C (m3:7400) is RECOVERING, and will vote when ONLINE.",
	},
	{
		"five without two", served(group(5, 0), 2, 4), outlook.OKNoTolerancePartial,
		"The group has 5 members, 5 with a vote, and no other may fail. B (m2:7400) and D (m4:7400) are UNREACHABLE: bring back who is missing, " +
			"or give the place away with concordat replace, or end it with concordat remove.",
	},
	{
		"in the minority", cut(standing.Online, group(3, 0), 2, 3), outlook.NoQuorum,
		"Nothing commits here: this member hears 1 of 3 voters, and 2 are needed. Bring back any 1 of B (m2:7400) and C (m3:7400). " +
			"Only if they are gone for good, and stopped: concordat force-members --members A",
	},
	{
		"one half", cut(standing.Online, group(2, 0), 2), outlook.NoQuorum,
		"Nothing commits here: this member hears 1 of 2 voters, and 2 are needed. Bring back B (m2:7400). " +
			"Only if they are gone for good, and stopped: concordat force-members --members A",
	},
	{
		"first back after an outage", cut(standing.Recovering, group(5, 0), 1, 2, 4, 5), outlook.NoQuorum,
		"This member hears no quorum of its group, and goes on by itself when one is there. " +
			"It waits for any 2 of A (m1:7400), B (m2:7400), D (m4:7400) and E (m5:7400); " +
			"1 of the 5 voters of the last view is here, and 3 must be. " +
			"Only if they are gone for good, and stopped: concordat force-members --members C",
	},
	{
		"a learner alone", cut(standing.Recovering, group(2, 1), 1, 2), outlook.NoQuorum,
		"This member hears no quorum of its group, and goes on by itself when one is there. " +
			"It waits for A (m1:7400) and B (m2:7400); 0 of the 2 voters of the last view are here, and 2 must be. " +
			"If they are gone for good, force the membership on a member that is ONLINE by the view.",
	},
	{
		"just started", cut(standing.Recovering, group(3, 0)), outlook.NoQuorum,
		"Nothing commits here before this member hears a quorum. " +
			"It waits for word from 2 of the 3 voters of the last view; none is known to be missing.",
	},
	{
		"between leaders",
		outlook.Facts{State: standing.Online, View: group(3, 0), Quorum: true},
		outlook.NoLeader,
		"A quorum is there and elects its leader; transactions wait. If that lasts, look at the network between the members.",
	},
	{
		"slow disk",
		outlook.Facts{State: standing.Online, View: group(3, 0), Quorum: true, Leader: true, LogStalled: true},
		outlook.LogStalled,
		"The disk of this member's log does not answer, so its vote is missing. " +
			"Look after the disk; the member goes on by itself when writes come back, and can be replaced if they do not.",
	},
	{
		"slow disk of three", slow(group(3, 0), []uint64{2}), outlook.OKNoTolerance,
		"The group has 3 members, 3 with a vote, and no other may fail. The disk of B (m2:7400) stalls, and what commits does so without. " +
			"Look after the disk, or stop the member and give its place away with concordat replace.",
	},
	{
		"slow disks of seven", slow(group(7, 0), []uint64{2, 3}), outlook.OK,
		"The group has 7 members, 7 with a vote, and 1 more may fail. The disks of B (m2:7400) and C (m3:7400) stall, and what commits does so without. " +
			"Look after the disks, or stop the member and give its place away with concordat replace.",
	},
	{
		"slow disk and one gone of five", slow(group(5, 0), []uint64{2}, 4), outlook.OKNoTolerancePartial,
		"The group has 5 members, 5 with a vote, and no other may fail. The disk of B (m2:7400) stalls, and what commits does so without. " +
			"Look after the disk, or stop the member and give its place away with concordat replace. " +
			"D (m4:7400) is UNREACHABLE: bring back who is missing, or give the place away with concordat replace, or end it with concordat remove.",
	},
	{
		"slow disk of a newcomer", slow(group(3, 1), []uint64{4}), outlook.OKPartial,
		"The group has 4 members, 3 with a vote, and 1 may fail. D (m4:7400) is RECOVERING, and will vote when ONLINE.",
	},
	{
		"slow disk and one gone of three", slow(group(3, 0), []uint64{2}, 3), outlook.LogStalled,
		"Nothing commits: the disk of B (m2:7400) stalls, 1 of the 3 voters can acknowledge a write, and 2 must. " +
			"Look after the disk, or bring back C (m3:7400); the group goes on by itself.",
	},
	{
		"slow disks of two, one its own",
		outlook.Facts{State: standing.Online, View: group(2, 0), Quorum: true, Leader: true, LogStalled: true, Stalled: []uint64{1, 2}},
		outlook.LogStalled,
		"Nothing commits: the disks of A (m1:7400) and B (m2:7400) stall, 0 of the 2 voters can acknowledge a write, and 2 must. " +
			"Look after the disks; the group goes on by itself.",
	},
	{
		"slow disk of its own",
		outlook.Facts{State: standing.Online, View: group(3, 0), Quorum: true, Leader: true, LogStalled: true, Stalled: []uint64{1}},
		outlook.LogStalled,
		"The disk of this member's log does not answer, so its vote is missing. " +
			"Look after the disk; the member goes on by itself when writes come back, and can be replaced if they do not.",
	},
	{
		"catching up",
		outlook.Facts{State: standing.Recovering, View: group(3, 1), Quorum: true, Leader: true, Recovery: "copies the state of A"},
		outlook.RecoveringHere,
		"This member is catching up with its group and copies the state of A; it serves transactions when it is ONLINE.",
	},
	{
		"joining",
		outlook.Facts{State: standing.Recovering},
		outlook.RecoveringHere,
		"This member is catching up with its group; it serves transactions when it is ONLINE.",
	},
	{
		"frozen",
		outlook.Facts{State: standing.Recovering, View: group(3, 0), Frozen: uuid(99), Unreachable: []uint64{2}},
		outlook.FrozenHere,
		"This member takes no part in its group before plan PLAN of forced membership is carried out. " +
			"Run concordat force-members --plan-id PLAN again, with the same members, where it was begun.",
	},
	{
		"failed",
		outlook.Facts{State: standing.Error, View: group(3, 0), Err: "log: no space left."},
		outlook.ErrorHere,
		"This member is out of service: log: no space left. When the cause is gone, bring it back with concordat rejoin.",
	},
	{
		"trying",
		outlook.Facts{State: standing.Error, Err: "expelled", RejoinTry: 2, RejoinTries: 3},
		outlook.ErrorHere,
		"This member is out of service: expelled. It comes back by itself: try 2 of 3.",
	},
	{
		"left out",
		outlook.Facts{State: standing.Error, LeftOutBy: uuid(98)},
		outlook.ErrorHere,
		"This member is out of service. The group went on without it, as incarnation INCARNATION: bring it back with concordat rejoin.",
	},
	{
		"diverged",
		outlook.Facts{State: standing.Error, Err: "diverged", LeftOutBy: uuid(98), Diverged: true, RejoinTry: 1},
		outlook.ErrorHere,
		"This member is out of service: diverged. It holds transactions that the group does not: look at them, " +
			"then concordat rejoin --discard-errant saves them and takes the group's state.",
	},
	{
		"outside",
		outlook.Facts{State: standing.Offline, View: group(3, 0)},
		outlook.OfflineHere,
		"This member is in no group. Join one with concordat join, or found one with Bootstrap.",
	},
	{
		"nothing known",
		outlook.Facts{},
		outlook.OfflineHere,
		"This member is in no group. Join one with concordat join, or found one with Bootstrap.",
	},
}

func TestDiagnose(t *testing.T) {
	for _, c := range diagnoses {
		t.Run(c.name, func(t *testing.T) {
			got := outlook.Diagnose(c.facts)
			if got.Code != c.code {
				t.Errorf("code %s, want %s", got.Code, c.code)
			}
			if text := shorten.Replace(got.Text); text != c.text {
				t.Errorf("text\n%s\nwant\n%s", text, c.text)
			}
		})
	}
}

// Who serves transactions is told how many may fail, and who is missing by name
// and address; who hears no quorum, whom to bring back.
func TestDiagnosisNamesTheMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		silent := anySilent(t, v)
		o := outlook.Of(v, silent)
		f := outlook.Facts{State: standing.Online, View: v, Unreachable: silent, Quorum: o.HasQuorum(), Leader: true}
		d := outlook.Diagnose(f)
		if (d.Code == outlook.NoQuorum) == o.HasQuorum() {
			t.Fatalf("%+v is %s", o, d.Code)
		}
		if (f.Waiting() == "") != o.HasQuorum() {
			t.Fatalf("%+v, and it waits as in %q", o, f.Waiting())
		}
		if o.HasQuorum() {
			tolerant := d.Code == outlook.OK || d.Code == outlook.OKPartial
			partial := d.Code == outlook.OKPartial || d.Code == outlook.OKNoTolerancePartial
			whole := o.Recovering == 0 && len(silent) == 0
			if tolerant != (o.Tolerance > 0) || partial == whole {
				t.Fatalf("%+v with silent %d is %s", o, silent, d.Code)
			}
		}
		for _, m := range v.Members {
			gone := !heard(silent, m) && (o.HasQuorum() || m.State == gcs.Online)
			named := strings.Contains(d.Text, m.UUID.String()+" ("+m.Address+")")
			// A RECOVERING member that is heard is named too, if nobody is silent.
			if !gone && named && (len(silent) > 0 || !o.HasQuorum()) || gone && !named {
				t.Fatalf("silent %d, and %s is named %t: %s", silent, m.Address, named, d.Text)
			}
			listed := strings.Contains(d.Text, "--members") && strings.Contains(after(d.Text, "--members"), m.UUID.String())
			if want := !o.HasQuorum() && o.Reachable > 0 && m.State == gcs.Online && heard(silent, m); listed != want {
				t.Fatalf("silent %d, and %s is in the list of force-members %t: %s", silent, m.Address, listed, d.Text)
			}
		}
	})
}

func heard(silent []uint64, m gcs.Member) bool { return !slices.Contains(silent, m.RaftID) }

func after(s, mark string) string {
	_, rest, _ := strings.Cut(s, mark)
	return rest
}
