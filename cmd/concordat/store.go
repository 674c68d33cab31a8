package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// store is where the commands read and write: one node, or a group through its
// client. Its errors are those of package concordat.
type store interface {
	get(ctx context.Context, t *kvpb.Table, key []byte) (value []byte, found bool, err error)
	scan(ctx context.Context, r *kvpb.ScanRequest, each func(key, value []byte) error) error
	write(ctx context.Context, w *write) (written, error)
	io.Closer
}

// What a write does.
const (
	verbPut = iota
	verbDelete
	verbAdd
)

// write is a transaction of one write.
type write struct {
	verb     int
	table    *kvpb.Table
	key      []byte
	value    []byte
	delta    int64
	id, gtid string
	tag      string
	weight   uint32
}

// written is what it came to. Its fields stay.
type written struct {
	GTID string `json:"gtid"`
	// Member is where it was committed, as far as that is known, in an epoch of the
	// group.
	Member string `json:"member,omitempty"`
	Epoch  uint64 `json:"epoch,omitempty"`
}

// freshFlags say what a transaction has to see, and where.
type freshFlags struct {
	level  level
	atMost duration
	after  string
	from   string
}

const readHelp = `The node at --address is read as it is. With several addresses, or with
--read-from, the members that they name are asked for the group, and the one is
read that --read-from says: primary, which is the default then, secondary, the
nearest one, or with a duration, as in 500ms, the nearest one whose data are known
to be no older.`

func (f *freshFlags) registerFresh(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.Var(&f.level, "consistency", "what is seen, and of a write when it is answered: EVENTUAL, BEFORE_ON_PRIMARY_FAILOVER, BEFORE, AFTER or BEFORE_AND_AFTER; empty: the node's choice")
	fs.Var(&f.atMost, "at-most", "see data that are known to be no older; 0s: of whatever age")
	fs.StringVar(&f.after, "after", "", "see the transactions with these `GTIDs`, as a write has printed them")
}

func (f *freshFlags) registerFrom(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "read-from", "", "read at the `member` that is primary, secondary or nearest, or whose data are no older than a duration")
}

// session are the transactions of --after.
func (f *freshFlags) session() (gtid.Set, error) {
	set, err := gtid.ParseSet(f.after)
	if err != nil {
		return set, usagef("--after: %w", err)
	}
	return set, nil
}

// readFrom is the member of --read-from.
func (f *freshFlags) readFrom() (client.ReadFrom, error) {
	switch f.from {
	case "", "primary":
		return client.Primary(), nil
	case "secondary":
		return client.Secondary(), nil
	case "nearest":
		return client.Nearest(), nil
	}
	d, err := time.ParseDuration(f.from)
	if err != nil || d < 0 {
		return client.ReadFrom{}, usagef("--read-from %q is no place to read; write primary, secondary, nearest, or how old the data may be, as in 500ms", f.from)
	}
	return client.FreshWithin(d), nil
}

// readsDirectly reports whether the node at --address is read itself.
func (f *kvFlags) readsDirectly() (bool, error) { return len(f.addresses) == 1 && f.from == "", nil }

// useStore makes a command's function out of one that has a store and runs within
// the timeout.
func (f *kvFlags) useStore(
	direct func() (bool, error), fn func(ctx context.Context, cmd *cobra.Command, s store, args []string) error,
) func(*cobra.Command, []string) error {
	return interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
		ctx, cancel := f.bound(ctx)
		defer cancel()
		only, err := direct()
		if err != nil {
			return err
		}
		if only && len(f.addresses) != 1 {
			return usagef("%s --direct asks one node; give one --address", cmd.CommandPath())
		}
		var s store
		if only {
			s, err = f.openDirect()
		} else {
			s, err = f.openRouted(ctx)
		}
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		return fn(ctx, cmd, s, args)
	})
}

// directStore is one node.
type directStore struct {
	*server.Client

	fresh *kvpb.Freshness
}

