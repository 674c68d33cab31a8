package concordat

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// The sentinels of the change stream.
var (
	// ErrChangesOff: the member keeps no changes. Set Config.ChangeRetentionBytes
	// and open it again, or ask another member.
	ErrChangesOff = errors.New("concordat: this member keeps no changes; open it with ChangeRetentionBytes, or ask another member")
	// ErrChangesGone: some of what was asked for is not kept any more. The error is
	// a *ChangesGoneError. Ask another member, or begin with a dump (Node.Dump) and
	// follow from the GTIDs in it.
	ErrChangesGone = errors.New("concordat: changes that were asked for are not kept any more")
	// ErrChangesLost: what the stream has brought, or what it was to go on behind
	// (ChangesOf), may be in the member's history no more: its group's membership was
	// forced without those who knew of it, or the member has discarded it. Where the
	// report of the forced membership has no transaction at risk, go on with the set in
	// the new incarnation; else begin with a dump.
	ErrChangesLost = errors.New("concordat: changes that were brought may not be in the history of the group any more; begin anew with a dump, unless the forced membership put nothing at risk")
	// ErrChangesBusy: the member has as many consumers as Config.MaxChangeConsumers
	// allows. Ask another one, or later.
	ErrChangesBusy = errors.New("concordat: this member has as many consumers of its changes as it may have; ask another one, or later")
)

// ChangesGoneError says what is not kept any more. It matches [ErrChangesGone].
type ChangesGoneError struct {
	// Missing are transactions that were to come and are not kept.
	Missing gtid.Set
}

// Error names the transactions, and the ways on.
func (e *ChangesGoneError) Error() string {
	return fmt.Sprintf("%v: %v; ask another member, or begin with a dump and follow from the GTIDs in it (concordat dump); ChangeRetentionBytes and ChangeRetentionAge say how much is kept",
		ErrChangesGone, e.Missing)
}

// Is reports whether target is ErrChangesGone.
func (e *ChangesGoneError) Is(target error) bool { return target == ErrChangesGone }

// Change is a committed transaction.
type Change struct {
	GTID   gtid.GTID
	Origin gtid.UUID // member where it was run
	Index  uint64    // log index; several transactions may have the same
	// Time is when it was committed, by the clock of its origin.
	Time time.Time
	// Rows are what it did, in its order. They are nil with [RawChanges].
	Rows []RowChange
	// Payload is what the engine was given to apply.
	Payload []byte
}

// ChangeOp is what was done to a key.
type ChangeOp = applier.Op

// The operations.
const (
	ChangePut    = applier.OpPut
	ChangeDelete = applier.OpDelete
	ChangeAdd    = applier.OpAdd
)

// RowChange is what a transaction did to one key.
type RowChange struct {
	Op    ChangeOp
	Table Table
	Key   []byte
	// New is the key's value after it: of a ChangePut always, and of a ChangeAdd
	// where old values are known.
	New []byte
	// Delta is what a ChangeAdd added.
	Delta int64
	// OldKnown says that the member keeps old values (Config.ChangeOldValues).
	// Existed is then whether there was such a key, and Old its value.
	OldKnown bool
	Existed  bool
	Old      []byte
}

// ChangesOption changes what [Node.Changes] yields.
type ChangesOption func(*changesOptions)

type changesOptions struct {
	tables   []Table
	untilNow bool
	raw      bool
	of       gtid.UUID
}

// ChangesIn leaves out what was done to other tables. Transactions that did nothing
// to these still come, without rows, so that a consumer knows how far it is.
func ChangesIn(tables ...Table) ChangesOption {
	return func(o *changesOptions) { o.tables = append(o.tables, tables...) }
}

// ChangesUntilNow ends the stream when it has brought what was visible on the member
// when it began.
func ChangesUntilNow() ChangesOption { return func(o *changesOptions) { o.untilNow = true } }

// ChangesOf names the incarnation of the group that the GTIDs handed over are of, as
// Status had it before they came. In another one, which begins when a membership is
// forced, the same GTIDs may be of other transactions: the stream ends with
// [ErrChangesLost] where the member has the data of another one by then. The zero UUID
// is none.
func ChangesOf(incarnation gtid.UUID) ChangesOption {
	return func(o *changesOptions) { o.of = incarnation }
}

