package sim

import (
	"bytes"
	"fmt"
)

// agreement checks P1: members deliver prefixes of one sequence. It compares
// the entries byte for byte, and what a member made of one that changed the
// view.
type agreement struct{ indifferent }

func (*agreement) promise() string { return "P1" }

func (*agreement) delivered(by string, e, first *entry) string {
	if first == nil {
		return ""
	}
	a, b := e.raw, first.raw
	if a.GetTerm() != b.GetTerm() || a.GetType() != b.GetType() || !bytes.Equal(a.GetData(), b.GetData()) {
		return fmt.Sprintf("%s delivers at %d an entry of term %d with %d bytes, where one of term %d with %d bytes was delivered",
			by, e.index, a.GetTerm(), len(a.GetData()), b.GetTerm(), len(b.GetData()))
	}
	if (e.view == nil) != (first.view == nil) || e.view != nil && e.view.String() != first.view.String() {
		return fmt.Sprintf("%s has at %d %s, where there was %s", by, e.index, viewText(e), viewText(first))
	}
	return ""
}

func viewText(e *entry) string {
	if e.view == nil {
		return "no change of view"
	}
	return e.view.String()
}

// integrity checks P2: a transaction is delivered at most once, and only if
// its origin broadcast it.
type integrity struct {
	indifferent
	history *history
}

func (*integrity) promise() string { return "P2" }

func (c *integrity) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	for i, j := range e.judged {
		s := c.history.submits[j.attempt()]
		switch {
		case s == nil:
			return fmt.Sprintf("%s delivers at %d transaction %s, which session %x/%d did not submit",
				by, e.index, j.id, j.origin, j.session)
		case s.index != 0:
			return fmt.Sprintf("%s delivers at %d transaction %s, which was delivered at %d", by, e.index, j.id, s.index)
		}
		for _, k := range e.judged[:i] {
			if k.attempt() == j.attempt() {
				return fmt.Sprintf("%s delivers transaction %s twice at %d", by, j.id, e.index)
			}
		}
	}
	return ""
}

// order checks P3, FIFO per origin: what a session delivers is a prefix of
// what it submitted, and nothing of a session comes after a later one. Those that
// travel in fragments come to their ends in an order of their own, in which one may
// be missing that its member has recalled.
type order struct {
	indifferent
	history  *history
	sessions map[uint64]*session // by raft id, the latest delivered from
}

type session struct {
	number    uint64
	delivered places
}

func (*order) promise() string { return "P3" }

func (c *order) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	for _, j := range e.judged {
		s := c.history.submits[j.attempt()]
		if s == nil {
			continue // a violation of P2
		}
		latest := c.sessions[j.origin]
		if latest == nil || latest.number < j.session {
			latest = &session{number: j.session}
			c.sessions[j.origin] = latest
		}
		if j.session < latest.number {
			return fmt.Sprintf("%s delivers at %d a transaction of session %x/%d after one of session %d",
				by, e.index, j.origin, j.session, latest.number)
		}
		last := latest.delivered.of(s.giant)
		if s.giant && s.place > *last && !s.recalled {
			*last = s.place
			continue
		}
		*last++
		if s.giant || s.place != *last {
			return fmt.Sprintf("%s delivers at %d the transaction that session %x/%d submitted as its number %d (in fragments: %t) as its number %d",
				by, e.index, j.origin, j.session, s.place, s.giant, *last)
		}
	}
	return ""
}
