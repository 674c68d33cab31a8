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
// only with a new life, at the end of ctx, or when the member has failed.
func (n *Node) replaceState(ctx context.Context, donor uint64) (*life, error) {
	for {
		addresses, err := n.donors(donor)
		if err != nil {
			return nil, err
		}
		if len(addresses) == 0 {
			n.logger.Warn("no member is known to clone from; name some in Seeds", "member", n.id.Member)
		}
		for _, address := range addresses {
			cloned, err := n.cloneFrom(ctx, address)
			if cloned {
				return n.rebirth(ctx, err)
			}
			n.logger.Warn("clone", "member", n.id.Member, "donor", address, "err", err)
			if err := n.failed(); err != nil {
				return nil, err
			}
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
// Until replaced is true, an error means that another donor, or the same one
// later, can still be tried; after that it means that the disk has failed.
//
// The log goes first. Were the engine to go first, a crash between the two
// would leave data that no log explains; this way it leaves a log that begins
// after the data, which is how the next start knows that a clone is needed.
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
	began := time.Now()
	switch err := n.installLog(c); {
	case errors.Is(err, errClone):
		return false, fmt.Errorf("donor at %s: %w", address, err)
	case err != nil:
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

// installLog makes the log go on from a checkpoint of another member. An error
// that wraps errClone says that this checkpoint is of no use, and the log is as
// it was.
//
// What this member has answered for must stay, or a majority that counted on it
// is none. There are three cases, by where the checkpoint lies in the log here:
//
//	before its beginning: between the two nothing would be left; useless
//	in it, with the same term: the log is sound, only the data are missing; its
//	  end stays
//	beyond its end, or in it with another term: every entry here either is
//	  in the checkpoint or never was committed; the log begins anew
func (n *Node) installLog(c gcs.Checkpoint) error {
	first, err := n.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.log.LastIndex()
	if err != nil {
		return err
	}
	if at := n.engine.Position().Index; c.Index <= at || c.Index+1 < first {
		return fmt.Errorf("%w: its state is at log index %d; here the data are at %d and the log begins at %d", errClone, c.Index, at, first)
	}
	if c.Index <= last {
		term, err := n.log.Term(c.Index)
		if err != nil {
			return err
		}
		if term == c.Term {
			if err := n.log.SaveCheckpoint(c); err != nil {
				return err
			}
			return n.log.Truncate(c.Index)
		}
	}
	hs := n.log.HardState()
	next := &raftpb.HardState{Term: new(max(hs.GetTerm(), c.Term)), Vote: new(uint64(0)), Commit: new(c.Index)}
	if next.GetTerm() == hs.GetTerm() {
		next.Vote = new(hs.GetVote()) // a vote is for a term, whatever happens to the log
	}
	return n.log.Reset(c, next)
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
