package concordat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

const (
	// maxDonations is how many copies of its state a member gives at a time.
	maxDonations = 2
	// donationLinger is how long a copy is kept after the link broke, or after
	// the last byte was sent and may have been lost. It holds on to disk space.
	donationLinger = 30 * time.Second
)

// candidate is a member that may give a copy of its state.
type candidate struct {
	uuid    gtid.UUID // zero when only the address is known
	raftID  uint64
	address string

	leader    bool // it orders transactions, which a copy would slow down
	suspected bool // it is not heard
	stalled   bool // its disk takes too long
	exports   uint64
	backlog   uint64 // log entries that it has not applied yet
	// failed is the number of the attempt in which it gave no copy; 0: none.
	failed int
}

// rankDonors puts candidates in the order in which to ask them. Those that have
// failed come last, who failed first before the others; ahead of the rest comes
// the named one, by UUID or address. Then those that are well, the leader after
// the others, and the least busy: with the fewest copies under way, then with
// the least to catch up.
func rankDonors(candidates []candidate, named string) {
	rank := func(bad bool) int {
		if bad {
			return 1
		}
		return 0
	}
	isNamed := func(c candidate) bool {
		return named != "" && (c.address == named || !c.uuid.IsZero() && c.uuid.String() == named)
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.failed, b.failed),
			-cmp.Compare(rank(isNamed(a)), rank(isNamed(b))),
			cmp.Compare(rank(a.suspected), rank(b.suspected)),
			cmp.Compare(rank(a.stalled), rank(b.stalled)),
			cmp.Compare(rank(a.exports >= maxDonations), rank(b.exports >= maxDonations)),
			cmp.Compare(rank(a.leader), rank(b.leader)),
			cmp.Compare(a.exports, b.exports),
			cmp.Compare(a.backlog, b.backlog),
			cmp.Compare(a.raftID, b.raftID),
		)
	})
}

// donations are the copies of its state that a member gives. The zero value is
// ready for use. All methods are safe for concurrent use.
type donations struct {
	mu     sync.Mutex
	copies map[donationKey]*donation
	wg     sync.WaitGroup // of what was taken out of copies and is being closed
}

// donationKey is who asks, and the number of the copy among theirs.
type donationKey struct{ raftID, copy uint64 }

// donation is one copy: a stream of bytes that does not change.
type donation struct {
	head   []byte         // what comes ahead of the export
	export applier.Export // nil while it is being pinned

	// Guarded by donations.mu.
	cancel context.CancelCauseFunc // ends the stream that is being written; nil: there is none
	idle   chan struct{}           // closed when that has ended
	linger *time.Timer             // runs while there is no stream
	sent   bool                    // the whole of it was sent
}

var (
	errDonationRenewed = errors.New("concordat: the member asked for this copy again")
	errDonorStops      = errors.New("concordat: this member stops giving copies of its state")
)

// given returns how many copies are being given now. Those that were sent whole
// and wait for a last question do not count.
func (d *donations) given() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return uint64(d.givenLocked())
}

func (d *donations) givenLocked() (n int) {
	for _, c := range d.copies {
		if !c.sent {
			n++
		}
	}
	return n
}

// givingStream is one stream that writes a copy, or the rest of it.
type givingStream struct {
	*donation
	done func(complete bool)
}

// take returns a stream for the copy that a request is about, and the context
// for it, which ends also when the copy is taken away. A new copy is made by pin,
// if there is a place. The caller calls done when it has written what it could,
// and says whether that was all.
func (d *donations) take(
	ctx context.Context, req *peerpb.CloneRequest, pin func(context.Context) (*donation, error),
) (context.Context, *givingStream, error) {
	key := donationKey{req.GetIdentity().GetRaftId(), req.GetCopy()}
	if err := d.endStream(ctx, key); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s, found, err := d.claim(key, req.GetOffset(), cancel)
	if err != nil {
		cancel(err)
		return nil, nil, err
	}
	if found {
		return ctx, s, nil
	}
	pinned, err := pin(ctx)
	if err != nil {
		d.remove(key, s.donation)
		return nil, nil, err
	}
	d.mu.Lock()
	s.head, s.export = pinned.head, pinned.export
	d.mu.Unlock()
	return ctx, s, nil
}

// claim returns a stream, which cancel ends, for the copy that there is, or for a
// new one.
func (d *donations) claim(
	key donationKey, offset uint64, cancel context.CancelCauseFunc,
) (_ *givingStream, found bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, found := d.copies[key]
	switch {
	case found && c.cancel != nil:
		return nil, found, errDonationRenewed // another request was quicker
	case !found && offset > 0:
		return nil, found, &transport.RefusedError{
			Reason: peerpb.RefusalReason_REFUSAL_REASON_COPY_GONE,
			Text:   "this member does not keep that copy of its state any more; begin a new one",
		}
	case !found:
		d.dropOthers(key.raftID)
		if d.givenLocked() >= maxDonations {
			return nil, found, &transport.RefusedError{
				Reason: peerpb.RefusalReason_REFUSAL_REASON_BUSY,
				Text:   fmt.Sprintf("this member gives %d copies of its state already; ask another one, or later", maxDonations),
			}
		}
		if d.copies == nil {
			d.copies = map[donationKey]*donation{}
		}
		c = &donation{}
		d.copies[key] = c
	default:
		c.linger.Stop()
	}
	c.cancel, c.idle, c.sent = cancel, make(chan struct{}), false
	return &givingStream{donation: c, done: func(complete bool) { d.pause(key, c, complete) }}, found, nil
}

