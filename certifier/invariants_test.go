package certifier

import (
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// check reports the first invariant of the list on the type that does not
// hold. It takes time in proportion to the history.
func (c *Certifier) check() error {
	if n := c.records.Len(); uint64(n) != c.now.sequence-c.swept {
		return fmt.Errorf("invariant 1: %d records from %d to %d", n, c.swept, c.now.sequence)
	}
	if n := c.links.Len(); uint64(n) != c.now.links-c.unlinked {
		return fmt.Errorf("invariant 2: %d links from %d to %d", n, c.unlinked, c.now.links)
	}
	if c.swept > c.mark.sequence || c.mark.sequence > c.now.sequence || c.unlinked > c.mark.links || c.mark.links > c.now.links {
		return fmt.Errorf("invariant 3: given back up to %d and %d, mark %+v, now %+v", c.swept, c.unlinked, c.mark, c.now)
	}
	for _, check := range []func() error{c.table.check, c.checkRecords, c.checkItems, c.checkMilestones, c.checkLists} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Certifier) checkRecords() error {
	apartRecords, stray := 0, uint64(0)
	for seq := c.swept + 1; seq <= c.now.sequence; seq++ {
		if c.record(seq).origin != apart {
			continue
		}
		apartRecords++
		if a := c.asides[seq]; a == nil {
			return fmt.Errorf("invariant 1: nothing aside for %d", seq)
		} else if a.stray && seq > c.mark.sequence {
			stray = seq
		}
	}
	if len(c.asides) != apartRecords {
		return fmt.Errorf("invariant 1: %d asides of %d records", len(c.asides), apartRecords)
	}
	if stray != c.stray {
		return fmt.Errorf("invariant 9: the last stray one is at %d, not %d", stray, c.stray)
	}
	executed := c.low
	for seq := c.mark.sequence + 1; seq <= c.now.sequence; seq++ {
		if a := c.asides[seq]; a != nil && a.irregular && a.stray == a.snapshot.SubsetOf(executed) {
			return fmt.Errorf("invariant 9: %v at %d strays: %v", a.snapshot, seq, a.stray)
		}
		id, _ := c.author(seq)
		executed = executed.Add(id)
	}
	return nil
}

// checkItems follows the runs of all items.
func (c *Certifier) checkItems() (err error) {
	c.table.each(func(_, stamp uint64) {
		number, kind := splitStamp(stamp)
		if kind == Write {
			if number <= c.mark.sequence || number > c.now.sequence {
				err = fmt.Errorf("invariant 4: a write at %d", number)
			}
			return
		}
		if kind == Read || number <= c.mark.links || number > c.now.links {
			err = fmt.Errorf("invariant 4: %v with link %d", kind, number)
			return
		}
		last := c.now.sequence + 1
		for number > c.mark.links {
			l := c.link(number)
			seq, k := splitStamp(l.stamp)
			if k != kind || seq >= last || seq <= c.mark.sequence || l.prev >= number {
				err = fmt.Errorf("invariant 4: link %d, %+v, in a run of %v before %d", number, l, kind, last)
				return
			}
			if base := c.lastOf(l.base); base != 0 && (base >= seq || Kind(l.base&3) == kind) {
				err = fmt.Errorf("invariant 4: link %d, %+v, on top of %d", number, l, base)
				return
			}
			last, number = seq, l.prev
		}
	})
	return err
}

// checkMilestones walks the history once, past the mark and each milestone.
func (c *Certifier) checkMilestones() error {
	before := milestone{extent: c.mark, version: version{c.mark.sequence, c.low}}
	executed := c.low
	for i := range c.milestones.Len() + 1 {
		m := milestone{1<<64 - 1, c.now, version{c.now.sequence, c.executed}}
		if i < c.milestones.Len() {
			m = *c.milestones.At(i)
			if m.sequence == before.sequence {
				return fmt.Errorf("invariant 6: two milestones at sequence %d", m.sequence)
			}
		}
		if m.index <= before.index || m.extent.sequence != m.sequence || m.sequence < before.sequence ||
			m.extent.weight < before.extent.weight || m.extent.links < before.extent.links {
			return fmt.Errorf("invariant 6: milestone %+v after %+v", m, before)
		}
		for seq := before.sequence + 1; seq <= m.sequence; seq++ {
			id, _ := c.author(seq)
			executed = executed.Union(gtid.Set{}.Add(id))
			if err := c.checkVersions(seq, executed); err != nil {
				return err
			}
		}
		if !m.executed.Equal(executed) || executed.Count() != m.sequence {
			return fmt.Errorf("invariant 5: %v at sequence %d, not %v", executed, m.sequence, m.executed)
		}
		before = m
	}
	return nil
}

// checkVersions compares what is known beside the milestones with E(seq).
func (c *Certifier) checkVersions(seq uint64, executed gtid.Set) error {
	for i := range c.recent.Len() {
		if v := c.recent.At(i); v.sequence == seq && !v.executed.Equal(executed) {
			return fmt.Errorf("invariant 5: %v at sequence %d, not %v", executed, seq, v.executed)
		}
	}
	if run := &c.straight; run.from <= seq && seq <= run.to {
		if !executed.Equal(gtid.Set{}.AddInterval(run.uuid, run.tag, run.first, run.first+seq-1)) {
			return fmt.Errorf("%v at sequence %d is no part of %+v", executed, seq, *run)
		}
	}
	return nil
}

func (c *Certifier) checkLists() error {
	if n := c.places.Len(); n > max(0, c.settings.RangeWrites) {
		return fmt.Errorf("invariant 7: %d places", n)
	}
	last := uint64(0)
	for i := range c.places.Len() {
		if seq := c.places.At(i).sequence; seq < max(last, c.unplaced) || seq > c.now.sequence {
			return fmt.Errorf("invariant 7: place at %d after %d, none before %d", seq, last, c.unplaced)
		}
		last = c.places.At(i).sequence
	}
	last = 0
	for i := range c.barriers.Len() {
		if *c.barriers.At(i) <= last {
			return fmt.Errorf("invariant 8: barrier at %d after %d", *c.barriers.At(i), last)
		}
		last = *c.barriers.At(i)
	}
	if c.barrier != last && max(c.barrier, last) > c.mark.sequence {
		return fmt.Errorf("invariant 8: the last barrier is at %d, not %d", last, c.barrier)
	}
	for i, n := range c.numberings {
		if n.block <= 1 || i > 0 && c.numberings[i-1].tag >= n.tag {
			return fmt.Errorf("invariant 10: numbering %d under %q in blocks of %d", i, string(n.tag), n.block)
		}
	}
	return nil
}
