package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Pair is a key with its value.
type Pair struct{ Key, Value []byte }

// Get returns the value of a key, and whether there is one.
func (c *Client) Get(ctx context.Context, key []byte, opts ...Option) (value []byte, found bool, err error) {
	o, err := c.options(opts)
	if err != nil {
		return nil, false, err
	}
	var r *kvpb.GetResponse
	err = c.read(ctx, o, true, func(ctx context.Context, kv kvpb.KVClient, to grpc.CallOption) (err error) {
		r, err = kv.Get(ctx, &kvpb.GetRequest{Table: o.table.proto(), Key: key, Freshness: o.freshness()}, to)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return r.GetValue(), r.GetFound(), o.session.read(r.GetSession())
}

// Scan returns the pairs with low <= key < high, in the order of their keys and all
// from one snapshot, but no more than limit if that is not 0. An empty bound is
// none. For a table that does not fit into memory, scan part after part in one
// transaction that only reads, see [Client.Begin].
func (c *Client) Scan(ctx context.Context, low, high []byte, limit int, opts ...Option) ([]Pair, error) {
	o, err := c.options(opts)
	if err != nil {
		return nil, err
	}
	if limit < 0 {
		return nil, fmt.Errorf("%w: a limit of %d", ErrInvalid, limit)
	}
	var pairs []Pair
	var session string
	err = c.read(ctx, o, false, func(ctx context.Context, kv kvpb.KVClient, to grpc.CallOption) error {
		pairs, session = nil, "" // of an earlier try, from another snapshot
		stream, err := kv.Scan(ctx, &kvpb.ScanRequest{
			Table: o.table.proto(), From: low, To: high, Reverse: o.reverse, Limit: uint64(limit), Freshness: o.freshness(),
		}, to)
		for err == nil {
			var r *kvpb.ScanResponse
			if r, err = stream.Recv(); err == nil {
				pairs = appendPairs(pairs, r.GetPairs())
				session = cmp.Or(session, r.GetSession())
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return pairs, o.session.read(session)
}

func appendPairs(pairs []Pair, more []*kvpb.Pair) []Pair {
	for _, p := range more {
		pairs = append(pairs, Pair{p.GetKey(), p.GetValue()})
	}
	return pairs
}

// read has a member serve a call that changes nothing, and another one when that
// one cannot.
func (c *Client) read(ctx context.Context, o *options, short bool, call func(context.Context, kvpb.KVClient, grpc.CallOption) error) error {
	ctx, cancel := c.patience(ctx)
	defer cancel()
	var passed []gtid.UUID
	for tries := 0; ; tries++ {
		r, err := c.toReader(ctx, *o.from, passed, short)
		if err != nil {
			return err
		}
		f := tryRead(ctx, r, call)
		switch {
		case f.err == nil || f.fate == final:
			return f.err
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), f.err)
		case c.lifetime.Err() != nil:
			return ErrClosed
		}
		passed = append(passed, r.member)
		if err := c.pause(ctx, tries); err != nil {
			return errors.Join(err, f.err)
		}
	}
}

func tryRead(ctx context.Context, r *route, call func(context.Context, kvpb.KVClient, grpc.CallOption) error) failure {
	defer r.done()
	ctx, cancel := r.bind(ctx)
	defer cancel()
	var to peer.Peer
	if err := call(ctx, r.kv, grpc.Peer(&to)); err != nil {
		return judge(err, to.Addr != nil)
	}
	return failure{}
}
