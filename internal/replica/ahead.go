package replica

import (
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/giant"
)

// Ahead tells whoever gets ready for giants of a fragment that has come. It stands in
// the order of the tasks no later than what was ordered behind it, and the first one
// behind everything that was ordered before its entry.
type Ahead struct {
	Part giant.Part
	// Whole says that all of the giant has come, of which Part has the number alone:
	// its end was ordered, and is judged next.
	Whole bool
	// Gone says that the giant, of which Part has the number alone, will not come to
	// its turn.
	Gone bool
}

// tellAhead tells of a giant.
func (r *Replica) tellAhead(a Ahead) {
	if r.cfg.Prepares && a.Part.Giant != 0 {
		r.emit(Task{Ahead: &a}, 0)
	}
}

// pauses reports whether the step is over before the next delivery, which ends a giant:
// to judge that takes a while. Others who wait for what this step sends need not wait
// for it, as those who are to deliver it, too; and the engine finishes what it got ready
// meanwhile.
func (r *Replica) pauses() bool {
	index, origin, first := r.group.Upcoming()
	if len(first) == 0 || first[0] != kindEnd || index == r.paused {
		return r.effects.More
	}
	r.paused, r.effects.More = index, true
	r.closeBatch()
	if index > r.engine {
		r.tellAhead(Ahead{Part: giant.Part{Giant: r.giants.Number(origin)}, Whole: true})
	}
	return true
}

// beginsGiant reports whether a giant may begin in an entry.
func beginsGiant(d *gcs.Delivery) bool {
	for _, msg := range d.Messages {
		if len(msg) > 1 && msg[0] == kindFragment && msg[1] == 0 {
			return true
		}
	}
	return false
}

// Giant returns the number of the giant among those of which Ahead has told, 0 if it
// has not, and of how many fragments it is.
func (b *Bulk) Giant() (number uint64, fragments int) { return b.whole.Number(), b.whole.Fragments() }

// PayloadReader takes the payload out of the fragments of a giant, one after the
// other. It belongs to one goroutine.
type PayloadReader struct {
	log   logSource
	parts giant.PartReader
	head  []byte // while the write set, which comes first, is not whole
	look  int    // so much of it there must be before it is looked at again
	from  int    // where the payload begins, 0 while that is not known
}

// ErrNoPayload says that the payload of a giant is not to be found before its end
// tells where it is.
var ErrNoPayload = errors.New("replica: the payload cannot be told from the write set")

// maxHead bounds how much of a giant is held to find its payload.
const maxHead = 64 << 20

// NewPayloadReader makes a reader of what a log holds.
func NewPayloadReader(log gcs.LogReader) *PayloadReader { return &PayloadReader{log: logSource{log}} }

// Next returns how the payload goes on with a fragment, which may be by nothing.
// Nobody may change it. An error wraps ErrBulk if the fragment cannot be read, or else
// ErrNoPayload.
func (p *PayloadReader) Next(a *Ahead) ([]byte, error) {
	b, err := p.parts.Read(&a.Part, p.log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBulk, err)
	}
	if p.from > 0 {
		return b, nil
	}
	if p.head = append(p.head, b...); len(p.head) < p.look {
		return nil, nil
	}
	return p.find()
}

// Rest returns what of the payload was not returned yet, once nothing more comes.
func (p *PayloadReader) Rest() ([]byte, error) {
	if p.from > 0 {
		return nil, nil
	}
	p.look = 0
	rest, err := p.find()
	if err == nil && p.from == 0 {
		err = fmt.Errorf("%w: all of it is %d bytes", ErrNoPayload, len(p.head))
	}
	return rest, err
}

// find takes the write set off the front. How long it is, it says itself; as long as
// it is cut off it cannot be decoded, and is tried again when there is twice as much.
func (p *PayloadReader) find() ([]byte, error) {
	_, rest, err := certifier.DecodeWriteSet(p.head)
	if err != nil {
		if p.look = 2 * len(p.head); p.look > maxHead {
			return nil, fmt.Errorf("%w: %d bytes: %w", ErrNoPayload, len(p.head), err)
		}
		return nil, nil
	}
	p.from, p.head = len(p.head)-len(rest), nil
	return rest, nil
}

// Of reports whether the payload that was returned is that of a transaction.
func (p *PayloadReader) Of(b *Bulk) bool { return p.from == b.from }
