package server

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// dialog is the client's side of an interactive transaction.
type dialog struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[kvpb.TransactRequest, kvpb.TransactResponse]
}

func converse(t testing.TB, c *Client) *dialog {
	t.Helper()
	stream, err := c.Transact(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return &dialog{t, stream}
}

// say sends a request and returns the answer.
func (d *dialog) say(r *kvpb.TransactRequest) (*kvpb.TransactResponse, error) {
	d.t.Helper()
	if err := d.stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
		d.t.Fatal(err)
	}
	return d.stream.Recv()
}

func (d *dialog) must(r *kvpb.TransactRequest) *kvpb.TransactResponse {
	d.t.Helper()
	answer, err := d.say(r)
	if err != nil {
		d.t.Fatal(err)
	}
	return answer
}

func beginStep(b *kvpb.TransactRequest_Begin) *kvpb.TransactRequest {
	return &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Begin_{Begin: b}}
}

func opsStep(ops ...*kvpb.Op) *kvpb.TransactRequest {
	return &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Operations_{Operations: &kvpb.TransactRequest_Operations{Ops: ops}}}
}

func scanStep(r *kvpb.ScanRequest) *kvpb.TransactRequest {
	return &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Scan{Scan: r}}
}

var (
	commitStep   = &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Commit_{Commit: &kvpb.TransactRequest_Commit{}}}
	rollbackStep = &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Rollback_{Rollback: &kvpb.TransactRequest_Rollback{}}}
)

func mustHold(t testing.TB, c *Client, key string, want bool) {
	t.Helper()
	r, err := c.Get(testContext(t), &kvpb.GetRequest{Table: accountsProto, Key: []byte(key)})
	if err != nil || r.GetFound() != want {
		t.Errorf("%s: found %v, %v", key, r.GetFound(), err)
	}
}

func TestTransact(t *testing.T) {
	n := openNode(t, single)
	_, c := start(t, n, Config{})
	put(t, c, "a", "1")
	d := converse(t, c)
	begun := d.must(beginStep(&kvpb.TransactRequest_Begin{TransactionId: someID, Freshness: &kvpb.Freshness{Track: true}})).GetBegun()
	if begun.GetTransactionId() != someID || begun.GetSession() == "" {
		t.Errorf("begun as %v", begun)
	}
	results := d.must(opsStep(getOp("a"), putOp("b", "2"), addOp("n", 3), getOp("b"))).GetResults().GetResults()
	if len(results) != 4 || string(results[0].GetValue()) != "1" || string(results[3].GetValue()) != "2" {
		t.Errorf("results %v", results)
	}
	run := d.must(scanStep(&kvpb.ScanRequest{Table: accountsProto, Limit: 2})).GetRun()
	if !run.GetLast() || len(run.GetPairs()) != 2 || string(run.GetPairs()[1].GetKey()) != "b" {
		t.Errorf("scanned %v", run)
	}
	mustHold(t, c, "b", false)
	committed := d.must(commitStep).GetCommitted()
	g, err := gtid.Parse(committed.GetGtid())
	if err != nil || !n.Status().Executed.Contains(g) {
		t.Errorf("committed as %v, %v", committed, err)
	}
	if _, err := d.stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the commit: %v", err)
	}
	mustHold(t, c, "b", true)
}

// A scan that is longer than one answer has several, of which the last one says so.
func TestTransactScansInRuns(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := start(t, openNode(t, single), Config{})
	var ops []*kvpb.Op
	for i := range scanPairs + 10 {
		ops = append(ops, putOp(fmt.Sprintf("k%05d", i), "v"))
	}
	if _, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: ops}); err != nil {
		t.Fatal(err)
	}
	d := converse(t, c)
	d.must(beginStep(&kvpb.TransactRequest_Begin{ReadOnly: true}))
	run := d.must(scanStep(&kvpb.ScanRequest{Table: accountsProto})).GetRun()
	found := len(run.GetPairs())
	for !run.GetLast() {
		r, err := d.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		run = r.GetRun()
		found += len(run.GetPairs())
	}
	if found != len(ops) {
		t.Errorf("scanned %d pairs, want %d", found, len(ops))
	}
	if d.must(rollbackStep).GetRolledBack() == nil {
		t.Error("the rollback was not answered")
	}
}