func (f *kvFlags) openDirect() (store, error) {
	session, err := f.session()
	if err != nil {
		return nil, err
	}
	fresh := &kvpb.Freshness{Consistency: kvpb.Consistency(f.level)} // their numbers are the same
	if !session.IsEmpty() {
		fresh.Session = session.String()
	}
	if f.atMost > 0 {
		nanos := int64(f.atMost)
		fresh.AtMostNanos = &nanos
	}
	c, err := f.dial(f.addresses[0])
	if err != nil {
		return nil, err
	}
	return &directStore{c, fresh}, nil
}

func (d *directStore) get(ctx context.Context, t *kvpb.Table, key []byte) ([]byte, bool, error) {
	r, err := d.Get(ctx, &kvpb.GetRequest{Table: t, Key: key, Freshness: d.fresh})
	return r.GetValue(), r.GetFound(), err
}

func (d *directStore) scan(ctx context.Context, r *kvpb.ScanRequest, each func(key, value []byte) error) error {
	r.Freshness = d.fresh
	return scanPairs(ctx, d.Client, r, func(p *kvpb.Pair) error { return each(p.GetKey(), p.GetValue()) })
}

// scanPairs gives each pair of a scan to fn.
func scanPairs(ctx context.Context, c *server.Client, r *kvpb.ScanRequest, fn func(*kvpb.Pair) error) error {
	ctx, cancel := context.WithCancel(ctx) // a stream that is not read to its end
	defer cancel()
	stream, err := c.Scan(ctx, r)
	if err != nil {
		return err
	}
	for {
		run, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, p := range run.GetPairs() {
			if err := fn(p); err != nil {
				return err
			}
		}
	}
}

func (d *directStore) write(ctx context.Context, w *write) (done written, err error) {
	switch w.verb {
	case verbPut:
		r, err := d.Put(ctx, &kvpb.PutRequest{
			Table: w.table, Key: w.key, Value: w.value, TransactionId: w.id, Gtid: w.gtid, Freshness: d.fresh, FlowTag: w.tag, FlowWeight: w.weight,
		})
		return written{GTID: r.GetGtid()}, err
	case verbDelete:
		r, err := d.Delete(ctx, &kvpb.DeleteRequest{
			Table: w.table, Key: w.key, TransactionId: w.id, Gtid: w.gtid, Freshness: d.fresh, FlowTag: w.tag, FlowWeight: w.weight,
		})
		return written{GTID: r.GetGtid()}, err
	case verbAdd:
		r, err := d.Add(ctx, &kvpb.AddRequest{
			Table: w.table, Key: w.key, Delta: w.delta, TransactionId: w.id, Gtid: w.gtid, Freshness: d.fresh, FlowTag: w.tag, FlowWeight: w.weight,
		})
		return written{GTID: r.GetGtid()}, err
	}
	panic(fmt.Sprintf("write of kind %d", w.verb))
}

// forEver is longer than anybody waits. What bounds a command is its context.
const forEver time.Duration = 1 << 62

// routedStore is a group.
type routedStore struct {
	*client.Client

	options []client.Option
}

func (f *kvFlags) openRouted(ctx context.Context) (*routedStore, error) {
	r := &routedStore{}
	session, err := f.session()
	if err != nil {
		return nil, err
	}
	from, err := f.readFrom()
	if err != nil {
		return nil, err
	}
	r.options = append(r.options, client.At(client.Consistency(f.level)), client.From(from))
	if !session.IsEmpty() {
		r.options = append(r.options, client.In(client.NewSession(session)))
	}
	if f.atMost > 0 {
		r.options = append(r.options, client.AtMost(time.Duration(f.atMost)))
	}
	if len(f.addresses) == 0 {
		return nil, usagef("no address; give --address")
	}
	tls, err := clientTLS(f.cert, f.key, f.ca)
	if err != nil {
		return nil, err
	}
	r.Client, err = client.Open(ctx, client.Config{Addresses: f.addresses, TLS: tls, Timeout: forEver})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("no answer in time: %w", typed(err))
	}
	return r, typed(err)
}

