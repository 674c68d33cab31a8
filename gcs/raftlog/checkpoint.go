package raftlog

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
)

// chunksPerBatch bounds the batches in which the data of a checkpoint is
// written, with the default chunks to 4 MiB.
const chunksPerBatch = 16

// SaveCheckpoint implements [gcs.Log]. A checkpoint of the same index is
// replaced. c.Index must be in the log, or be that of the last entry
// forgotten, and c.Term must be its term.
func (l *Log) SaveCheckpoint(c gcs.Checkpoint) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if term, err := l.memory.term(c.Index); err != nil || term != c.Term {
		return fmt.Errorf("%w: checkpoint at %d of term %d does not fit a log of entries %d to %d (term %d, %w)",
			ErrOrder, c.Index, c.Term, l.memory.cut+1, l.memory.last, term, err)
	}
	h, err := l.writeBlob(c)
	if err != nil {
		return err
	}
	putHead(l.batch, h)
	at, replaces := l.findHead(c.Index)
	if replaces {
		removeBlob(l.batch, l.heads[at].blob)
	}
	if err := l.commit(true); err != nil {
		return err
	}
	if replaces {
		l.heads[at] = h
	} else {
		l.heads = slices.Insert(l.heads, at, h)
	}
	return nil
}

// findHead returns where the head of a checkpoint at index is or belongs.
func (l *Log) findHead(index uint64) (int, bool) {
	return slices.BinarySearchFunc(l.heads, index, func(h head, index uint64) int {
		switch {
		case h.index < index:
			return -1
		case h.index > index:
			return 1
		}
		return 0
	})
}

// writeBlob writes the data of a checkpoint under a new blob and returns the
// head that would make it current. It leaves an empty batch. Nothing is synced:
// the sync of the head covers what was written before it.
func (l *Log) writeBlob(c gcs.Checkpoint) (head, error) {
	h := head{
		index:     c.Index,
		term:      c.Term,
		blob:      l.nextBlob,
		size:      uint64(len(c.Data)),
		chunkSize: uint32(l.opts.ChunkBytes),
	}
	l.nextBlob++
	chunk := uint32(0)
	for data := range slices.Chunk(c.Data, l.opts.ChunkBytes) {
		putChunk(l.batch, h.blob, chunk, data)
		chunk++
		if chunk%chunksPerBatch != 0 {
			continue
		}
		if err := l.commit(false); err != nil {
			return head{}, err
		}
		l.batch.Reset()
	}
	return h, nil
}

// Checkpoint implements [gcs.Log].
func (l *Log) Checkpoint(limit uint64) (gcs.Checkpoint, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return gcs.Checkpoint{}, ErrClosed
	}
	at, found := l.findHead(limit)
	if !found {
		at--
	}
	if at < 0 {
		return gcs.Checkpoint{}, nil
	}
	h := l.heads[at]
	data, err := l.readBlob(h)
	if err != nil {
		return gcs.Checkpoint{}, err
	}
	return gcs.Checkpoint{Index: h.index, Term: h.term, Data: data}, nil
}

func (l *Log) readBlob(h head) ([]byte, error) {
	it, err := l.store.db.NewIter(&pebble.IterOptions{
		LowerBound: blobKey(h.blob),
		UpperBound: blobKey(h.blob + 1),
	})
	if err != nil {
		return nil, readError(fmt.Sprintf("checkpoint %d", h.index), err)
	}
	defer func() { _ = it.Close() }()
	var data []byte
	key := make([]byte, chunkKeyLen)
	chunk := uint32(0)
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, readError(fmt.Sprintf("checkpoint %d", h.index), err)
		}
		if !intact(putChunkKey(key, h.blob, chunk), value, crcLen) {
			return nil, corrupt("checkpoint %d: chunk %d is missing or does not match its checksum", h.index, chunk)
		}
		if data == nil {
			data = make([]byte, 0, h.size)
		}
		data = append(data, value[crcLen:]...)
		chunk++
	}
	if err := it.Error(); err != nil {
		return nil, readError(fmt.Sprintf("checkpoint %d", h.index), err)
	}
	if uint64(len(data)) != h.size {
		return nil, corrupt("checkpoint %d has %d bytes of %d", h.index, len(data), h.size)
	}
	return data, nil
}

