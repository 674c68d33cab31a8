package concordat

import (
	"slices"
	"sync"
)

// snapshots knows from which log indexes transactions are still running that
// may want to commit. It keeps the group from forgetting what they will be
// certified against.
type snapshots struct {
	mu   sync.Mutex
	open []held // ascending by index, all of them in use
}

type held struct {
	index uint64
	n     int
}

// hold notes a transaction that begins at index or later.
func (s *snapshots) hold(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(index)
	if i < len(s.open) && s.open[i].index == index {
		s.open[i].n++
		return
	}
	s.open = slices.Insert(s.open, i, held{index: index, n: 1})
}

// release ends one hold of index. An index that nobody holds takes no room, so
// one transaction that stays open costs nothing for those that come and go.
func (s *snapshots) release(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(index)
	if s.open[i].n--; s.open[i].n == 0 {
		s.open = slices.Delete(s.open, i, i+1)
	}
}

// find returns the place of index. The search goes from the end, where new
// transactions are.
func (s *snapshots) find(index uint64) int {
	i := len(s.open)
	for i > 0 && s.open[i-1].index >= index {
		i--
	}
	return i
}

// oldest returns the least index held, none if nothing is.
func (s *snapshots) oldest(none uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == 0 {
		return none
	}
	return min(none, s.open[0].index)
}