// endStream ends the stream that still writes the copy, if there is one: the
// member that asks again has given it up.
func (d *donations) endStream(ctx context.Context, key donationKey) error {
	d.mu.Lock()
	c := d.copies[key]
	if c == nil || c.cancel == nil {
		d.mu.Unlock()
		return nil
	}
	c.cancel(errDonationRenewed)
	idle := c.idle
	d.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dropOthers takes away what a member has begun before and given up. The caller
// holds d.mu.
func (d *donations) dropOthers(raftID uint64) {
	for key, c := range d.copies {
		if key.raftID == raftID {
			d.dropLocked(key, c)
		}
	}
}

// dropLocked takes a copy away, and closes it once no stream writes it. The
// caller holds d.mu.
func (d *donations) dropLocked(key donationKey, c *donation) {
	delete(d.copies, key)
	if c.cancel != nil {
		c.cancel(errDonorStops) // the end of the stream closes it
		return
	}
	c.linger.Stop()
	d.wg.Go(c.close)
}

// pause ends a stream, and keeps the copy for a while.
func (d *donations) pause(key donationKey, c *donation, complete bool) {
	d.mu.Lock()
	kept, idle := d.copies[key] == c, c.idle
	c.cancel(nil)
	c.cancel, c.sent = nil, complete
	if kept {
		c.linger = time.AfterFunc(donationLinger, func() { d.expire(key, c) })
	}
	d.mu.Unlock()
	if !kept {
		c.close()
	}
	close(idle)
}

// expire takes a copy away that nobody has asked for again.
func (d *donations) expire(key donationKey, c *donation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.copies[key] == c && c.cancel == nil {
		d.dropLocked(key, c)
	}
}

// remove takes away a copy that came to nothing.
func (d *donations) remove(key donationKey, c *donation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.copies[key] == c {
		delete(d.copies, key)
	}
	c.cancel(nil)
	close(c.idle)
}

// end takes all copies away, ends the streams that write them, and returns when
// nothing is pinned any more.
func (d *donations) end() {
	d.mu.Lock()
	var busy []chan struct{}
	for key, c := range d.copies {
		if c.cancel != nil {
			busy = append(busy, c.idle)
		}
		d.dropLocked(key, c)
	}
	d.mu.Unlock()
	for _, idle := range busy {
		<-idle
	}
	d.wg.Wait()
}

func (c *donation) close() {
	if c.export != nil {
		_ = c.export.Close() // nothing depends on it any more
	}
}

// writeTo writes the copy from byte from on.
func (c *donation) writeTo(ctx context.Context, w io.Writer, from uint64) error {
	if whole := uint64(len(c.head)) + uint64(c.export.Size()); from > whole {
		return fmt.Errorf("concordat: copy of %d bytes, asked for from byte %d on", whole, from)
	}
	if head := uint64(len(c.head)); from < head {
		if _, err := w.Write(c.head[from:]); err != nil {
			return err
		}
		from = head
	}
	return c.export.WriteTo(ctx, w, int64(from)-int64(len(c.head)))
}

// Clone implements [transport.Handler]: it gives another member the whole
// state, the group's half first.
func (h *peerHandler) Clone(ctx context.Context, req *peerpb.CloneRequest, w io.Writer) error {
	n := (*Node)(h)
	l := h.life.Load()
	if l == nil {
		return notOnline("it is stopping")
	}
	var asker gtid.UUID
	copy(asker[:], req.GetIdentity().GetMember())
	ctx, stream, err := n.donations.take(ctx, req, l.pin)
	if err != nil {
		return err
	}
	n.note(EventDonor, asker, "copies the state of this member, from byte %d on", req.GetOffset())
	err = stream.writeTo(ctx, w, req.GetOffset())
	stops := errors.Is(context.Cause(ctx), errDonorStops)
	stream.done(err == nil)
	if err != nil && stops {
		return notOnline("it stops")
	}
	return err
}

// pin has the state machine take a checkpoint, and the engine's state at that
// very place be pinned.
func (l *life) pin(ctx context.Context) (*donation, error) {
	x, err := l.pinned(ctx)
	if err != nil {
		return nil, notOnline(err.Error())
	}
	return &donation{head: cloneHead(x.checkpoint, uint64(x.export.Size())), export: x.export}, nil
}

func notOnline(why string) error {
	return &transport.RefusedError{
		Reason: peerpb.RefusalReason_REFUSAL_REASON_NOT_ONLINE,
		Text:   "this member cannot give a copy of its state now: " + why + "; ask another one",
	}
}
