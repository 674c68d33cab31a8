package main

import (
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// quick are flags with which silence has its consequences soon, and yet not
// because a loaded machine leaves a process without a processor for a while.
var quick = []string{
	"--member-suspect-timeout", "1s", "--member-expel-timeout", "3s", "--autorejoin-interval", "1s",
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	onEachNetwork(t, func(t *testing.T, n network) {
		f := newFleet(t, n, 3, quick...)
		f.found()
		everybodyAlone(f)
		oneWay(f)
		leaderCutOff(f)
	})
}

// everybodyAlone: no side has a majority, so nobody can be expelled, and
// nothing is left of the partition when it ends.
func everybodyAlone(f *fleet) {
	f.Helper()
	f.members[0].put("k", "before")
	before := f.agree(f.members...)
	for _, m := range f.members {
		isolate(f.net, m.number, 1, 2, 3)
	}
	for _, m := range f.members {
		texts := []string{"any 1 of"}
		for _, other := range f.without(m) {
			texts = append(texts, other.uuid+" ("+other.address+")")
		}
		m.awaitDiagnosis("NO_QUORUM", texts...)
		if got := f.want(exitOK, "get", "app.t", "k", "--address", m.client); got != "before\n" {
			f.Errorf("member %d, alone, reads %q", m.number, got)
		}
		f.says(f.want(exitNoQuorum, "put", "--direct", "app.t", "k", "alone", "--address", m.client, "--timeout", "0s"), m.uuid)
		f.says(m.events(), "QUORUM_LOST")
	}
	f.net.mend()
	for _, m := range f.members {
		m.awaitDiagnosis("OK")
		m.put("k", "after "+m.uuid)
		f.says(m.events(), "QUORUM_BACK")
	}
	if after := f.agree(f.members...); after.View != before.View {
		f.Errorf("view %s became view %s", before.View, after.View)
	}
}

// oneWay: the leader can no longer send to one member. The third one hears
// both, so the lead goes there, and nobody loses his place.
func oneWay(f *fleet) {
	f.Helper()
	before := f.agree(f.members...)
	leader := f.leader(f.members...)
	deaf := f.without(leader)[0]
	third := f.without(leader, deaf)[0]
	f.net.cut(leader.number, deaf.number)
	deaf.awaitStatus("it does not hear the leader", func(s statusJSON) bool {
		return slices.ContainsFunc(s.Members, func(r row) bool { return r.Member == leader.uuid && r.State == "UNREACHABLE" })
	})
	f.until("the third member leads", func() bool { return f.leader(third) == third })
	for _, m := range f.members {
		m.put("k", "one way "+m.uuid)
	}
	if during := f.agree(f.members...); during.View != before.View {
		f.Errorf("view %s became view %s", before.View, during.View)
	}
	f.net.mend()
	for _, m := range f.members {
		m.awaitDiagnosis("OK")
	}
}

// leaderCutOff: the majority goes on, and expels it. It comes back by itself.
func leaderCutOff(f *fleet) {
	f.Helper()
	leader := f.leader(f.members...)
	others := f.without(leader)
	before := f.raftID(leader, others[0])
	isolate(f.net, leader.number, others[0].number, others[1].number)
	for _, m := range others {
		m.put("k", "without the leader "+m.uuid)
	}
	leader.awaitDiagnosis("NO_QUORUM", others[0].uuid, others[1].uuid)
	f.agree(others...)
	f.says(others[0].views(), leader.uuid+" expelled", "which leads, has not heard it for")
	f.net.mend()
	f.agree(f.members...)
	leader.put("k", "back")
	if after := f.raftID(leader, others[0]); after == before {
		f.Errorf("member %d was expelled, and is back under the raft id %d that it had", leader.number, before)
	}
	f.says(leader.events(), "LOST", "JOINING")
}

// A process that is stopped is silent, and its address does not refuse. When it
// goes on it believes itself to lead, learns that it does not, and comes back.
func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 3, quick...)
	f.found()
	f.members[0].put("k", "before")
	leader := f.leader(f.members...)
	others := f.without(leader)
	before := f.raftID(leader, others[0])
	leader.signal(syscall.SIGSTOP)
	others[0].put("k", "while it is stopped")
	f.agree(others...)
	f.says(others[0].views(), leader.uuid+" expelled", "which leads, has not heard it for")
	others[1].put("k", "while it is expelled")
	leader.signal(syscall.SIGCONT)
	f.agree(f.members...)
	if got := f.want(exitOK, "get", "app.t", "k", "--address", leader.client); got != "while it is expelled\n" {
		t.Errorf("it reads %q", got)
	}
	if after := f.raftID(leader, others[0]); after == before {
		t.Errorf("it was expelled, and is back under the raft id %s that it had", strconv.FormatUint(before, 10))
	}
	leader.put("k", "back")
	f.agree(f.members...)
}
