package concordat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// maxAskAgain bounds the pause between two rounds of donors.
const maxAskAgain = 2 * time.Second

// needsClone reports whether what the disk holds cannot be gone on from: the
// log begins after the data end, or there are data that no log explains.
func (n *Node) needsClone() (bool, error) {
	first, err := n.log.FirstIndex()
	if err != nil {
		return false, err
	}
	unexplained, err := n.unexplained()
	return unexplained || n.engine.Position().Index+1 < first, err
}

// unexplained reports whether there are data and no log at all: the log was
// emptied because what this member had is to be replaced, whatever it was.
func (n *Node) unexplained() (bool, error) {
	last, err := n.log.LastIndex()
	return last == 0 && n.engine.Position().Index > 0, err
}

// replaceState installs another member's state in place of this one's. leader is
// the raft id of the member that leads, as far as known. It comes back only when
// that is done, at the end of ctx, or when the member has failed.
func (n *Node) replaceState(ctx context.Context, leader uint64) error {
	defer n.recovery.end()
	failed := map[string]int{}   // by address: number of the attempt
	noted := map[string]string{} // by address: the error that was told
	patience, round := askAgain, 0
	for attempt := 1; ; attempt++ {
		donors, err := n.donors(leader, failed)
		if err != nil {
			return err
		}
		if len(donors) == 0 {
			n.logger.Warn("no member is known to clone from; name some in Seeds", "member", n.id.Member)
		}
		if len(donors) == 0 || donors[0].failed > round {
			if !pause(ctx, patience) {
				return context.Cause(ctx)
			}
			patience, round = min(2*patience, maxAskAgain), attempt
		}
		if len(donors) == 0 {
			continue
		}
		d := donors[0]
		replaced, err := n.cloneFrom(ctx, d)
		if replaced {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n.recovery.size(0) // of nobody's
		failed[d.address] = attempt
		if text := err.Error(); noted[d.address] != text {
			noted[d.address] = text
			n.note(EventCloneFailed, d.uuid, "no copy from %s: %v", d.address, err)
		}
		if err := n.failed(); err != nil {
			return err
		}
	}
}

// donors lists the members to clone from, the best first, and then the seeds,
// of which nothing is known.
func (n *Node) donors(leader uint64, failed map[string]int) ([]candidate, error) {
	known := n.known()
	view := known.View
	if view.ID == 0 {
		// After a restart that already needs a clone, only the checkpoint
		// knows who else is in the group.
		c, err := n.log.Checkpoint(^uint64(0))
		if err != nil {
			return nil, err
		}
		if c.Index > 0 {
			if view, err = replica.CheckpointView(c); err != nil {
				return nil, err
			}
		}
	}
	if known.Leader != 0 {
		leader = known.Leader
	}
	var donors []candidate
	listed := map[string]bool{n.address: true}
	for _, m := range view.Members {
		if m.State == gcs.Online && m.UUID != n.id.Member && !listed[m.Address] {
			listed[m.Address] = true
			c := candidate{
				uuid: m.UUID, raftID: m.RaftID, address: m.Address,
				leader: m.RaftID == leader, failed: failed[m.Address],
			}
			c.heard(known.Peers)
			donors = append(donors, c)
		}
	}
	for _, m := range n.recovery.introduced() {
		if m.UUID != n.id.Member && !listed[m.Address] {
			listed[m.Address] = true
			c := candidate{
				uuid: m.UUID, raftID: m.RaftID, address: m.Address,
				leader: m.RaftID == leader, failed: failed[m.Address],
			}
			c.heard(known.Peers)
			donors = append(donors, c)
		}
	}
	for _, seed := range n.seeds() {
		if !listed[seed] {
			listed[seed] = true
			donors = append(donors, candidate{raftID: ^uint64(0), address: seed, leader: true, failed: failed[seed]})
		}
	}
	rankDonors(donors, n.donorWish())
	return donors, nil
}

// heard takes what the member said of itself last into account.
func (c *candidate) heard(peers []gcs.Peer) {
	for _, p := range peers {
		if p.RaftID == c.raftID {
			c.suspected, c.stalled = p.Unreachable, p.Report.Stalled
			c.exports, c.backlog = p.Report.Exports, p.Report.Delivered-min(p.Report.Delivered, p.Report.Applied)
		}
	}
}

// donorWish is the member that is asked first, by UUID or address.
func (n *Node) donorWish() string {
	if wish := n.donor.Load(); wish != nil {
		return *wish
	}
	return n.cfg.Donor
}

// cloneFrom replaces this member's state by that of a donor. Until replaced is
// true, an error means that another donor, or the same one later, can still be
// tried; after that it means that the disk has failed.
func (n *Node) cloneFrom(ctx context.Context, d candidate) (replaced bool, err error) {
	n.recovery.beginClone(d.uuid, d.address)
	request := &peerpb.CloneRequest{Identity: n.transport.Identity(), Rate: uint64(n.cfg.CloneRate)}
	toldAt := int64(0)
	stream := transport.Clone(ctx, d.address, request, transport.CloneOptions{
		TLS: n.cfg.TLS,
		Broken: func(offset int64, reason error) {
			if offset > toldAt {
				toldAt = offset
				n.note(EventCloneResumed, d.uuid, "the link to %s broke at byte %d, it is dialed again: %v", d.address, offset, reason)
			}
		},
	})
	defer func() { err = errors.Join(err, stream.Close()) }()
	in := progressReader{r: stream, advance: n.recovery.advance}
	c, size, err := readCloneHead(in)
	if err != nil {
		return false, err
	}
	n.recovery.size(size)
	n.note(EventCloneStarted, d.uuid, "copies the state of %s at log index %d, %d bytes", d.address, c.Index, size)
	began := time.Now()
	if replaced, err = n.install(ctx, c, in); err != nil {
		return replaced, fmt.Errorf("clone from %s: %w", d.address, err)
	}
	n.note(EventCloneFinished, d.uuid, "has the state of %s at log index %d, %d bytes in %v",
		d.address, c.Index, size, time.Since(began).Round(time.Millisecond))
	return true, nil
}

// progressReader tells how many bytes came through it.
type progressReader struct {
	r       io.Reader
	advance func(n int)
}

func (p progressReader) Read(b []byte) (n int, err error) {
	n, err = p.r.Read(b)
	p.advance(n)
	return n, err
}

// install puts a checkpoint and the data in r that belong to it in the place of
// what this member has. It returns as [Node.cloneFrom] does.
//
// Log and data are replaced one after the other, and a crash may come between
// the two. Which one goes first is chosen such that what is left then is seen
// to be of no use by [Node.needsClone]:
//
//   - As a rule the log goes first. Were the data to go first, a crash would
//     leave data that the log, which ends before them, does not explain; this
//     way it leaves a log that begins after the data end.
//   - If what the member had must go whatever it was, because it is not what
//     the group has, the log was emptied before, and the data go first. A log
//     that begins anew may begin below the end of the data that are to go: it
//     would seem to explain them. This way a crash leaves data and no log.
func (n *Node) install(ctx context.Context, c gcs.Checkpoint, r io.Reader) (replaced bool, err error) {
	anew, err := n.unexplained()
	if err != nil {
		return true, err
	}
	if !anew {
		if err := n.installLog(c, false); err != nil {
			return !errors.Is(err, errClone), err
		}
	}
	at, err := n.engine.Import(ctx, r)
	if err != nil {
		return false, fmt.Errorf("import: %w", err)
	}
	if at.Index != c.Index {
		return true, fmt.Errorf("%w: data at log index %d, state at %d", errClone, at.Index, c.Index)
	}
	if anew {
		return true, n.installLog(c, true)
	}
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
//
// anew says that the log is empty because nothing that this member has counts
// any more: then any checkpoint will do.
func (n *Node) installLog(c gcs.Checkpoint, anew bool) error {
	first, err := n.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.log.LastIndex()
	if err != nil {
		return err
	}
	if anew && last != 0 {
		return fmt.Errorf("concordat: the log was to be empty, and ends at %d", last)
	}
	if at := n.engine.Position().Index; !anew && (c.Index <= at || c.Index+1 < first) {
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

// cloneMagic begins a clone, and tells the version of what follows.
var cloneMagic = [8]byte{'C', 'C', 'D', 'T', 'C', 'L', 0, 2}

const (
	cloneHeadFixed = len(cloneMagic) + 4*8
	cloneHeadSum   = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cloneHead returns what comes ahead of an engine's export of exportSize
// bytes.
//
//	head := "CCDTCL" version(2) index(8) term(8) len export(8) len data(8) data sum(4)
//
// Numbers are big-endian; sum is the CRC-32C of everything before it.
func cloneHead(c gcs.Checkpoint, exportSize uint64) []byte {
	b := append([]byte(nil), cloneMagic[:]...)
	for _, n := range []uint64{c.Index, c.Term, exportSize, uint64(len(c.Data))} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(b, c.Data...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readCloneHead reads the head of a clone, and returns how many bytes the clone
// has in all.
func readCloneHead(r io.Reader) (c gcs.Checkpoint, size uint64, err error) {
	var head [cloneHeadFixed]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return gcs.Checkpoint{}, 0, err
	}
	if [8]byte(head[:]) != cloneMagic {
		return gcs.Checkpoint{}, 0, fmt.Errorf("%w: it begins with %q, this program knows %q", errClone, head[:8], cloneMagic[:])
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(head[len(cloneMagic)+8*i:]) }
	c = gcs.Checkpoint{Index: number(0), Term: number(1)}
	export, length := number(2), number(3)
	if c.Index == 0 || length > maxCheckpoint || export > 1<<62 {
		return gcs.Checkpoint{}, 0, fmt.Errorf("%w: state of %d and data of %d bytes at log index %d", errClone, length, export, c.Index)
	}
	// Growing as bytes come in, a length that lies costs nothing.
	rest, err := io.ReadAll(io.LimitReader(r, int64(length)+cloneHeadSum))
	if err == nil && uint64(len(rest)) != length+cloneHeadSum {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return gcs.Checkpoint{}, 0, err
	}
	c.Data = rest[:length:length]
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, c.Data)
	if binary.BigEndian.Uint32(rest[length:]) != sum {
		return gcs.Checkpoint{}, 0, fmt.Errorf("%w: checksum of the state at log index %d does not match", errClone, c.Index)
	}
	return c, uint64(cloneHeadFixed) + length + cloneHeadSum + export, nil
}
