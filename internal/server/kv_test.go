package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func TestPutGetDelete(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	id, err := gtid.Parse(put(t, c, "alice", "100"))
	if err != nil || !n.Status().Executed.Contains(id) {
		t.Fatalf("put: %v, %v, executed %v", id, err, n.Status().Executed)
	}
	put(t, c, "bob", "") // an empty value is one
	for _, want := range []struct {
		key, value string
		found      bool
	}{{"alice", "100", true}, {"bob", "", true}, {"carol", "", false}} {
		r, err := c.Get(ctx, &kvpb.GetRequest{Table: accountsProto, Key: []byte(want.key)})
		if err != nil || r.GetFound() != want.found || string(r.GetValue()) != want.value {
			t.Errorf("get %s: %v, %v", want.key, r, err)
		}
	}
	if _, err := c.Delete(ctx, &kvpb.DeleteRequest{Table: accountsProto, Key: []byte("alice")}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Get(ctx, &kvpb.GetRequest{Table: accountsProto, Key: []byte("alice")}); err != nil || r.GetFound() {
		t.Errorf("after delete: %v, %v", r, err)
	}
}

func TestTxn(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := start(t, openNode(t), Config{})
	r, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{
		getOp("a"), putOp("a", "1"), getOp("a"), expectOp("a", "1"), deleteOp("a"), absentOp("a"), putOp("b", "2"),
	}})
	if err != nil || r.GetGtid() == "" {
		t.Fatalf("%v, %v", r, err)
	}
	for i, found := range []bool{false, false, true, false, false, false, false} {
		if got := r.GetResults()[i]; got.GetFound() != found || found && string(got.GetValue()) != "1" {
			t.Errorf("result %d: %v", i, got)
		}
	}
	if r, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{getOp("b")}}); err != nil || r.GetGtid() != "" {
		t.Errorf("one that only reads: %v, %v", r, err)
	}
	for _, ops := range [][]*kvpb.Op{
		{putOp("c", "3"), expectOp("b", "1")},
		{putOp("c", "3"), expectOp("none", "")},
		{putOp("c", "3"), absentOp("b")},
	} {
		_, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: ops})
		e, ok := errors.AsType[*ExpectationError](err)
		if !ok || !errors.Is(err, concordat.ErrConflict) || !concordat.Retryable(err) {
			t.Fatalf("%v: %v", ops, err)
		}
		if want := string(ops[1].GetExpect().GetKey()); e.Table != accounts || string(e.Key) != want {
			t.Errorf("conflict on %s %s, want %s", e.Table, e.Key, want)
		}
	}
	if r, err := c.Get(ctx, &kvpb.GetRequest{Table: accountsProto, Key: []byte("c")}); err != nil || r.GetFound() {
		t.Errorf("a transaction that failed left %v, %v", r, err)
	}
}

// No increment is lost when each is made on the condition of what was read.
func TestExpectationsCount(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := start(t, openNode(t), Config{})
	put(t, c, "n", "0")
	const clients, each = 8, 10
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for done := 0; done < each; {
				r, err := c.Get(ctx, &kvpb.GetRequest{Table: accountsProto, Key: []byte("n")})
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(r.GetValue()))
				_, err = c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{expectOp("n", strconv.Itoa(n)), putOp("n", strconv.Itoa(n+1))}})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, concordat.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	r, err := c.Get(ctx, &kvpb.GetRequest{Table: accountsProto, Key: []byte("n")})
	if err != nil || string(r.GetValue()) != strconv.Itoa(clients*each) {
		t.Errorf("%v, %v", r, err)
	}
}

