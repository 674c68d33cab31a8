package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// ErrCloneCorrupt marks a clone whose bytes are not those that were sent. The
// remedy is to clone again.
var ErrCloneCorrupt = errors.New("transport: clone is corrupt")

// The defaults of CloneOptions.
const (
	DefaultCloneAttempts   = 12
	DefaultCloneMinBackoff = 50 * time.Millisecond
	DefaultCloneMaxBackoff = 2 * time.Second
	DefaultCloneSilence    = 30 * time.Second
	DefaultCloneAnswer     = 5 * time.Second
)

// failedDial is how many attempts a connection counts for that is refused, or
// that nobody answers.
const failedDial = 4

// errNoAnswer is why a donor is dialed again that the machine has connected and
// whose process says nothing: a stopped one, as a rule.
var errNoAnswer = errors.New("transport: nobody answers the connection")

// CloneOptions say how to copy. The zero value of a field stands for its
// default.
type CloneOptions struct {
	// TLS is as in [Config.TLS].
	TLS *tls.Config
	// Attempts is how many attempts in a row may bring no byte before the
	// donor is given up; one whose connection is refused, or not answered,
	// counts as four. Default: 12, which with the other defaults take 15 s if each fails at
	// once: less than a donor keeps a copy for.
	Attempts int
	// MinBackoff and MaxBackoff bound the pause between two attempts, which
	// doubles. Defaults: 50 ms, 2 s.
	MinBackoff, MaxBackoff time.Duration
	// Silence is how long a link may bring nothing before it counts as
	// broken. Default: 30 s.
	Silence time.Duration
	// Answer is how long a donor that is dialed may take to answer the
	// connection, before anything is asked of it. Default: 5 s.
	Answer time.Duration
	// Broken, if set, is called each time that a link broke and the donor will
	// be dialed again, with how many bytes have come. It is called by Read.
	Broken func(offset int64, reason error)
}

func (o CloneOptions) withDefaults() CloneOptions {
	if o.Attempts == 0 {
		o.Attempts = DefaultCloneAttempts
	}
	if o.MinBackoff == 0 {
		o.MinBackoff = DefaultCloneMinBackoff
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = max(o.MinBackoff, DefaultCloneMaxBackoff)
	}
	if o.Silence == 0 {
		o.Silence = DefaultCloneSilence
	}
	if o.Answer == 0 {
		o.Answer = DefaultCloneAnswer
	}
	if o.Broken == nil {
		o.Broken = func(int64, error) {}
	}
	return o
}

// Clone asks the member at addr for its state, in the name of identity and with
// the rate of req; the rest of req is set here. The donor is dialed by the
// first Read.
//
// The reader goes on after a broken or silent link, and after a chunk that was
// damaged on the way: it dials the donor again and asks for the rest. It gives
// up, with an error of Read, when the attempts are used up, when ctx ends, or
// when the donor refuses; of REFUSAL_REASON_COPY_GONE the remedy is to begin
// anew, of any other to ask another donor. It ends with io.EOF only after the
// last byte. The caller closes it, and uses it from one goroutine at a time.
func Clone(ctx context.Context, addr string, req *peerpb.CloneRequest, opts CloneOptions) io.ReadCloser {
	r := &cloneReader{addr: addr, opts: opts.withDefaults(), pool: &bufferPool{keep: frameBytes}}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.request = &peerpb.CloneRequest{Identity: req.GetIdentity(), Rate: req.GetRate(), Copy: rand.Uint64()}
	return r
}

// cloneReader is the receiving end of a clone.
type cloneReader struct {
	addr    string
	opts    CloneOptions
	request *peerpb.CloneRequest
	ctx     context.Context // ends with the reader
	cancel  context.CancelCauseFunc

	pool     *bufferPool // of what comes in
	link     *cloneLink  // nil when there is none
	failures int         // attempts in a row that brought nothing
	data     mem.Reader  // of the present chunk, what is not read yet
	offset   uint64      // of the first byte after the present chunk
	err      error       // once there is nothing more to come
}

