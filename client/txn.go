package client

import (
	"context"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// opKind is what an operation does.
type opKind byte

const (
	opGet opKind = 1 + iota
	opPut
	opDelete
	opAdd
	opExpect
	opReference
)

// Op is one operation of a transaction that is sent whole. The zero value is none.
type Op struct {
	kind       opKind
	table      Table // zero: the call's
	key, value []byte
	delta      int64
	flag       bool // absent, required
}

// OpGet reads a key. It sees what the operations before it have written.
func OpGet(key []byte) Op { return Op{kind: opGet, key: key} }

// OpPut sets a key.
func OpPut(key, value []byte) Op { return Op{kind: opPut, key: key, value: value} }

// OpDelete removes a key.
func OpDelete(key []byte) Op { return Op{kind: opDelete, key: key} }

// OpAdd adds to the counter under a key.
func OpAdd(key []byte, delta int64) Op { return Op{kind: opAdd, key: key, delta: delta} }

// OpExpect has the transaction fail with a *ConflictError unless the key has this
// value. That is sure to hold until the commit if the transaction is [Serializable],
// or writes or refers to the key.
func OpExpect(key, value []byte) Op { return Op{kind: opExpect, key: key, value: value} }

// OpExpectAbsent has the transaction fail with a *ConflictError if there is such a
// key.
func OpExpectAbsent(key []byte) Op { return Op{kind: opExpect, key: key, flag: true} }

// OpReference makes sure that nobody else writes a key before the transaction
// commits, and with required that there is one.
func OpReference(key []byte, required bool) Op {
	return Op{kind: opReference, key: key, flag: required}
}

// On returns the operation for another table than the call's.
func (op Op) On(t Table) Op {
	op.table = t
	return op
}

// Value is what an operation has brought: a get the value, and a reference whether
// there is the key. It is empty for others.
type Value struct {
	Value []byte
	Found bool
}

// Result is what a transaction has brought.
type Result struct {
	Commit
	// Values are one per operation, in order. They are nil where the answer was lost
	// and the group has told that the transaction has committed.
	Values []Value
}

// proto is the operation as it is sent.
func (op Op) proto(o *options) *kvpb.Op {
	t := o.on(op.table)
	switch op.kind {
	case opGet:
		return &kvpb.Op{Op: &kvpb.Op_Get{Get: &kvpb.GetRequest{Table: t, Key: op.key}}}
	case opPut:
		return &kvpb.Op{Op: &kvpb.Op_Put{Put: &kvpb.PutRequest{Table: t, Key: op.key, Value: op.value}}}
	case opDelete:
		return &kvpb.Op{Op: &kvpb.Op_Delete{Delete: &kvpb.DeleteRequest{Table: t, Key: op.key}}}
	case opAdd:
		return &kvpb.Op{Op: &kvpb.Op_Add{Add: &kvpb.AddRequest{Table: t, Key: op.key, Delta: op.delta}}}
	case opExpect:
		return &kvpb.Op{Op: &kvpb.Op_Expect{Expect: &kvpb.Expectation{Table: t, Key: op.key, Value: op.value, Absent: op.flag}}}
	case opReference:
		return &kvpb.Op{Op: &kvpb.Op_Reference{Reference: &kvpb.Reference{Table: t, Key: op.key, Required: op.flag}}}
	}
	return &kvpb.Op{} // which the member refuses
}

// Txn runs operations, in order, as one transaction. The member that takes it runs
// it again a few times when it conflicts; then the error is a *ConflictError. One
// that only reads goes where [From] says.
func (c *Client) Txn(ctx context.Context, ops []Op, opts ...Option) (Result, error) {
	o, err := c.options(opts)
	if err != nil {
		return Result{}, err
	}
	request := &kvpb.TxnRequest{Isolation: o.isolation(), Gtid: o.wish, FlowTag: o.tag, FlowWeight: uint32(o.weight)}
	writes, blind := o.wish != "", true
	for _, op := range ops {
		request.Ops = append(request.Ops, op.proto(o))
		switch op.kind {
		case opPut, opDelete, opAdd:
			writes = true
		case opReference: // which only one that can write may have
			writes, blind = true, false
		default:
			blind = false
		}
	}
	var response *kvpb.TxnResponse
	if !writes {
		err = c.read(ctx, o, true, func(ctx context.Context, kv kvpb.KVClient, to grpc.CallOption) (err error) {
			request.Freshness = o.freshness()
			response, err = kv.Txn(ctx, request, to)
			return err
		})
		if err != nil {
			return Result{}, err
		}
		return Result{Values: values(response.GetResults())}, o.session.read(response.GetSession())
	}
	w := &write{c: c, o: o, id: o.transactionID(), blind: blind}
	w.send = func(w *write, call *call) (string, error) {
		request.TransactionId, request.Freshness = w.id.String(), w.o.freshnessOfWrite(call.epoch)
		var err error
		response, err = call.kv.Txn(call.ctx, request, call.option)
		return response.GetGtid(), err
	}
	commit, err := w.run(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := o.session.read(response.GetSession()); err != nil {
		return Result{}, err
	}
	return Result{Commit: commit, Values: values(response.GetResults())}, nil
}

func values(results []*kvpb.OpResult) (out []Value) {
	for _, r := range results {
		out = append(out, Value{r.GetValue(), r.GetFound()})
	}
	return out
}
