package client

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// script is a member whose answers the test makes up.
type script struct {
	kvpb.UnimplementedKVServer
	address string

	mu      sync.Mutex
	pushed  *kvpb.WatchResponse
	news    chan struct{}
	txns    []*kvpb.TxnRequest // that have come
	txn     func(*kvpb.TxnRequest) (*kvpb.TxnResponse, error)
	outcome func() (*kvpb.OutcomeResponse, error)
	asked   int
}

func (s *script) Watch(_ *kvpb.WatchRequest, stream grpc.ServerStreamingServer[kvpb.WatchResponse]) error {
	for {
		s.mu.Lock()
		r, news := s.pushed, s.news
		s.mu.Unlock()
		if err := stream.Send(r); err != nil {
			return err
		}
		select {
		case <-news:
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-time.After(time.Second):
		}
	}
}

func (s *script) Txn(_ context.Context, r *kvpb.TxnRequest) (*kvpb.TxnResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txns = append(s.txns, r)
	return s.txn(r)
}

func (s *script) Outcome(context.Context, *kvpb.OutcomeRequest) (*kvpb.OutcomeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.outcome()
}

func (s *script) sent() []*kvpb.TxnRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.txns)
}

// cast is two members that play a group, and a client of theirs.
type cast struct {
	members [2]*script
	client  *Client
}

