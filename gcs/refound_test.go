package gcs

import (
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// TestRefound checks that a group begins at a log index with its founder, ONLINE, and
// that this is a state from which a member starts.
func TestRefound(t *testing.T) {
	id := Identity{Group: gtid.UUID{1}, Incarnation: gtid.UUID{2}, Member: gtid.UUID{3}, RaftID: 7, Session: 1}
	state, view, err := Refound(id, Member{Address: "here:1", Version: 256}, 40)
	if err != nil {
		t.Fatal(err)
	}
	read, err := StateView(state)
	if err != nil || read.String() != view.String() {
		t.Fatalf("view %v comes back as %v, %v", view, read, err)
	}
	if m, ok := view.Member(7); !ok || m.UUID != id.Member || m.State != Online || view.Index != 40 || view.ID != 1 || view.Incarnation != id.Incarnation {
		t.Errorf("the view is %v", view)
	}
	w := RefoundEntry(id, 40, []byte("message"))
	if e := w.Entries[0]; e.GetIndex() != 41 || e.GetTerm() != 1 || w.HardState.GetCommit() != 41 || !w.Sync {
		t.Errorf("the first entry is %v with %v", e, w.HardState)
	}
	if _, _, err := Refound(id, Member{}, 40); err == nil {
		t.Error("a founder without an address founds a group")
	}
}
