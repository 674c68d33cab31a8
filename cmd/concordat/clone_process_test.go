package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// slowly are flags with which a copy of fillBytes takes so long that a test can
// end a process in the middle of it, on a machine of any speed.
var slowly = []string{"--clone-rate", "192KiB"}

const fillBytes = 2 << 20

// fill writes so much that no log has it all, when the members were started with
// shortLog: whoever joins has to copy it.
func (f *fleet) fill(through *fleetMember) {
	f.Helper()
	const value = 64 << 10
	random := rand.New(rand.NewPCG(1, 2))
	for i := range fillBytes / value {
		var text strings.Builder // that does not compress
		for text.Len() < value {
			text.WriteString(strconv.FormatUint(random.Uint64(), 36))
		}
		through.put(fmt.Sprint("filling ", i), text.String())
	}
}

var shortLog = []string{"--checkpoint-size", "128KiB"}

// copying waits until a member has copied a part of another one's state, and
// returns whose.
func (m *fleetMember) copying() *fleetMember {
	m.fleet.Helper()
	s := m.awaitStatus("it copies, and has a part", func(s statusJSON) bool {
		return s.Recovery != nil && s.Recovery.Method == "CLONE" &&
			s.Recovery.Done > s.Recovery.Total/10 && s.Recovery.Done < s.Recovery.Total*9/10
	})
	return m.fleet.at(s.Recovery.DonorAddress)
}

func TestKillsDuringClone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 3, shortLog...)
	f.found()
	f.fill(f.members[0])
	fourth := f.add()
	fourth.start(append(slowly, "--seeds", f.members[0].address)...)
	fourth.copying()
	for range 2 {
		fourth.end(syscall.SIGKILL)
		f.members[1].put("k", "while it is down")
		fourth.start(slowly...)
		// What it has of the copy is not to be seen.
		f.want(exitTryAgain, "get", "app.t", "filling 0", "--address", fourth.client)
		fourth.copying()
	}
	donor := fourth.copying()
	donor.end(syscall.SIGKILL)
	f.without(donor)[0].put("k", "while the donor is down")
	f.until("it has another donor", func() bool { return fourth.copying() != donor })
	fourth.awaitReady()
	f.says(fourth.events(), "CLONE_FAILED", "CLONE_FINISHED")
	donor.start()
	donor.awaitReady()
	f.agree(f.members...)
	if got := f.want(exitOK, "get", "app.t", "k", "--address", fourth.client); got != "while the donor is down\n" {
		t.Errorf("the fourth reads %q", got)
	}
}