func newCast(t *testing.T) *cast {
	c := &cast{}
	for i := range c.members {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &script{address: l.Addr().String(), news: make(chan struct{})}
		c.members[i] = s
		server := grpc.NewServer()
		kvpb.RegisterKVServer(server, s)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		t.Cleanup(func() {
			server.Stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
		s.txn = func(*kvpb.TxnRequest) (*kvpb.TxnResponse, error) { return nil, errors.New("nobody expects it here") }
		s.outcome = func() (*kvpb.OutcomeResponse, error) { return nil, status.Error(codes.Unavailable, "not now") }
	}
	c.play(1, 20, 0)
	var err error
	c.client, err = Open(t.Context(), Config{Addresses: []string{c.members[0].address}, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.client.Close() })
	return c
}

// play has the members tell of an epoch, at a log index, and who writes in it.
func (c *cast) play(epoch, index uint64, primary int) {
	for self, s := range c.members {
		r := &kvpb.WatchResponse{
			Group: aGroup.String(), Incarnation: oneLine.String(), Self: member(byte(self + 1)).String(),
			Epoch: epoch, EpochIndex: epoch * 10, Index: index, View: 1, Mode: kvpb.Mode_MODE_SINGLE_PRIMARY,
			Primary: member(byte(primary + 1)).String(), Quorum: true, Writable: self == primary,
		}
		for i, m := range c.members {
			r.Nodes = append(r.Nodes, &kvpb.Node{Uuid: member(byte(i + 1)).String(), ClientAddress: m.address, State: online, Writes: i == primary})
		}
		s.mu.Lock()
		s.pushed = r
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
	}
}

// remember has both members tell the same of every transaction.
func (c *cast) remember(o *kvpb.OutcomeResponse) {
	o.Incarnation = oneLine.String()
	for _, s := range c.members {
		s.mu.Lock()
		s.outcome = func() (*kvpb.OutcomeResponse, error) { return o, nil }
		s.mu.Unlock()
	}
}

// lose has a member answer nothing to so many transactions, and then commit.
func (c *cast) lose(member, times int) {
	s := c.members[member]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txn = func(*kvpb.TxnRequest) (*kvpb.TxnResponse, error) {
		if len(s.txns) <= times {
			return nil, status.Error(codes.Unavailable, "the connection broke")
		}
		return &kvpb.TxnResponse{Gtid: aMember + ":5"}, nil
	}
}

func unknownUpTo(from, until uint64) *kvpb.OutcomeResponse {
	return &kvpb.OutcomeResponse{State: kvpb.OutcomeResponse_STATE_UNKNOWN, From: from, Until: until}
}

var (
	blindOps   = []Op{OpPut([]byte("k"), nil), OpAdd([]byte("n"), 1)}
	readingOps = []Op{OpGet([]byte("k")), OpPut([]byte("k"), nil)}
)

func (c *cast) asked() (times int) {
	for _, s := range c.members {
		s.mu.Lock()
		times += s.asked
		s.mu.Unlock()
	}
	return times
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); !cond(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// What depends on nothing is sent again under its id, once the group has been asked
// for it.
func TestBlindIsSentAgain(t *testing.T) {
	c := newCast(t)
	c.lose(0, 2)
	c.remember(unknownUpTo(15, 30))
	r, err := c.client.Txn(t.Context(), blindOps)
	sent := c.members[0].sent()
	if err != nil || r.GTID.Number != 5 || len(sent) != 3 || c.asked() != 2 {
		t.Fatalf("%+v, %v; sent %d times, asked %d times", r, err, len(sent), c.asked())
	}
	for _, s := range sent {
		if s.GetTransactionId() != r.ID.String() || s.GetFreshness().GetEpoch() != 1 {
			t.Errorf("sent as %v", s)
		}
	}
}

// Where the ids that the group remembers begin behind the transaction, nothing that
// is sent again is safe.
func TestForgottenIsUnknown(t *testing.T) {
	for _, ops := range [][]Op{blindOps, readingOps} {
		c := newCast(t)
		c.lose(0, 1)
		c.remember(unknownUpTo(21, 30))
		_, err := c.client.Txn(t.Context(), ops)
		if e, ok := errors.AsType[*OutcomeUnknownError](err); !ok || e.ID.String() != c.members[0].sent()[0].GetTransactionId() || len(c.members[0].sent()) != 1 {
			t.Errorf("%v, sent %d times", err, len(c.members[0].sent()))
		}
	}
}

// What has read something is not sent again before it is proved that it never
// happened.
func TestReadingWaitsForProof(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	c.lose(0, 1)
	c.lose(1, 0)
	c.remember(unknownUpTo(15, 30))
	done := make(chan error, 1)
	go func() {
		r, err := c.client.Txn(t.Context(), readingOps)
		if err == nil && r.Member != member(2) {
			err = errors.New("not where the next primary is")
		}
		done <- err
	}()
	until(t, "it is asked for again and again", func() bool { return c.asked() > 3 })
	if n := len(c.members[0].sent()) + len(c.members[1].sent()); n != 1 {
		t.Errorf("sent %d times", n)
	}
	c.play(4, 45, 1) // which begins at 40, and the log is known up to 30
	until(t, "the next epoch is known", func() bool { return c.client.View().Epoch == 4 })
	asked := c.asked()
	until(t, "it is asked for again and again", func() bool { return c.asked() > asked+3 })
	if n := len(c.members[1].sent()); n != 0 {
		t.Errorf("sent again %d times without a proof", n)
	}
	c.remember(unknownUpTo(15, 40))
	if err := <-done; err != nil {
		t.Error(err)
	}
	if sent := c.members[1].sent(); len(sent) != 1 || sent[0].GetFreshness().GetEpoch() != 4 || sent[0].GetTransactionId() != c.members[0].sent()[0].GetTransactionId() {
		t.Errorf("then sent as %v", sent)
	}
}

// A transaction of which the group says that it has committed is not sent again.
func TestCommittedIsFoundOut(t *testing.T) {
	c := newCast(t)
	c.lose(0, 1)
	c.remember(&kvpb.OutcomeResponse{State: kvpb.OutcomeResponse_STATE_COMMITTED, Gtid: aMember + ":9", Index: 25})
	r, err := c.client.Txn(t.Context(), readingOps)
	if err != nil || r.GTID.Number != 9 || r.Values != nil || len(c.members[0].sent()) != 1 {
		t.Errorf("%+v, %v, sent %d times", r, err, len(c.members[0].sent()))
	}
}

// One attempt is in doubt; that another one was refused does not settle it.
func TestRefusalIsNoProof(t *testing.T) {
	t.Parallel()
	for _, code := range []kvpb.ErrorInfo_Code{kvpb.ErrorInfo_CODE_TOO_LARGE, kvpb.ErrorInfo_CODE_READ_ONLY, kvpb.ErrorInfo_CODE_CONFLICT} {
		c := newCast(t)
		s := c.members[0]
		s.mu.Lock()
		s.txn = func(*kvpb.TxnRequest) (*kvpb.TxnResponse, error) {
			if len(s.txns) == 1 {
				return nil, status.Error(codes.Unavailable, "the connection broke")
			}
			return nil, saying(t, &kvpb.ErrorInfo{Code: code, Text: "no"})
		}
		s.mu.Unlock()
		c.remember(unknownUpTo(15, 30))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := c.client.Txn(ctx, blindOps)
		cancel()
		if _, ok := errors.AsType[*OutcomeUnknownError](err); !ok || errors.Is(err, kinds[code].err) {
			t.Errorf("after %v: %v", code, err)
		}
	}
}

// What a member says that nothing came of is tried again, and nobody is asked.
func TestHarmlessIsTriedAgain(t *testing.T) {
	for code, kind := range kinds {
		if kind.fate != elsewhere {
			continue
		}
		c := newCast(t)
		s := c.members[0]
		s.mu.Lock()
		s.txn = func(*kvpb.TxnRequest) (*kvpb.TxnResponse, error) {
			if len(s.txns) < 3 {
				return nil, saying(t, &kvpb.ErrorInfo{Code: code, Text: "not now"})
			}
			return &kvpb.TxnResponse{Gtid: aMember + ":5", Results: []*kvpb.OpResult{{Found: true}}}, nil
		}
		s.mu.Unlock()
		r, err := c.client.Txn(t.Context(), readingOps[:1], WithGTID("AUTOMATIC:tag"))
		if err != nil || len(r.Values) != 1 || c.asked() != 0 || r.GTID != (gtid.GTID{UUID: r.GTID.UUID, Number: 5}) {
			t.Errorf("after %v: %+v, %v, asked %d times", code, r, err, c.asked())
		}
	}
}