// RawChanges leaves the payloads as they are, for programs that make their own.
func RawChanges() ChangesOption { return func(o *changesOptions) { o.raw = true } }

// changeReadBytes is how much of the changes is read at a time, unless one alone is
// larger: what a consumer takes in memory.
const changeReadBytes = 256 << 10

// Changes yields every transaction that is visible on this member and not in after,
// each once, in commit order, and then goes on with those that become visible, until
// ctx ends: a stream that any ONLINE member can go on with, from the set of what a
// consumer has taken. The data of this member show a change no later than the stream.
//
// The changes are read from the disk as the consumer takes them, so a slow one holds
// up nobody. One that is overtaken by the retention gets a *[ChangesGoneError]. Other
// errors match [ErrChangesOff], [ErrChangesBusy], [ErrChangesLost], [ErrNotOnline]
// (go to another member, or begin the stream anew when this one is ONLINE), or are the
// cause of ctx. An error ends the stream; it is the last that is yielded, with no
// change.
//
// Who begins a stream anew tells by [ChangesOf] what incarnation its set is of: nothing
// else tells GTIDs of another one apart. A member that goes on with its own data when
// its group's membership is forced loses nothing of what it has shown, and an open
// stream on it goes on.
func (n *Node) Changes(ctx context.Context, after gtid.Set, opts ...ChangesOption) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for run, err := range n.ChangeRuns(ctx, after, opts...) {
			if err != nil {
				yield(Change{}, err)
				return
			}
			for i := range run {
				if !yield(run[i], nil) {
					return
				}
			}
		}
	}
}

// ChangeRuns is Changes that yields as many at a time as were read together, at least
// one, for those who pass them on.
func (n *Node) ChangeRuns(ctx context.Context, after gtid.Set, opts ...ChangesOption) iter.Seq2[[]Change, error] {
	var o changesOptions
	for _, opt := range opts {
		opt(&o)
	}
	return func(yield func([]Change, error) bool) {
		log, err := n.changeLog()
		if err == nil {
			err = n.consumers.enter(n.cfg.MaxChangeConsumers)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		defer n.consumers.leave()
		c := &consumer{node: n, log: log, after: after, options: o}
		for {
			run, err := c.next(ctx)
			switch {
			case errors.Is(err, errStreamEnds):
				return
			case err != nil:
				yield(nil, err)
				return
			case !yield(run, nil):
				return
			}
		}
	}
}

// consumers counts those who read changes.
type consumers struct{ n atomic.Int64 }

func (c *consumers) enter(most int) error {
	if c.n.Add(1) > int64(most) {
		c.n.Add(-1)
		return ErrChangesBusy
	}
	return nil
}

func (c *consumers) leave() { c.n.Add(-1) }

// changeLog is the engine's log of changes.
func (n *Node) changeLog() (applier.ChangeLog, error) {
	engine := n.engine
	if n.cfg.Engine != nil {
		engine = n.cfg.Engine // what guards it has only what every engine has
	}
	log, ok := engine.(applier.ChangeLog)
	if !ok {
		return nil, ErrChangesOff
	}
	return log, nil
}

// errStreamEnds ends a stream that was asked for up to a position.
var errStreamEnds = errors.New("concordat: the stream has come to its end")

// consumer is one stream of changes.
type consumer struct {
	node    *Node
	log     applier.ChangeLog
	after   gtid.Set
	given   gtid.Set // what has been yielded
	options changesOptions
	// incarnation is that of the group when the stream found its place first.
	incarnation gtid.UUID

	place  applier.ChangePlace
	placed bool
	end    uint64 // log index up to which it was asked for, of an entry visible in part all; with untilNow
}

// next returns what comes next, and waits for it.
func (c *consumer) next(ctx context.Context) ([]Change, error) {
	n := c.node
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		// It is asked for before anything else: a member that has it and may be read
		// has the data of it too.
		incarnation := n.known().View.Incarnation
		if err := n.reading(&txOptions{level: Eventual}); err != nil {
			return nil, err
		}
		if !c.placed {
			if err := c.find(incarnation); err != nil {
				return nil, err
			}
		}
		records, next, err := c.log.ReadChanges(c.place, changeReadBytes)
		if errors.Is(err, applier.ErrChangesMoved) {
			c.placed = false
			continue
		}
		if err != nil {
			return nil, n.changesError(err)
		}
		c.place = next
		run, err := c.take(records)
		switch {
		case err != nil || len(run) > 0:
			return run, err
		case c.options.untilNow && c.place.Index > c.end:
			return nil, errStreamEnds
		case len(records) > 0:
			continue
		}
		err = n.visible.until(ctx, func() bool {
			return n.engine.Position().Index >= c.place.Index || n.reading(&txOptions{level: Eventual}) != nil
		})
		if err != nil {
			return nil, err
		}
	}
}

