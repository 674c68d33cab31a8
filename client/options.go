package client

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Table names a table of ordered keys.
type Table struct{ Schema, Name string }

// String returns schema.name.
func (t Table) String() string { return t.Schema + "." + t.Name }

func (t Table) proto() *kvpb.Table { return &kvpb.Table{Schema: t.Schema, Name: t.Name} }

// Consistency is what a transaction asks of the data that it begins with, and of
// its commit, by the names of Group Replication.
type Consistency byte

// The levels, from the weakest to the strongest but for Before and After, which
// promise different things.
const (
	// Default leaves the choice to the member, and that to its group.
	Default Consistency = iota
	// Eventual begins with what the member shows.
	Eventual
	// BeforeOnPrimaryFailover begins only when the member shows everything that
	// was ordered before the newest change of the primary that it knows of.
	BeforeOnPrimaryFailover
	// Before begins only when the member shows everything that was acknowledged,
	// anywhere in the group, before it asked to begin.
	Before
	// After is answered only when every ONLINE member is bound to show it to
	// whoever begins there.
	After
	// BeforeAndAfter is both.
	BeforeAndAfter
)

// String returns the level as Group Replication writes it.
func (c Consistency) String() string {
	names := [...]string{"DEFAULT", "EVENTUAL", "BEFORE_ON_PRIMARY_FAILOVER", "BEFORE", "AFTER", "BEFORE_AND_AFTER"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("Consistency(%d)", byte(c))
}

// place is a kind of member that is read from.
type place byte

const (
	primary place = iota
	secondary
	nearest
)

// ReadFrom says which member serves a transaction that only reads. Those that write
// go where writes are taken. The zero value is Primary().
type ReadFrom struct {
	place   place
	bounded bool
	within  time.Duration
}

// Primary reads where the group writes; where several members write, on the nearest
// of them.
func Primary() ReadFrom { return ReadFrom{} }

// Secondary reads on the nearest member that does not write, and on one that does
// while there is no other.
func Secondary() ReadFrom { return ReadFrom{place: secondary} }

// Nearest reads on the member that answers fastest, or on any of several that
// are about as fast.
func Nearest() ReadFrom { return ReadFrom{place: nearest} }

// FreshWithin reads on the nearest member whose data are known to be no older than
// d. Where none is known to have such, the nearest one makes sure of that before it
// answers, as with [AtMost].
func FreshWithin(d time.Duration) ReadFrom { return ReadFrom{place: nearest, bounded: true, within: d} }

// Option changes one call.
type Option func(*options)

type options struct {
	table        *Table
	level        Consistency
	bounded      bool // by atMost
	atMost       time.Duration
	session      *Session
	from         *ReadFrom
	id           gtid.UUID
	wish         string
	serializable bool
	readOnly     bool
	reverse      bool
	tag          string
	weight       int
}

// On names the table of a call, and of its operations that name none.
func On(t Table) Option { return func(o *options) { o.table = &t } }

// At sets the consistency level.
func At(c Consistency) Option { return func(o *options) { o.level = c } }

// AtMost has a transaction begin with data that hold everything that was
// acknowledged, anywhere in the group, up to d before it asked to begin.
func AtMost(d time.Duration) Option { return func(o *options) { o.bounded, o.atMost = true, d } }

// In makes a call a part of a session: it sees what the session has seen and
// written, on whatever member.
func In(s *Session) Option { return func(o *options) { o.session = s } }

// From says where a call reads that does not write.
func From(r ReadFrom) Option { return func(o *options) { o.from = &r } }

// WithID names a transaction that writes: an idempotency key. Of all that are
// committed under one id, by whatever clients, one commits, and each returns that
// one's GTID. Without this option, and with the zero id, an id is drawn.
func WithID(id gtid.UUID) Option { return func(o *options) { o.id = id } }

// WithGTID asks for a GTID, as text, or with AUTOMATIC:tag for the group's next one
// under a tag. One that belongs to another transaction is ErrGTIDTaken.
func WithGTID(wish string) Option { return func(o *options) { o.wish = wish } }

// WithTag puts a transaction that writes into a class of its member's transactions.
// While the group is slowed, classes share what the member may write by their
// weights, 1 to 1000, and within one those begin first that came first. A weight of 0
// stands for 1. A tag is at most 64 bytes of text that can be printed; the empty one,
// with weight 0, is none.
func WithTag(tag string, weight int) Option {
	return func(o *options) { o.tag, o.weight = tag, weight }
}

// Serializable has the group certify what the transaction reads too: those that
// commit at this level are as if they had run one after the other.
func Serializable() Option { return func(o *options) { o.serializable = true } }

// ReadOnly begins a transaction that only reads, where [From] says.
func ReadOnly() Option { return func(o *options) { o.readOnly = true } }

// Reverse scans from the largest key down.
func Reverse() Option { return func(o *options) { o.reverse = true } }

func (c *Client) options(opts []Option) (*options, error) {
	o := &options{}
	for _, opt := range opts {
		opt(o)
	}
	if o.table == nil {
		o.table = &c.cfg.Table
	}
	if o.from == nil {
		o.from = &c.cfg.Read
	}
	if o.level > BeforeAndAfter {
		return nil, fmt.Errorf("%w: consistency level %d", ErrInvalid, o.level)
	}
	if o.bounded && o.atMost < 0 || o.from.bounded && o.from.within < 0 {
		return nil, fmt.Errorf("%w: data cannot be younger than now", ErrInvalid)
	}
	// What could not be sent; what a tag can be, and how much it can weigh, the member
	// says.
	if o.weight < 0 || o.weight > math.MaxInt32 || !utf8.ValidString(o.tag) {
		return nil, fmt.Errorf("%w: tag %q with weight %d; write UTF-8, and a weight of 1 to 1000", ErrInvalid, o.tag, o.weight)
	}
	for _, text := range []string{o.wish, o.table.Schema, o.table.Name} {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("%w: %q is not UTF-8", ErrInvalid, text)
		}
	}
	return o, nil
}

// freshness is what the options ask of a transaction that reads.
func (o *options) freshness() *kvpb.Freshness {
	f := &kvpb.Freshness{Consistency: kvpb.Consistency(o.level)}
	switch {
	case o.bounded && o.from.bounded:
		f.AtMostNanos = new(int64(min(o.atMost, o.from.within)))
	case o.bounded:
		f.AtMostNanos = new(int64(o.atMost))
	case o.from.bounded:
		f.AtMostNanos = new(int64(o.from.within))
	}
	if o.session != nil {
		f.Session, f.Track = o.session.text(), true
	}
	return f
}

// freshnessOfWrite is what they ask of one that writes in an epoch.
func (o *options) freshnessOfWrite(epoch uint64) *kvpb.Freshness {
	f := &kvpb.Freshness{Consistency: kvpb.Consistency(o.level), Epoch: epoch}
	if o.bounded {
		f.AtMostNanos = new(int64(o.atMost))
	}
	if o.session != nil {
		f.Session, f.Track = o.session.text(), true
	}
	return f
}

func (o *options) isolation() kvpb.Isolation {
	if o.serializable {
		return kvpb.Isolation_ISOLATION_SERIALIZABLE
	}
	return kvpb.Isolation_ISOLATION_UNSPECIFIED
}

// on is the table of an operation.
func (o *options) on(t Table) *kvpb.Table {
	if t == (Table{}) {
		t = *o.table
	}
	return t.proto()
}
