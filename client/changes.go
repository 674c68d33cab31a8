package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/changes/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// The sentinels of a stream of changes.
var (
	// ErrChangesOff: none of the members in contact keeps changes.
	ErrChangesOff = errors.New("concordat: no member keeps changes")
	// ErrChangesGone: none of the members in contact keeps all that was asked for.
	// Begin with a dump, and follow from the GTIDs in it. The error is a
	// *ChangesGoneError.
	ErrChangesGone = errors.New("concordat: changes that were asked for are not kept any more")
	// ErrChangesLost: what the stream has brought may not be in the history of the group
	// any more: its membership was forced. Where the report of that lists nothing as
	// lost, the GTIDs seen are good to go on by; else begin with a dump.
	ErrChangesLost = errors.New("concordat: changes that were brought may not be in the history of the group any more")
)

// ChangesGoneError says what is not kept. It matches [ErrChangesGone].
type ChangesGoneError struct {
	// Missing are transactions that were to come and that the member asked last does
	// not keep.
	Missing gtid.Set
}

// Error names the transactions, and the way on.
func (e *ChangesGoneError) Error() string {
	return fmt.Sprintf("%v: %v; begin with a dump and follow from the GTIDs in it", ErrChangesGone, e.Missing)
}

// Is reports whether target is ErrChangesGone.
func (e *ChangesGoneError) Is(target error) bool { return target == ErrChangesGone }

// Change is a committed transaction.
type Change struct {
	GTID   gtid.GTID
	Origin gtid.UUID // member where it was run
	Index  uint64    // log index; several transactions may have the same
	Time   time.Time // when it was committed, by the clock of its origin
	Rows   []RowChange
}

// ChangeOp is what was done to a key.
type ChangeOp byte

// The operations.
const (
	ChangePut    ChangeOp = 1
	ChangeDelete ChangeOp = 2
	ChangeAdd    ChangeOp = 3 // to the counter under the key
)

// RowChange is what a transaction did to one key.
type RowChange struct {
	Op    ChangeOp
	Table Table
	Key   []byte
	New   []byte // the value after it: of a ChangePut always, of a ChangeAdd where old values are known
	Delta int64  // what a ChangeAdd added
	// OldKnown: the member keeps old values. Existed is then whether there was such a
	// key, and Old its value.
	OldKnown bool
	Existed  bool
	Old      []byte
}

// ChangesOption changes a stream of changes.
type ChangesOption func(*changesOptions)

type changesOptions struct {
	from     ReadFrom
	tables   []Table
	untilNow bool
	of       gtid.UUID
}

// ChangesFrom says which member the changes are taken from. Without it that is
// [Secondary].
func ChangesFrom(r ReadFrom) ChangesOption { return func(o *changesOptions) { o.from = r } }

// ChangesIn leaves out what was done to other tables. Transactions that did nothing
// to these still come, without rows, so that a consumer knows how far it is.
func ChangesIn(tables ...Table) ChangesOption {
	return func(o *changesOptions) { o.tables = append(o.tables, tables...) }
}

// ChangesUntilNow ends the stream when it has brought what was visible on the member
// when it began there.
func ChangesUntilNow() ChangesOption { return func(o *changesOptions) { o.untilNow = true } }

// ChangesOf names the incarnation of the group that the GTIDs handed over are of, as
// [Client.View] had it before they came. In another one, which begins when a membership
// is forced, the same GTIDs may be of other transactions: the stream ends with
// [ErrChangesLost] then. The zero UUID is none.
func ChangesOf(incarnation gtid.UUID) ChangesOption {
	return func(o *changesOptions) { o.of = incarnation }
}

