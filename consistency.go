package concordat

import (
	"time"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
)

// Consistency is what a transaction asks of the data that it begins with, and of
// its commit, by the names of Group Replication. It is chosen by
// [WithConsistency], else by Config.Consistency, else by the group's
// [GroupSettings.Consistency]; where nobody chooses it is Eventual.
type Consistency = consistency.Level

// The levels, from the weakest to the strongest but for Before and After, which
// promise different things.
const (
	// Eventual begins with what the member shows. It waits only where an After
	// transaction is about to become visible here.
	Eventual = consistency.Eventual
	// BeforeOnPrimaryFailover begins only when the member shows everything that
	// was ordered before the newest change of the primary that it knows of.
	BeforeOnPrimaryFailover = consistency.BeforeOnPrimaryFailover
	// Before begins only when the member shows everything that was acknowledged,
	// anywhere in the group, before it asked to begin. That costs one round trip
	// to whoever leads the log and from there to a majority, which all who begin
	// meanwhile share.
	Before = consistency.Before
	// After is answered only when every ONLINE member is bound to show it to
	// whoever begins there, at whatever level. It begins as
	// BeforeOnPrimaryFailover does. Until then, nothing that is ordered behind it
	// is visible anywhere.
	After = consistency.After
	// BeforeAndAfter is both.
	BeforeAndAfter = consistency.BeforeAndAfter
)

// ParseConsistency reads the name of a level, in upper or lower case. The error
// lists them.
func ParseConsistency(text string) (Consistency, error) { return consistency.Parse(text) }

// WithConsistency sets the consistency level.
func WithConsistency(c Consistency) TxOption { return func(o *txOptions) { o.level = c } }

// AtMost has the transaction begin with data that are known to be no older than d:
// they hold everything that was acknowledged, anywhere in the group, up to d
// before it asked to begin. That costs nothing where this is known, as it is while
// such transactions keep coming, unless d is shorter than a few ticks; else as
// much as [Before]. It goes with every level.
func AtMost(d time.Duration) TxOption { return func(o *txOptions) { o.bounded, o.atMost = true, d } }

// AfterGTIDs has the transaction begin only when the member shows those with these
// GTIDs, as Commit returned them on whatever members: a session that carries them
// along reads its own writes anywhere. It goes with every level. A caller whose
// context has no deadline does not wait for those that the group has not committed
// by then, as those of another group; its error matches [ErrInvalid], too.
func AfterGTIDs(s gtid.Set) TxOption { return func(o *txOptions) { o.session = s } }
