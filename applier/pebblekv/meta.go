package pebblekv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/concordatdb/concordat/applier"
)

// ErrCorrupt marks files or an export that are not what this package wrote.
var ErrCorrupt = errors.New("pebblekv: corrupt")

// ErrFormat marks a directory or an export of a version that this program does
// not know.
var ErrFormat = errors.New("pebblekv: unknown format version")

// formatVersion is that of the keys and records in the package comment.
const formatVersion = 1

// First bytes of the key spaces.
const (
	spaceMeta    = 0x00
	spaceData    = 0x01
	spaceChanges = 0x02
)

var (
	formatKey   = append([]byte{spaceMeta}, "format"...)
	positionKey = append([]byte{spaceMeta}, "position"...)
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// state is what an engine knows about its contents without reading them. It is
// immutable.
type state struct {
	position applier.Position
	digest   applier.Digest
	changes  *keptChanges // nil: none are kept
}

// Offsets in a position record.
const (
	recordDigest   = 4
	recordPosition = recordDigest + len(applier.Digest{})
	recordMin      = recordPosition + 10
)

// appendRecord appends the position record of s.
func appendRecord(b []byte, s *state) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, s.digest[:]...)
	b, _ = s.position.AppendBinary(b) // its error is always nil
	binary.BigEndian.PutUint32(b[start:], crc32.Checksum(b[start+recordDigest:], castagnoli))
	return b
}

func decodeRecord(b []byte) (*state, error) {
	if len(b) < recordMin {
		return nil, fmt.Errorf("%w: position record of %d bytes", ErrCorrupt, len(b))
	}
	if sum := crc32.Checksum(b[recordDigest:], castagnoli); sum != binary.BigEndian.Uint32(b) {
		return nil, fmt.Errorf("%w: checksum of the position record does not match", ErrCorrupt)
	}
	position, rest, err := applier.DecodePosition(b[recordPosition:])
	if err != nil {
		return nil, fmt.Errorf("%w: position record: %w", ErrCorrupt, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes too many in the position record", ErrCorrupt, len(rest))
	}
	return &state{position: position, digest: applier.Digest(b[recordDigest:recordPosition])}, nil
}

// recordIndex returns the log index in a position record without checking it.
func recordIndex(b []byte) (uint64, bool) {
	if len(b) < recordMin {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[recordPosition:]), true
}

func checkFormat(b []byte) error {
	if len(b) != 4 {
		return fmt.Errorf("%w: format version of %d bytes", ErrCorrupt, len(b))
	}
	if v := binary.BigEndian.Uint32(b); v != formatVersion {
		return fmt.Errorf("%w: %d, this program knows %d: use the program that wrote it, or a newer one",
			ErrFormat, v, formatVersion)
	}
	return nil
}

// appendPrefix appends what the keys of t begin with.
func appendPrefix(b []byte, t applier.Table) []byte {
	b = append(b, spaceData)
	b = append(append(b, t.Schema...), 0)
	return append(append(b, t.Name...), 0)
}

// appendKey appends the key of one pair.
func appendKey(b []byte, t applier.Table, key []byte) []byte {
	return append(appendPrefix(b, t), key...)
}

// appendBound appends the upper bound of a range of t: that of to, or the end
// of the table if to is nil.
func appendBound(b []byte, t applier.Table, to []byte) []byte {
	b = appendPrefix(b, t)
	if to == nil {
		b[len(b)-1]++ // the NUL after the name: no key of t has anything else there
		return b
	}
	return append(b, to...)
}
