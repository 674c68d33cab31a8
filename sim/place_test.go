package sim

import (
	"testing"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/sim/simdisk"
)

func TestNote(t *testing.T) {
	frozen := forced.Record{Phase: forced.Adopted, Order: forced.Order{
		Plan: gtid.UUID{1}, Group: gtid.UUID{2}, Ends: gtid.UUID{3}, Begins: forced.Incarnation(gtid.UUID{1}),
	}}
	for _, n := range []note{{}, {clone: true}, {ended: gtid.UUID{7}}, {clone: true, ended: gtid.UUID{7}}} {
		got, err := decodeNote(n.encode())
		if err != nil || got.clone != n.clone || got.ended != n.ended || got.plan.Phase != forced.Free {
			t.Errorf("%+v is read as %+v, %v", n, got, err)
		}
	}
	whole := (&note{ended: gtid.UUID{7}, plan: frozen}).encode()
	for i := 1; i < len(whole); i++ {
		if i == 1+len(gtid.UUID{}) {
			continue // a note without a plan
		}
		if n, err := decodeNote(whole[:i]); err == nil {
			t.Errorf("the first %d of %d bytes of a note are read as %+v", i, len(whole), n)
		}
	}
}

// TestListed checks whom of a later incarnation a member believes.
func TestListed(t *testing.T) {
	own := gcs.View{ID: 3, Members: []gcs.Member{{RaftID: 1, Address: "m0"}, {RaftID: 2, Address: "m1"}}}
	later := gcs.View{ID: 9, Members: []gcs.Member{{RaftID: 5, Address: "m1"}}}
	for _, c := range []struct {
		name  string
		own   gcs.View
		named gcs.View
		whom  string
		view  gcs.View
		wants bool
	}{
		{"a member of both views", own, gcs.View{}, "m1", gcs.View{Members: []gcs.Member{{RaftID: 2, Address: "m1"}}}, true},
		{"one that has a new raft id", own, gcs.View{}, "m1", gcs.View{Members: []gcs.Member{{RaftID: 5, Address: "m1"}}}, false},
		{"one that is not in its own view", own, gcs.View{}, "m1", gcs.View{Members: []gcs.Member{{RaftID: 1, Address: "m0"}}}, false},
		{"one at the address of another member", own, gcs.View{}, "m0", gcs.View{Members: []gcs.Member{{RaftID: 2, Address: "m0"}}}, false},
		{"one that was named under its new raft id", own, later, "m1", later, true},
		{"one that was named at another address", own, later, "m0", gcs.View{Members: []gcs.Member{{RaftID: 5, Address: "m0"}}}, false},
		{"a member of the view that was not named any more", own, later, "m0", gcs.View{Members: own.Members}, true},
		{"anybody, where no view is known", gcs.View{}, later, "m9", gcs.View{}, true},
	} {
		r := &run{member: &member{view: c.own, named: c.named}}
		if got := r.listed(&member{name: c.whom}, c.view); got != c.wants {
			t.Errorf("%s: believed is %t", c.name, got)
		}
	}
}

// TestGoesOn checks where operators send members of whose incarnations two are
// beside each other, and that they stay with that when these have moved.
func TestGoesOn(t *testing.T) {
	w := &world{}
	for i := range 4 {
		w.histories = append(w.histories, &history{lineage: lineage{incarnation: gtid.UUID{byte(i + 1)}}})
	}
	first, stays, goes, later := w.histories[0], w.histories[1], w.histories[2], w.histories[3]
	stays.parent, goes.parent, later.parent = first, first, stays
	first.children, stays.children = []*history{goes, stays}, []*history{later}
	be := func(m *member, of *history) {
		if err := m.log.SetIdentity(gcs.Identity{Incarnation: of.incarnation}); err != nil {
			t.Fatal(err)
		}
	}
	for _, of := range []*history{stays, stays, goes} {
		m := &member{log: simdisk.NewLog()}
		w.members = append(w.members, m)
		be(m, of)
	}
	check := func(when string, of *history, wants bool) {
		t.Helper()
		if got := w.goesOn(of); got != wants {
			t.Errorf("%s, operators go on with incarnation %d: %t", when, of.incarnation[0], got)
		}
	}
	check("while faults strike", goes, true)
	w.phase = healing
	check("after the faults", goes, false)
	check("after the faults", stays, true)
	check("after the faults", first, true)
	check("before anybody is in it", later, false)
	be(w.members[0], goes)
	check("after one has moved", goes, false)
	check("after one has moved", stays, true)
	be(w.members[1], later)
	check("once somebody is in it", later, true)
}
