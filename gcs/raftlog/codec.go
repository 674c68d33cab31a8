package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
)

// formatVersion is the version of the keys and values drawn in the package
// comment. Version 1 had no record.
const formatVersion = 2

// Kinds of keys.
const (
	kindFormat     = 0x01
	kindIdentity   = 0x02
	kindHardState  = 0x03
	kindCut        = 0x04
	kindFiller     = 0x05
	kindRecord     = 0x06
	kindEntry      = 0x10
	kindCheckpoint = 0x20
	kindChunk      = 0x21
)

// Lengths of keys and values in bytes.
const (
	crcLen = 4

	indexKeyLen = 1 + 8
	chunkKeyLen = 1 + 8 + 4

	formatLen      = crcLen + 4
	identityLen    = crcLen + 3*16 + 2*8
	hardStateLen   = crcLen + 3*8
	cutLen         = crcLen + 2*8
	entryHeaderLen = crcLen + 8 + 1
	headLen        = crcLen + 3*8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers the key and what follows the checksum in the value.
func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[crcLen:])
}

// seal stores the checksum of a record whose value is otherwise complete.
func seal(key, value []byte) {
	binary.LittleEndian.PutUint32(value, checksum(key, value))
}

// intact reports whether a record is what was sealed, and at least minLen long.
func intact(key, value []byte, minLen int) bool {
	return len(value) >= minLen && binary.LittleEndian.Uint32(value) == checksum(key, value)
}

// corrupt returns an error that wraps gcs.ErrLogCorrupt.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{gcs.ErrLogCorrupt}, args...)...)
}

// indexKey returns the key of an entry or of the head of a checkpoint.
func indexKey(kind byte, index uint64) []byte {
	return putIndexKey(make([]byte, indexKeyLen), kind, index)
}

func putIndexKey(key []byte, kind byte, index uint64) []byte {
	key[0] = kind
	binary.BigEndian.PutUint64(key[1:], index)
	return key
}