// Changes yields every transaction that the group has committed and that is not in
// after, each once, in commit order, and goes on with those to come until ctx ends.
// When a member goes away it goes on with another one, by the GTIDs of what it has
// brought: nothing is left out, and nothing comes twice. A consumer that keeps these
// GTIDs beside what it makes of the changes goes on by them after its own restart; with
// [ChangesOf] a forced membership in between does not escape it.
//
// An error ends the stream; it is the last that is yielded, with no change. It
// matches [ErrChangesOff], [ErrChangesGone] or [ErrChangesLost], [ErrUnavailable]
// when no member could serve it for Config.Timeout, or is the cause of ctx.
func (c *Client) Changes(ctx context.Context, after gtid.Set, opts ...ChangesOption) iter.Seq2[Change, error] {
	s := &changeStream{client: c, options: changesOptions{from: Secondary()}}
	for _, opt := range opts {
		opt(&s.options)
	}
	return func(yield func(Change, error) bool) {
		s.seen, s.stopped, s.incarnation = after, false, s.options.of
		if err := s.run(ctx, yield); err != nil && !s.stopped {
			yield(Change{}, err)
		}
	}
}

// changeStream is one consumer's way through the group.
type changeStream struct {
	client  *Client
	options changesOptions
	seen    gtid.Set
	stopped bool // the consumer takes no more
	// incarnation is that of the GTIDs that it goes on behind, or of the first member
	// that served it.
	incarnation gtid.UUID
	// passed are the members that could not serve it since the last change, refused
	// those of them that never will as it is, and refusal why.
	passed, refused []gtid.UUID
	refusal         error
}

// run goes from member to member until the stream ends.
func (s *changeStream) run(ctx context.Context, yield func(Change, error) bool) error {
	c := s.client
	s.settle()
	for tries := 0; ; tries++ {
		waiting, cancel := c.patience(ctx)
		r, err := c.toReader(waiting, s.options.from, s.passed, false)
		cancel()
		switch {
		case ctx.Err() != nil && err != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case slices.Contains(s.refused, r.member) && len(s.passed) == len(s.refused):
			r.done()
			return s.refusal
		case s.incarnation.IsZero():
			s.incarnation = r.incarnation
		case s.incarnation != r.incarnation:
			r.done()
			return &callError{kind: ErrChangesLost, text: fmt.Sprintf("%v: the membership of the group was forced, its incarnation is %s and was %s; if nothing was lost by that, go on from the GTIDs seen, else begin with a dump",
				ErrChangesLost, r.incarnation, s.incarnation)}
		}
		taken, err := s.follow(ctx, r, yield)
		if taken {
			s.settle()
			tries = 0
		}
		switch {
		case s.stopped || err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case c.lifetime.Err() != nil:
			return ErrClosed
		}
		if err := s.pass(r.member, err); err != nil {
			return err
		}
		if err := c.pause(ctx, tries); err != nil {
			return err
		}
	}
}

// settle forgets who could not serve.
func (s *changeStream) settle() { s.passed, s.refused, s.refusal = nil, nil, nil }

// pass goes on to the next member after an error of one, unless that ends the stream.
func (s *changeStream) pass(member gtid.UUID, err error) error {
	if slices.Contains(s.passed, member) { // all have had their turn
		s.passed = slices.Clone(s.refused)
	}
	p := problemOf(err)
	switch {
	case p == nil:
		if f := judge(err, true); f.fate == final {
			return f.err
		}
	case p.GetKind() == changespb.Problem_KIND_GONE:
		missing, _ := gtid.ParseSet(p.GetMissing()) // empty: the member does not say
		s.refusal = &ChangesGoneError{Missing: missing}
	case p.GetKind() == changespb.Problem_KIND_LOST:
		return &callError{kind: ErrChangesLost, text: p.GetText()}
	case p.GetKind() == changespb.Problem_KIND_OFF:
		if s.refusal == nil { // that it is gone elsewhere says more
			s.refusal = &callError{kind: ErrChangesOff, text: p.GetText()}
		}
	}
	refused := p.GetKind() == changespb.Problem_KIND_GONE || p.GetKind() == changespb.Problem_KIND_OFF
	if refused && !slices.Contains(s.refused, member) {
		s.refused = append(s.refused, member)
	}
	if !slices.Contains(s.passed, member) {
		s.passed = append(s.passed, member)
	}
	return nil
}

