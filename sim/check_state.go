package sim

import (
	"bytes"
	"fmt"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// sameState checks P5: the same digest at the same position, everywhere. What
// the digest must be follows from what the clients of the certified
// transactions meant to write.
type sameState struct {
	indifferent
	history *history
}

func (*sameState) promise() string { return "P5" }

func (c *sameState) applied(by string, at applier.Position, digest applier.Digest) string {
	executed, text := c.history.executed(by, at)
	if text != "" {
		return text
	}
	if !executed {
		return ""
	}
	want := c.history.state.digest(at.Index)
	if at.Part > 0 {
		want = c.history.state.after[at.Executed.Count()-1]
	}
	if digest != want {
		return fmt.Sprintf("%s has digest %s at %d and %d of the next entry, it must be %s", by, digest, at.Index, at.Part, want)
	}
	return ""
}

// executed checks that a position can be one; ok is false at the beginning.
func (h *history) executed(by string, at applier.Position) (ok bool, text string) {
	if at.Part > 0 {
		return h.executedPart(by, at)
	}
	if at.Index == 0 {
		return false, ""
	}
	e := h.at(at.Index)
	if e == nil {
		return false, fmt.Sprintf("%s has applied %d, which nobody has delivered", by, at.Index)
	}
	if !e.executed.Equal(at.Executed) {
		return false, fmt.Sprintf("%s shows %s at %d, it must be %s", by, at.Executed, at.Index, e.executed)
	}
	return true, ""
}

// executedPart checks a position inside of an entry.
func (h *history) executedPart(by string, at applier.Position) (ok bool, text string) {
	want := gtid.Set{}
	if whole := h.at(at.Index); whole != nil {
		want = whole.executed
	}
	e := h.at(at.Index + 1)
	if e == nil {
		return false, fmt.Sprintf("%s has applied a part of %d, which nobody has delivered", by, at.Index+1)
	}
	left := at.Part
	for _, j := range e.judged {
		if j.verdict.Outcome == certifier.Certified && left > 0 {
			want = want.Add(j.verdict.GTID)
			left--
		}
	}
	if left > 0 || !want.Equal(at.Executed) {
		return false, fmt.Sprintf("%s shows %s at %d and %d of the next entry, it must be %s", by, at.Executed, at.Index, at.Part, want)
	}
	return true, ""
}

// durability checks P6: what was acknowledged stays. When all is quiet every
// engine must hold, pair by pair, what the certified transactions wrote, and
// nothing that no certified transaction wrote.
type durability struct {
	indifferent
	history *history
	last    uint64 // greatest log index acknowledged
}

func (*durability) promise() string { return "P6" }

func (c *durability) answered(by string, s *submission, a replica.Answer, at applier.Position) string {
	if a.Verdict.Outcome != certifier.Certified {
		return ""
	}
	c.last = max(c.last, a.Index)
	e := c.history.at(a.Index)
	if e == nil {
		return fmt.Sprintf("%s acknowledges transaction %s at %d, which nobody has delivered", by, s.id, a.Index)
	}
	if at.Index < a.Index {
		return fmt.Sprintf("%s acknowledges transaction %s at %d and shows only %d", by, s.id, a.Index, at.Index)
	}
	for _, j := range e.judged {
		if j.id == s.id && j.verdict == a.Verdict {
			return ""
		}
	}
	return fmt.Sprintf("%s acknowledges transaction %s at %d as %s, which was not delivered there",
		by, s.id, a.Index, verdictText(a.Verdict))
}

func (c *durability) ended(by string, s applier.Snapshot) string {
	at := s.Position()
	if at.Index < c.last {
		return fmt.Sprintf("%s ends at %d, a transaction at %d was acknowledged", by, at.Index, c.last)
	}
	for _, sub := range c.history.ordered {
		if sub.acked && sub.index == 0 {
			return fmt.Sprintf("%s ends without transaction %s, which was acknowledged", by, sub.id)
		}
	}
	found := 0
	state := &c.history.state
	for _, t := range tables {
		for range s.Scan(t, nil, nil, false) {
			found++
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Sprintf("%s cannot be read: %v", by, err)
	}
	want := 0
	// order-free: a count
	for k := range state.versions {
		if state.read(k, state.certified) != nil {
			want++
		}
	}
	if text := c.compare(by, s); text != "" {
		return text
	}
	if found != want {
		return fmt.Sprintf("%s ends with %d pairs, the committed transactions left %d", by, found, want)
	}
	return ""
}

// compare looks for every pair that was ever written, in the order in which
// the transactions were submitted.
func (c *durability) compare(by string, s applier.Snapshot) string {
	state := &c.history.state
	seen := map[key]bool{}
	for _, sub := range c.history.ordered {
		for _, w := range sub.writes {
			if seen[w.key] {
				continue
			}
			seen[w.key] = true
			got, ok, err := s.Get(tables[w.key.space], w.key.bytes())
			want := state.read(w.key, state.certified)
			if err != nil || ok != (want != nil) || !bytes.Equal(got, want) {
				return fmt.Sprintf("%s ends with %d bytes %x in %s (error %v), the committed transactions left %d bytes %x",
					by, len(got), head(got), w.key, err, len(want), head(want))
			}
		}
	}
	return ""
}

func head(b []byte) []byte { return b[:min(len(b), 24)] }
