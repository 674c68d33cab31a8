package sim

import (
	"testing"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
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
	for _, c := range []struct {
		name  string
		own   gcs.View
		whom  string
		view  gcs.View
		wants bool
	}{
		{"a member of both views", own, "m1", gcs.View{Members: []gcs.Member{{RaftID: 2, Address: "m1"}}}, true},
		{"one that has a new raft id", own, "m1", gcs.View{Members: []gcs.Member{{RaftID: 5, Address: "m1"}}}, false},
		{"one that is not in its own view", own, "m1", gcs.View{Members: []gcs.Member{{RaftID: 1, Address: "m0"}}}, false},
		{"one at the address of another member", own, "m0", gcs.View{Members: []gcs.Member{{RaftID: 2, Address: "m0"}}}, false},
		{"anybody, where no view is known", gcs.View{}, "m9", gcs.View{}, true},
	} {
		r := &run{member: &member{view: c.own}}
		if got := r.listed(&member{name: c.whom}, c.view); got != c.wants {
			t.Errorf("%s: believed is %t", c.name, got)
		}
	}
}
