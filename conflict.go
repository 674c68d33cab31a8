package concordat

import (
	"fmt"
	"sync"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/contention"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/running"
)

// Where tells how far a transaction got before it lost.
type Where = contention.Where

// The places where transactions lose.
const (
	// RefusedByGroup: it was broadcast, and certification refused it.
	RefusedByGroup = contention.Refused
	// DoomedRunning: it was still running when what it would lose to came.
	DoomedRunning = contention.Doomed
	// HeldBack: it was held back before broadcast for another of its own
	// member, which then committed.
	HeldBack = contention.Held
)

// ConflictReport is what was lost on account of other transactions lately; see
// [Node.Conflicts].
type ConflictReport = contention.Report

// ConflictError says what a transaction lost to. It matches [ErrConflict].
type ConflictError struct {
	// Table and Key are what both touched, as the caller wrote them. Key is nil
	// when a scanned range was hit, which From and To then bound. Both are zero
	// when the row is one that the caller gave to [Tx.Rows], and when this
	// transaction has read and the winner does not say what it changed: a
	// payload without rows, say, may have changed anything.
	Table    Table
	Key      []byte
	Range    bool
	From, To []byte
	// Incoming is what this transaction did there, Earlier what the winner did.
	Incoming, Earlier certifier.Kind
	// Winner is the transaction that was ordered first, Member the one it came
	// from, and Age how long ago this member learnt of it.
	Winner gtid.GTID
	Member gtid.UUID
	Age    time.Duration
	// Where tells how far this transaction got.
	Where Where
}

// verbs say what was done with a key.
var verbs = [certifier.Kinds]string{
	certifier.Write: "wrote", certifier.Delta: "added to", certifier.Reference: "refers to", certifier.Read: "read",
}

// Error names the row, the winner, the clash, and what to do.
func (e *ConflictError) Error() string {
	what := fmt.Sprintf("%s key %q", e.Table, e.Key)
	switch {
	case e.Table == Table{}:
		what = "a row of the program's own"
		if !e.Range && e.Incoming == certifier.Read && e.Earlier == certifier.Write {
			what += ", or the winner does not say what it changed"
		}
	case e.Range:
		what = fmt.Sprintf("%s %s", e.Table, rangeText(e.From, e.To))
	}
	return fmt.Sprintf("concordat: conflict on %s: this transaction %s it, and %s of member %s, which it had not seen, %s it %v ago; "+
		"run it again once that one is visible",
		what, verbs[e.Incoming&3], e.Winner, e.Member, verbs[e.Earlier&3], e.Age.Round(time.Microsecond))
}

// rangeText names the keys from <= key < to, where nil is no bound.
func rangeText(from, to []byte) string {
	switch {
	case from == nil && to == nil:
		return "all keys"
	case to == nil:
		return fmt.Sprintf("keys from %q on", from)
	case from == nil:
		return fmt.Sprintf("keys before %q", to)
	}
	return fmt.Sprintf("keys from %q to %q", from, to)
}

// Is reports whether target is ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// conflictLog is what a node remembers of conflicts.
type conflictLog struct {
	mu    sync.Mutex
	began time.Time
	stats *contention.Statistics
	ages  ageRing
}

func newConflictLog() *conflictLog {
	return &conflictLog{
		began: time.Now(),
		stats: contention.New(contention.DefaultWindow, contention.DefaultBuckets, contention.DefaultKeys),
	}
}

func (l *conflictLog) note(e *ConflictError, loser gtid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := ""
	if e.Table != (Table{}) {
		name = e.Table.String()
	}
	l.stats.Note(time.Since(l.began), contention.Conflict{
		Table: name, Key: e.Key, Incoming: e.Incoming, Earlier: e.Earlier,
		Loser: loser, Winner: e.Member, Where: e.Where,
	})
}

// delivered notes when a log index was reached.
func (l *conflictLog) delivered(index, sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ages.note(index, sequence, time.Now())
}

