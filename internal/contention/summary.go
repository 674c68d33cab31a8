package contention

// tally counts the first things that it meets, up to a limit, and no others.
type tally[K comparable] struct {
	limit  int
	counts map[K]uint64
}

func (t *tally[K]) add(k K) {
	if n, ok := t.counts[k]; ok || len(t.counts) < t.limit {
		if t.counts == nil {
			t.counts = map[K]uint64{}
		}
		t.counts[k] = n + 1
	}
}

// keyID names a key as far as it is kept.
type keyID struct {
	table, key string
	cut        bool // the key is longer
}

// counter is a key and how often it came: not more often than count, and at
// least count-over times.
type counter struct {
	id    keyID
	count uint64
	over  uint64
	at    int // in the heap
}

// summary counts the keys that come most often: Space-Saving (Metwally, Agrawal
// and El Abbadi, "Efficient computation of frequent and top-k elements in data
// streams", 2005). A key that is not there takes the counter of the one with
// the least count, and with it that count, by which its own may be too high.
//
// Invariants, after total additions:
//  1. The counts add up to total.
//  2. A key's true count is at most its counter's, and at least that less over.
//  3. A key without a counter came at most least() times, and so did, before
//     it took one over, each key that has one: over <= least().
//  4. least() <= total/limit, so a key that came more often has a counter.
type summary struct {
	limit    int
	index    map[keyID]int // in counters
	counters []counter
	heap     []int // of indexes in counters, the least count on top
	replaced bool  // a counter has changed its key
}

// add counts a key, of which MaxKey bytes are kept.
func (s *summary) add(table string, key []byte) {
	cut := len(key) > MaxKey
	key = key[:min(len(key), MaxKey)]
	if i, ok := s.index[keyID{table: table, key: string(key), cut: cut}]; ok {
		s.counters[i].count++
		s.sink(s.counters[i].at)
		return
	}
	id := keyID{table: table, key: string(key), cut: cut}
	if len(s.counters) < s.limit {
		s.append(id)
		return
	}
	i := s.heap[0]
	c := &s.counters[i]
	delete(s.index, c.id)
	s.index[id] = i
	c.id, c.over, s.replaced = id, c.count, true
	c.count++
	s.sink(0)
}

func (s *summary) append(id keyID) {
	if s.index == nil {
		s.index = map[keyID]int{}
	}
	i := len(s.counters)
	s.index[id] = i
	s.counters = append(s.counters, counter{id: id, count: 1, at: i})
	s.heap = append(s.heap, i)
	// Nothing counts less than one, so its way up ends below another one.
	for at := i; at > 0; {
		up := (at - 1) / 2
		if s.count(up) <= 1 {
			return
		}
		s.swap(at, up)
		at = up
	}
}

// sink restores the order of the heap below a count that has grown.
func (s *summary) sink(at int) {
	for {
		least := at
		for _, below := range [2]int{2*at + 1, 2*at + 2} {
			if below < len(s.heap) && s.count(below) < s.count(least) {
				least = below
			}
		}
		if least == at {
			return
		}
		s.swap(at, least)
		at = least
	}
}

func (s *summary) count(at int) uint64 { return s.counters[s.heap[at]].count }

func (s *summary) swap(a, b int) {
	s.heap[a], s.heap[b] = s.heap[b], s.heap[a]
	s.counters[s.heap[a]].at, s.counters[s.heap[b]].at = a, b
}

// least is the most that a key without a counter can have come.
func (s *summary) least() uint64 {
	if !s.replaced {
		return 0
	}
	return s.count(0)
}

func (s *summary) reset() {
	clear(s.index)
	clear(s.counters)
	s.counters = s.counters[:0]
	s.heap = s.heap[:0]
	s.replaced = false
}
