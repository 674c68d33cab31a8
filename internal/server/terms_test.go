package server

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

const someID = "00000000-0000-4000-8000-0000000000aa"

func addOp(key string, n int64) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Add{Add: &kvpb.AddRequest{Table: accountsProto, Key: []byte(key), Delta: n}}}
}

func referenceOp(key string, required bool) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Reference{Reference: &kvpb.Reference{Table: accountsProto, Key: []byte(key), Required: required}}}
}

func counter(t *testing.T, c *Client, key string) int64 {
	t.Helper()
	r, err := c.Get(testContext(t), &kvpb.GetRequest{Table: accountsProto, Key: []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	n, ok := concordat.DecodeCounter(r.GetValue())
	if !ok {
		t.Fatalf("%s holds %q", key, r.GetValue())
	}
	return n
}

// Nothing that is added is lost, by whichever of the two ways.
func TestAdd(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	const clients, each = 8, 10
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for range each {
				var err error
				if i%2 == 0 {
					_, err = c.Add(ctx, &kvpb.AddRequest{Table: accountsProto, Key: []byte("n"), Delta: 3})
				} else {
					_, err = c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{addOp("n", -1)}})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if got := counter(t, c, "n"); got != clients*each {
		t.Errorf("the counter stands at %d, want %d", got, clients*each)
	}
	if c := n.Status().Counters; c.Conflicts != 0 {
		t.Errorf("%d of those that add have conflicted", c.Conflicts)
	}
	put(t, c, "text", "no counter")
	if _, err := c.Add(ctx, &kvpb.AddRequest{Table: accountsProto, Key: []byte("text"), Delta: 1}); !errors.Is(err, concordat.ErrInvalid) {
		t.Errorf("added to a text: %v", err)
	}
}

func TestReference(t *testing.T) {
	ctx := testContext(t)
	_, c := start(t, openNode(t), Config{})
	put(t, c, "parent", "")
	r, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{
		referenceOp("parent", true), referenceOp("none", false), putOp("child", ""), referenceOp("child", true),
	}})
	if err != nil || r.GetGtid() == "" {
		t.Fatalf("%v, %v", r, err)
	}
	for i, want := range []bool{true, false, false, true} {
		if got := r.GetResults()[i].GetFound(); got != want {
			t.Errorf("result %d: found %v", i, got)
		}
	}
	if r, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{referenceOp("parent", true)}}); err != nil || r.GetGtid() != "" {
		t.Errorf("one that only refers: %v, %v", r, err)
	}
	_, err = c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{putOp("orphan", ""), referenceOp("none", true)}})
	if e, ok := errors.AsType[*ExpectationError](err); !ok || string(e.Key) != "none" {
		t.Errorf("without a parent: %v", err)
	}
}

