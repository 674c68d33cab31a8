package pebblekv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// exportVersion is that of the stream in the package comment.
const exportVersion = 1

var streamMagic = [8]byte{'C', 'C', 'D', 'T', 'K', 'V', 0, exportVersion}

// Kinds of chunks.
const (
	chunkRecord = 'P'
	chunkFile   = 'F'
	chunkData   = 'D'
	chunkEnd    = 'E'
)

const (
	maxChunk    = 1 << 20 // bytes of a payload
	chunkHeader = 1 + 4
)

// chunkWriter writes a stream.
type chunkWriter struct {
	w   io.Writer
	sum uint32 // CRC-32C of the stream so far
}

func newChunkWriter(w io.Writer) (*chunkWriter, error) {
	c := &chunkWriter{w: w, sum: crc32.Checksum(streamMagic[:], castagnoli)}
	_, err := w.Write(streamMagic[:])
	return c, err
}

func (c *chunkWriter) chunk(kind byte, payload []byte) error {
	var head [chunkHeader]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	c.sum = crc32.Update(c.sum, castagnoli, head[:])
	c.sum = crc32.Update(c.sum, castagnoli, payload)
	tail := binary.BigEndian.AppendUint32(nil, c.sum)
	for _, part := range [][]byte{head[:], payload, tail} {
		if _, err := c.w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// chunkReader reads a stream and checks it. It takes nothing from r beyond the
// chunk that it returns.
type chunkReader struct {
	r   io.Reader
	sum uint32
	buf []byte
}

func newChunkReader(r io.Reader) (*chunkReader, error) {
	c := &chunkReader{r: r, sum: crc32.Checksum(streamMagic[:], castagnoli)}
	var magic [len(streamMagic)]byte
	if _, err := io.ReadFull(c.r, magic[:]); err != nil {
		return nil, cutOff(err)
	}
	if magic == streamMagic {
		return c, nil
	}
	if [6]byte(magic[:]) == [6]byte(streamMagic[:]) {
		return nil, fmt.Errorf("%w: export of version %d, this program knows %d",
			ErrFormat, binary.BigEndian.Uint16(magic[6:]), exportVersion)
	}
	return nil, fmt.Errorf("%w: not an export of this engine", ErrCorrupt)
}

// next returns the next chunk. The payload is valid until the next call.
func (c *chunkReader) next() (kind byte, payload []byte, err error) {
	var head [chunkHeader]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, cutOff(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxChunk {
		return 0, nil, fmt.Errorf("%w: export: chunk of %d bytes, the limit is %d", ErrCorrupt, n, maxChunk)
	}
	if need := int(n) + 4; cap(c.buf) < need {
		c.buf = make([]byte, need)
	}
	b := c.buf[:n+4]
	if _, err := io.ReadFull(c.r, b); err != nil {
		return 0, nil, cutOff(err)
	}
	payload = b[:n]
	c.sum = crc32.Update(c.sum, castagnoli, head[:])
	c.sum = crc32.Update(c.sum, castagnoli, payload)
	if binary.BigEndian.Uint32(b[n:]) != c.sum {
		return 0, nil, fmt.Errorf("%w: export: checksum of a chunk does not match", ErrCorrupt)
	}
	return head[0], payload, nil
}

// cutOff says what an early end of the stream means, and leaves other errors of
// the reader alone.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: export is cut off: %w", ErrCorrupt, io.ErrUnexpectedEOF)
	}
	return err
}
