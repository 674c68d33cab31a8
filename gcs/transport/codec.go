package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// codec is gRPC's protobuf codec, but for the requests of Connect and the answers
// of Clone, which it reads and writes by hand in the same wire form:
//
//	request  := ( hello | message )*
//	hello    := 0x0a length Hello
//	message  := 0x12 length bytes-of-gcs.AppendMessage
//	answer   := CloneChunk, the data first
//
// The data of a chunk are copied by neither end: see [outgoingChunk] and
// [incomingChunk].
//
// As to requests, the plain codec would encode each message, copy all of them into a buffer of
// gRPC's pool, and allocate and copy each again on the other side; and that
// pool clears a whole MiB for any buffer of more than 32 KiB. Here a message is
// encoded once, into the buffer that goes out, and decoded out of the buffers
// that came in. Measured from Send to Receive over loopback on 2 busy cores:
//
//	             plain codec           this one
//	frame 128 B   1.1 µs, 2 allocs     0.6 µs, 0 allocs
//	frame 4 KiB  12.1 µs, 2 allocs     6.7 µs, 0 allocs
//	append 4 KiB 17.1 µs, 12 allocs    9.0 µs, 10 allocs (raft's own decoding)
//
// Most of what is left is the kernel's loopback and the copies to and from it.
type codec struct {
	encoding.CodecV2 // for everything else
	pool             *bufferPool
}

const (
	helloTag   = 1<<3 | 2 // field 1, length-delimited
	messageTag = 2<<3 | 2 // field 2, length-delimited
)

// outgoing is a request in its wire form. Marshalling hands its buffer over.
type outgoing struct {
	buf *[]byte
}

// incoming is a decoded request. err says what is wrong with it; gRPC's own
// wrapping of a codec's error would hide that.
type incoming struct {
	hello *peerpb.Hello
	msgs  []gcs.Message
	err   error
}

func newCodec(pool *bufferPool) codec {
	return codec{CodecV2: encoding.GetCodecV2(protocodec.Name), pool: pool}
}

// Marshal implements [encoding.CodecV2].
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch out := v.(type) {
	case *outgoing:
		return mem.BufferSlice{mem.NewBuffer(out.buf, c.pool)}, nil
	case *outgoingChunk:
		return out.marshal(), nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch in := v.(type) {
	case *incoming:
		whole := data.MaterializeToBuffer(c.pool)
		defer whole.Free()
		*in = decodeRequest(whole.ReadOnlyData())
		return nil
	case *incomingChunk:
		*in = decodeChunk(data)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// appendBatch appends to buf, which is empty, the wire form of as many of msgs
// as fit into limit bytes, at least one, and returns how many that were. A
// message that cannot be encoded, or is larger than maxMessage, counts, but is
// left out and reported.
func appendBatch(buf []byte, msgs []gcs.Message, limit, maxMessage int) (_ []byte, n int, err error) {
	for ; n < len(msgs); n++ {
		m := &msgs[n]
		size := m.Size()
		if n > 0 && len(buf)+size > limit {
			break
		}
		start := len(buf)
		// The size is an estimate; it is good enough to know, nearly always,
		// how many bytes the length will take.
		width := protowire.SizeVarint(uint64(size))
		buf = append(buf, messageTag)
		buf = append(buf, make([]byte, width)...)
		var e error
		buf, e = appendMessage(buf, m, maxMessage)
		if e != nil {
			buf, err = buf[:start], errors.Join(err, e)
			continue
		}
		length := len(buf) - start - 1 - width
		if w := protowire.SizeVarint(uint64(length)); w != width {
			buf = moveTail(buf, length, w-width)
		}
		binary.PutUvarint(buf[start+1:], uint64(length))
		if start > 0 && len(buf) > limit { // its size was estimated too low
			return buf[:start], n, err
		}
	}
	return buf, n, err
}

// appendMessage appends m. On an error it returns a slice that still begins
// with b.
func appendMessage(b []byte, m *gcs.Message, maxMessage int) ([]byte, error) {
	out, err := gcs.AppendMessage(b, m)
	if err != nil {
		return b, err
	}
	if size := len(out) - len(b); size > maxMessage {
		return b, tooLarge(size, maxMessage)
	}
	return out, nil
}

// errMalformed marks what is not a request of this protocol version.
var errMalformed = errors.New("transport: malformed request")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errMalformed}, args...)...)
}