// race runs a transaction through the service's own code, with another one
// that commits between what it has read and its commit, once.
func race(t *testing.T, n *concordat.Node, r *kvpb.TxnRequest, other func(tx *concordat.Tx) error) error {
	t.Helper()
	ctx := testContext(t)
	options, err := optionsOf(r)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := n.Begin(ctx, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := runOps(tx, r.GetOps()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Update(ctx, other); err != nil {
		t.Fatal(err)
	}
	_, err = tx.Commit(ctx)
	return err
}

// What an expectation has found is certified in a serializable transaction,
// and in another one if it refers to the key.
func TestExpectationsAreCertified(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	_, c := start(t, n, Config{})
	const snapshot, serializable = kvpb.Isolation_ISOLATION_SNAPSHOT, kvpb.Isolation_ISOLATION_SERIALIZABLE
	for _, test := range []struct {
		name      string
		isolation kvpb.Isolation
		ops       []*kvpb.Op
		conflicts bool
	}{
		{"by default", 0, []*kvpb.Op{expectOp("x", "1"), putOp("y", "")}, false},
		{"snapshot", snapshot, []*kvpb.Op{expectOp("x", "1"), putOp("y", "")}, false},
		{"serializable", serializable, []*kvpb.Op{expectOp("x", "1"), putOp("y", "")}, true},
		{"serializable, of a get", serializable, []*kvpb.Op{getOp("x"), putOp("y", "")}, true},
		{"serializable, of another key", serializable, []*kvpb.Op{expectOp("z", "1"), putOp("y", "")}, false},
		{"snapshot, with a reference", snapshot, []*kvpb.Op{expectOp("x", "1"), referenceOp("x", false), putOp("y", "")}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			put(t, c, "x", "1")
			put(t, c, "z", "1")
			err := race(t, n, &kvpb.TxnRequest{Isolation: test.isolation, Ops: test.ops}, func(tx *concordat.Tx) error {
				return tx.Put(accounts, []byte("x"), []byte("2"))
			})
			if errors.Is(err, concordat.ErrConflict) != test.conflicts || !test.conflicts && err != nil {
				t.Errorf("%v, want a conflict: %v", err, test.conflicts)
			}
		})
	}
}

// A transaction with an id commits once, however often it is sent, and each
// time it is told the same; also where it could not run on what it has itself
// written.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	id := func(i int) string { return someID[:len(someID)-1] + string(rune('0'+i)) }
	calls := map[string]func() (string, error){
		"put": func() (string, error) {
			r, err := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Key: []byte("p"), TransactionId: id(0)})
			return r.GetGtid(), err
		},
		"delete": func() (string, error) {
			r, err := c.Delete(ctx, &kvpb.DeleteRequest{Table: accountsProto, Key: []byte("d"), TransactionId: id(1)})
			return r.GetGtid(), err
		},
		"add": func() (string, error) {
			r, err := c.Add(ctx, &kvpb.AddRequest{Table: accountsProto, Key: []byte("a"), Delta: 5, TransactionId: id(2)})
			return r.GetGtid(), err
		},
	}
	for i, txn := range []*kvpb.TxnRequest{
		{Ops: []*kvpb.Op{addOp("b", 7)}},
		{Ops: []*kvpb.Op{absentOp("e"), putOp("e", "")}},
		{Ops: []*kvpb.Op{addOp("f", 1), putOp("f", "text")}}, // then it holds no counter
		{Ops: []*kvpb.Op{putOp("g", "")}, Gtid: testGroupName + ":1000"},
		{Ops: []*kvpb.Op{absentOp("h"), putOp("h", "")}, Isolation: kvpb.Isolation_ISOLATION_SERIALIZABLE},
	} {
		txn.TransactionId = id(3 + i)
		calls[txn.String()] = func() (string, error) {
			r, err := c.Txn(ctx, txn)
			return r.GetGtid(), err
		}
	}
	for name, call := range calls {
		first, err := call()
		if err != nil || first == "" {
			t.Fatalf("%s: %q, %v", name, first, err)
		}
		put(t, c, "between", "")
		for range 2 {
			if again, err := call(); err != nil || again != first {
				t.Errorf("%s: %q, %v, and the first time %q", name, again, err, first)
			}
		}
	}
	if a, b := counter(t, c, "a"), counter(t, c, "b"); a != 5 || b != 7 {
		t.Errorf("added %d and %d, want 5 and 7", a, b)
	}
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil || s.GetCounters().GetDuplicates() == 0 || s.GetCounters().GetDuplicates() != n.Status().Counters.Duplicates {
		t.Errorf("counters %v, %v", s.GetCounters(), err)
	}
}

// What fails under an id that has not committed fails as it would without.
func TestSentOnce(t *testing.T) {
	_, c := start(t, openNode(t), Config{})
	_, err := c.Txn(testContext(t), &kvpb.TxnRequest{TransactionId: someID, Ops: []*kvpb.Op{expectOp("none", ""), putOp("k", "")}})
	if _, ok := errors.AsType[*ExpectationError](err); !ok {
		t.Error(err)
	}
}

const testGroupName = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"

func TestWishedGTIDs(t *testing.T) {
	ctx := testContext(t)
	_, c := start(t, openNode(t), Config{})
	for _, step := range []struct{ wish, want string }{
		{testGroupName + ":5", testGroupName + ":5"},
		{someID + ":tag:9", someID + ":tag:9"},
		{"AUTOMATIC:blue", testGroupName + ":blue:1"},
		{"automatic:Blue", testGroupName + ":blue:2"},
		{"", testGroupName + ":1"},
	} {
		r, err := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Key: []byte("k"), Gtid: step.wish})
		if err != nil || r.GetGtid() != step.want {
			t.Errorf("wish %q: %v, %v, want %s", step.wish, r, err, step.want)
		}
	}
	r, err := c.Txn(ctx, &kvpb.TxnRequest{Gtid: testGroupName + ":7"})
	if err != nil || r.GetGtid() != testGroupName+":7" {
		t.Errorf("one that writes nothing: %v, %v", r, err)
	}
	for _, wish := range []string{testGroupName + ":5", someID + ":tag:9"} {
		_, err := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Key: []byte("k"), Gtid: wish})
		if !errors.Is(err, concordat.ErrGTIDTaken) || concordat.Retryable(err) || !strings.Contains(err.Error(), wish) {
			t.Errorf("%s again: %v", wish, err)
		}
	}
}