// indexOf returns the index in a key made by indexKey, false for a key that
// was not.
func indexOf(key []byte) (uint64, bool) {
	if len(key) != indexKeyLen {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// blobKey returns the key of a blob's first chunk. That of the next blob is
// the exclusive end of a blob.
func blobKey(blob uint64) []byte {
	return putChunkKey(make([]byte, chunkKeyLen), blob, 0)
}

func putChunkKey(key []byte, blob uint64, chunk uint32) []byte {
	key[0] = kindChunk
	binary.BigEndian.PutUint64(key[1:], blob)
	binary.BigEndian.PutUint32(key[9:], chunk)
	return key
}

// blobOf returns the blob in a key made by putChunkKey.
func blobOf(key []byte) (uint64, bool) {
	if len(key) != chunkKeyLen {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// putEntry fills a value of entryHeaderLen+len(data) bytes.
func putEntry(key, value []byte, e *raftpb.Entry) {
	binary.LittleEndian.PutUint64(value[crcLen:], e.GetTerm())
	value[crcLen+8] = byte(e.GetType())
	copy(value[entryHeaderLen:], e.GetData())
	seal(key, value)
}

// entryTerm returns the term in the value of an entry that is intact.
func entryTerm(value []byte) uint64 {
	return binary.LittleEndian.Uint64(value[crcLen:])
}

// storedEntry is an entry together with the variables that its fields point
// to, so that reading one costs two allocations: this and its data.
type storedEntry struct {
	entry       raftpb.Entry
	term, index uint64
	typ         raftpb.EntryType
}

// getEntry copies an intact value into an entry. A normal entry gets no type
// and an empty one no data, as raft makes them, so that an entry read back is
// as long on the wire as the one that was written.
func getEntry(index uint64, value []byte) *raftpb.Entry {
	s := &storedEntry{
		term:  entryTerm(value),
		index: index,
		typ:   raftpb.EntryType(value[crcLen+8]),
	}
	s.entry.Term, s.entry.Index = &s.term, &s.index
	if s.typ != raftpb.EntryNormal {
		s.entry.Type = &s.typ
	}
	if data := value[entryHeaderLen:]; len(data) > 0 {
		s.entry.Data = append(make([]byte, 0, len(data)), data...)
	}
	return &s.entry
}

func encodeFormat(key []byte, version uint32) []byte {
	v := make([]byte, formatLen)
	binary.LittleEndian.PutUint32(v[crcLen:], version)
	seal(key, v)
	return v
}

func encodeIdentity(key []byte, id gcs.Identity) []byte {
	v := make([]byte, crcLen, identityLen)
	v = append(v, id.Group[:]...)
	v = append(v, id.Incarnation[:]...)
	v = append(v, id.Member[:]...)
	v = binary.LittleEndian.AppendUint64(v, id.RaftID)
	v = binary.LittleEndian.AppendUint64(v, id.Session)
	seal(key, v)
	return v
}

func decodeIdentity(v []byte) (id gcs.Identity) {
	v = v[crcLen:]
	v = v[copy(id.Group[:], v):]
	v = v[copy(id.Incarnation[:], v):]
	v = v[copy(id.Member[:], v):]
	id.RaftID = binary.LittleEndian.Uint64(v)
	id.Session = binary.LittleEndian.Uint64(v[8:])
	return id
}

// putHardState fills a value of hardStateLen bytes.
func putHardState(key, v []byte, hs hardState) {
	binary.LittleEndian.PutUint64(v[crcLen:], hs.term)
	binary.LittleEndian.PutUint64(v[crcLen+8:], hs.vote)
	binary.LittleEndian.PutUint64(v[crcLen+16:], hs.commit)
	seal(key, v)
}

func decodeHardState(v []byte) hardState {
	return hardState{
		term:   binary.LittleEndian.Uint64(v[crcLen:]),
		vote:   binary.LittleEndian.Uint64(v[crcLen+8:]),
		commit: binary.LittleEndian.Uint64(v[crcLen+16:]),
	}
}

func encodeCut(key []byte, index, term uint64) []byte {
	v := make([]byte, crcLen, cutLen)
	v = binary.LittleEndian.AppendUint64(v, index)
	v = binary.LittleEndian.AppendUint64(v, term)
	seal(key, v)
	return v
}

func decodeCut(v []byte) (index, term uint64) {
	return binary.LittleEndian.Uint64(v[crcLen:]), binary.LittleEndian.Uint64(v[crcLen+8:])
}

func encodeHead(key []byte, h head) []byte {
	v := make([]byte, crcLen, headLen)
	v = binary.LittleEndian.AppendUint64(v, h.term)
	v = binary.LittleEndian.AppendUint64(v, h.blob)
	v = binary.LittleEndian.AppendUint64(v, h.size)
	v = binary.LittleEndian.AppendUint32(v, h.chunkSize)
	seal(key, v)
	return v
}

func decodeHead(index uint64, v []byte) head {
	return head{
		index:     index,
		term:      binary.LittleEndian.Uint64(v[crcLen:]),
		blob:      binary.LittleEndian.Uint64(v[crcLen+8:]),
		size:      binary.LittleEndian.Uint64(v[crcLen+16:]),
		chunkSize: binary.LittleEndian.Uint32(v[crcLen+24:]),
	}
}

// hardState is raft's hard state as plain numbers.
type hardState struct{ term, vote, commit uint64 }

func hardStateOf(hs *raftpb.HardState) hardState {
	return hardState{term: hs.GetTerm(), vote: hs.GetVote(), commit: hs.GetCommit()}
}

// message returns the hard state as raft knows it.
func (h hardState) message() *raftpb.HardState {
	if h == (hardState{}) {
		return &raftpb.HardState{}
	}
	return &raftpb.HardState{Term: new(h.term), Vote: new(h.vote), Commit: new(h.commit)}
}

// head says where the data of a checkpoint is.
type head struct {
	index, term uint64
	blob        uint64
	size        uint64 // of the data in bytes
	chunkSize   uint32 // of every chunk but the last
}

// encodedSize returns the size of e as protobuf, which is what raft's limits
// on the size of messages count.
func encodedSize(e *raftpb.Entry) uint64 {
	var n uint64
	if e.Type != nil {
		n += 1 + varintLen(uint64(e.GetType()))
	}
	if e.Term != nil {
		n += 1 + varintLen(e.GetTerm())
	}
	if e.Index != nil {
		n += 1 + varintLen(e.GetIndex())
	}
	if e.Data != nil {
		n += 1 + varintLen(uint64(len(e.Data))) + uint64(len(e.Data))
	}
	return n
}

func varintLen(v uint64) uint64 {
	n := uint64(1)
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