// problemOf is what a member said of why there is no stream, nil if it said nothing.
func problemOf(err error) *changespb.Problem {
	st, ok := status.FromError(err)
	if !ok {
		return nil
	}
	for _, detail := range st.Details() {
		if p, ok := detail.(*changespb.Problem); ok {
			return p
		}
	}
	return nil
}

// maxChangeBytes is the largest message of a stream: one row may be as large as values
// can be, with its old value.
const maxChangeBytes = 256 << 20

// errStreamCut is a member that ended a stream without a word.
var errStreamCut = errors.New("the member has ended the stream")

// follow takes changes from one member. Without an error the stream is complete.
func (s *changeStream) follow(ctx context.Context, r *route, yield func(Change, error) bool) (taken bool, err error) {
	defer r.done()
	ctx, cancel := r.bind(ctx)
	defer cancel()
	request := &changespb.FollowRequest{After: s.seen.String(), UntilNow: s.options.untilNow}
	for _, t := range s.options.tables {
		request.Tables = append(request.Tables, t.proto())
	}
	var to peer.Peer
	stream, err := changespb.NewChangesClient(r.conn).Follow(ctx, request, grpc.Peer(&to), grpc.MaxCallRecvMsgSize(maxChangeBytes))
	var part *changespb.Change // of one that comes in several messages
	for err == nil {
		var message *changespb.FollowResponse
		if message, err = stream.Recv(); err != nil {
			break
		}
		for _, m := range message.GetChanges() {
			if part != nil {
				if part.GetGtid() != m.GetGtid() {
					return taken, fmt.Errorf("%w: the rest of transaction %s does not come", errSighting, part.GetGtid())
				}
				m.Rows = append(part.GetRows(), m.GetRows()...)
			}
			if part = nil; m.GetMore() {
				part = m
				continue
			}
			change, err := readChange(m)
			if err != nil {
				return taken, err
			}
			if s.seen.Contains(change.GTID) {
				return taken, fmt.Errorf("%w: transaction %v comes twice", errSighting, change.GTID)
			}
			s.seen, taken = s.seen.Add(change.GTID), true
			if !yield(change, nil) {
				s.stopped = true
				return taken, nil
			}
		}
	}
	switch {
	case errors.Is(err, io.EOF) && s.options.untilNow:
		return taken, nil
	case errors.Is(err, io.EOF):
		return taken, errStreamCut
	}
	return taken, err
}

// readChange reads what came over the network.
func readChange(m *changespb.Change) (c Change, err error) {
	if c.GTID, err = gtid.Parse(m.GetGtid()); err != nil {
		return c, fmt.Errorf("%w: %w", errSighting, err)
	}
	if len(m.GetOrigin()) != len(c.Origin) {
		return c, fmt.Errorf("%w: origin of %d bytes", errSighting, len(m.GetOrigin()))
	}
	copy(c.Origin[:], m.GetOrigin())
	c.Index, c.Time = m.GetIndex(), time.UnixMicro(m.GetUnixMicros())
	for _, r := range m.GetRows() {
		op := ChangeOp(r.GetOp())
		if r.GetOp() < changespb.Row_OP_PUT || r.GetOp() > changespb.Row_OP_ADD {
			return c, fmt.Errorf("%w: operation %d on a row", errSighting, r.GetOp())
		}
		c.Rows = append(c.Rows, RowChange{
			Op: op, Table: tableOf(r.GetTable()), Key: r.GetKey(), New: r.GetNew(), Delta: r.GetDelta(),
			OldKnown: r.GetOldKnown(), Existed: r.GetExisted(), Old: r.GetOld(),
		})
	}
	return c, nil
}

func tableOf(t *kvpb.Table) Table { return Table{Schema: t.GetSchema(), Name: t.GetName()} }
