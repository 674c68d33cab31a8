package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func clonePattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// donor is a Handler that gives copies, and remembers what was asked for.
type donor struct {
	*recorder
	give func(ctx context.Context, req *peerpb.CloneRequest, w io.Writer) error

	mu    sync.Mutex
	asked []*peerpb.CloneRequest
}

func (d *donor) Clone(ctx context.Context, req *peerpb.CloneRequest, w io.Writer) error {
	d.mu.Lock()
	d.asked = append(d.asked, req)
	d.mu.Unlock()
	return d.give(ctx, req, w)
}

// gives writes what is wanted of want.
func (d *donor) gives(want []byte) {
	d.give = func(_ context.Context, req *peerpb.CloneRequest, w io.Writer) error {
		_, err := w.Write(want[req.GetOffset():])
		return err
	}
}

// startDonor runs a transport with a donor behind it.
func startDonor(t testing.TB, id uint64, configures ...configure) (*donor, node) {
	t.Helper()
	d := &donor{recorder: newRecorder()}
	return d, start(t, id, append(configures, func(c *Config) { c.Handler = d })...)
}

// impatient are options for tests in which attempts fail.
var impatient = CloneOptions{Attempts: 3, MinBackoff: time.Microsecond}

// clone starts to copy in the name of n.
func (n node) clone(t testing.TB, from node, opts CloneOptions) io.ReadCloser {
	t.Helper()
	r := Clone(t.Context(), from.address, &peerpb.CloneRequest{Identity: n.Identity()}, opts)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestClone(t *testing.T) {
	d, a := startDonor(t, 1)
	b := start(t, 2)
	for _, size := range []int{0, 1, cloneChunkBytes, 3*cloneChunkBytes + 17} {
		want := clonePattern(size)
		d.give = func(_ context.Context, _ *peerpb.CloneRequest, w io.Writer) error {
			half := len(want) / 2
			if _, err := w.Write(want[:half]); err != nil {
				return err
			}
			_, err := w.Write(want[half:])
			return err
		}
		got, err := io.ReadAll(b.clone(t, a, CloneOptions{}))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("clone of %d bytes: got %d bytes, %v", size, len(got), err)
		}
	}
}

func TestCloneFails(t *testing.T) {
	d, a := startDonor(t, 1)
	d.give = func(_ context.Context, _ *peerpb.CloneRequest, w io.Writer) error {
		if _, err := w.Write(clonePattern(2 * cloneChunkBytes)); err != nil {
			return err
		}
		return errors.New("the disk is gone")
	}
	got, err := io.ReadAll(start(t, 2).clone(t, a, CloneOptions{}))
	if err == nil || !strings.Contains(err.Error(), "the disk is gone") || !strings.Contains(err.Error(), "broke off at byte 2097152") {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	stranger := start(t, 3, func(c *Config) { c.Identity.Incarnation = gtid.UUID{1} })
	_, err = io.ReadAll(stranger.clone(t, a, CloneOptions{}))
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.Reason != peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION {
		t.Errorf("a stranger's clone gives %v", err)
	}
	if len(d.asked) != 1 {
		t.Errorf("the donor was asked %d times, there was no point in more than one", len(d.asked))
	}
}

// cutting is a listener whose connections break after so many bytes were sent.
type cutting struct {
	net.Listener
	after int64
}

func (l cutting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &cutConn{Conn: conn, left: l.after}, err
}

type cutConn struct {
	net.Conn
	left int64
}

func (c *cutConn) Write(b []byte) (int, error) {
	if atomic.AddInt64(&c.left, -int64(len(b))) < 0 {
		return 0, errors.Join(io.ErrClosedPipe, c.Close())
	}
	return c.Conn.Write(b)
}

// A clone goes on where the link broke, however often it does, as long as each
// link brings something.
func TestCloneResumes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want := clonePattern(10*cloneChunkBytes + 5)
	d := &donor{recorder: newRecorder()}
	d.gives(want)
	a := startOn(t, 1, cutting{l, 5 * cloneChunkBytes / 2}, func(c *Config) { c.Handler = d })
	var broken []int64
	opts := impatient
	opts.Broken = func(offset int64, reason error) {
		if reason == nil {
			t.Error("the link broke for no reason")
		}
		broken = append(broken, offset)
	}
	r := Clone(t.Context(), a.address, &peerpb.CloneRequest{Identity: start(t, 2).Identity(), Rate: 1 << 40}, opts)
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes of %d, %v", len(got), len(want), err)
	}
	if len(broken) < 4 {
		t.Errorf("the link broke at %v, want it more often", broken)
	}
	for i, req := range d.asked {
		if req.GetCopy() != d.asked[0].GetCopy() || req.GetRate() != 1<<40 || i > 0 && int64(req.GetOffset()) != broken[i-1] {
			t.Errorf("request %d is %v, after the link broke at %v", i, req, broken)
		}
	}
}

