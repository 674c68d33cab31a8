package sim

import (
	"fmt"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/replica"
)

// assembly checks P4 for transactions that travel in fragments: one is given up if
// and only if, by the log, not all of its fragments are there at its end, and too
// large if and only if it is. It keeps the count of what has come of each origin
// since its last first fragment, and looks at no contents: what engines show is
// for P5.
type assembly struct {
	indifferent
	history  *history
	intake   intake
	settings replica.Settings
	coming   map[uint64]*coming // by raft id
	clock    uint64             // bytes of log
}

// coming is what has come of one giant.
type coming struct {
	fragments uint64
	bytes     uint64
	heard     uint64
}

// What members reckon with.
const (
	entryWeight    = 64 // bytes of log that an entry counts for beside its messages
	givenUpAfter   = 8  // times the largest transaction
	mostEver       = 1<<31 - 1
	fragmentPlain  = 0
	fragmentPacked = 1
)

func newAssembly(h *history) *assembly {
	return &assembly{history: h, intake: newIntake(), coming: map[uint64]*coming{}}
}

func (*assembly) promise() string { return "P4" }

func (c *assembly) limit() uint64 {
	if n := c.settings.TransactionSizeLimit; n > 0 {
		return uint64(n)
	}
	return mostEver
}

func (c *assembly) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	f, ok := readFrame(e.raw)
	weight := uint64(entryWeight)
	if ok && c.intake.accepts(&f) {
		weight += f.bytes
		judged := e.judged
		for i := range f.parts {
			p := &f.parts[i]
			if !p.transaction {
				c.take(f.origin, p)
				continue
			}
			why := c.refuses(f.origin, p)
			if len(judged) == 0 {
				continue
			}
			if text := c.compare(by, e.index, &judged[0], why); text != "" {
				return text
			}
			judged = judged[1:]
		}
	}
	if e.view != nil {
		c.intake.view = *e.view
		// order-free: each is kept or not by itself
		for id := range c.coming {
			if _, in := e.view.Member(id); !in {
				c.history.reached[markGiantOriginGone]++
				delete(c.coming, id)
			}
		}
	}
	c.clock += weight
	// order-free: each is kept or not by itself
	for id, g := range c.coming {
		if c.clock-g.heard > givenUpAfter*c.limit() {
			delete(c.coming, id)
		}
	}
	return ""
}

// take takes a message in that is no transaction.
func (c *assembly) take(origin uint64, p *part) {
	switch {
	case p.settings != nil && p.settings.Version == c.settings.Version+1:
		c.settings = *p.settings
	case p.opening != nil:
		if c.coming[origin] != nil {
			c.history.reached[markGiantSessionOver]++
		}
		delete(c.coming, origin)
	case p.giveUp:
		delete(c.coming, origin)
	case p.fragment != nil:
		g := c.coming[origin]
		if p.fragment.number == 0 {
			g = &coming{}
			c.coming[origin] = g
		}
		if g == nil {
			return
		}
		if g.fragments != p.fragment.number || g.bytes+p.fragment.size > c.limit() {
			delete(c.coming, origin)
			return
		}
		g.fragments++
		g.bytes += p.fragment.size
		g.heard = c.clock
	}
}

// refuses says why a transaction cannot be certified, 0 if it can.
func (c *assembly) refuses(origin uint64, p *part) certifier.Outcome {
	if p.end == nil {
		if p.size > c.limit() {
			return certifier.TooLarge
		}
		return 0
	}
	g := c.coming[origin]
	delete(c.coming, origin)
	switch {
	case p.end.bytes > c.limit():
		return certifier.TooLarge
	case g == nil || g.fragments != p.end.fragments || g.bytes != p.end.bytes:
		return certifier.GivenUp
	}
	c.history.reached[markGiantWhole]++
	return 0
}

func (c *assembly) compare(by string, index uint64, j *judged, want certifier.Outcome) string {
	switch got := j.verdict.Outcome; {
	case got == certifier.Fenced || got == certifier.Duplicate:
		return "" // it was not looked at
	case want == 0 && got != certifier.GivenUp && got != certifier.TooLarge:
		return ""
	case want == got:
		if want == certifier.GivenUp {
			c.history.reached[markGiantGivenUp]++
		} else {
			c.history.reached[markTooLarge]++
		}
		return ""
	}
	if want == 0 {
		return fmt.Sprintf("%s at %d: transaction %s is %s, and by the log all of it is there", by, index, j.id, verdictText(j.verdict))
	}
	return fmt.Sprintf("%s at %d: transaction %s is %s, and by the log it is %s", by, index, j.id, verdictText(j.verdict), want)
}
