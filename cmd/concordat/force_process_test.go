package main

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Five members lose three at once. What is left says what to do, and that
// works; the three find their way back. Then all are lost.
func TestFiveMembers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 5, quick...)
	f.found()
	for _, m := range f.members {
		m.put(m.uuid, "before")
	}
	f.agree(f.members...)
	loseThree(f)
	loseAll(f)
}

func loseThree(f *fleet) {
	f.Helper()
	lost, left := []*fleetMember{f.members[0], f.members[2], f.members[3]}, []*fleetMember{f.members[1], f.members[4]}
	for _, m := range lost {
		m.signal(syscall.SIGKILL)
	}
	for _, m := range lost {
		<-m.ended
	}
	s := left[0].awaitDiagnosis("NO_QUORUM", "any 1 of", lost[0].uuid, lost[1].uuid, lost[2].uuid,
		"Only if they are gone for good, and stopped: concordat force-members --members ", left[0].uuid, left[1].uuid)
	for _, patience := range []string{"0s", "3s"} {
		f.want(exitNoQuorum, "put", "--direct", "app.t", "k", "no quorum", "--address", left[0].client, "--timeout", patience)
	}

	_, advice, _ := strings.Cut(s.Diagnosis.Text, ": concordat ") // the members in any order
	command := append(strings.Fields(advice), "--address", left[0].client)
	f.says(f.want(exitOK, append(command, "--plan")...), append([]string{"seed", "tolerance 0"}, lost[0].uuid, lost[1].uuid, lost[2].uuid)...)
	f.says(f.want(exitUsage, command...), "--yes", "nothing was changed")
	left[1].awaitDiagnosis("NO_QUORUM") // a plan is no step
	var done forceJSON
	out, errOut, code := f.try(append(command, "--yes", "--json")...)
	if err := json.Unmarshal([]byte(out), &done); err != nil || code != exitOK {
		f.Fatalf("exit code %d, %v: %s%s", code, err, out, errOut)
	}
	for _, s := range done.Report.Survivors {
		if s.State != "ONLINE" {
			f.Errorf("the command has ended, and %s is %s", s.Member, s.State)
		}
	}
	for _, x := range slices.Concat(done.Plan.Excluded, done.Report.Excluded) {
		if x.HeardSeconds < 1 { // a member is suspected after as long as that
			f.Errorf("%s was heard %vs ago, it says", x.Member, x.HeardSeconds)
		}
	}
	f.want(exitOK, "put", "--direct", "app.t", "k", "at once", "--address", left[0].client, "--timeout", "0s")

	f.agree(left...)
	for _, m := range left {
		m.put(m.uuid, "forced")
	}
	f.says(f.want(exitRefused, append(command, "--plan")...), "quorum")
	for _, m := range lost {
		m.start()
	}
	after := f.agree(f.members...)
	if after.Incarnation == s.Incarnation {
		f.Errorf("the incarnation is %s as before", after.Incarnation)
	}
	for _, m := range lost {
		m.put(m.uuid, "back")
		f.says(m.events(), "LOST", "JOINING")
	}
	wantFive(f, map[*fleetMember]string{
		lost[0]: "back", lost[1]: "back", lost[2]: "back", left[0]: "forced", left[1]: "forced",
	})
}

// loseAll: they come back in another order, and the group begins with the third.
func loseAll(f *fleet) {
	f.Helper()
	before := f.agree(f.members...)
	for _, m := range f.members {
		m.signal(syscall.SIGKILL)
	}
	for _, m := range f.members {
		<-m.ended
	}
	back := []*fleetMember{f.members[3], f.members[0], f.members[4], f.members[2], f.members[1]}
	for i, m := range back[:2] {
		m.start()
		missing := []string{"It waits for any " + []string{"2", "1"}[i] + " of"}
		for _, other := range f.without(back[:i+1]...) {
			missing = append(missing, other.uuid+" ("+other.address+")")
		}
		s := m.awaitDiagnosis("NO_QUORUM", missing...)
		for _, r := range s.Members {
			if r.State == "UNREACHABLE" && r.HeardSeconds != 0 {
				f.Errorf("member %d has not heard %s in its life, and says that it has %v seconds ago", m.number, r.Member, r.HeardSeconds)
			}
		}
		f.want(exitTryAgain, "put", "--direct", "app.t", "k", "too early", "--address", m.client, "--timeout", "0s")
	}
	back[2].start()
	for _, m := range back[:3] {
		m.awaitReady()
	}
	back[0].put("k", "three are back")
	back[3].start()
	back[4].start()
	after := f.agree(f.members...)
	if after.Incarnation != before.Incarnation {
		f.Errorf("incarnation %s became %s", before.Incarnation, after.Incarnation)
	}
	for _, m := range f.members {
		if got := f.want(exitOK, "get", "app.t", "k", "--address", m.client); got != "three are back\n" {
			f.Errorf("member %d reads %q", m.number, got)
		}
	}
}