// Whatever ends the stream before a commit takes the transaction back.
func TestTransactRollsBack(t *testing.T) {
	n := openNode(t, single)
	_, c := start(t, n, Config{})
	for name, end := range map[string]func(d *dialog){
		"rollback": func(d *dialog) { d.must(rollbackStep) },
		"closed": func(d *dialog) {
			if err := d.stream.CloseSend(); err != nil {
				t.Error(err)
			}
			if _, err := d.stream.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("closed: %v", err)
			}
		},
		"error": func(d *dialog) {
			noTable := &kvpb.Op{Op: &kvpb.Op_Put{Put: &kvpb.PutRequest{Key: []byte("k")}}}
			if _, err := d.say(opsStep(noTable)); !errors.Is(err, concordat.ErrInvalid) {
				t.Errorf("a table that is none: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := converse(t, c)
			d.must(beginStep(&kvpb.TransactRequest_Begin{}))
			d.must(opsStep(putOp(name, "")))
			end(d)
			mustHold(t, c, name, false)
		})
	}
}

func TestTransactRefuses(t *testing.T) {
	t.Parallel()
	_, c := start(t, openNode(t, single), Config{})
	begin, readOnly := beginStep(&kvpb.TransactRequest_Begin{}), beginStep(&kvpb.TransactRequest_Begin{ReadOnly: true})
	fresh := &kvpb.Freshness{Track: true}
	for name, steps := range map[string][]*kvpb.TransactRequest{
		"without a begin":     {opsStep(getOp("a"))},
		"nothing":             {{}},
		"a second begin":      {begin, begin},
		"nothing, begun":      {begin, {}},
		"a write in a reader": {readOnly, opsStep(putOp("a", ""))},
		"a reader of a class": {beginStep(&kvpb.TransactRequest_Begin{ReadOnly: true, FlowTag: "bulk"})},
		"a heavy nobody":      {beginStep(&kvpb.TransactRequest_Begin{FlowWeight: 3})},
		"a reader with an id": {beginStep(&kvpb.TransactRequest_Begin{ReadOnly: true, TransactionId: someID})},
		"no level":            {beginStep(&kvpb.TransactRequest_Begin{Freshness: &kvpb.Freshness{Consistency: 99}})},
		"no session":          {beginStep(&kvpb.TransactRequest_Begin{Freshness: &kvpb.Freshness{Session: "no set"}})},
		"no age":              {beginStep(&kvpb.TransactRequest_Begin{ReadOnly: true, Freshness: &kvpb.Freshness{AtMostNanos: new(int64(-1))}})},
		"a fresh scan":        {begin, scanStep(&kvpb.ScanRequest{Table: accountsProto, Freshness: fresh})},
		"a fresh get": {begin, opsStep(&kvpb.Op{Op: &kvpb.Op_Get{
			Get: &kvpb.GetRequest{Table: accountsProto, Key: []byte("a"), Freshness: fresh},
		}})},
		"a fresh put": {begin, opsStep(&kvpb.Op{Op: &kvpb.Op_Put{
			Put: &kvpb.PutRequest{Table: accountsProto, Key: []byte("a"), Freshness: fresh},
		}})},
	} {
		t.Run(name, func(t *testing.T) {
			d := converse(t, c)
			for _, s := range steps[:len(steps)-1] {
				d.must(s)
			}
			if _, err := d.say(steps[len(steps)-1]); !errors.Is(err, concordat.ErrInvalid) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTransactConflicts(t *testing.T) {
	_, c := start(t, openNode(t, single), Config{})
	d := converse(t, c)
	d.must(beginStep(&kvpb.TransactRequest_Begin{}))
	d.must(opsStep(getOp("a")))
	winner := put(t, c, "a", "1")
	_, err := d.say(opsStep(putOp("a", "2")))
	if err == nil {
		_, err = d.say(commitStep)
	}
	if e, ok := errors.AsType[*concordat.ConflictError](err); !ok || e.Winner.String() != winner {
		t.Errorf("%v, want one with %s", err, winner)
	}
}

// A transaction whose client says nothing any more does not stay for ever.
func TestTransactIdles(t *testing.T) {
	t.Parallel()
	_, c := start(t, openNode(t, single), Config{idle: 50 * time.Millisecond})
	var d *dialog
	for begun := false; !begun; {
		d = converse(t, c)
		_, err := d.say(beginStep(&kvpb.TransactRequest_Begin{}))
		if begun = err == nil; !begun && !errors.Is(err, concordat.ErrSnapshotTooOld) {
			t.Fatal(err) // too late with that is what a busy machine makes of it
		}
	}
	if _, err := d.stream.Recv(); !errors.Is(err, concordat.ErrSnapshotTooOld) {
		t.Errorf("after a pause: %v", err)
	}
}

func TestTransactEndsWithTheServer(t *testing.T) {
	server, c := start(t, openNode(t, single), Config{})
	d := converse(t, c)
	d.must(beginStep(&kvpb.TransactRequest_Begin{}))
	server.Stop(testContext(t))
	if _, err := d.stream.Recv(); !errors.Is(err, concordat.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// A write that was meant for another epoch than those in which the member has had
// the right to write is refused, however it comes.
func TestEpochOfAWrite(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t, multi)
	_, c := start(t, n, Config{})
	if _, err := n.SwitchToSinglePrimary(ctx, n.Status().Member); err != nil {
		t.Fatal(err)
	}
	now := n.Status().Epoch
	try := map[string]func(epoch uint64) error{
		"put": func(epoch uint64) error {
			_, err := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Key: []byte("k"), Freshness: &kvpb.Freshness{Epoch: epoch}})
			return err
		},
		"txn": func(epoch uint64) error {
			_, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{putOp("k", "")}, Freshness: &kvpb.Freshness{Epoch: epoch}})
			return err
		},
		"transact": func(epoch uint64) error {
			_, err := converse(t, c).say(beginStep(&kvpb.TransactRequest_Begin{Freshness: &kvpb.Freshness{Epoch: epoch}}))
			return err
		},
	}
	for name, send := range try {
		// The member has had the right since epoch 1, and nothing has taken it.
		for epoch := range now + 1 {
			if err := send(epoch); err != nil {
				t.Errorf("%s in epoch %d of %d: %v", name, epoch, now, err)
			}
		}
		e, ok := errors.AsType[*concordat.ReadOnlyError](send(now + 1))
		if !ok || e.Epoch != now {
			t.Errorf("%s for an epoch that is not known yet: %v", name, e)
		}
	}
}

// What an answer tells of what it saw keeps others from seeing less.
func TestSessionsTravel(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t, single)
	_, c := start(t, n, Config{})
	put(t, c, "a", "1")
	track := &kvpb.Freshness{Track: true}
	get, err := c.Get(ctx, &kvpb.GetRequest{Table: accountsProto, Key: []byte("a"), Freshness: track})
	if err != nil || get.GetSession() != n.Status().Executed.String() {
		t.Errorf("%v, %v", get, err)
	}
	txn, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{getOp("a")}, Freshness: track})
	if err != nil || txn.GetSession() != get.GetSession() {
		t.Errorf("%v, %v", txn, err)
	}
	scan, err := c.Scan(ctx, &kvpb.ScanRequest{Table: accountsProto, From: []byte("z"), Freshness: track})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := scan.Recv(); err != nil || r.GetSession() != get.GetSession() {
		t.Errorf("a scan of nothing: %v, %v", r, err)
	}
	g, err := gtid.ParseSet(get.GetSession())
	if err != nil {
		t.Fatal(err)
	}
	ahead := gtid.Set{}
	for i := range g.Intervals() {
		ahead = ahead.AddInterval(i.UUID, i.Tag, i.First, i.Last+1)
	}
	short, cancel := contextFor(t, 2500*time.Millisecond) // of which a fifth is for the answer to arrive
	defer cancel()
	_, err = c.Get(short, &kvpb.GetRequest{Table: accountsProto, Key: []byte("a"), Freshness: &kvpb.Freshness{Session: ahead.String()}})
	if e, ok := errors.AsType[*concordat.WaitError](err); !ok || e.Step != concordat.WaitSession || e.Session.Count() != 1 {
		t.Errorf("a session that is ahead: %v", err)
	}
	if _, err := c.Put(ctx, &kvpb.PutRequest{
		Table: accountsProto, Key: []byte("a"), Freshness: &kvpb.Freshness{Session: g.String(), Consistency: kvpb.Consistency_CONSISTENCY_BEFORE_AND_AFTER},
	}); err != nil {
		t.Errorf("a session that is visible: %v", err)
	}
}