// What the donor says is final.
func TestCloneRefused(t *testing.T) {
	d, a := startDonor(t, 1)
	d.give = func(_ context.Context, req *peerpb.CloneRequest, w io.Writer) error {
		if req.GetOffset() > 0 {
			return &RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_COPY_GONE, Text: "begin anew"}
		}
		_, err := w.Write(clonePattern(cloneChunkBytes))
		return errors.Join(err, status.Error(codes.Unavailable, "a broken link"))
	}
	broken := 0
	got, err := io.ReadAll(start(t, 2).clone(t, a, CloneOptions{MinBackoff: 1, Broken: func(int64, error) { broken++ }}))
	r, ok := errors.AsType[*RefusedError](err)
	if !ok || r.Reason != peerpb.RefusalReason_REFUSAL_REASON_COPY_GONE || len(got) != cloneChunkBytes || broken != 1 {
		t.Errorf("got %d bytes, broken %d times, %v", len(got), broken, err)
	}
}

// Attempts that bring nothing are bounded; those that bring something are not.
func TestCloneGivesUp(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		broken int
	}{
		"no link":            {status.Error(codes.Unavailable, "no link"), 2},
		"a broken stream":    {status.Error(codes.Internal, "reset"), 2},
		"what says nothing":  {status.Error(codes.Unknown, "confused"), 0},
		"another program":    {status.Error(codes.Unimplemented, "no such call"), 0},
		"a donor that stops": {ErrClosed, 2},
	} {
		t.Run(name, func(t *testing.T) {
			d, a := startDonor(t, 1)
			d.give = func(context.Context, *peerpb.CloneRequest, io.Writer) error { return test.err }
			broken := 0
			opts := impatient
			opts.Broken = func(int64, error) { broken++ }
			if _, err := io.ReadAll(start(t, 2).clone(t, a, opts)); err == nil || broken != test.broken {
				t.Errorf("tried again %d times, want %d: %v", broken, test.broken, err)
			}
		})
	}
}

// A process that is gone is given up sooner.
func TestCloneFromNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	broken := 0
	r := Clone(t.Context(), address, &peerpb.CloneRequest{}, CloneOptions{MinBackoff: 1, Broken: func(int64, error) { broken++ }})
	defer r.Close()
	if _, err := io.ReadAll(r); !Refused(err) || !strings.Contains(err.Error(), address) || broken != 2 {
		t.Errorf("dialed again %d times: %v", broken, err)
	}
}

// One that hangs is given up as soon, though its machine connects: no donor may
// hold a member up that others could help.
func TestCloneFromDeaf(t *testing.T) {
	broken := 0
	r := Clone(t.Context(), deaf(t), &peerpb.CloneRequest{}, CloneOptions{
		Answer: 50 * time.Millisecond, MinBackoff: 1,
		Broken: func(int64, error) { broken++ },
	})
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, errNoAnswer) || broken != 2 {
		t.Errorf("dialed again %d times: %v", broken, err)
	}
}