func tooLarge(size, limit int) error {
	return fmt.Errorf("transport: message of %d bytes is above the limit of %d; raise MaxMessageBytes on all members", size, limit)
}

// moveTail moves the last n bytes of buf by d, which may be negative.
func moveTail(buf []byte, n, d int) []byte {
	from := len(buf) - n
	if d > 0 {
		buf = append(buf, make([]byte, d)...)
	}
	copy(buf[from+d:], buf[from:from+n])
	return buf[:from+d+n]
}

// decodeRequest decodes a request. Nothing in the result aliases b: frames are
// copied, all of a batch into one piece of memory, and protobuf copies the data
// of raft's entries.
func decodeRequest(b []byte) incoming {
	count, frames, err := measure(b)
	if err != nil {
		return incoming{err: err}
	}
	in := incoming{msgs: make([]gcs.Message, 0, count)}
	arena := make([]byte, 0, frames)
	for len(b) > 0 {
		num, body, rest := takeField(b)
		b = rest
		switch num {
		case helloTag:
			in.hello = &peerpb.Hello{}
			if err := proto.Unmarshal(body, in.hello); err != nil {
				return incoming{err: malformed("hello: %w", err)}
			}
		case messageTag:
			m, err := gcs.DecodeMessage(body)
			if err != nil {
				return incoming{err: err}
			}
			if m.Frame != nil {
				arena = append(arena, m.Frame...)
				m.Frame = arena[len(arena)-len(m.Frame) : len(arena) : len(arena)]
			}
			in.msgs = append(in.msgs, m)
		}
	}
	return in
}

// measure checks the fields of a request, and returns how many messages it has
// and how many bytes of frames at most.
func measure(b []byte) (count, frames int, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeField(b)
		if n < 0 {
			return 0, 0, malformed("%w", protowire.ParseError(n))
		}
		if num > protowire.MaxValidNumber || typ == protowire.StartGroupType { // which protowire lets pass
			return 0, 0, malformed("field %d of wire type %d", num, typ)
		}
		if (num == 1 || num == 2) && typ != protowire.BytesType {
			return 0, 0, malformed("field %d has wire type %d", num, typ)
		}
		if num == 2 {
			count++
			if _, body, _ := takeField(b); len(body) > 0 && gcs.MessageKind(body[0]) == gcs.MessageFrame {
				frames += len(body)
			}
		}
		b = b[n:]
	}
	return count, frames, nil
}

// takeField cuts the first field off b, which measure has found sound. The tag
// is 0 for a field of another type than bytes.
func takeField(b []byte) (tag uint64, body, rest []byte) {
	num, typ, n := protowire.ConsumeTag(b)
	if typ != protowire.BytesType {
		return 0, nil, b[n+protowire.ConsumeFieldValue(num, typ, b[n:]):]
	}
	body, m := protowire.ConsumeBytes(b[n:])
	return protowire.EncodeTag(num, typ), body, b[n+m:]
}

// bufferPool is a [mem.BufferPool] that does not clear what it hands out:
// every byte of a buffer is written before it is read.
type bufferPool struct {
	pool sync.Pool
	keep int // larger buffers are left to the garbage collector
}

// minBuffer is above the size from which gRPC returns buffers to a pool.
const minBuffer = 4 << 10

// Get implements [mem.BufferPool].
func (p *bufferPool) Get(n int) *[]byte {
	buf, ok := p.pool.Get().(*[]byte)
	if !ok || cap(*buf) < n {
		return new(make([]byte, n, max(n, minBuffer)))
	}
	*buf = (*buf)[:n]
	return buf
}

// Put implements [mem.BufferPool].
func (p *bufferPool) Put(buf *[]byte) {
	if cap(*buf) <= p.keep {
		p.pool.Put(buf)
	}
}
