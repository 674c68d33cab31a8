package certifier

import (
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// check reports the first invariant of the list on the type that does not
// hold. It takes time in proportion to the history.
func (c *Certifier) check() error {
	if c.swept > c.mark || c.mark > c.floor || c.floor > c.sequence {
		return fmt.Errorf("invariant 3: swept %d, mark %d, floor %d, sequence %d", c.swept, c.mark, c.floor, c.sequence)
	}
	if n := c.records.Len(); uint64(n) != c.sequence-c.swept {
		return fmt.Errorf("invariant 1: %d records from %d to %d", n, c.swept, c.sequence)
	}
	if err := c.checkItems(); err != nil {
		return err
	}
	return c.checkMilestones()
}

func (c *Certifier) checkItems() error {
	live := map[Item]uint64{}
	waiting := map[Item]map[uint64]bool{}
	at := 0
	for i := range c.records.Len() {
		seq := c.swept + 1 + uint64(i)
		for range c.records.At(i).items {
			if at == c.hashes.Len() {
				return fmt.Errorf("invariant 1: %d hashes end in the record at %d", at, seq)
			}
			item := c.hashes.At(at).item
			at++
			if seq > c.mark {
				live[item] = seq
				continue
			}
			if waiting[item] == nil {
				waiting[item] = map[uint64]bool{}
			}
			waiting[item][seq] = true
		}
	}
	if at != c.hashes.Len() {
		return fmt.Errorf("invariant 1: %d hashes, the records have %d", c.hashes.Len(), at)
	}
	for item, seq := range live {
		if list := c.history[item]; len(list) == 0 || list[len(list)-1].sequence != seq {
			return fmt.Errorf("invariant 2: %x was last written at %d, not at %v", item, seq, list)
		}
	}
	for item, list := range c.history {
		for _, t := range list {
			if live[item] < t.sequence && !waiting[item][t.sequence] {
				return fmt.Errorf("invariant 2: nothing will ever give back %x at %d", item, t.sequence)
			}
		}
	}
	return nil
}

// checkMilestones walks the history once, past the mark and each milestone.
func (c *Certifier) checkMilestones() error {
	places := []milestone{{sequence: c.mark, weight: c.markWeight, executed: c.low}}
	for i := range c.milestones.Len() {
		places = append(places, *c.milestones.At(i))
	}
	places = append(places, milestone{index: 1<<64 - 1, sequence: c.sequence, weight: c.weight, executed: c.executed})
	executed, weight := c.low, c.markWeight
	for i, p := range places[1:] {
		before := places[i]
		last := i == len(places)-2
		if p.index <= before.index || p.sequence < before.sequence || p.sequence == before.sequence && !last {
			return fmt.Errorf("invariant 5: milestone at %d, sequence %d, after one at %d, %d",
				p.index, p.sequence, before.index, before.sequence)
		}
		for seq := before.sequence + 1; seq <= p.sequence; seq++ {
			r := c.writer(seq)
			executed = executed.Union(gtid.Set{}.Add(r.gtid))
			weight += uint64(r.items) + 1
		}
		if !p.executed.Equal(executed) || p.executed.Count() != p.sequence {
			return fmt.Errorf("invariant 4: %v at sequence %d, not %v", executed, p.sequence, p.executed)
		}
		if p.weight != weight {
			return fmt.Errorf("invariant 6: weight %d at sequence %d, not %d", weight, p.sequence, p.weight)
		}
	}
	return nil
}
