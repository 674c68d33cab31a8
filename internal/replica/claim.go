package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/wire"
)

// Claim is what a member says that it holds when it wants to join with its
// data. Two histories part only where an operator forced the membership, so
// only then there is anything to compare. The zero value is of one that holds
// nothing.
type Claim struct {
	Incarnation gtid.UUID     // of the group, that the data are of
	Index       uint64        // log index up to which they go; 0 for none
	Term        uint64        // of the entry there
	Terms       []gcs.TermRun // of the log up to there, as gcs.Group.Terms has them
	Executed    gtid.Set
	// Forks are the incarnations that this one came from, oldest first. What was
	// executed in them does not count.
	Forks []Fork
}

// Claim returns what this member would claim: its log up to the last delivery.
func (r *Replica) Claim() Claim {
	return Claim{
		Incarnation: r.group.View().Incarnation, Index: r.last.Index, Term: r.last.Term,
		Terms: r.group.Terms(), Executed: r.cert.Executed(), Forks: r.forks,
	}
}

// DivergedError says that a member holds what the group does not.
type DivergedError struct {
	// Extra are the GTIDs that the group had not executed where the two parted.
	// There may be more that only the member can name: those whose numbers the
	// group has given to other transactions.
	Extra gtid.Set
	// Common is the log index up to which the two histories are the same, 0 if
	// that is too long ago to be known.
	Common uint64
}

// Error names the transactions and the place.
func (e *DivergedError) Error() string {
	if e.Common == 0 {
		return fmt.Sprintf("replica: the member was left out of the group too long ago to compare what it holds; its own transactions are among %v", e.Extra)
	}
	return fmt.Sprintf("replica: the member's history is another one after log index %d; the group lacks %v", e.Common, e.Extra)
}

// ErrOtherLineage marks a claim from an incarnation that this group does not
// come from, and with which it has no common past that is known: nobody can say
// what only the claimant has.
var ErrOtherLineage = errors.New("replica: the member is of an incarnation that this group does not come from; put its directory aside, and join with an empty one")

// Fork is a point where an incarnation of the group ended.
type Fork struct {
	Incarnation gtid.UUID // that ended
	Index       uint64    // of its last entry that the next one took over
	Executed    gtid.Set  // there
}

// MaxForks bounds how many ended incarnations a group remembers.
const MaxForks = 16

// Forks returns the incarnations that the group's came from, oldest first. It
// must not be changed.
func (r *Replica) Forks() []Fork { return r.forks }

// noteFork remembers that a forced view ended an incarnation.
func (r *Replica) noteFork(v gcs.View) {
	if len(r.forks) == MaxForks {
		r.forks = r.forks[1:]
	}
	f := Fork{Incarnation: r.incarnation, Index: v.Index - 1, Executed: r.cert.Executed()}
	r.forks = append(slices.Clip(r.forks), f)
}

// judgeClaim returns why the group does not take a member with what it holds:
// a *DivergedError, or ErrOtherLineage.
//
// Within one incarnation what a member has delivered is a part of the group's
// log, whatever was lost since. Of an older one, the entries up to its end were
// taken over as one survivor had them, which need not be as the claimant has
// them: the terms tell. After that they tell nothing, for both incarnations may
// have gone on in terms of the same number.
//
// Of two that were forced beside each other, both come of an older one, which
// each took over up to an end of its own: up to the lower one of the two it is
// the same comparison. That a group is of what the claimant's came from makes
// nobody's history one of its own: that group has ended.
func (r *Replica) judgeClaim(c Claim) error {
	present := r.group.View().Incarnation
	if c.Index == 0 || c.Incarnation == present {
		return nil
	}
	if slices.ContainsFunc(c.Forks, func(f Fork) bool { return f.Incarnation == present }) {
		return ErrOtherLineage
	}
	for _, f := range slices.Backward(r.forks) {
		end, ok := c.endOf(f.Incarnation)
		if !ok {
			continue
		}
		common, known := gcs.CommonPrefix(r.group.Terms(), f.Index, c.Terms, end)
		switch {
		case !known:
			return &DivergedError{Extra: c.Executed.Subtract(f.Executed)}
		case common < c.Index:
			return &DivergedError{Extra: c.Executed.Subtract(f.Executed), Common: common}
		}
		return nil
	}
	return ErrOtherLineage
}

// endOf returns the log index up to which what the claimant holds is of an
// incarnation, or of one before. ok is false if it never was of that one.
func (c *Claim) endOf(incarnation gtid.UUID) (index uint64, ok bool) {
	if incarnation == c.Incarnation {
		return c.Index, true
	}
	for _, f := range c.Forks {
		if f.Incarnation == incarnation {
			return min(f.Index, c.Index), true
		}
	}
	return 0, false
}

// join answers somebody who wants to be a member. Whoever leads judges what the
// asker holds: another member may not have heard yet of the incarnation that it
// is of.
func (r *Replica) join(e JoinAsked) {
	answer := JoinAnswer{Ticket: e.Ticket, Departed: r.group.Departed(e.Member.RaftID), Quorum: r.group.Status().Quorum && r.group.Status().Leader != 0}
	known, in := r.group.View().Member(e.Member.RaftID)
	in = in && known.UUID == e.Member.UUID
	var foreign, unfit error
	if r.group.Status().Leading {
		foreign, unfit = r.judgeClaim(e.Claim), r.admission(e)
	}
	switch {
	case in || foreign == nil && unfit == nil && !e.DryRun:
		answer.Answer = r.group.Join(e.Member, e.Replaces)
	case foreign == nil && unfit == nil:
		answer.Answer = r.group.WouldJoin(e.Member, e.Replaces)
	case foreign != nil:
		answer.Answer = gcs.JoinAnswer{View: r.group.View(), Refused: foreign}
		answer.Foreign = true
	default:
		answer.Answer = gcs.JoinAnswer{View: r.group.View(), Leading: true, Refused: unfit}
	}
	r.effects.Joins = append(r.effects.Joins, answer)
}

// admission says why somebody who wants to join runs the wrong version.
func (r *Replica) admission(e JoinAsked) error {
	d := election.Description{Version: election.Version(e.Member.Version), Oldest: e.Oldest, Newest: e.Newest}
	if d.Oldest == 0 && d.Newest == 0 {
		d.Oldest, d.Newest = election.ProtocolOf(d.Version)
	}
	return r.elect.Snapshot().Admission(d)
}

// appendForks appends the forks.
//
//	forks := uvarint count  (incarnation(16) uvarint index  executed)*
func appendForks(b []byte, forks []Fork) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(forks)))
	for _, f := range forks {
		b = append(b, f.Incarnation[:]...)
		b = binary.AppendUvarint(b, f.Index)
		var err error
		if b, err = f.Executed.AppendBinary(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// takeForks takes forks off the front of b.
func takeForks(b []byte) (forks []Fork, rest []byte, err error) {
	d := wire.Decoder{Rest: b, Kind: ErrState}
	n := d.Uvarint()
	if n > MaxForks {
		d.Fail("%d ended incarnations, the most there can be are %d", n, MaxForks)
		n = 0
	}
	for range n {
		var f Fork
		copy(f.Incarnation[:], d.Bytes(len(f.Incarnation)))
		f.Index, f.Executed = d.Uvarint(), d.Set()
		if d.Err == nil && len(forks) > 0 && forks[len(forks)-1].Index >= f.Index {
			d.Fail("an incarnation that ended at %d follows one that ended at %d", f.Index, forks[len(forks)-1].Index)
		}
		forks = append(forks, f)
	}
	return forks, d.Rest, d.Err
}
