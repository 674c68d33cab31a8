package pebblekv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// exportVersion is that of the stream in the package comment.
const exportVersion = 2

var streamMagic = [8]byte{'C', 'C', 'D', 'T', 'K', 'V', 0, exportVersion}

// salt tells the chunks of one export from those of every other.
type salt [8]byte

// Kinds of chunks.
const (
	chunkRecord = 'P'
	chunkFile   = 'F'
	chunkData   = 'D'
	chunkEnd    = 'E'
)

const (
	maxChunk     = 1 << 20 // bytes of a payload
	chunkHeader  = 1 + 4
	chunkSum     = 4
	chunkFrame   = chunkHeader + chunkSum
	streamHeader = int64(len(streamMagic) + len(salt{}))
)

// chunkSize is how long a chunk with n bytes of payload is.
func chunkSize(n int) int64 { return int64(n) + chunkFrame }

// dataSize is how long the data chunks of a file of size bytes are.
func dataSize(size int64) int64 { return size + (size+maxChunk-1)/maxChunk*chunkFrame }

// checksummer makes the checksums of one stream.
type checksummer uint32

func newChecksummer(s salt) checksummer {
	return checksummer(crc32.Update(crc32.Checksum(streamMagic[:], castagnoli), castagnoli, s[:]))
}

// of returns the checksum of a chunk, given without it, that begins at byte at
// of the stream.
func (c checksummer) of(at int64, chunk []byte) uint32 {
	var place [8]byte
	binary.BigEndian.PutUint64(place[:], uint64(at))
	return crc32.Update(crc32.Update(uint32(c), castagnoli, place[:]), castagnoli, chunk)
}

// chunkWriter writes a stream, or the part of it from byte from on.
type chunkWriter struct {
	w    io.Writer
	sums checksummer
	from int64
	at   int64  // of the next chunk
	buf  []byte // room for one chunk
}

func newChunkWriter(w io.Writer, s salt, from int64) (*chunkWriter, error) {
	c := &chunkWriter{w: w, sums: newChecksummer(s), from: from, buf: make([]byte, chunkSize(maxChunk))}
	err := c.write(append(append(c.buf[:0], streamMagic[:]...), s[:]...))
	return c, err
}

// write writes what comes next in the stream, as far as it is wanted.
func (c *chunkWriter) write(b []byte) error {
	skip := min(max(c.from-c.at, 0), int64(len(b)))
	c.at += int64(len(b))
	if skip == int64(len(b)) {
		return nil
	}
	_, err := c.w.Write(b[skip:])
	return err
}

// payload is where the payload of the next chunk may be built.
func (c *chunkWriter) payload() []byte { return c.buf[chunkHeader : chunkHeader+maxChunk] }

// chunk writes a chunk. Nothing is copied if payload lies at the front of
// c.payload.
func (c *chunkWriter) chunk(kind byte, payload []byte) error {
	if len(payload) > maxChunk {
		return fmt.Errorf("export: chunk %q of %d bytes, the limit is %d", kind, len(payload), maxChunk)
	}
	n := chunkHeader + len(payload)
	c.buf[0] = kind
	binary.BigEndian.PutUint32(c.buf[1:], uint32(len(payload)))
	copy(c.buf[chunkHeader:], payload)
	return c.write(binary.BigEndian.AppendUint32(c.buf[:n], c.sums.of(c.at, c.buf[:n])))
}

// skip leaves out the next n bytes, which lie wholly before what is wanted.
func (c *chunkWriter) skip(n int64) { c.at += n }

// before returns how many of the next bytes lie before what is wanted.
func (c *chunkWriter) before() int64 { return max(c.from-c.at, 0) }

// chunkReader reads a stream and checks it. It takes nothing from r beyond the
// chunk that it returns.
type chunkReader struct {
	r    io.Reader
	sums checksummer
	at   int64 // of the next chunk
	buf  []byte
}

func newChunkReader(r io.Reader) (*chunkReader, error) {
	var magic [len(streamMagic)]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return nil, cutOff(err)
	}
	if magic != streamMagic {
		if [6]byte(magic[:]) == [6]byte(streamMagic[:]) {
			return nil, fmt.Errorf("%w: export of version %d, this program knows %d",
				ErrFormat, binary.BigEndian.Uint16(magic[6:]), exportVersion)
		}
		return nil, fmt.Errorf("%w: not an export of this engine", ErrCorrupt)
	}
	var s salt
	if _, err := io.ReadFull(r, s[:]); err != nil {
		return nil, cutOff(err)
	}
	return &chunkReader{r: r, sums: newChecksummer(s), at: streamHeader}, nil
}

// next returns the next chunk. The payload is valid until the next call.
func (c *chunkReader) next() (kind byte, payload []byte, err error) {
	if cap(c.buf) < chunkHeader {
		c.buf = make([]byte, 4<<10)
	}
	head := c.buf[:chunkHeader]
	if _, err := io.ReadFull(c.r, head); err != nil {
		return 0, nil, cutOff(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxChunk {
		return 0, nil, fmt.Errorf("%w: export: chunk of %d bytes, the limit is %d", ErrCorrupt, n, maxChunk)
	}
	size := chunkSize(int(n))
	if int64(cap(c.buf)) < size {
		c.buf = append(make([]byte, 0, size), head...)
	}
	b := c.buf[:size]
	if _, err := io.ReadFull(c.r, b[chunkHeader:]); err != nil {
		return 0, nil, cutOff(err)
	}
	body := b[:size-chunkSum]
	if binary.BigEndian.Uint32(b[len(body):]) != c.sums.of(c.at, body) {
		return 0, nil, fmt.Errorf("%w: export: checksum of the chunk at byte %d does not match", ErrCorrupt, c.at)
	}
	c.at += size
	return body[0], body[chunkHeader:], nil
}

// cutOff says what an early end of the stream means, and leaves other errors of
// the reader alone.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: export is cut off: %w", ErrCorrupt, io.ErrUnexpectedEOF)
	}
	return err
}