// Read implements [io.Reader].
func (r *cloneReader) Read(b []byte) (int, error) {
	for r.data.Remaining() == 0 && len(b) > 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.err = r.next()
	}
	if len(b) == 0 {
		return 0, nil
	}
	return r.data.Read(b)
}

// next makes the next chunk the present one, over one link or another. It
// returns io.EOF if it was the last one.
func (r *cloneReader) next() error {
	for {
		err := r.receive()
		if err == nil || errors.Is(err, io.EOF) {
			return err
		}
		r.closeLink()
		if err := r.again(err); err != nil {
			return fmt.Errorf("transport: clone from %s broke off at byte %d: %w", r.addr, r.offset, err)
		}
	}
}

// receive makes the next chunk of the present link the present one, once it is
// verified. It opens a link if there is none.
func (r *cloneReader) receive() error {
	if r.link == nil {
		link, err := r.newLink()
		if err != nil {
			return err
		}
		r.link = link
	}
	chunk, err := r.link.receive(r.opts.Silence, r.opts.Answer)
	defer chunk.data.Free()
	switch {
	case err != nil:
		return err
	case chunk.err != nil:
		return fmt.Errorf("%w: %w", ErrCloneCorrupt, chunk.err)
	case chunk.offset != r.offset:
		return fmt.Errorf("%w: a chunk for byte %d at byte %d", ErrCloneCorrupt, chunk.offset, r.offset)
	case chunk.checksum() != chunk.sum:
		return fmt.Errorf("%w: checksum of the chunk at byte %d", ErrCloneCorrupt, r.offset)
	}
	r.data.Reset(chunk.data)
	if n := r.data.Remaining(); n > 0 {
		r.failures = 0
		r.offset += uint64(n)
	}
	if chunk.last {
		return io.EOF
	}
	return nil
}

// again waits before the next attempt, or returns why there is no point in one.
func (r *cloneReader) again(broken error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if !passing(broken) {
		return broken
	}
	r.failures++
	if Refused(broken) || errors.Is(broken, errNoAnswer) {
		// The process is gone, and the copy with it, unless a packet filter
		// answers in its name; or it hangs, and others may do better.
		r.failures += failedDial - 1
	}
	if r.failures >= r.opts.Attempts {
		return fmt.Errorf("given up after several attempts in vain: %w", broken)
	}
	r.opts.Broken(int64(r.offset), broken)
	pause := r.opts.MinBackoff
	for i := 1; i < r.failures && pause < r.opts.MaxBackoff; i++ {
		pause *= 2
	}
	return sleep(r.ctx, min(pause, r.opts.MaxBackoff))
}

// passing reports whether the same donor may do better the next time: whether
// the link is at fault, and not what the donor decided.
func passing(err error) bool {
	if _, refused := errors.AsType[*RefusedError](err); refused {
		return false
	}
	if Refused(err) || errors.Is(err, ErrCloneCorrupt) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, errSilent) || errors.Is(err, errNoAnswer) {
		return true
	}
	if _, isStatus := status.FromError(err); !isStatus {
		return true // of the dial
	}
	// Canceled comes from what stands between the two, or from a donor that is
	// closing; this end has not cancelled anything.
	return slices.Contains([]codes.Code{codes.Unavailable, codes.Canceled, codes.Internal, codes.DeadlineExceeded}, status.Code(err))
}

// Close implements [io.Closer].
func (r *cloneReader) Close() error {
	r.cancel(ErrClosed)
	if r.err == nil {
		r.err = ErrClosed
	}
	r.closeLink()
	return r.data.Close()
}

func (r *cloneReader) closeLink() {
	if r.link != nil {
		r.link.cancel(ErrClosed)
		_ = r.link.conn.Close() // it only says that it was closed before
		r.link = nil
	}
}

// cloneLink is one attempt.
type cloneLink struct {
	request *peerpb.CloneRequest
	stream  grpc.ClientStream // of chunks; nil before the first receive
	ctx     context.Context   // of the stream
	cancel  context.CancelCauseFunc
	conn    *grpc.ClientConn
	codec   codec
	dialing dialing
}

