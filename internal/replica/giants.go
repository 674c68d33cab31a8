package replica

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/giant"
	"github.com/concordatdb/concordat/internal/wire"
)

const (
	defaultAssemblyBytes  = 32 << 20
	defaultFragmentWindow = 2
	// maxCopied bounds what a copy of the state carries of giants. They end, or
	// are given up; then the copy can be made.
	maxCopied = 512 << 20
)

// ErrBulk marks a log that does not hold what was delivered in pieces.
var ErrBulk = errors.New("replica: fragments of a transaction cannot be read from the log")

// GiantWriter makes the messages of a transaction that is too large for one: its
// fragments hold the write set, and the payload as it is written. It belongs to one
// goroutine.
type GiantWriter struct {
	parts    *giant.Writer
	writeSet int
}

// NewGiantWriter begins a transaction with its write set. A fragment holds size
// bytes, 0 for as many as is good.
func NewGiantWriter(ws encoding.BinaryAppender, size int) (*GiantWriter, error) {
	if size == 0 {
		size = giant.FragmentBytes
	}
	parts, err := giant.NewWriter(kindFragment, size)
	if err != nil {
		return nil, err
	}
	b, err := ws.AppendBinary(nil)
	if err != nil {
		return nil, fmt.Errorf("replica: write set: %w", err)
	}
	parts.Add(b)
	return &GiantWriter{parts: parts, writeSet: len(b)}, nil
}

// Add writes the next bytes of the payload, which stay the caller's.
func (w *GiantWriter) Add(payload []byte) { w.parts.Add(payload) }

// Size is how many bytes of write set and payload were written.
func (w *GiantWriter) Size() int { return w.parts.Size() }

// Finish returns what to submit. The writer is of no use after it.
func (w *GiantWriter) Finish(h *Header) (fragments [][]byte, message []byte, err error) {
	fragments, total := w.parts.Finish()
	b, err := h.append([]byte{kindEnd})
	if err != nil {
		return nil, nil, err
	}
	for _, n := range []int{total.Fragments, total.Bytes, w.writeSet} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return fragments, binary.BigEndian.AppendUint32(b, total.Sum), nil
}

// end is the message that ends a giant.
type end struct {
	Header
	total    giant.Total
	writeSet int // bytes of the body
}

// decodeEnd decodes what follows the kind.
func decodeEnd(b []byte) (e end, err error) {
	if b, err = e.decode(b); err != nil {
		return end{}, err
	}
	d := wire.Decoder{Rest: b, Kind: ErrMessage}
	fragments, size, writeSet := d.Uvarint(), d.Uvarint(), d.Uvarint()
	sum := d.Bytes(4)
	switch {
	case d.Err != nil:
		return end{}, d.Err
	case len(d.Rest) > 0 || fragments == 0 || fragments > giant.MaxFragments || size > giant.MaxBytes || writeSet > size:
		return end{}, fmt.Errorf("%w: end of %d fragments with %d bytes, %d of them a write set, and %d bytes too many",
			ErrMessage, fragments, size, writeSet, len(d.Rest))
	}
	e.total = giant.Total{Fragments: int(fragments), Bytes: int(size), Sum: binary.BigEndian.Uint32(sum)}
	e.writeSet = int(writeSet)
	return e, nil
}

// Bulk is the payload of a transaction that came in pieces, which may still be in
// the log. It may be read for as long as the engine does not durably have the
// transaction.
type Bulk struct {
	whole *giant.Whole
	from  int // where it begins in the body
}

// PlacedBulk is the payload of a transaction of a batch.
type PlacedBulk struct {
	At   int // its place among the batch's transactions
	Bulk *Bulk
}

// Read returns the payload. It may be called by any goroutine. The error wraps
// ErrBulk.
func (b *Bulk) Read(log gcs.LogReader) ([]byte, error) {
	payload, err := b.whole.Read(b.from, b.whole.Bytes(), logSource{log})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBulk, err)
	}
	return payload, nil
}

// Size is how many bytes Read returns.
func (b *Bulk) Size() int { return b.whole.Bytes() - b.from }

// Load gives Apply the payloads that it lacks. Whoever applies calls it first; it
// takes its time. The error wraps ErrBulk.
func (t *Task) Load(log gcs.LogReader) error {
	for _, p := range t.Bulks {
		payload, err := p.Bulk.Read(log)
		if err != nil {
			return fmt.Errorf("transaction %v: %w", t.Apply.Transactions[p.At].GTID, err)
		}
		t.Apply.Transactions[p.At].Payload = payload
	}
	return nil
}

// Unload takes out of Apply what Load put in, once it was applied: whoever keeps
// the task for a while should not keep that.
func (t *Task) Unload() {
	for _, p := range t.Bulks {
		t.Apply.Transactions[p.At].Payload = nil
	}
}

