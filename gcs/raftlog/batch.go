package raftlog

import (
	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
)

// The errors of a batch's own methods speak of misuse (an indexed batch, range
// keys) that cannot occur here; what goes wrong with the disk shows at commit.

func put(b *pebble.Batch, key, value []byte) {
	op := b.SetDeferred(len(key), len(value))
	copy(op.Key, key)
	copy(op.Value, value)
	_ = op.Finish()
}

func remove(b *pebble.Batch, key []byte) { _ = b.Delete(key, nil) }

// putEntryInto encodes e in the batch's own memory.
func putEntryInto(b *pebble.Batch, e *raftpb.Entry) {
	op := b.SetDeferred(indexKeyLen, entryHeaderLen+len(e.GetData()))
	putIndexKey(op.Key, kindEntry, e.GetIndex())
	putEntry(op.Key, op.Value, e)
	_ = op.Finish()
}

func putHardStateInto(b *pebble.Batch, hs hardState) {
	op := b.SetDeferred(1, hardStateLen)
	op.Key[0] = kindHardState
	putHardState(op.Key, op.Value, hs)
	_ = op.Finish()
}

func putIdentity(b *pebble.Batch, id gcs.Identity) {
	key := []byte{kindIdentity}
	put(b, key, encodeIdentity(key, id))
}

// putRecord replaces the record; one without bytes is none.
func putRecord(b *pebble.Batch, record []byte) {
	if len(record) == 0 {
		remove(b, []byte{kindRecord})
		return
	}
	op := b.SetDeferred(1, crcLen+len(record))
	op.Key[0] = kindRecord
	copy(op.Value[crcLen:], record)
	seal(op.Key, op.Value)
	_ = op.Finish()
}

func putCut(b *pebble.Batch, index, term uint64) {
	key := []byte{kindCut}
	put(b, key, encodeCut(key, index, term))
}

func putHead(b *pebble.Batch, h head) {
	key := indexKey(kindCheckpoint, h.index)
	put(b, key, encodeHead(key, h))
}

func putChunk(b *pebble.Batch, blob uint64, chunk uint32, data []byte) {
	op := b.SetDeferred(chunkKeyLen, crcLen+len(data))
	putChunkKey(op.Key, blob, chunk)
	copy(op.Value[crcLen:], data)
	seal(op.Key, op.Value)
	_ = op.Finish()
}

// removeEntries removes the entries lo..hi-1 with exact bounds: tombstones
// that reach over a prefix that is gone already make Pebble's work grow with
// everything ever deleted.
func removeEntries(b *pebble.Batch, lo, hi uint64) {
	if lo < hi {
		_ = b.DeleteRange(indexKey(kindEntry, lo), indexKey(kindEntry, hi), nil)
	}
}

func removeCheckpoint(b *pebble.Batch, h head) {
	remove(b, indexKey(kindCheckpoint, h.index))
	removeBlob(b, h.blob)
}

func removeBlob(b *pebble.Batch, blob uint64) {
	_ = b.DeleteRange(blobKey(blob), blobKey(blob+1), nil)
}