// A link over which nothing comes counts as broken.
func TestCloneOverSilentLink(t *testing.T) {
	d, a := startDonor(t, 1)
	want := clonePattern(3 * cloneChunkBytes)
	var calls atomic.Int32
	d.give = func(ctx context.Context, req *peerpb.CloneRequest, w io.Writer) error {
		rest := want[req.GetOffset():]
		if calls.Add(1) > 1 {
			_, err := w.Write(rest)
			return err
		}
		if _, err := w.Write(rest[:cloneChunkBytes]); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	var reason error
	opts := CloneOptions{Silence: 100 * time.Millisecond, Attempts: 1000, MinBackoff: 1, Broken: func(_ int64, err error) { reason = err }}
	got, err := io.ReadAll(start(t, 2).clone(t, a, opts))
	if err != nil || !bytes.Equal(got, want) || !errors.Is(reason, errSilent) {
		t.Errorf("got %d bytes, %v; broken for %v", len(got), err, reason)
	}
}

// A clone ends with the transport that serves it, and with its reader.
func TestCloneIsInterrupted(t *testing.T) {
	d, a := startDonor(t, 1)
	b := start(t, 2)
	ended := make(chan error, 1)
	d.give = func(ctx context.Context, _ *peerpb.CloneRequest, w io.Writer) error {
		var err error
		for block := clonePattern(cloneChunkBytes); err == nil && ctx.Err() == nil; {
			_, err = w.Write(block)
		}
		ended <- errors.Join(err, ctx.Err())
		return ctx.Err()
	}
	for _, interrupt := range []func(io.Closer) error{io.Closer.Close, func(io.Closer) error { return a.Close() }} {
		r := b.clone(t, a, impatient)
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := interrupt(r); err != nil {
			t.Fatal(err)
		}
		if <-ended == nil {
			t.Error("the clone was not interrupted")
		}
		if _, err := io.Copy(io.Discard, r); err == nil {
			t.Error("an interrupted clone looks complete")
		}
	}
}

// The end of the caller's context ends a clone, also while it waits to dial
// again, and its cause is told.
func TestCloneContext(t *testing.T) {
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	r := Clone(ctx, deaf(t), &peerpb.CloneRequest{}, CloneOptions{
		Silence: time.Millisecond, MinBackoff: time.Hour,
		Broken: func(int64, error) { cancel(enough) },
	})
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

// A clone ends with the incarnation of the donor for which it was let in, even
// if the recipient takes nothing, and SetIdentity returns only then. The
// recipient learns why.
func TestCloneEndsWithTheIncarnation(t *testing.T) {
	d, a := startDonor(t, 1)
	full, ended := make(chan struct{}), false
	d.give = func(_ context.Context, _ *peerpb.CloneRequest, w io.Writer) (err error) {
		block := clonePattern(cloneChunkBytes)
		for i := 0; err == nil; i++ {
			if i == cloneWindow/cloneChunkBytes {
				close(full) // the next but one has to wait for the recipient
			}
			_, err = w.Write(block)
		}
		ended = true
		return err
	}
	r := start(t, 2).clone(t, a, impatient)
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	<-full
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		a.setIncarnation(gtid.UUID{2})
	}()
	select {
	case <-changed:
		if !ended {
			t.Error("the clone outlived the incarnation")
		}
	case <-time.After(patience):
		t.Error("SetIdentity waits for the recipient")
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		<-changed
	}
	_, err := io.Copy(io.Discard, r)
	if e, ok := errors.AsType[*RefusedError](err); !ok || e.Reason != peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION {
		t.Errorf("the recipient got %v", err)
	}
	a.logged(t, "clone ended early", errIdentity.Error())
}

// A chunk that was damaged on the way is asked for again, and it alone.
func TestCloneDamagedOnTheWay(t *testing.T) {
	want := make([]byte, 5*cloneChunkBytes+1)
	_, _ = rand.NewChaCha8([32]byte{}).Read(want) // never fails
	d := &donor{recorder: newRecorder()}
	d.gives(want)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := startOn(t, 1, &damaging{Listener: l, these: want[5*cloneChunkBytes/2:][:1000]}, func(c *Config) { c.Handler = d })
	var broken []int64
	opts := impatient
	opts.Broken = func(offset int64, reason error) {
		if !errors.Is(reason, ErrCloneCorrupt) {
			t.Errorf("the link broke for %v", reason)
		}
		broken = append(broken, offset)
	}
	got, err := io.ReadAll(start(t, 2).clone(t, a, opts))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
	}
	if !slices.Equal(broken, []int64{2 * cloneChunkBytes}) {
		t.Errorf("the link broke at %d", broken)
	}
}

// damaging is a listener whose first connection damages these bytes, once.
type damaging struct {
	net.Listener
	these []byte
}

