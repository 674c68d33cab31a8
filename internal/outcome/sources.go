package outcome

import "github.com/concordatdb/concordat/gtid"

// source is what a GTID has beside its number.
type source struct {
	uuid gtid.UUID
	tag  gtid.Tag
}

// sources keeps each source of the entries once: a group has one, or one for
// each of a few tags. Which number a source has depends on what came and went,
// and is no part of the state.
type sources struct {
	list   []counted // 0 stands for no source
	free   []uint32
	byName map[source]uint32
	recent uint32
}

type counted struct {
	source
	entries int
}

func (s *sources) init() {
	s.list = make([]counted, 1)
	s.byName = map[source]uint32{}
}

func (s *sources) of(i uint32) source { return s.list[i].source }

// take returns the number of a source, for one more entry.
func (s *sources) take(name source) uint32 {
	i := s.recent
	if i == 0 || s.list[i].source != name {
		i = s.byName[name]
	}
	if i == 0 {
		i = s.add(name)
	}
	s.list[i].entries++
	s.recent = i
	return i
}

func (s *sources) add(name source) uint32 {
	var i uint32
	if last := len(s.free) - 1; last >= 0 {
		i, s.free = s.free[last], s.free[:last]
	} else {
		i = uint32(len(s.list))
		s.list = append(s.list, counted{})
	}
	s.list[i].source = name
	s.byName[name] = i
	return i
}

// release gives back the source of an entry, if it has one.
func (s *sources) release(i uint32) {
	if i == 0 {
		return
	}
	c := &s.list[i]
	c.entries--
	if c.entries > 0 {
		return
	}
	delete(s.byName, c.source)
	c.source = source{}
	s.free = append(s.free, i)
	if s.recent == i {
		s.recent = 0
	}
}
