package sim

import (
	"fmt"
	"slices"
	"sort"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// phenomenon is something that a caller may see, or is promised not to see.
type phenomenon int

const (
	staleRead phenomenon = iota
	backwards
	ownWriteMissed
	lostAtFailover
	longFork
	writeSkew
	phenomena // how many there are
)

// columns are the levels of the table.
var columns = [...]consistency.Level{
	consistency.Eventual, consistency.BeforeOnPrimaryFailover, consistency.Before, consistency.After, consistency.BeforeAndAfter,
}

// promise says whether a phenomenon can be seen at a level. One that can has a mark: a
// sweep should come across it, or the table promises too little.
type promise struct {
	possible  bool
	snapshots bool // under snapshot isolation only
	mark      mark
}

// impossible is what no level is needed for, or what the level promises.
var impossible promise

func seen(m mark) promise { return promise{possible: true, mark: m} }

func seenUnderSnapshots(m mark) promise { return promise{possible: true, snapshots: true, mark: m} }

// anomalyTable is what each level promises, when all transactions in question run
// at it. The checker below holds the group to it, and docs/consistency.md is made
// from it.
var anomalyTable = [phenomena]struct {
	name, meaning string
	cells         [len(columns)]promise
}{
	staleRead: {
		"stale read", "a transaction misses what was acknowledged, at whatever member, before it asked to begin",
		[...]promise{seen(markStaleReadEventual), seen(markStaleReadFailover), impossible, impossible, impossible},
	},
	backwards: {
		"non-monotonic read across members", "a transaction misses what another one had shown, at another member, before it asked to begin",
		[...]promise{seen(markBackwardsEventual), seen(markBackwardsFailover), impossible, impossible, impossible},
	},
	ownWriteMissed: {
		"missed own write on another member", "a transaction misses what was acknowledged to the same caller, at another member, before it asked to begin",
		[...]promise{seen(markOwnWriteEventual), seen(markOwnWriteFailover), impossible, impossible, impossible},
	},
	lostAtFailover: {
		"lost visibility at failover", "a transaction misses what was ordered before a change of the primary that its member knows of",
		[...]promise{seen(markLostEventual), impossible, impossible, impossible, impossible},
	},
	longFork: {
		"long fork", "one transaction shows a first write and misses a second, another one shows the second and misses the first",
		[...]promise{impossible, impossible, impossible, impossible, impossible},
	},
	writeSkew: {
		"write skew", "two transactions commit, and each has read what the other one writes and seen nothing of it",
		[...]promise{
			seenUnderSnapshots(markSkewEventual), seenUnderSnapshots(markSkewFailover), seenUnderSnapshots(markSkewBefore),
			seenUnderSnapshots(markSkewAfter), seenUnderSnapshots(markSkewBoth),
		},
	},
}

// column is where a level stands in the table.
func column(l consistency.Level) int { return slices.Index(columns[:], l) }

// beginsAs is the level that waits for as much before it begins, and for nothing
// when it commits.
func beginsAs(l consistency.Level) consistency.Level {
	switch {
	case l.WaitsBefore():
		return consistency.Before
	case l.HoldsOnFailover():
		return consistency.BeforeOnPrimaryFailover
	}
	return consistency.Eventual
}

// forbids reports whether a transaction of one level must not miss, in the way of a
// phenomenon, what one of another level has written. What a reader's level promises
// it does by the way it begins. AFTER does it by the way a writer commits, and for
// readers on members that are ONLINE in the newest view.
func forbids(p phenomenon, reader, writer consistency.Level, present bool) bool {
	row := &anomalyTable[p].cells
	return !row[column(beginsAs(reader))].possible || present && writer.WaitsAfter() && !row[column(consistency.After)].possible
}

// visibility checks P8 by the table of anomalies: what it forbids does not come
// about, and marks count what it allows. It knows places in the log and the time of
// the world.
type visibility struct {
	indifferent
	history *history
	writers [int(consistency.BeforeAndAfter) + 1]written // by level
	commits []*submission
	forks   []gtid.Set // that snapshots showed, by their count
}

// written is what transactions of one level have committed.
type written struct {
	places []uint64 // log indexes
	acked  moments
	shown  moments
	owned  map[int][]own // by caller
}

// own is what was acknowledged to a caller on a member.
type own struct {
	member string
	acked  moments
}

func newVisibility(h *history) *visibility {
	c := &visibility{history: h}
	for l := range c.writers {
		c.writers[l].owned = map[int][]own{}
	}
	return c
}

func (*visibility) promise() string { return "P8" }

// inherit takes over what came about in the incarnation before, as far as this one
// shares its log.
func (c *visibility) inherit(parent *visibility, shared uint64) {
	for l := range parent.writers {
		from, to := &parent.writers[l], &c.writers[l]
		to.acked, to.shown = from.acked.upTo(shared), from.shown.upTo(shared)
		// order-free: a copy
		for caller, owns := range from.owned {
			for _, o := range owns {
				to.owned[caller] = append(to.owned[caller], own{o.member, o.acked.upTo(shared)})
			}
		}
	}
}

// upTo returns the last place up to a log index.
func (w *written) upTo(index uint64) uint64 {
	n := sort.Search(len(w.places), func(i int) bool { return w.places[i] > index })
	if n == 0 {
		return 0
	}
	return w.places[n-1]
}

// ownBefore returns what a caller had been told at other members before a time.
func (w *written) ownBefore(b *begun) (index uint64) {
	for _, o := range w.owned[b.caller] {
		if o.member != b.run.member {
			index = max(index, o.acked.before(b.asked))
		}
	}
	return index
}

// levelOf is the level at which a transaction commits. Of one that was sent again
// under another's id only the message is known.
func levelOf(s *submission) consistency.Level {
	switch {
	case s.begun != nil:
		return s.begun.level
	case s.after:
		return consistency.After
	}
	return consistency.Eventual
}

func (c *visibility) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	for _, j := range e.judged {
		s := c.history.submits[j.attempt()]
		if s == nil || j.verdict.Outcome != certifier.Certified {
			continue
		}
		w := &c.writers[levelOf(s)]
		w.places = append(w.places, e.index)
		if text := c.skewed(s); text != "" {
			return fmt.Sprintf("%s at %d: %s", by, e.index, text)
		}
		c.commits = append(c.commits, s)
	}
	return ""
}