// age returns how long ago a transaction was delivered here, given by its log
// index or by its sequence; the least that it can be, if that is long ago.
func (l *conflictLog) age(index, sequence uint64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ages.since(index, sequence, time.Now())
}

// ageRing remembers when the log had come how far, about a millisecond apart
// and so for some seconds at least.
type ageRing struct {
	samples [4096]ageSample
	n       int // noted ever
}

type ageSample struct {
	index, sequence uint64
	at              time.Time
}

func (r *ageRing) note(index, sequence uint64, now time.Time) {
	if r.n > 0 {
		if last := &r.samples[(r.n-1)%len(r.samples)]; now.Sub(last.at) < time.Millisecond {
			last.index, last.sequence = index, sequence
			return
		}
	}
	r.samples[r.n%len(r.samples)] = ageSample{index, sequence, now}
	r.n++
}

func (r *ageRing) since(index, sequence uint64, now time.Time) time.Duration {
	at := now
	for i := r.n - 1; i >= 0 && i >= r.n-len(r.samples); i-- {
		s := &r.samples[i%len(r.samples)]
		if index != 0 && s.index < index || index == 0 && s.sequence < sequence {
			break
		}
		at = s.at
	}
	return now.Sub(at)
}

// Conflicts tells which tables and keys transactions were lost for lately, in
// the whole group as far as this member saw it happen, and whose lost to whose.
// It looks back ten minutes, in bounded memory; limit bounds each list, 0 means
// all there are.
func (n *Node) Conflicts(limit int) ConflictReport {
	l := n.conflicts
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats.Report(time.Since(l.began), limit)
}

// clashError explains a verdict to the transaction that lost.
func (tx *Tx) clashError(c *certifier.Clash) *ConflictError {
	e := &ConflictError{
		Incoming: c.Incoming, Earlier: c.Earlier, Winner: c.Winner, Member: c.Member,
		Age: tx.node.conflicts.age(0, c.Sequence), Where: RefusedByGroup,
	}
	switch {
	case c.Range >= 0 && c.Range < len(tx.reads.ranges)+tx.rowRanges:
		e.Range = true
		if i := c.Range - tx.rowRanges; i >= 0 {
			r := tx.reads.ranges[i]
			e.Table, e.From, e.To = r.table, r.from, r.to
		}
	case c.Item >= 0:
		kind, nth := tx.composed.Kind(c.Item)
		if k, ok := tx.touched(kind, nth); ok {
			e.Table, e.Key = k.table, k.key
		}
	}
	return e
}

// doomError explains to a transaction why it would lose.
func (tx *Tx) doomError(d *running.Doom, where Where) *ConflictError {
	e := &ConflictError{
		Incoming: d.Incoming, Earlier: d.Earlier, Winner: d.Winner, Member: d.Member,
		Age: tx.node.conflicts.age(d.Index, 0), Where: where,
	}
	for _, k := range tx.touches() {
		var item certifier.Item
		if item, tx.text = k.item(tx.text); item == d.Item {
			e.Table, e.Key = k.table, k.key
			break
		}
	}
	return e
}

// namesLooked is how many keys of a payload are looked at for a name. The
// statistics are not worth holding up the order.
const namesLooked = 4096

// noteRemote counts what another member's transaction lost. Its payload names
// the key, if it is one of this library's and the clash was on a write.
func (n *Node) noteRemote(j *replica.Judged) {
	c := &j.Verdict.Clash
	e := &ConflictError{Incoming: c.Incoming, Earlier: c.Earlier, Member: c.Member, Where: RefusedByGroup}
	if c.Item >= 0 && c.Incoming <= certifier.Delta {
		item := j.WriteSet.Item(c.Item)
		var text []byte
		looked := 0
		for m, err := range applier.Mutations(j.Payload) {
			if looked++; err != nil || looked > namesLooked {
				break
			}
			var other certifier.Item
			if other, text = (tableKey{m.Table, m.Key}).item(text); other == item {
				e.Table, e.Key = m.Table, m.Key
				break
			}
		}
	}
	n.conflicts.note(e, j.Origin)
}
