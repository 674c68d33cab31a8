package gcs

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

func TestHearers(t *testing.T) {
	self := Identity{Member: gtid.UUID{9}, RaftID: 90}
	member := func(uuid byte, id uint64) Member { return Member{UUID: gtid.UUID{uuid}, RaftID: id} }
	past := View{ID: 3, Members: []Member{member(1, 10), member(2, 20), member(9, 89)}}
	for _, c := range []struct {
		name  string
		view  View
		named []Member
		heard []uint64
		wants []uint64
	}{
		{name: "nothing is known"},
		{name: "the last view", view: past, wants: []uint64{10, 20}},
		{name: "who was named, without a view", named: []Member{member(4, 40), member(9, 90), member(3, 30)}, wants: []uint64{30, 40}},
		{name: "who speaks, without a view", heard: []uint64{50, 40}, wants: []uint64{40, 50}},
		{name: "a group that has nobody of the last view", view: past, named: []Member{member(3, 30), member(9, 90)}, wants: []uint64{10, 20, 30}},
		{name: "one that has come back under another raft id", view: past, named: []Member{member(1, 11), member(9, 90)}, wants: []uint64{10, 11, 20}},
		{name: "who came after the answer", view: past, named: []Member{member(3, 30)}, heard: []uint64{60, 30}, wants: []uint64{10, 20, 30, 60}},
		{name: "nobody twice", view: past, named: past.Members, heard: []uint64{20, 10}, wants: []uint64{10, 20}},
		{name: "not itself", view: View{ID: 4, Members: []Member{member(9, 90)}}, named: []Member{member(9, 88)}, heard: []uint64{90}},
	} {
		t.Run(c.name, func(t *testing.T) {
			heard := slices.Clone(c.heard)
			if got := Hearers(self, c.view, c.named, c.heard); !slices.Equal(got, c.wants) {
				t.Errorf("%d, want %d", got, c.wants)
			}
			if !slices.Equal(heard, c.heard) {
				t.Errorf("who was heard has become %d", c.heard)
			}
		})
	}
}

// Of those that have spoken, the last ones are kept, as many as a view can have.
func TestHear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		said := rapid.SliceOf(rapid.Uint64Range(1, 2*MaxMembers)).Draw(t, "who speaks")
		var heard, want []uint64
		for _, id := range said {
			heard = Hear(heard, id)
		}
		for _, id := range slices.Backward(said) {
			if len(want) < MaxMembers && !slices.Contains(want, id) {
				want = append(want, id)
			}
		}
		slices.Reverse(want)
		if !slices.Equal(heard, want) {
			t.Fatalf("%d, want %d", heard, want)
		}
	})
}
