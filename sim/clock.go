package sim

// event is something to be done at a virtual time.
type event struct {
	at   int64
	seq  uint64
	what func()
}

func (e event) before(f event) bool {
	return e.at < f.at || e.at == f.at && e.seq < f.seq
}

// clock holds virtual time and what is to come, as a binary heap.
type clock struct {
	now  int64
	seq  uint64
	heap []event
	done uint64 // events that have happened
}

// after schedules what. Among events of one time the first scheduled comes
// first.
func (c *clock) after(delay int64, what func()) {
	c.seq++
	c.heap = append(c.heap, event{at: c.now + max(delay, 0), seq: c.seq, what: what})
	for i := len(c.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !c.heap[i].before(c.heap[parent]) {
			break
		}
		c.heap[i], c.heap[parent] = c.heap[parent], c.heap[i]
		i = parent
	}
}

// step lets the next event happen and reports whether there was one.
func (c *clock) step() bool {
	if len(c.heap) == 0 {
		return false
	}
	e := c.heap[0]
	last := len(c.heap) - 1
	c.heap[0], c.heap[last] = c.heap[last], event{}
	c.heap = c.heap[:last]
	c.sink()
	c.now = e.at
	c.done++
	e.what()
	return true
}

func (c *clock) sink() {
	for i := 0; ; {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(c.heap) && c.heap[child].before(c.heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		c.heap[i], c.heap[least] = c.heap[least], c.heap[i]
		i = least
	}
}
