package gcs

import "testing"

// An operator's order is not written into the log of a minority.
func TestRemovalNeedsQuorum(t *testing.T) {
	w := expelling(t, 3)
	leader := w.member(1).group
	suspect := func(suspected bool) {
		for i := range leader.detector.peers {
			leader.detector.peers[i].suspected = suspected
		}
	}
	last, _ := w.member(1).log.LastIndex()
	suspect(true)
	a := leader.Change(Change{Kind: Removed, Member: Member{RaftID: 3}})
	w.pump(w.member(1))
	if now, _ := w.member(1).log.LastIndex(); now != last || a.Done || a.Refused != nil || a.Leader.RaftID != 1 {
		t.Errorf("answered %+v, and the log went on from %d to %d", a, last, now)
	}
	if a = leader.Change(Change{Kind: Removed, Member: Member{RaftID: 9}}); a.Refused == nil {
		t.Error("the removal of nobody is not refused")
	}
	suspect(false)
	leader.Change(Change{Kind: Removed, Member: Member{RaftID: 3}})
	w.pump(w.member(1))
	w.settle()
	if has(leader.View(), 3) {
		t.Error("with a majority it is not removed")
	}
}
