package sim

import (
	"slices"
	"testing"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/sim/simdisk"
)

// TestTellsPresentMembers checks whom a member that copies tells that it lives, when
// nobody is left of the last view that it knows: those that were named to it, and
// those that speak to it in its incarnation.
func TestTellsPresentMembers(t *testing.T) {
	for _, c := range []struct {
		name  string
		named bool // to the one that copies
		fresh bool // the other one is of a later incarnation
		wants bool
	}{
		{"it was named to it", true, false, true},
		{"it speaks to it", false, false, true},
		{"it speaks to it from another incarnation", false, true, false},
	} {
		w := newWorld(1, false, nil)
		w.phase = healing // nothing is lost
		copies, other := copying(w, 0), copying(w, 1)
		w.members = []*member{copies, other}
		copies.view = gcs.View{ID: 7, Members: []gcs.Member{{RaftID: 1, UUID: gtid.UUID{1}}, {RaftID: 2, UUID: copies.uuid}}}
		there := gcs.View{ID: 9, Members: []gcs.Member{other.described(), copies.described()}}
		if c.named {
			copies.named = there
		} else {
			other.view = there
			other.run.reportAlive()
		}
		if c.fresh {
			other.run.history = newHistory(gtid.UUID{5}, &w.reached, w.violate)
		}
		copies.run.reportAlive()
		for w.now < second && w.step() {
			continue
		}
		if got := slices.Contains(other.run.heard, copies.raftID); got != c.wants {
			t.Errorf("%s: it is told that the one that copies lives: %t", c.name, got)
		}
		if w.fault != nil {
			t.Errorf("%s: %v", c.name, w.fault)
		}
	}
}

// copying is a member that has no state machine.
func copying(w *world, slot int) *member {
	m := newMember(w, slot)
	m.log, m.engine = simdisk.NewLog(), w.newEngine()
	m.rename()
	m.run = &run{member: m, world: w, history: w.histories[0], raftID: m.raftID, record: &runRecord{member: m.name}}
	if err := m.log.SetIdentity(gcs.Identity{Group: w.group, Incarnation: w.group, Member: m.uuid, RaftID: m.raftID}); err != nil {
		w.violate("start", "%s: %v", m.name, err)
	}
	return m
}