// Reset implements [gcs.Log]. hs.Commit must not exceed c.Index.
func (l *Log) Reset(c gcs.Checkpoint, hs *raftpb.HardState) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	state := hardStateOf(hs)
	if state.commit > c.Index {
		return fmt.Errorf("%w: commit index %d is beyond the checkpoint at %d", ErrOrder, state.commit, c.Index)
	}
	h, err := l.writeBlob(c)
	if err != nil {
		return err
	}
	l.removeAll()
	putCut(l.batch, c.Index, c.Term)
	putHardStateInto(l.batch, state)
	putHead(l.batch, h)

	l.pages.Lock()
	defer l.pages.Unlock()
	if err := l.commit(true); err != nil {
		return err
	}
	l.heads = []head{h}
	l.hardState = state
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory.reset(c.Index, c.Term)
	return nil
}

// removeAll removes all entries and checkpoints.
func (l *Log) removeAll() {
	removeEntries(l.batch, l.memory.cut+1, l.memory.last+1)
	for _, old := range l.heads {
		removeCheckpoint(l.batch, old)
	}
}

// loadHeads reads where the checkpoints are.
func (l *Log) loadHeads() error {
	it, err := l.store.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{kindCheckpoint},
		UpperBound: []byte{kindCheckpoint + 1},
	})
	if err != nil {
		return readError("checkpoints", err)
	}
	defer func() { _ = it.Close() }()
	for ok := it.First(); ok; ok = it.Next() {
		index, ok := indexOf(it.Key())
		if !ok {
			return corrupt("key %x where a checkpoint should be", it.Key())
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return readError(fmt.Sprintf("checkpoint %d", index), err)
		}
		if !intact(it.Key(), value, headLen) {
			return corrupt("checkpoint %d does not match its checksum", index)
		}
		h := decodeHead(index, value)
		if term, err := l.memory.term(index); err != nil || term != h.term {
			return corrupt("checkpoint %d of term %d does not fit the log (term %d, %v)", index, h.term, term, err)
		}
		l.heads = append(l.heads, h)
	}
	return readErrorOrNil("checkpoints", it.Error())
}

// removeOrphans removes blobs that no checkpoint names, and finds the next
// number for a blob.
func (l *Log) removeOrphans() error {
	blobs, err := l.blobs()
	if err != nil {
		return err
	}
	if err := l.writable(); err != nil {
		return err
	}
	for _, blob := range blobs {
		l.nextBlob = max(l.nextBlob, blob+1)
		named := slices.ContainsFunc(l.heads, func(h head) bool { return h.blob == blob })
		if !named {
			removeBlob(l.batch, blob)
		}
	}
	for _, h := range l.heads {
		l.nextBlob = max(l.nextBlob, h.blob+1) // one without data has no chunks
	}
	if l.batch.Empty() {
		return nil
	}
	return l.commit(false)
}

// blobs returns the numbers of all blobs of which there is a chunk, jumping
// from one to the next.
func (l *Log) blobs() ([]uint64, error) {
	it, err := l.store.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{kindChunk},
		UpperBound: []byte{kindChunk + 1},
	})
	if err != nil {
		return nil, readError("checkpoints", err)
	}
	defer func() { _ = it.Close() }()
	var blobs []uint64
	for ok := it.First(); ok; {
		blob, valid := blobOf(it.Key())
		if !valid {
			return nil, corrupt("key %x where a chunk of a checkpoint should be", it.Key())
		}
		blobs = append(blobs, blob)
		ok = it.SeekGE(blobKey(blob + 1))
	}
	return blobs, readErrorOrNil("checkpoints", it.Error())
}

func readErrorOrNil(what string, err error) error {
	if err == nil {
		return nil
	}
	return readError(what, err)
}