// Complete returns the checkpoint for a member that does not have this one's log.
// It is called where the task comes to its turn, and takes its time. The error
// wraps ErrBulk.
func (e *Export) Complete(log gcs.LogReader) (gcs.Checkpoint, error) {
	c := e.Checkpoint
	giants, group, own, err := splitState(c)
	if err != nil || c.Index == 0 {
		return c, err
	}
	a, _, err := giant.Restore(giants, 0)
	if err != nil {
		return gcs.Checkpoint{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	if len(a.Origins()) == 0 {
		return c, nil
	}
	if giants, err = a.AppendCopy(nil, logSource{log}); err != nil {
		return gcs.Checkpoint{}, fmt.Errorf("%w: %w", ErrBulk, err)
	}
	c.Data = append(appendSection(appendSection([]byte{0, stateFormat}, giants), group), own...)
	return c, nil
}

// CheckpointServes reports whether a member can start from a checkpoint whose log
// begins at first. One that was taken while a giant was under way may need more of
// the log than what comes after it.
func CheckpointServes(c gcs.Checkpoint, first uint64) bool {
	giants, _, _, err := splitState(c)
	if err != nil || c.Index == 0 {
		return err == nil
	}
	a, _, err := giant.Restore(giants, 0)
	return err == nil && a.Check(first, c.Index) == nil
}

// logSource reads fragments from the member's log.
type logSource struct{ log gcs.LogReader }

// Fragment implements [giant.Source].
func (s logSource) Fragment(index uint64, message int) ([]byte, error) {
	entries, err := s.log.Entries(index, index+1, 0)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("entry %d: the log cannot be read", index)
	}
	msg, err := gcs.FrameMessage(entries[0].GetData(), message)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	if len(msg) == 0 || msg[0] != kindFragment {
		return nil, fmt.Errorf("%w: message %d of entry %d is no fragment", giant.ErrLost, message, index)
	}
	return msg[1:], nil
}

// restoreGiants takes up what serialise wrote of giants.
func (r *Replica) restoreGiants(b []byte, index uint64) error {
	a, rest, err := giant.Restore(b, r.cfg.AssemblyBytes)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	first, err := r.cfg.Group.Log.FirstIndex()
	if err != nil {
		return fmt.Errorf("replica: start of the log: %w", err)
	}
	if err := a.Check(first, index); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	for _, id := range a.Origins() {
		if _, in := r.group.View().Member(id); !in {
			return fmt.Errorf("%w: fragments of %d, which is no member", ErrState, id)
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes behind the giants", ErrState, len(rest))
	}
	r.giants = a
	return nil
}

// endsGiant reports whether a giant may end in an entry: its bytes are read when
// it comes to its turn, and nobody ordered before it should wait for that.
func endsGiant(d *gcs.Delivery) bool {
	for _, msg := range d.Messages {
		if len(msg) > 0 && msg[0] == kindEnd {
			return true
		}
	}
	return false
}

func (r *Replica) deliverFragment(d *gcs.Delivery, body []byte, local localMessage) {
	at := giant.Place{Origin: d.Origin, Session: d.Session, Index: d.Index, Message: r.message}
	part, data, ok := r.giants.Fragment(at, body, r.settings.TransactionSizeLimit)
	if ok {
		r.expect(&part, data)
	}
	if ok && d.Index > r.engine {
		r.tellAhead(Ahead{Part: part})
	}
	if local.kind == kindFragment {
		r.fragmentBack(local.ticket)
	}
}

// deliverEnd certifies a transaction of which everything but the header came
// ahead. Of that the write set alone is looked at here.
func (r *Replica) deliverEnd(d *gcs.Delivery, body []byte, local localMessage) {
	e, err := decodeEnd(body)
	if err != nil {
		r.giants.GiveUp(d.Origin)
		r.deliverUnreadable(d, local)
		return
	}
	t := Transaction{Header: e.Header}
	whole := r.giants.End(d.Origin, d.Session, e.total)
	bulks := len(r.batchBulks)
	outcome := certifier.GivenUp
	defer func() {
		if whole == nil {
			return
		}
		r.expectNoMore(whole.Number(), outcome)
		if len(r.batchBulks) == bulks {
			r.tellAhead(Ahead{Part: giant.Part{Giant: whole.Number()}, Gone: true})
		}
	}()
	switch {
	case e.total.Bytes > giant.Limit(r.settings.TransactionSizeLimit):
		r.giants.Release(whole)
		r.settle(d, &t, certifier.TooLarge, e.total.Bytes, local)
	case whole == nil:
		r.settle(d, &t, certifier.GivenUp, e.total.Bytes, local)
	default:
		t.bulk = &Bulk{whole: whole, from: e.writeSet}
		b, err := whole.Read(0, e.writeSet, logSource{r.cfg.Group.Log})
		if err != nil {
			r.broken = fmt.Errorf("%w: write set of %s: %w", ErrBulk, e.ID, err)
			return
		}
		var rest []byte
		if t.WriteSet, rest, err = certifier.DecodeWriteSet(b); err != nil || len(rest) > 0 {
			r.giants.Release(whole)
			r.deliverUnreadable(d, local)
			return
		}
		outcome = r.settle(d, &t, 0, e.total.Bytes, local)
	}
}

// expectation is a giant of which the certifier knows before its end.
type expectation struct {
	giant uint64
	items *certifier.Expected
}

// expect has the certifier make room for what a giant touches as its write set
// comes: nothing can be delivered while it judges the giant at its end.
func (r *Replica) expect(part *giant.Part, data []byte) {
	if part.Number == 0 {
		r.expected = append(r.expected, expectation{part.Giant, r.cert.Expect()})
	}
	for i := range r.expected {
		if r.expected[i].giant == part.Giant {
			r.expected[i].items.Add(data)
		}
	}
}

// expectNoMore ends that for a giant that was judged, or dropped.
func (r *Replica) expectNoMore(number uint64, o certifier.Outcome) {
	r.expected = slices.DeleteFunc(r.expected, func(x expectation) bool {
		if x.giant == number {
			x.items.Done(o)
		}
		return x.giant == number
	})
}

// bulkWork is a giant that the engine has to apply.
type bulkWork struct {
	index uint64
	whole *giant.Whole
}

// letGo has the bytes of a giant leave the memory: when it was applied, or now if
// it will not be.
func (r *Replica) letGo(d *gcs.Delivery, t *Transaction, o certifier.Outcome) {
	switch {
	case t.bulk == nil:
	case o == certifier.Certified && d.Index > r.engine:
		r.bulks.Push(bulkWork{index: d.Index, whole: t.bulk.whole})
	default:
		r.giants.Release(t.bulk.whole)
	}
}

// outgoing is a giant of this session, of which a few fragments are on their way at
// a time: whatever else is submitted goes between them.
type outgoing struct {
	ticket    uint64
	fragments [][]byte // those to be sent yet
	end       []byte
	begun     bool
	underWay  int // sent and not delivered
}

// sendGiants sends as much of the first giant as the window allows, and after its
// end begins the next one.
func (r *Replica) sendGiants() {
	for r.out.Len() > 0 {
		o := r.out.At(0)
		if !o.begun {
			r.pace.begin()
		}
		for len(o.fragments) > 0 && r.pace.may(o.underWay, r.cfg.FragmentWindow, r.ticks) {
			r.submit(localMessage{kindFragment, o.ticket}, o.fragments[0])
			o.fragments[0] = nil
			o.fragments = o.fragments[1:]
			o.begun = true
			o.underWay++
		}
		if len(o.fragments) > 0 {
			return
		}
		if m := (localMessage{kindTransaction, o.ticket}); r.cfg.Prepares {
			r.submitAlone(m, o.end) // or engines could not show it by itself
		} else {
			r.submit(m, o.end)
		}
		r.out.Pop()
	}
	r.sendDrained()
}

// fragmentBack notes that a fragment of this session was delivered.
func (r *Replica) fragmentBack(ticket uint64) {
	if r.out.Len() > 0 && r.out.At(0).ticket == ticket {
		r.out.At(0).underWay--
		r.pace.ended(r.out.At(0).underWay, r.ticks)
		r.sendGiants()
	}
}

// smallPassed notes that an entry with small transactions was delivered.
func (r *Replica) smallPassed() {
	r.pace.small++
	r.sendGiants()
}

// sendDrained says that no transaction of this member comes any more, once that
// holds for giants as well.
func (r *Replica) sendDrained() {
	if r.drained != nil && r.out.Len() == 0 {
		r.submit(localMessage{}, r.drained)
		r.drained = nil
	}
}

// recallGiants gives up all giants of a member that has lost the right to write:
// their ends would be refused.
func (r *Replica) recallGiants() {
	if r.out.Len() == 0 || r.elect.MayWrite(r.cfg.Group.Identity.RaftID) {
		return
	}
	for r.out.Len() > 0 {
		o := r.out.Pop()
		r.giveUp(&o, certifier.Fenced)
	}
	r.sendDrained()
}

// withdraw gives a giant up that nobody wants any more, if its end was not sent.
func (r *Replica) withdraw(e Withdrawn) {
	found := false
	for range r.out.Len() { // once round, which keeps the order of the others
		o := r.out.Pop()
		if o.ticket == e.Ticket {
			found = true
			r.giveUp(&o, certifier.GivenUp)
			continue
		}
		r.out.Push(o)
	}
	r.effects.Withdrawals = append(r.effects.Withdrawals, WithdrawAnswer{Asked: e.Asked, Done: found})
	r.sendGiants()
}

// giveUp has the others forget what they have of a giant, and answers its caller.
func (r *Replica) giveUp(o *outgoing, why certifier.Outcome) {
	if o.begun {
		r.submit(localMessage{}, []byte{kindGiveUp})
	}
	r.refuse(o.ticket, why)
}
