package concordat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// ErrDump marks what is no dump, or not a whole one.
var ErrDump = errors.New("concordat: malformed dump")

// ErrDumpBusy: the member gives as many dumps as it may at a time. Ask another one,
// or later.
var ErrDumpBusy = errors.New("concordat: this member gives dumps already; ask another one, or later")

// maxDumps is how many dumps a member gives at a time. Each pins files on its disk.
const maxDumps = 2

// DumpInfo is what a dump says of itself.
type DumpInfo struct {
	Group, Incarnation, Member gtid.UUID // from which it comes
	// Time is when it was made, by the member's clock.
	Time time.Time
	// Position is what it contains, exactly: [Node.Changes] goes on from its GTIDs.
	// Digest is that of the data.
	Position applier.Position
	Digest   Digest
}

// The head of a dump.
//
//	dump := "CCDTDP" version(2) group(16) incarnation(16) member(16) time(8)
//	        digest(16) len position(4) position sum(4) export
//
// Numbers are big-endian, the time is in microseconds since 1970 in UTC; sum is the
// CRC-32C of everything before it. The export is the engine's, and has its own sums.
var dumpMagic = [8]byte{'C', 'C', 'D', 'T', 'D', 'P', 0, 1}

const (
	dumpFixed = len(dumpMagic) + 3*len(gtid.UUID{}) + 8 + len(Digest{}) + 4
	// maxDumpPosition bounds what reading a head takes in memory.
	maxDumpPosition = 64 << 20
)

func (d *DumpInfo) append(b []byte) []byte {
	b = append(b, dumpMagic[:]...)
	for _, u := range []gtid.UUID{d.Group, d.Incarnation, d.Member} {
		b = append(b, u[:]...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(d.Time.UnixMicro()))
	b = append(b, d.Digest[:]...)
	position, _ := d.Position.AppendBinary(nil) // its error is always nil
	b = binary.BigEndian.AppendUint32(b, uint32(len(position)))
	b = append(b, position...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// ReadDumpInfo reads the head of a dump. What follows it in r is the engine's export.
// The error wraps [ErrDump] unless it is r's.
func ReadDumpInfo(r io.Reader) (d DumpInfo, err error) {
	head := make([]byte, dumpFixed, 4<<10)
	if _, err := io.ReadFull(r, head); err != nil {
		return d, dumpCut(err)
	}
	if [8]byte(head) != dumpMagic {
		return d, fmt.Errorf("%w: it begins with %q, this program knows %q", ErrDump, head[:8], dumpMagic[:])
	}
	size := binary.BigEndian.Uint32(head[dumpFixed-4:])
	if size > maxDumpPosition {
		return d, fmt.Errorf("%w: position of %d bytes", ErrDump, size)
	}
	// Growing as bytes come in, a length that lies costs nothing.
	rest, err := io.ReadAll(io.LimitReader(r, int64(size)+4))
	if err == nil && len(rest) != int(size)+4 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return d, dumpCut(err)
	}
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, rest[:size])
	if sum != binary.BigEndian.Uint32(rest[size:]) {
		return d, fmt.Errorf("%w: checksum of its head does not match", ErrDump)
	}
	b := head[len(dumpMagic):]
	for _, u := range []*gtid.UUID{&d.Group, &d.Incarnation, &d.Member} {
		b = b[copy(u[:], b):]
	}
	d.Time = time.UnixMicro(int64(binary.BigEndian.Uint64(b)))
	copy(d.Digest[:], b[8:])
	position, left, err := applier.DecodePosition(rest[:size])
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d bytes too many", len(left))
	}
	if err == nil && position.Index == 0 {
		err = errors.New("it is of no log index")
	}
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrDump, err)
	}
	d.Position = position
	return d, nil
}

// dumpCut says what an early end of a dump means, and leaves other errors of the
// reader alone.
func dumpCut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off: %w", ErrDump, io.ErrUnexpectedEOF)
	}
	return err
}

// Dump writes the whole state of this member to w as it is at one moment: a backup,
// of which [Restore] makes the data of a new group, and the beginning of a consumer
// that has nothing yet, which goes on by [Node.Changes] from the GTIDs in it. The
// group goes on meanwhile; what is pinned takes disk space until w has taken it all.
//
// The error matches [ErrNotOnline], [ErrDumpBusy], or is w's or the cause of ctx. What
// was written is of no use then.
func (n *Node) Dump(ctx context.Context, w io.Writer) (DumpInfo, error) {
	l := n.life.Load()
	if err := n.serving(); err != nil {
		return DumpInfo{}, err
	}
	if l == nil {
		return DumpInfo{}, n.notServing()
	}
	if n.dumps.Add(1) > maxDumps {
		n.dumps.Add(-1)
		return DumpInfo{}, ErrDumpBusy
	}
	defer n.dumps.Add(-1)
	x, err := l.pinned(ctx)
	if err != nil {
		return DumpInfo{}, err
	}
	defer x.close()
	s := n.standing.Load()
	info := DumpInfo{
		Group: n.id.Group, Incarnation: s.View.Incarnation, Member: n.id.Member, Time: time.Now(),
		Position: x.export.Position(), Digest: x.digest,
	}
	n.note(EventDump, n.id.Member, "a dump at log index %d, %d bytes, is being given", info.Position.Index, x.export.Size())
	if _, err := w.Write(info.append(nil)); err != nil {
		return info, err
	}
	if err := x.export.WriteTo(ctx, w, 0); err != nil {
		if ctx.Err() != nil {
			return info, context.Cause(ctx)
		}
		return info, err
	}
	return info, nil
}

// pinned has the state machine take a checkpoint, and the engine's state at that very
// place be pinned. The caller closes it.
func (l *life) pinned(ctx context.Context) (exported, error) {
	ticket, answers := l.exports.add()
	defer func() {
		l.exports.drop(ticket)
		select {
		case x := <-answers: // it came as the asker went
			x.close()
		default:
		}
	}()
	l.inbox.put(replica.ExportAsked{Ticket: ticket})
	var x exported
	select {
	case x = <-answers:
	case <-l.done:
		return exported{}, l.node.notServing()
	case <-ctx.Done():
		return exported{}, context.Cause(ctx)
	}
	if x.err != nil {
		x.close()
		return exported{}, fmt.Errorf("%w: the state cannot be pinned now: %w", ErrNotOnline, x.err)
	}
	return x, nil
}
