package sim

import (
	"fmt"
	"slices"
	"sort"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// moment is a log index that became known to somebody outside of the group.
type moment struct {
	at    int64
	index uint64
	most  uint64 // greatest index up to this moment
}

// moments are in the order in which they came about.
type moments []moment

func (m *moments) add(at int64, index uint64) {
	most := index
	if n := len(*m); n > 0 {
		most = max(most, (*m)[n-1].most)
	}
	*m = append(*m, moment{at, index, most})
}

// before returns the greatest index that was known before a time, 0 for none. What
// came at that very time does not count: nobody can say which was first.
func (m moments) before(at int64) uint64 {
	n := sort.Search(len(m), func(i int) bool { return m[i].at >= at })
	if n == 0 {
		return 0
	}
	return m[n-1].most
}

// upTo returns those of a history that ends at a log index.
func (m moments) upTo(last uint64) (kept moments) {
	for _, one := range m {
		if one.index <= last {
			kept.add(one.at, one.index)
		}
	}
	return kept
}

// levels checks P8 by places in the log and the time of the world: a transaction
// begins with a snapshot that holds what its level promises.
//
//	any level          no less than the member has shown before
//	BEFORE             all that was acknowledged, or shown by any member, before
//	                   it asked to begin
//	AFTER              the same of AFTER transactions, at every level, on members
//	                   that are ONLINE in the newest view
//	ON_FAILOVER        all that was ordered before the changes of primary that the
//	                   member had delivered
//	a bounded age      as BEFORE, up to so long before it asked
//	a session          the transactions that it names
type levels struct {
	indifferent
	history *history
	acked   moments // acknowledged
	shown   moments // by snapshots
	after   moments // AFTER transactions, acknowledged or shown
	visible []uint64
	last    map[uint64]uint64 // by raft id: the newest snapshot there
}

func newLevels(h *history) *levels { return &levels{history: h, last: map[uint64]uint64{}} }

func (*levels) promise() string { return "P8" }

// inherit takes over what came about in the incarnation before, as far as this one
// shares its log.
func (c *levels) inherit(parent *levels, shared uint64) {
	c.acked, c.shown, c.after = parent.acked.upTo(shared), parent.shown.upTo(shared), parent.after.upTo(shared)
}

// delivered notes where AFTER transactions are.
func (c *levels) delivered(_ string, e, first *entry) string {
	if first == nil && slices.ContainsFunc(e.judged, c.isAfter) {
		c.visible = append(c.visible, e.index)
	}
	return ""
}

// isAfter reports whether a transaction was committed to be visible everywhere,
// here or when it was sent before.
func (c *levels) isAfter(j judged) bool {
	s := c.history.submits[j.attempt()]
	return s != nil && s.after && succeeded(j.verdict)
}

// succeeded reports whether a caller is told that its transaction has committed.
func succeeded(v certifier.Verdict) bool {
	return v.Outcome == certifier.Certified || v.Outcome == certifier.Duplicate
}

// answered notes what is acknowledged.
func (c *levels) answered(_ string, s *submission, a replica.Answer, _ applier.Position) string {
	if succeeded(a.Verdict) {
		c.acked.add(c.history.now(), a.Index)
		if s.after {
			c.after.add(c.history.now(), a.Index)
		}
	}
	return ""
}

func (c *levels) began(b *begun) string {
	at := b.work.snapshot.Index
	text := c.lacks(b)
	c.shown.add(b.began, at)
	if n := sort.Search(len(c.visible), func(i int) bool { return c.visible[i] > at }); n > 0 {
		c.after.add(b.began, c.visible[n-1])
	}
	c.last[b.run.raftID] = max(c.last[b.run.raftID], at)
	return text
}

// lacks says what a snapshot should hold and does not.
func (c *levels) lacks(b *begun) string {
	at := b.work.snapshot
	lacks := func(want uint64, why string) string {
		if at.Index >= want {
			return ""
		}
		return fmt.Sprintf("%s begins at level %s with a snapshot of %d, asked for at %d us, and must show %d: %s",
			b.run.member, b.level, at.Index, b.asked, want, why)
	}
	texts := []string{lacks(c.last[b.run.raftID], "it has shown that before")}
	if b.level.WaitsBefore() {
		texts = append(texts, lacks(c.acked.before(b.asked), "that was acknowledged before"),
			lacks(c.shown.before(b.asked), "that was shown before"))
	}
	if v, in := c.history.view.Member(b.run.raftID); in && v.State == gcs.Online {
		texts = append(texts, lacks(c.after.before(b.asked), "an AFTER transaction was acknowledged or shown before"))
	}
	if b.level != consistency.Eventual {
		for _, s := range b.run.epochs {
			if s.at < b.asked {
				texts = append(texts, lacks(s.epoch.Index, fmt.Sprintf("it had delivered epoch %d", s.epoch.Number)))
			}
		}
	}
	if b.bounded {
		texts = append(texts, lacks(c.acked.before(b.complete), fmt.Sprintf("that was acknowledged by %d us, and it wants nothing older", b.complete)))
	}
	if !b.session.SubsetOf(at.Executed) {
		texts = append(texts, fmt.Sprintf("%s begins with %s, and its session has seen %s", b.run.member, at.Executed, b.session))
	}
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
