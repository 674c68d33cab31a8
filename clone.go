package concordat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// errClone marks a clone that did not come as it should.
var errClone = errors.New("concordat: malformed clone")

// maxCheckpoint bounds what a donor can make a recipient hold in memory.
const maxCheckpoint = 1 << 30

// replaceState installs another member's state in place of this one's: from
// the donor if it can, else from any other member that is known. It comes back
// only with a new life, at the end of ctx, or when the disk fails.
//
// The log goes first. Were the engine to go first, a crash between the two
// would leave data that no log explains; this way it leaves a log that begins
// after the data, which is how the next start knows that a clone is needed.
func (n *Node) replaceState(ctx context.Context, donor uint64) (*life, error) {
	for round := 0; ; round++ {
		addresses, err := n.donors(donor)
		if err != nil {
			return nil, err
		}
		for _, address := range addresses {
			cloned, err := n.cloneFrom(ctx, address)
			if cloned {
				return n.rebirth(ctx, err)
			}
			n.logger.Warn("clone", "member", n.id.Member, "donor", address, "err", err)
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (n *Node) rebirth(ctx context.Context, err error) (*life, error) {
	if err != nil {
		return nil, err
	}
	if _, err = n.nextSession(n.log.Identity()); err != nil {
		return nil, err
	}
	return n.revive(ctx)
}

// donors lists the addresses to clone from, the wanted one first.
func (n *Node) donors(wanted uint64) ([]string, error) {
	view := n.known().View
	if view.ID == 0 {
		// After a restart that already needs a clone, only the checkpoint
		// knows who else is in the group.
		c, err := n.log.Checkpoint(^uint64(0))
		if err != nil {
			return nil, err
		}
		if view, err = replica.CheckpointView(c); err != nil {
			return nil, err
		}
	}
	var addresses []string
	if m, ok := view.Member(wanted); ok {
		addresses = append(addresses, m.Address)
	}
	for _, m := range view.Members {
		if m.State == gcs.Online && m.UUID != n.id.Member && m.RaftID != wanted {
			addresses = append(addresses, m.Address)
		}
	}
	return append(addresses, n.cfg.Seeds...), nil
}

// cloneFrom replaces this member's state by that of the member at address.
// Until replaced is true, an error means that nothing has changed; after that
// it means that the disk has failed.
func (n *Node) cloneFrom(ctx context.Context, address string) (replaced bool, err error) {
	request := &peerpb.CloneRequest{Identity: n.transport.Identity()}
	stream, err := transport.Clone(ctx, address, request, n.cfg.TLS)
	if err != nil {
		return false, err
	}
	defer stream.Close()
	c, err := readCheckpoint(stream)
	if err != nil {
		return false, err
	}
	if at := n.engine.Position().Index; c.Index <= at {
		return false, fmt.Errorf("%w: donor at %s is at log index %d, not ahead of %d here", errClone, address, c.Index, at)
	}
	began := time.Now()
	hs := n.log.HardState()
	next := &raftpb.HardState{Term: new(max(hs.GetTerm(), c.Term)), Vote: new(uint64(0)), Commit: new(c.Index)}
	if next.GetTerm() == hs.GetTerm() {
		next.Vote = new(hs.GetVote()) // a vote is for a term, whatever happens to the log
	}
	if err := n.log.Reset(c, next); err != nil {
		return true, err
	}
	at, err := n.engine.Import(ctx, stream)
	if err != nil {
		return false, fmt.Errorf("import from %s: %w", address, err)
	}
	if at.Index != c.Index {
		return true, fmt.Errorf("%w: data at log index %d, state at %d", errClone, at.Index, c.Index)
	}
	n.logger.Info("cloned", "member", n.id.Member, "donor", address, "index", c.Index, "took", time.Since(began))
	return true, nil
}

// writeCheckpoint writes a checkpoint ahead of an engine's export.
//
//	checkpoint := uint64 index, term, len  data     big-endian
func writeCheckpoint(w io.Writer, c gcs.Checkpoint) error {
	head := binary.BigEndian.AppendUint64(nil, c.Index)
	head = binary.BigEndian.AppendUint64(head, c.Term)
	head = binary.BigEndian.AppendUint64(head, uint64(len(c.Data)))
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(c.Data)
	return err
}

func readCheckpoint(r io.Reader) (gcs.Checkpoint, error) {
	var head [24]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return gcs.Checkpoint{}, err
	}
	c := gcs.Checkpoint{Index: binary.BigEndian.Uint64(head[:]), Term: binary.BigEndian.Uint64(head[8:])}
	size := binary.BigEndian.Uint64(head[16:])
	if c.Index == 0 || size > maxCheckpoint {
		return gcs.Checkpoint{}, fmt.Errorf("%w: state of %d bytes at log index %d", errClone, size, c.Index)
	}
	// Growing as bytes come in, a length that lies costs nothing.
	data, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err == nil && uint64(len(data)) != size {
		err = io.ErrUnexpectedEOF
	}
	c.Data = data
	return c, err
}