// skewed looks for those that a transaction which commits is in write skew with.
func (c *visibility) skewed(s *submission) string {
	for _, t := range c.commits[min(int(s.seen), len(c.commits)):] {
		if !s.hasRead(t) || !t.hasRead(s) {
			continue
		}
		if s.serializable {
			return fmt.Sprintf("transaction %s is serializable and has read what %s wrote before it, who has read what it writes", s.id, t.id)
		}
		c.history.reached[anomalyTable[writeSkew].cells[column(levelOf(s))].mark]++
	}
	return ""
}

// hasRead reports whether s has read what t writes.
func (s *submission) hasRead(t *submission) bool {
	return slices.ContainsFunc(s.reads, func(r read) bool { return t.wrote(r.key) })
}

// answered notes what is acknowledged, and to whom.
func (c *visibility) answered(by string, s *submission, a replica.Answer, _ applier.Position) string {
	if !succeeded(a.Verdict) {
		return ""
	}
	w := &c.writers[levelOf(s)]
	w.acked.add(c.history.now(), a.Index)
	if s.begun == nil {
		return ""
	}
	owns := w.owned[s.begun.caller]
	i := slices.IndexFunc(owns, func(o own) bool { return o.member == by })
	if i < 0 {
		i, owns = len(owns), append(owns, own{member: by})
	}
	owns[i].acked.add(c.history.now(), a.Index)
	w.owned[s.begun.caller] = owns
	return ""
}

func (c *visibility) began(b *begun) string {
	at := b.work.snapshot.Index
	v, in := c.history.view.Member(b.run.raftID)
	present := in && v.State == gcs.Online
	change := uint64(0) // of the primary, the newest that the member knew of
	for _, known := range b.run.epochs {
		if known.at < b.asked {
			change = max(change, known.epoch.Index)
		}
	}
	text := c.forked(b)
	for i := range c.writers {
		w, writer := &c.writers[i], consistency.Level(i)
		for _, missed := range [...]struct {
			what  phenomenon
			index uint64
		}{
			{staleRead, w.acked.before(b.asked)},
			{backwards, w.shown.before(b.asked)},
			{ownWriteMissed, w.ownBefore(b)},
			{lostAtFailover, change},
		} {
			place := w.upTo(missed.index)
			if place <= at {
				continue
			}
			if forbids(missed.what, b.level, writer, present) {
				text = fmt.Sprintf("%s begins at level %s with a snapshot of %d and misses the transaction at %d, of level %s: %s",
					b.run.member, b.level, at, place, writer, anomalyTable[missed.what].name)
			} else if allowed := &anomalyTable[missed.what].cells[column(b.level)]; allowed.possible && !writer.WaitsAfter() {
				c.history.reached[allowed.mark]++
			}
		}
		w.shown.add(b.began, w.upTo(at))
	}
	return text
}

// forked looks for a snapshot that shows what this one misses and misses what this
// one shows. Those before are each contained in the next, so that the neighbours
// tell.
func (c *visibility) forked(b *begun) string {
	mine := b.work.snapshot.Executed
	n := sort.Search(len(c.forks), func(i int) bool { return c.forks[i].Count() >= mine.Count() })
	for _, i := range []int{n - 1, n} {
		if i < 0 || i >= len(c.forks) {
			continue
		}
		if other := c.forks[i]; !mine.SubsetOf(other) && !other.SubsetOf(mine) {
			return fmt.Sprintf("%s begins with %s, where somebody had begun with %s: %s", b.run.member, mine, other, anomalyTable[longFork].name)
		}
	}
	if n == len(c.forks) || c.forks[n].Count() != mine.Count() {
		c.forks = slices.Insert(c.forks, n, mine)
	}
	return ""
}
