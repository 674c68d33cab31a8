package transport

import (
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// ErrClaim marks a claim that makes no sense.
var ErrClaim = errors.New("transport: malformed claim")

// maxTermRuns bounds the runs of terms in a claim.
const maxTermRuns = 64

// Claim says what a member holds that wants to join with its data.
type Claim struct {
	// Incarnation is that of the group which the data are of.
	Incarnation gtid.UUID
	// Index and Term are those of the last log entry applied, 0 for none.
	Index, Term uint64
	// Terms are the last runs of terms in its log, oldest first.
	Terms []gcs.TermRun
	// Executed are its transactions.
	Executed gtid.Set
	// Forks are the incarnations that Incarnation came from, oldest first.
	Forks []Fork
}

// Proto returns the form of c that travels. Of more than 64 runs of terms, or
// forks, it has the last ones.
func (c Claim) Proto() *peerpb.Claim {
	p := &peerpb.Claim{Incarnation: c.Incarnation[:], Index: c.Index, Term: c.Term, Forks: forksProto(c.Forks)}
	for _, run := range c.Terms[max(0, len(c.Terms)-maxTermRuns):] {
		p.Terms = append(p.Terms, &peerpb.TermRun{Term: run.Term, First: run.First})
	}
	if !c.Executed.IsEmpty() {
		p.Executed, _ = c.Executed.AppendBinary(nil) // never fails, by its contract
	}
	return p
}

// ParseClaim reads a claim that came from another member. Nothing in the result
// aliases p. The error wraps [ErrClaim].
func ParseClaim(p *peerpb.Claim) (Claim, error) {
	c := Claim{Index: p.GetIndex(), Term: p.GetTerm()}
	if len(p.GetIncarnation()) != len(c.Incarnation) {
		return Claim{}, fmt.Errorf("%w: an incarnation of %d bytes", ErrClaim, len(p.GetIncarnation()))
	}
	copy(c.Incarnation[:], p.GetIncarnation())
	switch {
	case c.Incarnation.IsZero():
		return Claim{}, fmt.Errorf("%w: no incarnation", ErrClaim)
	case (c.Index == 0) != (c.Term == 0):
		return Claim{}, fmt.Errorf("%w: index %d in term %d", ErrClaim, c.Index, c.Term)
	case len(p.GetTerms()) > maxTermRuns:
		return Claim{}, fmt.Errorf("%w: %d runs of terms, at most %d are told", ErrClaim, len(p.GetTerms()), maxTermRuns)
	}
	var last gcs.TermRun
	for _, run := range p.GetTerms() {
		next := gcs.TermRun{Term: run.GetTerm(), First: run.GetFirst()}
		if next.Term <= last.Term || next.First <= last.First {
			return Claim{}, fmt.Errorf("%w: term %d from index %d follows term %d from index %d",
				ErrClaim, next.Term, next.First, last.Term, last.First)
		}
		c.Terms = append(c.Terms, next)
		last = next
	}
	if len(p.GetExecuted()) > 0 {
		set, rest, err := gtid.DecodeSet(p.GetExecuted())
		if err != nil || len(rest) > 0 || set.IsEmpty() {
			return Claim{}, errors.Join(fmt.Errorf("%w: %d bytes are no set of transactions", ErrClaim, len(p.GetExecuted())), err)
		}
		c.Executed = set
	}
	forks, err := parseForks(p.GetForks())
	if err != nil {
		return Claim{}, fmt.Errorf("%w: %w", ErrClaim, err)
	}
	c.Forks = forks
	return c, nil
}