// Terms that cannot be are refused, and nothing happens.
func TestRefusedTerms(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	for _, test := range []struct {
		request *kvpb.PutRequest
		text    string
	}{
		{&kvpb.PutRequest{Isolation: 3}, "isolation 3"},
		{&kvpb.PutRequest{Isolation: -1}, "isolation -1"},
		{&kvpb.PutRequest{TransactionId: "somebody"}, `"somebody" is no UUID`},
		{&kvpb.PutRequest{TransactionId: someID + "0"}, "is no UUID"},
		{&kvpb.PutRequest{TransactionId: gtid.UUID{}.String()}, "zero UUID"},
		{&kvpb.PutRequest{Gtid: "next"}, `gtid "next"`},
		{&kvpb.PutRequest{Gtid: someID}, "AUTOMATIC:tag"},
		{&kvpb.PutRequest{Gtid: someID + ":0"}, "gtid"},
		{&kvpb.PutRequest{Gtid: someID + ":1-2"}, "gtid"},
		{&kvpb.PutRequest{Gtid: "AUTOMATIC:"}, "no tag"},
		{&kvpb.PutRequest{Gtid: "AUTOMATIC:9"}, "AUTOMATIC:9"},
		{&kvpb.PutRequest{Gtid: "AUTOMATIC"}, "AUTOMATIC:tag"},
		{&kvpb.PutRequest{FlowTag: strings.Repeat("x", concordat.MaxTag+1)}, "at most 64 bytes"},
		{&kvpb.PutRequest{FlowTag: "a\nb"}, "cannot be printed"},
		{&kvpb.PutRequest{FlowTag: "bulk", FlowWeight: 1001}, "weight 1001"},
		{&kvpb.PutRequest{FlowTag: "bulk", FlowWeight: 1<<32 - 1}, "weight"},
		{&kvpb.PutRequest{FlowWeight: 2}, "without a tag"},
	} {
		r := test.request
		r.Table, r.Key = accountsProto, []byte("k")
		_, putErr := c.Put(ctx, r)
		_, deleteErr := c.Delete(ctx, &kvpb.DeleteRequest{Table: r.GetTable(), Key: r.GetKey(), Isolation: r.GetIsolation(), TransactionId: r.GetTransactionId(), Gtid: r.GetGtid(), FlowTag: r.GetFlowTag(), FlowWeight: r.GetFlowWeight()})
		_, addErr := c.Add(ctx, &kvpb.AddRequest{Table: r.GetTable(), Key: r.GetKey(), Isolation: r.GetIsolation(), TransactionId: r.GetTransactionId(), Gtid: r.GetGtid(), FlowTag: r.GetFlowTag(), FlowWeight: r.GetFlowWeight()})
		_, txnErr := c.Txn(ctx, &kvpb.TxnRequest{Isolation: r.GetIsolation(), TransactionId: r.GetTransactionId(), Gtid: r.GetGtid(), FlowTag: r.GetFlowTag(), FlowWeight: r.GetFlowWeight()})
		for _, err := range []error{putErr, deleteErr, addErr, txnErr} {
			if !errors.Is(err, concordat.ErrInvalid) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v: %v, want %q", r, err, test.text)
			}
		}
		op := proto.CloneOf(r) // as an operation it has no terms, right or wrong
		_, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{{Op: &kvpb.Op_Put{Put: op}}}})
		if !errors.Is(err, concordat.ErrInvalid) || !strings.Contains(err.Error(), "operation 0") {
			t.Errorf("an operation with terms: %v", err)
		}
	}
	if got := n.Status().Executed; !got.IsEmpty() {
		t.Errorf("refused requests have committed %v", got)
	}
}

// Who lost the connection under a write is told the id to ask for, or to send
// it again under; and nothing of the kind where nothing was written.
func TestUnansweredRequests(t *testing.T) {
	for _, c := range []struct {
		request any
		unknown bool
		id      string
	}{
		{&kvpb.PutRequest{TransactionId: someID}, true, someID},
		{&kvpb.DeleteRequest{TransactionId: someID}, true, someID},
		{&kvpb.AddRequest{}, true, gtid.UUID{}.String()},
		{&kvpb.TxnRequest{TransactionId: someID, Ops: []*kvpb.Op{addOp("k", 1)}}, true, someID},
		{&kvpb.TxnRequest{TransactionId: someID, Gtid: "AUTOMATIC:t"}, true, someID},
		{&kvpb.TxnRequest{TransactionId: someID, Ops: []*kvpb.Op{getOp("k"), referenceOp("k", true)}}, false, ""},
		{&adminpb.SetSettingsRequest{}, true, ""},
		{&kvpb.GetRequest{}, false, ""},
		{&kvpb.OutcomeRequest{TransactionId: someID}, false, ""},
		{&adminpb.GetSettingsRequest{}, false, ""},
	} {
		lost := unanswered(c.request)
		if (lost != nil) != c.unknown {
			t.Errorf("%T %v: unknown %v, want %v", c.request, c.request, lost != nil, c.unknown)
			continue
		}
		if lost == nil {
			continue
		}
		err := lost(errors.New("the cable"))
		u, ok := errors.AsType[*concordat.OutcomeUnknownError](err)
		if !errors.Is(err, concordat.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "the cable") || ok != (c.id != "") || ok && u.ID.String() != c.id {
			t.Errorf("%T %v: %v", c.request, c.request, err)
		}
	}
}
