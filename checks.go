package concordat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/statecheck"
)

// ErrDiffers is in [Status].Err of a member that a state check has found to have
// other data than the group. It serves nobody, not even reads. Node.Rejoin takes
// another member's data in place of its own; until then they can be looked at.
var ErrDiffers = errors.New("concordat: this member's data are not what the group has; keep a copy of its directory if you want to know why, and bring it back with rejoin, which copies another member's data")

// StateCheck is what a member knows of how the members' data compare.
type StateCheck struct {
	Checks uint64 // slices that the group has compared since it began
	Passes uint64 // how often it has gone through all data
	Index  uint64 // log index of the last check, 0 before the first
	// Agreed is how many of Parties, the members that were ONLINE there, have given
	// the same answer to it so far.
	Agreed, Parties int
	Next            string // where the next slice begins
	// Findings are the last eight, oldest first: replicated, so a member that
	// restarts or joins knows them too.
	Findings []StateFinding
}

// StateFinding is that the data of two members differ at one position of the log.
type StateFinding struct {
	Check uint64 // counts the group's checks from 1
	Index uint64 // log index at which the data were compared
	// Member has other data than Reference and more than half of the members that
	// were asked. With Split there is no such majority, and nobody is blamed.
	Member, Reference gtid.UUID
	Split             bool
	Agreed, Parties   int    // members with Reference's data, of those that were asked
	From, To          string // the slice in which they differ
	Keys              []StateKey
	// Named says that Keys are known; More that there are others beside them. There
	// are none if the member, started again, has read what it holds rightly by now.
	Named, More bool
}

// StateKey is a pair that differs.
type StateKey struct {
	Table Table
	Key   []byte
	How   string // "has another value", "is missing" or "should not be there"
}

// String says what was found, in a sentence.
func (f StateFinding) String() string {
	where := fmt.Sprintf("state check %d at log index %d, from %s to %s", f.Check, f.Index, f.From, f.To)
	what := fmt.Sprintf("the data of %s are not what %s has, and %d of %d members", f.Member, f.Reference, f.Agreed, f.Parties)
	if f.Split {
		what = fmt.Sprintf("%s and %s have different data, and more than half of the %d members have neither one's: nobody can say who is right", f.Reference, f.Member, f.Parties)
	}
	text := where + ": " + what
	switch {
	case !f.Named:
		return text
	case len(f.Keys) == 0:
		return text + ": none of their pairs differs any more"
	}
	keys := make([]string, 0, len(f.Keys))
	for _, k := range f.Keys {
		keys = append(keys, fmt.Sprintf("%s key %.80q %s there", k.Table, k.Key, k.How))
	}
	if f.More {
		keys = append(keys, "and others")
	}
	return text + ": " + strings.Join(keys, ", ")
}

func finding(f *statecheck.Finding) StateFinding {
	out := StateFinding{
		Check: f.Check, Index: f.Index, Member: f.Member.UUID, Reference: f.Reference.UUID, Split: f.Split,
		Agreed: f.Agreed, Parties: f.Parties, From: f.From.String(), To: f.To.String(), Named: f.Named, More: f.More,
	}
	if f.To.IsZero() {
		out.To = "the end"
	}
	for _, k := range f.Keys {
		out.Keys = append(out.Keys, StateKey{Table: k.Place.Table, Key: slices.Clone(k.Place.Key), How: k.How.String()})
	}
	return out
}

func stateCheck(s *statecheck.Snapshot) StateCheck {
	out := StateCheck{Checks: s.Checks, Passes: s.Passes, Index: s.Index, Agreed: s.Agreed, Parties: s.Parties, Next: s.Next.String()}
	for i := range s.Findings {
		out.Findings = append(out.Findings, finding(&s.Findings[i]))
	}
	return out
}

// noteFindings puts into the history what state checks have found.
func (n *Node) noteFindings(found []statecheck.Finding) {
	for i := range found {
		f := finding(&found[i])
		n.note(EventStateDiffers, f.Member, "%v", f)
	}
}

// differing says what was found of this member, which a state check has blamed.
func (n *Node) differing(s *known) string {
	for _, f := range slices.Backward(s.Checks.Findings) {
		if f.Member.RaftID == n.log.Identity().RaftID {
			return finding(&f).String()
		}
	}
	for _, f := range slices.Backward(s.Faults.Odd) {
		if f.Member.RaftID == n.log.Identity().RaftID {
			return applyFault(&f).String()
		}
	}
	return "the group has found so, and what it found is forgotten"
}

func errDiffering(why string) error { return fmt.Errorf("%w: %s", ErrDiffers, why) }

// giveUpData makes this member, whose data are not the group's, one that holds
// nothing. The others must have ceased to hear the one that it was, or they would
// not have another one take its place.
func (n *Node) giveUpData(ctx context.Context) error {
	if !pause(ctx, n.silence()) {
		return context.Cause(ctx)
	}
	return n.reidentify(keepNothing)
}

// silence is after how long the others should have ceased to hear this member.
func (n *Node) silence() time.Duration {
	return n.cfg.MemberSuspectTimeout + silentTicks*n.cfg.TickInterval
}

// silentTicks are for what was on its way, and for the others' clocks.
const silentTicks = 10

// canCompare reports whether an engine's data can be compared with those of other
// members.
func canCompare(e applier.Engine) (bool, error) {
	s, err := e.Begin()
	if err != nil {
		return false, err
	}
	_, can := s.(applier.Checker)
	return can, s.Close()
}

// pinned is the engine's state at the position of a check.
type pinned struct {
	task     *replica.CheckTask
	snapshot applier.Checker
}

// mostPinned is how many states may wait to be hashed; of more, the oldest are not.
const mostPinned = 2

// pinCheck pins the engine's state at the very place in the order where the check
// stands, and leaves the hashing to another goroutine.
func (l *life) pinCheck(t *replica.CheckTask) error {
	s, err := l.node.engine.Begin()
	if err != nil {
		return err
	}
	c, ok := s.(applier.Checker)
	if !ok || s.Position().Index != t.Index {
		return s.Close() // a member that can hash nothing answers nothing
	}
	l.pins.put(pinned{task: t, snapshot: c})
	return nil
}

// hashSlices hashes what was pinned, beside the batches that go on.
func (l *life) hashSlices(ctx context.Context) {
	var pins []pinned
	for ok := true; ok; {
		if pins, ok = l.pins.take(pins); !ok {
			return
		}
		for i, p := range pins {
			var err error
			if len(pins)-i <= mostPinned && ctx.Err() == nil {
				err = l.hashSlice(ctx, p)
			}
			if err = errors.Join(err, p.snapshot.Close()); err != nil {
				l.node.fail(fmt.Errorf("state check: %w", err))
			}
		}
	}
}

func (l *life) hashSlice(ctx context.Context, p pinned) error {
	began := time.Now()
	slice, err := applier.HashSlice(ctx, p.snapshot, p.task.From, p.task.Budget)
	c := &l.node.counters
	c.checks.Add(1)
	c.checkedPairs.Add(uint64(len(slice.Pairs)))
	c.checkNanos.Add(int64(time.Since(began)))
	switch {
	case err == nil:
		l.inbox.put(replica.Checked{Number: p.task.Number, Slice: slice})
	case ctx.Err() != nil || errors.Is(err, applier.ErrClosed) || errors.Is(err, applier.ErrReplaced):
		err = nil // nobody needs it any more
	}
	return err
}