// with returns the options of a call on a table.
func (r *routedStore) with(t *kvpb.Table, more ...client.Option) []client.Option {
	more = append(more, client.On(client.Table{Schema: t.GetSchema(), Name: t.GetName()}))
	return append(more, r.options...)
}

func (r *routedStore) get(ctx context.Context, t *kvpb.Table, key []byte) ([]byte, bool, error) {
	value, found, err := r.Get(ctx, key, r.with(t)...)
	return value, found, typed(err)
}

func (r *routedStore) scan(ctx context.Context, q *kvpb.ScanRequest, each func(key, value []byte) error) error {
	options := r.with(q.GetTable())
	if q.GetReverse() {
		options = append(options, client.Reverse())
	}
	pairs, err := r.Scan(ctx, q.GetFrom(), q.GetTo(), int(q.GetLimit()), options...)
	if err != nil {
		return typed(err)
	}
	for _, p := range pairs {
		if err := each(p.Key, p.Value); err != nil {
			return err
		}
	}
	return nil
}

func (r *routedStore) write(ctx context.Context, w *write) (written, error) {
	id, err := parseID(w.id)
	if err != nil {
		return written{}, err
	}
	options := r.with(w.table, client.WithID(id), client.WithGTID(w.gtid), client.WithTag(w.tag, int(w.weight)))
	var c client.Commit
	switch w.verb {
	case verbPut:
		c, err = r.Put(ctx, w.key, w.value, options...)
	case verbDelete:
		c, err = r.Delete(ctx, w.key, options...)
	case verbAdd:
		c, err = r.Add(ctx, w.key, w.delta, options...)
	default:
		panic(fmt.Sprintf("write of kind %d", w.verb))
	}
	if err != nil {
		return written{}, typed(err)
	}
	return writtenBy(&c), nil
}

func writtenBy(c *client.Commit) written {
	return written{GTID: c.GTID.String(), Member: c.Member.String(), Epoch: c.Epoch}
}

// parseID reads the id of a transaction.
func parseID(text string) (gtid.UUID, error) {
	id, err := gtid.ParseUUID(text)
	switch {
	case err != nil:
		return id, usagef("--id: %q is no UUID: %w", text, err)
	case id.IsZero():
		return id, usagef("--id is the zero UUID, which names nothing; draw one")
	}
	return id, nil
}

// typed gives errors of the client those of package concordat that say the same.
func typed(err error) error {
	if open, ok := errors.AsType[*client.OutcomeUnknownError](err); ok {
		return &concordat.OutcomeUnknownError{ID: open.ID, Cause: err}
	}
	for _, e := range []struct{ from, to error }{
		{client.ErrConflict, concordat.ErrConflict},
		{client.ErrSnapshotTooOld, concordat.ErrSnapshotTooOld},
		{client.ErrReadOnly, concordat.ErrReadOnly},
		{client.ErrNoQuorum, concordat.ErrNoQuorum},
		{client.ErrNoPrimary, concordat.ErrNotOnline},
		{client.ErrUnavailable, concordat.ErrNotOnline},
		{client.ErrWait, concordat.ErrWait},
		{client.ErrThrottled, concordat.ErrThrottled},
		{client.ErrGTIDTaken, concordat.ErrGTIDTaken},
		{client.ErrTooLarge, concordat.ErrTooLarge},
		{client.ErrInvalid, concordat.ErrInvalid},
	} {
		if errors.Is(err, e.from) && !errors.Is(err, e.to) {
			return &typedError{err, e.to}
		}
	}
	return err
}

// typedError is an error that matches another one, too.
type typedError struct{ err, as error }

func (e *typedError) Error() string { return e.err.Error() }

func (e *typedError) Unwrap() []error { return []error{e.err, e.as} }