const (
	// cloneWindow is how much may be under way to a recipient that does not keep
	// up. It bounds a clone to so much per round trip: 160 MB/s at 100 ms.
	cloneWindow = 16 << 20
	// cloneSocketBuffer is how much of a clone is read from a socket at once.
	cloneSocketBuffer = 256 << 10
	// frameBytes is how much of a clone comes in one frame of HTTP/2: gRPC sends
	// no larger ones.
	frameBytes = 16 << 10
)

func (r *cloneReader) newLink() (*cloneLink, error) {
	l := &cloneLink{request: r.request, codec: newCodec(r.pool)}
	l.request.Offset = r.offset
	conn, err := grpc.NewClient("passthrough:///"+r.addr, append(clientOptions(r.opts.TLS),
		l.dialing.option(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithStaticStreamWindowSize(cloneWindow), grpc.WithStaticConnWindowSize(cloneWindow),
		grpc.WithReadBufferSize(cloneSocketBuffer),
		experimental.WithBufferPool(r.pool),
	)...)
	if err != nil {
		return nil, err
	}
	l.conn = conn
	l.ctx, l.cancel = context.WithCancelCause(r.ctx)
	return l, nil
}

// connect returns once the donor has answered the connection or a dial has
// failed, which the call tells; and errNoAnswer if neither happens in time. gRPC
// by itself would wait for 20 s.
func (l *cloneLink) connect(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	l.conn.Connect()
	for s := l.conn.GetState(); s == connectivity.Idle || s == connectivity.Connecting; s = l.conn.GetState() {
		if !l.conn.WaitForStateChange(ctx, s) {
			return errNoAnswer
		}
	}
	return nil
}

// receive returns the next chunk, or errSilent if none comes in time. The first
// call connects.
func (l *cloneLink) receive(patience, answer time.Duration) (chunk incomingChunk, err error) {
	timer := time.AfterFunc(patience, func() { l.cancel(errSilent) })
	defer timer.Stop()
	if l.stream == nil {
		if err := l.connect(answer); err != nil {
			return chunk, err
		}
		l.stream, err = peerpb.NewPeerClient(l.conn).Clone(l.ctx, l.request, grpc.ForceCodecV2(l.codec))
	}
	if err == nil {
		err = l.stream.RecvMsg(&chunk)
	}
	switch {
	case err == nil:
		return chunk, nil
	case errors.Is(err, io.EOF):
		return chunk, io.ErrUnexpectedEOF // only the last chunk ends a clone
	case errors.Is(context.Cause(l.ctx), errSilent):
		return chunk, errSilent
	}
	return chunk, l.dialing.explain(err)
}

// Clone passes the request on to the handler, which writes into the stream, as
// long as this member is of the incarnation that it was made for. A goroutine of
// its own does that, so that this one can end the stream while the other is held
// up in gRPC by a recipient that takes nothing: only returning from here does
// that.
func (s service) Clone(req *peerpb.CloneRequest, stream grpc.ServerStreamingServer[peerpb.CloneChunk]) error {
	ctx, leave, r := s.t.enter(stream.Context(), req.GetIdentity())
	if r != nil {
		s.t.logRefused(req.GetIdentity(), r)
		return s.t.statusOf(r)
	}
	result := make(chan error, 1)
	s.t.wg.Go(func() {
		defer leave()
		result <- s.t.give(ctx, req, stream)
	})
	select {
	case err := <-result:
		return s.t.statusOf(err)
	case <-ctx.Done():
	}
	select {
	case err := <-result: // ctx may have ended by leave
		return s.t.statusOf(err)
	default:
		return s.t.statusOf(context.Cause(ctx))
	}
}

// give writes a clone, or the rest of it, into the stream.
func (t *Transport) give(ctx context.Context, req *peerpb.CloneRequest, stream chunkStream) error {
	w := newChunkWriter(ctx, stream, req.GetOffset(), req.GetRate())
	err := t.cfg.Handler.Clone(ctx, req, w)
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		t.log.Warn("clone ended early", attrPeer, req.GetIdentity().GetRaftId(),
			attrAddress, req.GetIdentity().GetAddress(), attrReason, err)
	}
	return err
}
