package server

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// What one call may ask for.
const (
	// maxOps is part of the protocol's text.
	maxOps = 1 << 16
	// maxResultBytes bounds what the gets of one Txn bring back.
	maxResultBytes = 32 << 20
	// txnAttempts is how often a Txn is run before its client hears of a
	// conflict. A put or a delete depends on nothing that another transaction
	// could have changed: it is run until its context ends.
	txnAttempts = 5
	// A message of a scan is sent once it has this many bytes or pairs: large
	// enough to make a message cheap, small enough to come soon.
	scanBytes = 64 << 10
	scanPairs = 1024
)

// kv implements the service KV.
type kv struct {
	kvpb.UnimplementedKVServer
	server *Server
}

// Get implements kvpb.KVServer.
func (k *kv) Get(ctx context.Context, r *kvpb.GetRequest) (*kvpb.GetResponse, error) {
	response := &kvpb.GetResponse{}
	err := k.view(ctx, r.GetFreshness(), func(tx *concordat.Tx) (err error) {
		response.Session = seen(tx, r.GetFreshness())
		response.Value, response.Found, err = get(tx, r)
		return err
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return response, nil
}

// Put implements kvpb.KVServer.
func (k *kv) Put(ctx context.Context, r *kvpb.PutRequest) (*kvpb.PutResponse, error) {
	id, err := k.update(ctx, r, func(tx *concordat.Tx) error {
		return tx.Put(table(r.GetTable()), r.GetKey(), r.GetValue())
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &kvpb.PutResponse{Gtid: id}, nil
}

// Delete implements kvpb.KVServer.
func (k *kv) Delete(ctx context.Context, r *kvpb.DeleteRequest) (*kvpb.DeleteResponse, error) {
	id, err := k.update(ctx, r, func(tx *concordat.Tx) error {
		return tx.Delete(table(r.GetTable()), r.GetKey())
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &kvpb.DeleteResponse{Gtid: id}, nil
}

// Add implements kvpb.KVServer.
func (k *kv) Add(ctx context.Context, r *kvpb.AddRequest) (*kvpb.AddResponse, error) {
	id, err := k.update(ctx, r, func(tx *concordat.Tx) error {
		return tx.Add(table(r.GetTable()), r.GetKey(), r.GetDelta())
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &kvpb.AddResponse{Gtid: id}, nil
}

// Scan implements kvpb.KVServer.
func (k *kv) Scan(r *kvpb.ScanRequest, stream grpc.ServerStreamingServer[kvpb.ScanResponse]) error {
	return toStatus(k.view(stream.Context(), r.GetFreshness(), func(tx *concordat.Tx) error {
		session := seen(tx, r.GetFreshness())
		return scan(tx, r, func(pairs []*kvpb.Pair, _ bool) error {
			if len(pairs) == 0 && session == "" {
				return nil
			}
			response := &kvpb.ScanResponse{Pairs: pairs, Session: session}
			session = ""
			return stream.Send(response)
		})
	}))
}

// scan sends what a scan finds run by run, of which the last one may be empty.
func scan(tx *concordat.Tx, r *kvpb.ScanRequest, send func(pairs []*kvpb.Pair, last bool) error) error {
	t := table(r.GetTable())
	if err := check(t); err != nil {
		return err
	}
	pairs := tx.Scan
	if r.GetReverse() {
		pairs = tx.ScanReverse
	}
	var run []*kvpb.Pair
	var size int
	var count uint64
	for key, value := range pairs(t, bound(r.GetFrom()), bound(r.GetTo())) {
		both := make([]byte, 0, len(key)+len(value))
		both = append(append(both, key...), value...)
		run = append(run, &kvpb.Pair{Key: both[:len(key):len(key)], Value: both[len(key):]})
		size += len(both)
		if count++; count == r.GetLimit() {
			break
		}
		if size < scanBytes && len(run) < scanPairs {
			continue
		}
		// It waits while the client is slow, and ends with the stream.
		if err := send(run, false); err != nil {
			return err
		}
		run, size = nil, 0
	}
	if err := tx.Err(); err != nil {
		return err
	}
	return send(run, true)
}

// Txn implements kvpb.KVServer.
func (k *kv) Txn(ctx context.Context, r *kvpb.TxnRequest) (*kvpb.TxnResponse, error) {
	if n := len(r.GetOps()); n > maxOps {
		return nil, toStatus(fmt.Errorf("%w: %d operations in one transaction, the limit is %d; split it",
			concordat.ErrTooLarge, n, maxOps))
	}
	response := &kvpb.TxnResponse{}
	run := func(tx *concordat.Tx) (err error) {
		response.Session = seen(tx, r.GetFreshness())
		response.Results, err = runOps(tx, r.GetOps())
		return err
	}
	var err error
	if writes(r) || refers(r) {
		response.Gtid, err = k.update(ctx, r, run, concordat.WithMaxAttempts(txnAttempts))
	} else if _, err = optionsOf(r); err == nil {
		// Read-only, so that a member that has failed still answers.
		err = k.view(ctx, r.GetFreshness(), run)
	}
	if err != nil {
		return nil, toStatus(err)
	}
	return response, nil
}

// writes reports whether a transaction changes anything, its GTID included.
func writes(r *kvpb.TxnRequest) bool {
	return r.GetGtid() != "" || slices.ContainsFunc(r.GetOps(), func(op *kvpb.Op) bool {
		return termsOf(op) != nil
	})
}

// refers reports whether a transaction has operations that need one that can
// write.
func refers(r *kvpb.TxnRequest) bool {
	return slices.ContainsFunc(r.GetOps(), func(op *kvpb.Op) bool { return op.GetReference() != nil })
}

func runOps(tx *concordat.Tx, ops []*kvpb.Op) ([]*kvpb.OpResult, error) {
	results := make([]*kvpb.OpResult, len(ops))
	read := 0
	for i, op := range ops {
		result, err := runOp(tx, op)
		if err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
		if read += len(result.GetValue()); read > maxResultBytes {
			return nil, fmt.Errorf("operation %d: %w: the transaction reads more than %d bytes; split it",
				i, concordat.ErrTooLarge, maxResultBytes)
		}
		results[i] = result
	}
	return results, nil
}

func runOp(tx *concordat.Tx, op *kvpb.Op) (*kvpb.OpResult, error) {
	if t := termsOf(op); t != nil {
		if err := noTerms(t); err != nil {
			return nil, err
		}
	}
	if op.GetGet().GetFreshness() != nil {
		return nil, fmt.Errorf("%w: freshness belongs to the transaction, not to one of its operations", concordat.ErrInvalid)
	}
	result := &kvpb.OpResult{}
	var err error
	switch op := op.GetOp().(type) {
	case *kvpb.Op_Get:
		result.Value, result.Found, err = get(tx, op.Get)
	case *kvpb.Op_Put:
		err = tx.Put(table(op.Put.GetTable()), op.Put.GetKey(), op.Put.GetValue())
	case *kvpb.Op_Delete:
		err = tx.Delete(table(op.Delete.GetTable()), op.Delete.GetKey())
	case *kvpb.Op_Add:
		err = tx.Add(table(op.Add.GetTable()), op.Add.GetKey(), op.Add.GetDelta())
	case *kvpb.Op_Expect:
		err = expect(tx, op.Expect)
	case *kvpb.Op_Reference:
		result.Found, err = reference(tx, op.Reference)
	default:
		err = fmt.Errorf("%w: it is none of get, put, delete, add, expect and reference", concordat.ErrInvalid)
	}
	return result, err
}

func expect(tx *concordat.Tx, e *kvpb.Expectation) error {
	t := table(e.GetTable())
	value, found, err := get(tx, &kvpb.GetRequest{Table: e.GetTable(), Key: e.GetKey()})
	if err != nil {
		return err
	}
	if found == e.GetAbsent() || found && !bytes.Equal(value, e.GetValue()) {
		return &ExpectationError{Table: t, Key: e.GetKey()}
	}
	return nil
}

func reference(tx *concordat.Tx, r *kvpb.Reference) (found bool, err error) {
	t := table(r.GetTable())
	found, err = tx.Reference(t, r.GetKey())
	if err == nil && r.GetRequired() && !found {
		err = &ExpectationError{Table: t, Key: r.GetKey()}
	}
	return found, err
}

func get(tx *concordat.Tx, r *kvpb.GetRequest) ([]byte, bool, error) {
	t := table(r.GetTable())
	if err := check(t); err != nil {
		return nil, false, err
	}
	return tx.Get(t, r.GetKey())
}

func (k *kv) view(ctx context.Context, f *kvpb.Freshness, fn func(*concordat.Tx) error) error {
	options, err := freshness(f)
	if err != nil {
		return err
	}
	n, err := k.server.current()
	if err != nil {
		return err
	}
	return n.View(ctx, fn, options...)
}

// update runs a transaction on the terms of its request, and returns its GTID
// as text.
func (k *kv) update(ctx context.Context, t terms, fn func(*concordat.Tx) error, opts ...concordat.TxOption) (string, error) {
	own, err := optionsOf(t)
	if err != nil {
		return "", err
	}
	n, err := k.server.current()
	if err != nil {
		return "", err
	}
	id, err := n.Update(ctx, fn, append(own, opts...)...)
	if err != nil {
		if id, err = repeated(ctx, n, t, err); err != nil {
			return "", err
		}
	}
	return gtidText(id), nil
}

func table(t *kvpb.Table) concordat.Table {
	return concordat.Table{Schema: t.GetSchema(), Name: t.GetName()}
}

// check is for reads. Writes are checked by the transaction.
func check(t concordat.Table) error {
	if err := t.Check(); err != nil {
		return fmt.Errorf("%w: %w", concordat.ErrInvalid, err)
	}
	return nil
}

// bound is a bound of a scan as package concordat has it.
func bound(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
