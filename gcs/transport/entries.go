package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// ErrEntriesCorrupt marks log entries that are not those that were asked for.
// The remedy is to ask again.
var ErrEntriesCorrupt = errors.New("transport: log entries are corrupt")

// entryChunkBytes is about how many bytes of entries share a chunk; a single
// entry may be larger, up to maxEntryBytes.
const (
	entryChunkBytes = 1 << 20
	maxEntryBytes   = DefaultMaxMessageBytes
)

// Entries asks the member at addr for the entries of its log that req names,
// and hands them to take in the order of the log, some at a time; they are the
// taker's. c and the errors are as for [Join]; an error of take ends it and is
// returned. Without an error take has had all entries, with consecutive indexes
// and terms that do not fall; what is not so is [ErrEntriesCorrupt].
func Entries(ctx context.Context, addr string, req *peerpb.EntriesRequest, c *tls.Config, take func([]*raftpb.Entry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err := call("entries of the log", addr, c, func(peer peerpb.PeerClient) (struct{}, error) {
		const overhead = 1 << 10
		stream, err := peer.Entries(ctx, req, grpc.MaxCallRecvMsgSize(max(entryChunkBytes, maxEntryBytes)+overhead))
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, receiveEntries(stream, entryRange{next: req.GetFirst(), last: req.GetLast()}, take)
	})
	return err
}

// receiveEntries takes a stream of chunks to its end.
func receiveEntries(stream grpc.ServerStreamingClient[peerpb.EntriesChunk], want entryRange, take func([]*raftpb.Entry) error) error {
	for {
		chunk, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && want.next == want.last+1:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("broke off before index %d: %w", want.next, io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
		entries, err := want.decode(chunk)
		if err != nil {
			return err
		}
		if err := take(entries); err != nil {
			return err
		}
	}
}

// entryRange is what is still to come of a range of a log.
type entryRange struct {
	next, last uint64 // indexes; all came when next is above last
	term       uint64 // of the entry before next, 0 when that is not known
}

// check says whether e is the next entry, and goes on behind it.
func (r *entryRange) check(e *raftpb.Entry) error {
	if r.next > r.last || e.GetIndex() != r.next || e.GetTerm() == 0 || e.GetTerm() < r.term {
		return fmt.Errorf("entry %d of term %d where %d is next, of term %d or later, and %d the last",
			e.GetIndex(), e.GetTerm(), r.next, max(r.term, 1), r.last)
	}
	r.next, r.term = r.next+1, e.GetTerm()
	return nil
}

// decode returns the entries of a chunk. The error wraps ErrEntriesCorrupt.
func (r *entryRange) decode(chunk *peerpb.EntriesChunk) ([]*raftpb.Entry, error) {
	if sum := sumEntries(chunk.GetEntries()); sum != chunk.GetCrc32C() {
		return nil, fmt.Errorf("%w: checksum of the chunk at index %d; ask again", ErrEntriesCorrupt, r.next)
	}
	if len(chunk.GetEntries()) == 0 {
		return nil, fmt.Errorf("%w: nothing in the chunk at index %d; ask again", ErrEntriesCorrupt, r.next)
	}
	var entries []*raftpb.Entry
	for _, b := range chunk.GetEntries() {
		e, err := decodeEntry(b)
		if err == nil {
			err = r.check(e)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w; ask again", ErrEntriesCorrupt, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// decodeEntry reads an entry in the one form in which encodeEntry writes it.
func decodeEntry(b []byte) (*raftpb.Entry, error) {
	e := &raftpb.Entry{}
	if err := proto.Unmarshal(b, e); err != nil {
		return nil, err
	}
	if _, known := raftpb.EntryType_name[int32(e.GetType())]; !known {
		return nil, fmt.Errorf("entry %d is of unknown type %d", e.GetIndex(), e.GetType())
	}
	again, err := encodeEntry(e)
	if err != nil || len(e.ProtoReflect().GetUnknown()) > 0 || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("entry %d is not in its canonical form", e.GetIndex())
	}
	return e, nil
}

func encodeEntry(e *raftpb.Entry) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(e)
}

// sumEntries is the checksum of a chunk. It covers the lengths, so that no byte
// passes from one entry to the next unnoticed.
func sumEntries(entries [][]byte) (sum uint32) {
	for _, b := range entries {
		sum = crc32.Update(sum, castagnoli, binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
		sum = crc32.Update(sum, castagnoli, b)
	}
	return sum
}

// Entries passes the request on to the handler, whose entries go into the
// stream.
func (s service) Entries(req *peerpb.EntriesRequest, stream grpc.ServerStreamingServer[peerpb.EntriesChunk]) error {
	r := s.t.identity().checkGroup(req.GetIdentity())
	if r == nil {
		r = checkEntries(req)
	}
	if r != nil {
		s.t.logRefused(req.GetIdentity(), r)
		return s.t.statusOf(r)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.t.ctx, func() { cancel(ErrClosed) })()
	w := &entryWriter{stream: stream, left: entryRange{next: req.GetFirst(), last: req.GetLast()}}
	err := s.t.cfg.Handler.Entries(ctx, req, w.send)
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		s.t.log.Warn("entries of the log ended early", attrPeer, req.GetIdentity().GetRaftId(),
			attrAddress, req.GetIdentity().GetAddress(), attrReason, err)
	}
	return s.t.statusOf(err)
}

// checkEntries says what is wrong with a request, of a member of the group, for
// entries.
func checkEntries(req *peerpb.EntriesRequest) *RefusedError {
	if first, last := req.GetFirst(), req.GetLast(); first == 0 || first > last || last == math.MaxUint64 {
		return malformedRequest("entries %d to %d of a log are asked for; indexes begin with 1 and rise", first, last)
	}
	if n := len(req.GetPlanId()); n != len(gcs.Identity{}.Group) {
		return malformedRequest("the plan's id has %d bytes; it is a UUID, of 16", n)
	}
	return nil
}

// entryWriter sends entries as chunks.
type entryWriter struct {
	stream grpc.ServerStreamingServer[peerpb.EntriesChunk]
	left   entryRange
	chunk  [][]byte
	size   int // of chunk, in bytes
}

// send adds an entry to the chunk, and sends that one when it is full.
func (w *entryWriter) send(e *raftpb.Entry) error {
	if err := w.left.check(e); err != nil {
		return fmt.Errorf("transport: %w", err)
	}
	b, err := encodeEntry(e)
	if err != nil {
		return fmt.Errorf("transport: entry %d: %w", e.GetIndex(), err)
	}
	if len(b) > maxEntryBytes {
		return fmt.Errorf("transport: entry %d has %d bytes, more than the limit of %d", e.GetIndex(), len(b), maxEntryBytes)
	}
	if w.size+len(b) > entryChunkBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.chunk = append(w.chunk, b)
	w.size += len(b)
	return nil
}

// flush sends what is in the chunk.
func (w *entryWriter) flush() error {
	if len(w.chunk) == 0 {
		return nil
	}
	chunk := &peerpb.EntriesChunk{Entries: w.chunk, Crc32C: sumEntries(w.chunk)}
	w.chunk, w.size = nil, 0
	return w.stream.Send(chunk)
}

// finish sends what is left, after the last entry.
func (w *entryWriter) finish() error {
	if w.left.next <= w.left.last {
		return fmt.Errorf("transport: the log was read up to index %d only, and %d was asked for", w.left.next-1, w.left.last)
	}
	return w.flush()
}