func (l *damaging) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	c := &damagedConn{Conn: conn, these: l.these}
	l.these = nil
	return c, err
}

type damagedConn struct {
	net.Conn
	these []byte
}

func (c *damagedConn) Write(b []byte) (int, error) {
	// Some of them lie beside each other, wherever writes and frames are cut.
	for part := range slices.Chunk(c.these, 100) {
		if i := bytes.Index(b, part); i >= 0 {
			b = bytes.Clone(b)
			b[i] ^= 0x10
			c.these = nil
			break
		}
	}
	return c.Conn.Write(b)
}

func TestCloneIsVerified(t *testing.T) {
	abc := &peerpb.CloneChunk{Data: []byte("abc"), Crc32C: 0x364b3fb7}
	odd := &peerpb.CloneChunk{Data: []byte("abc"), Crc32C: 0x364b3fb7}
	odd.ProtoReflect().SetUnknown([]byte("\x28\x01"))
	for name, test := range map[string]struct {
		chunks []*peerpb.CloneChunk
		want   error
	}{
		"checksum": {[]*peerpb.CloneChunk{{Data: []byte("abc"), Crc32C: 1}, {Last: true}}, ErrCloneCorrupt},
		"form":     {[]*peerpb.CloneChunk{odd, {Last: true, Offset: 3}}, ErrCloneCorrupt},
		"cut off":  {[]*peerpb.CloneChunk{abc}, io.ErrUnexpectedEOF},
		"repeated": {[]*peerpb.CloneChunk{abc, abc, {Last: true, Offset: 6}}, ErrCloneCorrupt},
		"lost":     {[]*peerpb.CloneChunk{abc, {Last: true, Offset: 6}}, ErrCloneCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			r := Clone(t.Context(), liar{chunks: test.chunks}.serve(t), &peerpb.CloneRequest{}, CloneOptions{Attempts: 1})
			defer r.Close()
			if got, err := io.ReadAll(r); !errors.Is(err, test.want) {
				t.Errorf("got %q, %v, want %v", got, err, test.want)
			}
		})
	}
}

// chunks is a stream that keeps what is sent.
type chunks struct{ got []*peerpb.CloneChunk }

func (s *chunks) SendMsg(msg any) error {
	data := msg.(*outgoingChunk).marshal()
	defer data.Free()
	var c peerpb.CloneChunk
	err := proto.Unmarshal(data.Materialize(), &c)
	s.got = append(s.got, &c)
	return err
}

// A slow clone comes in small pieces, each in its time.
func TestCloneThrottled(t *testing.T) {
	for _, test := range []struct {
		rate        uint64
		size, chunk int
		took        time.Duration
	}{
		{rate: 0, size: 3 * cloneChunkBytes, chunk: cloneChunkBytes, took: 0},
		{rate: 1 << 40, size: 2 * cloneChunkBytes, chunk: cloneChunkBytes, took: 954},
		{rate: 800, size: 8000, chunk: 100, took: 9875 * time.Millisecond},
		{rate: 3, size: 7, chunk: 1, took: 2 * time.Second},
	} {
		var stream chunks
		var clock time.Duration
		w := newChunkWriter(t.Context(), &stream, 7, test.rate)
		w.throttle.now = func() time.Duration { return clock }
		w.throttle.sleep = func(_ context.Context, d time.Duration) error {
			clock += d
			return nil
		}
		want := clonePattern(test.size)
		for part := range slices.Chunk(want, test.size/3) {
			if n, err := w.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := w.finish(); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for i, c := range stream.got {
			if len(c.GetData()) > test.chunk || c.GetOffset() != 7+uint64(len(got)) || c.GetLast() != (i == len(stream.got)-1) {
				t.Errorf("rate %d: chunk %d has %d bytes at %d, last %v", test.rate, i, len(c.GetData()), c.GetOffset(), c.GetLast())
			}
			got = append(got, c.GetData()...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("rate %d: other bytes came out", test.rate)
		}
		if diff := clock - test.took; diff < 0 || diff > 100 {
			t.Errorf("rate %d: %d bytes took %v, want %v", test.rate, test.size, clock, test.took)
		}
	}
}
