package gcs

import "slices"

// Hearers are the raft ids, ascending, of those to whom a member without a state
// machine has to say that it lives: whoever has it in the view gives it up
// otherwise, or waits for what it cannot deliver. Nobody tells it how the group
// changes meanwhile, and so nothing of what it knows is enough alone:
//
//   - view is the last one that it knows, of where its log or its newest checkpoint
//     ends. That may be long past, and nobody of it be left, or under that raft id.
//   - named are the members by the last answer of one who knew its place. Who came
//     after that is missing; it may also be older than view.
//   - heard are those that speak to it, see [Hear]. They have it in their views. There
//     are none where only its own messages arrive.
//
// Who is in the group no more is told in vain. The member itself is not among them,
// under whatever raft id it once was: who has its UUID is it.
func Hearers(self Identity, view View, named []Member, heard []uint64) []uint64 {
	ids := slices.Clone(heard)
	for _, members := range [][]Member{view.Members, named} {
		for _, m := range members {
			if m.UUID != self.Member {
				ids = append(ids, m.RaftID)
			}
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return slices.DeleteFunc(ids, func(id uint64) bool { return id == self.RaftID })
}

// Hear returns heard, raft ids in the order in which they spoke last, after id has
// spoken. It keeps as many as can be in a view, whoever it is that speaks: members of
// the present one do so all the time. The slice that it is given is no longer of use.
func Hear(heard []uint64, id uint64) []uint64 {
	heard = slices.DeleteFunc(heard, func(other uint64) bool { return other == id })
	if len(heard) >= MaxMembers {
		heard = slices.Delete(heard, 0, len(heard)-MaxMembers+1)
	}
	return append(heard, id)
}
