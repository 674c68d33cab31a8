package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testGroup       = gtid.UUID{0: 0x9a, 15: 1}
	testIncarnation = gtid.UUID{0: 0x1c, 15: 1}
)

// patience bounds a wait in a test; only a broken transport reaches it.
const patience = 20 * time.Second

// recorder is a Handler, and a slog.Handler, that remembers what it was told.
type recorder struct {
	join  func(*peerpb.JoinRequest) (*peerpb.JoinResponse, error)
	clone func(ctx context.Context, w io.Writer) error

	alter   func(context.Context, *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error)
	survey  func(asker *peerpb.Identity) ([]byte, error)
	order   func(asker *peerpb.Identity, order []byte) ([]byte, error)
	entries func(ctx context.Context, req *peerpb.EntriesRequest, send func(*raftpb.Entry) error) error
	lineage func() (Ancestry, error)

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changes
	gate    chan struct{} // while not nil, Receive takes nothing before it is closed
	got     map[uint64][]gcs.Message
	ups     map[uint64]int
	downs   map[uint64][]error
	log     []string
}

func newRecorder() *recorder {
	return &recorder{
		changed: make(chan struct{}),
		got:     make(map[uint64][]gcs.Message),
		ups:     make(map[uint64]int),
		downs:   make(map[uint64][]error),
	}
}

func (r *recorder) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits for a condition on what is recorded.
func (r *recorder) until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		r.mu.Lock()
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// messages returns what came from the peer so far.
func (r *recorder) messages(id uint64) []gcs.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[id]
}

// wasUp reports whether there ever was a stream to the peer.
func (r *recorder) wasUp(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ups[id] > 0
}

func (r *recorder) Receive(ctx context.Context, from uint64, msgs []gcs.Message) {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return
		}
	}
	r.change(func() { r.got[from] = append(r.got[from], msgs...) })
}

func (r *recorder) Join(_ context.Context, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	if r.join == nil {
		return nil, errors.New("nobody can join here")
	}
	return r.join(req)
}

func (r *recorder) Clone(ctx context.Context, _ *peerpb.CloneRequest, w io.Writer) error {
	if r.clone == nil {
		return errors.New("nothing to clone here")
	}
	return r.clone(ctx, w)
}

func (r *recorder) Change(ctx context.Context, req *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
	if r.alter == nil {
		return nil, errors.New("nothing changes here")
	}
	return r.alter(ctx, req)
}

func (r *recorder) Survey(_ context.Context, asker *peerpb.Identity) ([]byte, error) {
	if r.survey == nil {
		return nil, errors.New("nothing to see here")
	}
	return r.survey(asker)
}

func (r *recorder) Order(_ context.Context, asker *peerpb.Identity, order []byte) ([]byte, error) {
	if r.order == nil {
		return nil, errors.New("nobody obeys here")
	}
	return r.order(asker, order)
}

func (r *recorder) Entries(ctx context.Context, req *peerpb.EntriesRequest, send func(*raftpb.Entry) error) error {
	if r.entries == nil {
		return errors.New("no log here")
	}
	return r.entries(ctx, req, send)
}

func (r *recorder) Lineage(context.Context, *peerpb.Identity) (Ancestry, error) {
	if r.lineage == nil {
		return Ancestry{}, errors.New("no history here")
	}
	return r.lineage()
}

func (r *recorder) PeerUp(id uint64) { r.change(func() { r.ups[id]++ }) }

func (r *recorder) PeerDown(id uint64, reason error) {
	r.change(func() { r.downs[id] = append(r.downs[id], reason) })
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	line := record.Message
	record.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	r.change(func() { r.log = append(r.log, line) })
	return nil
}

// logged waits for a line of the log that holds all of words.
func (r *recorder) logged(t testing.TB, words ...string) {
	t.Helper()
	r.until(t, fmt.Sprintf("a line of the log with %q", words), func() bool {
		return slices.ContainsFunc(r.log, func(line string) bool {
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
		})
	})
}

// untilUp waits for the n-th stream to the peer.
func (r *recorder) untilUp(t testing.TB, id uint64, n int) {
	t.Helper()
	r.until(t, fmt.Sprintf("stream %d to peer %d", n, id), func() bool { return r.ups[id] >= n })
}

// refused waits until the peer has refused this member for that reason.
func (r *recorder) refused(t testing.TB, id uint64, want peerpb.RefusalReason) {
	t.Helper()
	r.until(t, "refusal "+want.String(), func() bool {
		return slices.ContainsFunc(r.downs[id], func(err error) bool {
			e, ok := errors.AsType[*RefusedError](err)
			return ok && e.Reason == want && e.Text != ""
		})
	})
}

// node is a transport under test.
type node struct {
	*Transport
	*recorder
	id      uint64
	address string
}

// configure changes the configuration of a node before it starts.
type configure func(*Config)

// start runs a transport with the given raft id on a free port.
func start(t testing.TB, id uint64, configures ...configure) node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, id, l, configures...)
}

func startOn(t testing.TB, id uint64, l net.Listener, configures ...configure) node {
	t.Helper()
	r := newRecorder()
	cfg := Config{
		Identity: gcs.Identity{
			Group: testGroup, Incarnation: testIncarnation,
			Member: gtid.UUID{0: 0x3e, 15: byte(id)}, RaftID: id, Session: 1,
		},
		Address:    l.Addr().String(),
		Listener:   l,
		Handler:    r,
		Logger:     slog.New(r),
		MinBackoff: time.Millisecond,
		MaxBackoff: 20 * time.Millisecond,
	}
	for _, c := range configures {
		c(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return node{Transport: tr, recorder: r, id: id, address: cfg.Address}
}

// dials makes n know the peers.
func (n node) dials(peers ...node) {
	addresses := make(map[uint64]string)
	for _, p := range peers {
		addresses[p.id] = p.address
	}
	n.SetPeers(addresses)
}

// setIncarnation gives the node an identity that differs in that only.
func (n node) setIncarnation(incarnation gtid.UUID) {
	id := n.identity().Identity
	id.Incarnation = incarnation
	if err := n.SetIdentity(id); err != nil {
		panic(err)
	}
}

// frame is a message that tells its number.
func frame(i, size int) *gcs.Message {
	b := make([]byte, max(size, 8))
	for j := range 8 {
		b[j] = byte(i >> (8 * j))
	}
	return &gcs.Message{Kind: gcs.MessageFrame, Frame: b}
}

func frameNumber(m gcs.Message) (n int) {
	for j := range 8 {
		n |= int(m.Frame[j]) << (8 * j)
	}
	return n
}

// checkFrames fails unless msgs are the frames first, first+1, ....
func checkFrames(t testing.TB, msgs []gcs.Message, first int) {
	t.Helper()
	for i, m := range msgs {
		if m.Kind != gcs.MessageFrame || len(m.Frame) < 8 || frameNumber(m) != first+i {
			t.Fatalf("message %d is %v", first+i, m)
		}
	}
}