func collect(ctx context.Context, c *Client, r *kvpb.ScanRequest) (keys []string, messages int, err error) {
	stream, err := c.Scan(ctx, r)
	if err != nil {
		return nil, 0, err
	}
	for {
		run, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return keys, messages, nil
		}
		if err != nil {
			return keys, messages, err
		}
		messages++
		for _, p := range run.GetPairs() {
			keys = append(keys, string(p.GetKey()))
		}
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := start(t, openNode(t), Config{})
	for _, key := range []string{"a", "b", "c", "d"} {
		put(t, c, key, strings.Repeat("v", scanBytes/2))
	}
	for _, test := range []struct {
		name     string
		request  *kvpb.ScanRequest
		want     []string
		messages int
	}{
		{"all", &kvpb.ScanRequest{}, []string{"a", "b", "c", "d"}, 2},
		{"range", &kvpb.ScanRequest{From: []byte("b"), To: []byte("d")}, []string{"b", "c"}, 1},
		{"reverse", &kvpb.ScanRequest{Reverse: true, To: []byte("d")}, []string{"c", "b", "a"}, 2},
		{"limit", &kvpb.ScanRequest{Limit: 3}, []string{"a", "b", "c"}, 2},
		{"limit of a whole message", &kvpb.ScanRequest{Limit: 2, Reverse: true}, []string{"d", "c"}, 1},
		{"nothing", &kvpb.ScanRequest{From: []byte("x")}, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.request.Table = accountsProto
			keys, messages, err := collect(ctx, c, test.request)
			if err != nil || messages != test.messages {
				t.Errorf("%d messages, want %d: %v", messages, test.messages, err)
			}
			if diff := cmp.Diff(test.want, keys); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A client that goes in the middle of a scan leaves nothing behind; that no
// goroutine stays is checked when all tests have ended.
func TestScanCancelled(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	s, c := start(t, n, Config{})
	ctx, cancel := context.WithCancel(testContext(t))
	for i := range 64 { // far more than the windows of a stream take in
		put(t, c, fmt.Sprint(i), strings.Repeat("v", scanBytes))
	}
	stream, err := c.Scan(ctx, &kvpb.ScanRequest{Table: accountsProto})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	for err = nil; err == nil; {
		_, err = stream.Recv()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the scan ended with %v", err)
	}
	s.Stop(testContext(t)) // waits for the scan's handler
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{MaxMessageBytes: 1 << 20})
	long := &kvpb.Table{Schema: strings.Repeat("s", 256), Name: "t"}
	many := make([]*kvpb.Op, maxOps+1)
	for i := range many {
		many[i] = &kvpb.Op{}
	}
	_, _, scanErr := collect(ctx, c, &kvpb.ScanRequest{})
	call := func(_ any, err error) error { return err }
	for _, test := range []struct {
		name string
		err  error
		want error
		text string
	}{
		{"get without table", call(c.Get(ctx, &kvpb.GetRequest{})), concordat.ErrInvalid, "schema is empty"},
		{"put without table", call(c.Put(ctx, &kvpb.PutRequest{Key: []byte("k")})), concordat.ErrInvalid, "schema is empty"},
		{"delete of a long table", call(c.Delete(ctx, &kvpb.DeleteRequest{Table: long})), concordat.ErrInvalid, "256 bytes"},
		{"scan without table", scanErr, concordat.ErrInvalid, "schema is empty"},
		{"key", call(c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Key: make([]byte, 64<<10+1)})), concordat.ErrTooLarge, "65537"},
		{"message", call(c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Value: make([]byte, 2<<20)})), concordat.ErrTooLarge, "1048576"},
		{"operation of no kind", call(c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{putOp("k", "v"), {}}})), concordat.ErrInvalid, "operation 1"},
		{"operations", call(c.Txn(ctx, &kvpb.TxnRequest{Ops: many})), concordat.ErrTooLarge, "65537"},
	} {
		if !errors.Is(test.err, test.want) || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("%s: %v, want %v with %q", test.name, test.err, test.want, test.text)
		}
	}
	if got := n.Status().Executed; !got.IsEmpty() {
		t.Errorf("refused requests have committed %v", got)
	}
}

// What the gets of one transaction bring back is bounded, too.
func TestLargeResults(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := start(t, openNode(t), Config{})
	put(t, c, "k", string(make([]byte, maxResultBytes/4)))
	if r, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{getOp("k"), getOp("k"), getOp("k"), getOp("k")}}); err != nil {
		t.Error(err)
	} else if len(r.GetResults()[3].GetValue()) != maxResultBytes/4 {
		t.Error("values were cut off")
	}
	_, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{getOp("k"), getOp("k"), getOp("k"), getOp("k"), getOp("k")}})
	if !errors.Is(err, concordat.ErrTooLarge) {
		t.Error(err)
	}
}

// rawCodec sends bytes as they are, under the name of protobuf's codec.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "proto" }

var _ encoding.CodecV2 = rawCodec{}

func TestMalformedMessages(t *testing.T) {
	n := openNode(t)
	l := listen(t)
	s := Start(Config{Listener: l})
	t.Cleanup(func() { s.Stop(t.Context()) })
	s.SetNode(n)
	conn := plain(t, l)
	for _, garbage := range [][]byte{{0xff}, bytes.Repeat([]byte{0x0a}, 100), {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}} {
		for _, method := range []string{kvpb.KV_Put_FullMethodName, kvpb.KV_Txn_FullMethodName, "/concordat.kv.v1.KV/Drop"} {
			var answer []byte
			err := conn.Invoke(testContext(t), method, garbage, &answer, grpc.ForceCodecV2(rawCodec{}))
			if code := status.Code(err); code != codes.Internal && code != codes.Unimplemented {
				t.Errorf("%s: %v", method, err)
			}
		}
	}
	put(t, dial(t, l), "alice", "100") // it still serves
}
