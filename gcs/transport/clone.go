package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// ErrCloneCorrupt marks a clone whose bytes are not those that were sent. The
// remedy is to clone again.
var ErrCloneCorrupt = errors.New("transport: clone is corrupt")

// Clone asks the member at addr for its state. c is as in [Config.TLS]. The
// reader ends with io.EOF only after the last byte that was sent; a stream that
// was cut off ends with another error, and one that was damaged with
// [ErrCloneCorrupt]. The caller closes the reader. The end of ctx ends it too.
func Clone(ctx context.Context, addr string, req *peerpb.CloneRequest, c *tls.Config) (io.ReadCloser, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, clientOptions(c)...)
	if err != nil {
		return nil, fmt.Errorf("transport: clone from %s: %w", addr, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := peerpb.NewPeerClient(conn).Clone(ctx, req)
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("transport: clone from %s: %w", addr, fromStatus(err)), conn.Close())
	}
	return &cloneReader{addr: addr, stream: stream, cancel: cancel, conn: conn}, nil
}

// cloneReader is the receiving end of a clone.
type cloneReader struct {
	addr   string
	stream grpc.ServerStreamingClient[peerpb.CloneChunk]
	cancel context.CancelFunc
	conn   io.Closer

	data   []byte // of the present chunk, what is not read yet
	offset int64  // of the first byte after the present chunk
	err    error  // once there is nothing more to come
}

// Read implements [io.Reader].
func (r *cloneReader) Read(b []byte) (int, error) {
	for len(r.data) == 0 && len(b) > 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.data, r.err = r.next()
		r.offset += int64(len(r.data))
	}
	n := copy(b, r.data)
	r.data = r.data[n:]
	return n, nil
}

// next returns the data of the next chunk; with io.EOF if it was the last one.
func (r *cloneReader) next() ([]byte, error) {
	chunk, err := r.stream.Recv()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // only the last chunk ends a clone
	}
	if err != nil {
		return nil, fmt.Errorf("transport: clone from %s broke off at byte %d: %w", r.addr, r.offset, fromStatus(err))
	}
	if crc32.Checksum(chunk.GetData(), castagnoli) != chunk.GetCrc32C() {
		return nil, fmt.Errorf("%w: checksum of the chunk from %s at byte %d; clone again", ErrCloneCorrupt, r.addr, r.offset)
	}
	if chunk.GetLast() {
		return chunk.GetData(), io.EOF
	}
	return chunk.GetData(), nil
}

// Close implements [io.Closer].
func (r *cloneReader) Close() error {
	r.cancel()
	if r.err == nil {
		r.err = ErrClosed
	}
	r.data = nil
	return r.conn.Close()
}

// Clone passes the request on to the handler, which writes into the stream.
func (s service) Clone(req *peerpb.CloneRequest, stream grpc.ServerStreamingServer[peerpb.CloneChunk]) error {
	if r := s.t.identity().checkMember(req.GetIdentity()); r != nil {
		s.t.logRefused(req.GetIdentity(), r)
		return s.t.statusOf(r)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.t.ctx, func() { cancel(ErrClosed) })()
	chunks := bufio.NewWriterSize(chunkWriter{stream: stream}, cloneChunkBytes)
	err := s.t.cfg.Handler.Clone(ctx, req, chunks)
	if err == nil {
		err = chunks.Flush()
	}
	if err == nil {
		return stream.Send(&peerpb.CloneChunk{Last: true})
	}
	s.t.log.Warn("clone ended early", attrPeer, req.GetIdentity().GetRaftId(),
		attrAddress, req.GetIdentity().GetAddress(), attrReason, err)
	return s.t.statusOf(err)
}

// cloneChunkBytes is how much of a clone shares a chunk.
const cloneChunkBytes = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkWriter sends what is written as chunks of at most cloneChunkBytes.
type chunkWriter struct {
	stream grpc.ServerStreamingServer[peerpb.CloneChunk]
}

func (w chunkWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		data := b[n:min(n+cloneChunkBytes, len(b))]
		if err := w.stream.Send(&peerpb.CloneChunk{Data: data, Crc32C: crc32.Checksum(data, castagnoli)}); err != nil {
			return n, err
		}
		n += len(data)
	}
	return n, nil
}
