package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

const (
	// cloneChunkBytes is how much of a clone shares a chunk.
	cloneChunkBytes = 1 << 20
	// throttledChunks is how many chunks a second come at a low rate at least,
	// as long as there is a byte for each.
	throttledChunks = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkMeta is a chunk of a clone without its data.
type chunkMeta struct {
	sum    uint32 // CRC-32C of the data
	last   bool
	offset uint64
}

// outgoingChunk is a chunk in the buffer that goes out. Marshalling hands the
// buffer over: it comes back to the pool when gRPC has sent it.
type outgoingChunk struct {
	chunkMeta
	data *[]byte // nil: none
	pool *bufferPool
}

// incomingChunk is a chunk in the buffers that came in. Whoever takes data frees
// them. err says what is wrong with it; gRPC's own wrapping of a codec's error
// would hide that.
type incomingChunk struct {
	chunkMeta
	data mem.BufferSlice
	err  error
}

const (
	dataTag   = 1<<3 | 2 // field 1, length-delimited
	sumTag    = 2<<3 | 5 // field 2, 32 bits
	lastTag   = 3 << 3   // field 3, varint
	offsetTag = 4 << 3   // field 4, varint

	maxChunkTail = 1 + 4 + 2 + 1 + binary.MaxVarintLen64
)

// appendTail appends what follows the data of a chunk.
func (c chunkMeta) appendTail(b []byte) []byte {
	if c.sum != 0 {
		b = binary.LittleEndian.AppendUint32(append(b, sumTag), c.sum)
	}
	if c.last {
		b = append(b, lastTag, 1)
	}
	if c.offset != 0 {
		b = binary.AppendUvarint(append(b, offsetTag), c.offset)
	}
	return b
}

// marshal returns the wire form of c.
func (c *outgoingChunk) marshal() mem.BufferSlice {
	var out mem.BufferSlice
	if c.data != nil {
		head := binary.AppendUvarint([]byte{dataTag}, uint64(len(*c.data)))
		out = append(out, mem.SliceBuffer(head), mem.NewBuffer(c.data, c.pool))
	}
	return append(out, mem.SliceBuffer(c.appendTail(make([]byte, 0, maxChunkTail))))
}

// decodeChunk decodes a chunk in its canonical form. The data are references to
// parts of b.
func decodeChunk(b mem.BufferSlice) incomingChunk {
	size, from, to := b.Len(), 0, 0
	var head [1 + binary.MaxVarintLen64]byte
	if n := b.CopyTo(head[:]); n > 0 && head[0] == dataTag {
		length, width := protowire.ConsumeVarint(head[1:n])
		if width < 0 || width != protowire.SizeVarint(length) || length == 0 || length > uint64(size-1-width) {
			return incomingChunk{err: malformed("length of the data of a chunk of %d bytes", size)}
		}
		from = 1 + width
		to = from + int(length)
	}
	if size-to > maxChunkTail {
		return incomingChunk{err: malformed("%d bytes behind the data of a chunk", size-to)}
	}
	tail := make([]byte, 0, maxChunkTail)
	behind := cut(b, to, size)
	for _, piece := range behind {
		tail = append(tail, piece.ReadOnlyData()...)
	}
	behind.Free()
	var fields peerpb.CloneChunk
	if err := proto.Unmarshal(tail, &fields); err != nil {
		return incomingChunk{err: malformed("what is behind the data of a chunk: %w", err)}
	}
	c := incomingChunk{chunkMeta: chunkMeta{sum: fields.GetCrc32C(), last: fields.GetLast(), offset: fields.GetOffset()}}
	if !bytes.Equal(c.appendTail(make([]byte, 0, maxChunkTail)), tail) {
		return incomingChunk{err: malformed("%x behind the data of a chunk", tail)}
	}
	c.data = cut(b, from, to)
	return c
}

// cut returns references to the bytes of b from from to to.
func cut(b mem.BufferSlice, from, to int) (part mem.BufferSlice) {
	for _, piece := range b {
		n := piece.Len()
		if low, high := max(from, 0), min(to, n); low < high {
			part = append(part, piece.Slice(low, high))
		}
		from, to = from-n, to-n
	}
	return part
}

// checksum is the CRC-32C of the data of c.
func (c *incomingChunk) checksum() (sum uint32) {
	for _, piece := range c.data {
		sum = crc32.Update(sum, castagnoli, piece.ReadOnlyData())
	}
	return sum
}

// chunkWriter sends what is written as chunks, at the rate that was asked for.
// While one chunk is on its way the next one is made: gRPC holds the sender back
// only when the one before has hardly left.
type chunkWriter struct {
	ctx      context.Context
	stream   chunkStream
	throttle throttle
	offset   uint64 // of the next chunk
	size     int    // of a full chunk
	pool     *bufferPool
	buf      *[]byte // the next chunk, nil while there is nothing for it
}

// chunkStream is the sending end of a gRPC stream.
type chunkStream interface{ SendMsg(msg any) error }

func newChunkWriter(ctx context.Context, stream chunkStream, offset, rate uint64) *chunkWriter {
	size := cloneChunkBytes
	if rate > 0 {
		size = int(min(max(rate/throttledChunks, 1), cloneChunkBytes))
	}
	return &chunkWriter{
		ctx: ctx, stream: stream, throttle: newThrottle(rate, size),
		offset: offset, size: size, pool: &bufferPool{keep: max(size, minBuffer)},
	}
}

// Write implements [io.Writer].
func (w *chunkWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		if w.buf == nil {
			w.buf = w.pool.Get(w.size)
			*w.buf = (*w.buf)[:0]
		}
		part := b[n:min(n+w.size-len(*w.buf), len(b))]
		*w.buf = append(*w.buf, part...)
		n += len(part)
		if len(*w.buf) == w.size {
			if err := w.send(false); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// finish sends what is left, and says that it was the last.
func (w *chunkWriter) finish() error { return w.send(true) }

func (w *chunkWriter) send(last bool) error {
	chunk := &outgoingChunk{chunkMeta: chunkMeta{last: last, offset: w.offset}, data: w.buf, pool: w.pool}
	if w.buf != nil {
		if err := w.throttle.wait(w.ctx, len(*w.buf)); err != nil {
			return err
		}
		chunk.sum = crc32.Checksum(*w.buf, castagnoli)
		w.offset += uint64(len(*w.buf))
		w.buf = nil // gRPC's from now on
	}
	return w.stream.SendMsg(chunk)
}