// wantFive checks what each member has written, on all members.
func wantFive(f *fleet, values map[*fleetMember]string) {
	f.Helper()
	for _, at := range f.members {
		for _, of := range f.members {
			if got := f.want(exitOK, "get", "app.t", of.uuid, "--address", at.client); got != values[of]+"\n" {
				f.Errorf("member %d reads %q of member %d", at.number, got, of.number)
			}
		}
	}
}

// What cannot be had from the others any more is replaced in one step: another
// member for one that is dead, and a new disk under the same name.
func TestReplaceDead(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 3, "--member-suspect-timeout", "1s", "--member-expel-timeout", "10m")
	f.found()
	first, second, dead := f.members[0], f.members[1], f.members[2]
	first.put("k", "before")
	fourth := f.add()
	fourth.start()
	fourth.awaitStatus("it is OFFLINE and waits", func(s statusJSON) bool { return s.Diagnosis.Code == "OFFLINE" })
	replace := []string{"replace", dead.uuid, "--address", fourth.client, "--seeds", first.address, "--json"}
	f.says(f.want(exitRefused, replace...), dead.uuid) // it is alive

	dead.end(syscall.SIGKILL)
	first.awaitDiagnosis("OK_NO_TOLERANCE_PARTIAL", dead.uuid, "concordat replace")
	f.says(f.want(exitOK, "replace", dead.uuid, "--plan", "--plan-at", first.client), "nothing was changed")
	var done changedJSON
	if err := json.Unmarshal([]byte(f.want(exitOK, replace...)), &done); err != nil || done.State != "ONLINE" || done.Member != fourth.uuid {
		t.Errorf("%v: %+v", err, done)
	}
	f.agree(first, second, fourth)
	f.says(first.views(), "replaced")

	second.end(syscall.SIGKILL)
	first.awaitDiagnosis("OK_NO_TOLERANCE_PARTIAL", second.uuid)
	before := f.raftID(second, first)
	second.dir += "-new"
	second.start("--seeds", fourth.address)
	second.awaitReady()
	f.agree(first, second, fourth)
	if after := f.raftID(second, first); after == before {
		t.Errorf("with a new disk it is still raft id %d", after)
	}
}

// Who does not belong there is told so, and disturbs nobody.
func TestStrangers(t *testing.T) {
	t.Parallel()
	cert, key := certificateFiles(t)
	otherCert, otherKey := certificateFiles(t)
	secure := func(cert, key string) []string {
		return []string{"--tls-cert", cert, "--tls-key", key, "--tls-ca", cert}
	}
	f := newFleet(t, newLoopback(t), 2)
	for i, m := range f.members {
		m.start(append(secure(cert, key), [][]string{{"--bootstrap"}, {"--seeds", f.members[0].address}}[i]...)...)
		m.awaitReady()
	}
	const otherGroup, otherMember = "00000000-0000-4000-8000-0000000000ff", "00000000-0000-4000-8000-0000000000fe"
	for _, c := range []struct {
		name                     string
		group, member, cert, key string
		listen                   string // empty: an address of its own
		code                     int
		text                     string
	}{
		{"group", otherGroup, otherMember, cert, key, "", exitRefused, "wrong group"},
		{"certificate", testGroup, otherMember, otherCert, otherKey, "", exitFailure, "certificate"},
		{"UUID of another member", testGroup, f.members[1].uuid, cert, key, "", exitRefused, f.members[1].address},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := slices.Concat([]string{
				"node", "--group", c.group, "--member", c.member, "--dir", t.TempDir() + "/new", "--seeds", f.members[0].address,
				"--listen", loopback, "--client-listen", loopback, "--start-timeout", "3s",
			}, secure(c.cert, c.key))
			f.says(f.want(c.code, args...), c.text)
		})
	}
	f.members[1].put("k", "v")
	if s := f.agree(f.members...); s.View != "3" {
		t.Errorf("view %s", s.View)
	}
}
