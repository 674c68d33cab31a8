// Package consistency knows how fresh a transaction wants the data of its member
// to be, and when a member shows data that are fresh enough.
//
// It owns the names of the levels, the floor below which no transaction may
// begin, and the estimate of how old at most the data are that a member shows.
// It promises that a floor is never too low and an estimate never too young: who
// follows them waits too long at worst. It must never wait, read a clock, or know
// how the group answers a question: the caller brings times and log indexes.
//
// # Why a read index dates the data
//
// The answer to a read index names a log index at or below which is everything
// that had been acknowledged, anywhere in the group, when the question was put.
// So a member that shows this index shows everything that there was at that
// time, by its own clock and nobody else's, however long the answer took and
// however often the question was repeated.
package consistency

import (
	"fmt"
	"strings"
)

// Level is what a transaction asks of consistency, by the names of Group
// Replication. The values are part of the log format: a group's default is one
// of its settings.
type Level byte

// The levels, from the weakest to the strongest but for Before and After, which
// promise different things.
const (
	// Default leaves the choice to whoever is asked next; see [Resolve].
	Default Level = 0
	// Eventual waits for nothing of its own.
	Eventual Level = 1
	// BeforeOnPrimaryFailover begins only when the member shows everything that
	// was ordered before the newest change of the primary that it knows of.
	BeforeOnPrimaryFailover Level = 2
	// Before begins only when the member shows everything that was acknowledged,
	// anywhere, before it asked to begin.
	Before Level = 3
	// After is answered only when every ONLINE member of the view is bound to
	// show it to whoever begins there. It begins as BeforeOnPrimaryFailover does.
	After Level = 4
	// BeforeAndAfter is both.
	BeforeAndAfter Level = 5
)

var names = [...]string{"DEFAULT", "EVENTUAL", "BEFORE_ON_PRIMARY_FAILOVER", "BEFORE", "AFTER", "BEFORE_AND_AFTER"}

// String returns the level as Group Replication writes it.
func (l Level) String() string {
	if l.Valid() {
		return names[l]
	}
	return fmt.Sprintf("Level(%d)", byte(l))
}

// Valid reports whether l is one of the levels, Default among them.
func (l Level) Valid() bool { return int(l) < len(names) }

// Parse reads a level as [Level.String] writes it, in upper or lower case. The
// error lists the levels.
func Parse(text string) (Level, error) {
	for l, name := range names {
		if strings.EqualFold(text, name) {
			return Level(l), nil
		}
	}
	return Default, fmt.Errorf("consistency level %q is unknown; it must be one of %s", text, strings.Join(names[:], ", "))
}

// Resolve returns the first level that is a choice, Eventual when none is: what a
// transaction says comes before what its member says, and that before what the
// group does.
func Resolve(levels ...Level) Level {
	for _, l := range levels {
		if l != Default {
			return l
		}
	}
	return Eventual
}

// WaitsBefore reports whether a transaction asks, before it begins, up to where
// the log has been acknowledged, and waits until its member shows that.
func (l Level) WaitsBefore() bool { return l == Before || l == BeforeAndAfter }

// WaitsAfter reports whether a commit waits for the other members.
func (l Level) WaitsAfter() bool { return l == After || l == BeforeAndAfter }

// HoldsOnFailover reports whether a transaction waits, before it begins, until
// its member shows what was ordered before the newest change of the primary. A
// read index covers that, so that levels which wait for one wait no longer.
func (l Level) HoldsOnFailover() bool { return l > Eventual }

// Floor is what a member must show before a transaction may begin there: log
// indexes, 0 when there is nothing to wait for.
type Floor struct {
	// Gate is the newest AFTER transaction that is delivered here and not shown
	// yet, whether it is held back because another member could still miss it or
	// others count on this one already. Transactions of every level wait for it.
	Gate uint64
	// Change is the newest change of the primary, while it is not shown here.
	Change uint64
}

// For returns the log index that must be visible before a transaction of a level
// may begin.
func (f Floor) For(l Level) uint64 {
	if l.HoldsOnFailover() {
		return max(f.Gate, f.Change)
	}
	return f.Gate
}