// find finds the place in the log from which to go on. Where the engine has another
// state than before, it must have what was yielded: or the group has lost that. In
// another incarnation the same GTIDs may be of other transactions, and nothing here
// can tell.
func (c *consumer) find(incarnation gtid.UUID) error {
	at := c.node.engine.Position()
	switch {
	case !c.given.SubsetOf(at.Executed):
		return fmt.Errorf("%w: %v", ErrChangesLost, c.given.Subtract(at.Executed))
	case c.given.IsEmpty() && !c.options.of.IsZero() && c.options.of != incarnation:
		return fmt.Errorf("%w: the membership of the group was forced, this member has the data of incarnation %s, and the GTIDs are of %s",
			ErrChangesLost, incarnation, c.options.of)
	case c.given.IsEmpty():
		c.incarnation = incarnation
	case c.incarnation != incarnation:
		return fmt.Errorf("%w: the membership of the group was forced, and this member has the data of incarnation %s in place of those of %s",
			ErrChangesLost, incarnation, c.incarnation)
	}
	if c.end == 0 {
		c.end = at.Reached()
	}
	place, err := c.log.FindChanges(c.after.Union(c.given))
	if err != nil {
		return c.node.changesError(err)
	}
	c.place, c.placed = place, true
	return nil
}

// take makes changes of the records that the consumer lacks.
func (c *consumer) take(records []applier.ChangeRecord) (run []Change, err error) {
	for i := range records {
		r := &records[i]
		if c.after.Contains(r.GTID) || c.given.Contains(r.GTID) {
			continue
		}
		if c.options.untilNow && r.Index > c.end {
			return run, nil
		}
		change := Change{GTID: r.GTID, Origin: r.Origin, Index: r.Index, Time: time.UnixMicro(r.Time), Payload: r.Payload}
		if !c.options.raw {
			if change.Rows, err = rowChanges(r, c.options.tables); err != nil {
				return nil, fmt.Errorf("%w: changes: transaction %v: %w", ErrFailed, r.GTID, err)
			}
		}
		c.given = c.given.Add(r.GTID)
		run = append(run, change)
	}
	return run, nil
}

// rowChanges takes a record apart, as far as it speaks of the tables, if any are
// named.
func rowChanges(r *applier.ChangeRecord, tables []Table) (rows []RowChange, err error) {
	i := -1
	for m, err := range applier.Mutations(r.Payload) {
		if err != nil {
			return nil, err
		}
		i++
		if len(tables) > 0 && !slices.Contains(tables, m.Table) {
			continue
		}
		row := RowChange{Op: m.Op, Table: m.Table, Key: m.Key, New: m.Value, Delta: m.Delta}
		if r.Old != nil {
			if i >= len(r.Old) {
				return nil, fmt.Errorf("concordat: the record has %d old values, and more mutations", len(r.Old))
			}
			row.OldKnown, row.Existed, row.Old = true, r.Old[i].Exists, r.Old[i].Value
			if m.Op == applier.OpAdd {
				sum, err := applier.AddCounter(row.Old, row.Existed, m.Delta)
				if err != nil {
					return nil, err
				}
				row.New = applier.AppendCounter(nil, sum)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// changesError is what an engine says of its changes in the words of this package.
func (n *Node) changesError(err error) error {
	if gone, ok := errors.AsType[*applier.ChangesGoneError](err); ok {
		return &ChangesGoneError{Missing: gone.Missing}
	}
	switch {
	case errors.Is(err, applier.ErrChangesOff):
		return ErrChangesOff
	case n.closed.Load() || errors.Is(err, applier.ErrClosed):
		return ErrClosed
	}
	return fmt.Errorf("%w: changes: %w", ErrFailed, err)
}
