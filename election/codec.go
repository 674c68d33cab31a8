package election

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/wire"
)

// ErrMessage marks bytes that are not a message of an election.
var ErrMessage = errors.New("election: malformed message")

// The bodies of the messages; who broadcasts them puts a kind in front. All
// numbers are uvarints, ids of members ascend, and nothing follows.
//
//	description := version weight oldest newest text
//	founding    := mode protocol
//	deposal     := epoch term target  count id*  count (id applied)*  text
//	action      := uuid(16) kind epoch view target protocol grace force(0|1) text
//	drain       := uuid(16) open
//	lapse       := uuid(16) term
//	cancel      := uuid(16)
//	text        := len utf8

func appendUvarints(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func bit(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// decoder takes apart what the functions above put together.
type decoder struct{ wire.Decoder }

func decode(b []byte, kind error) decoder { return decoder{wire.Decoder{Rest: b, Kind: kind}} }

// uvarintMax takes a number that is at most most.
func (d *decoder) uvarintMax(most uint64) uint64 {
	n := d.Uvarint()
	if n > most {
		d.Fail("%d is out of bounds, %d is the most", n, most)
		return 0
	}
	return n
}

// count takes how many items follow, each of at least size bytes.
func (d *decoder) count(size int) int {
	n := d.Uvarint()
	if n > uint64(len(d.Rest)/size) {
		d.Fail("%d items wanted, %d bytes left", n, len(d.Rest))
		return 0
	}
	return int(n)
}

func (d *decoder) bool() bool { return d.uvarintMax(1) == 1 }

// text takes text of at most most bytes.
func (d *decoder) text(most int) string {
	s := string(d.Bytes(int(d.uvarintMax(uint64(most)))))
	if !isText(s) {
		d.Fail("%q is not text on one line", s)
		return ""
	}
	return s
}

func (d *decoder) uuid() (u gtid.UUID) {
	copy(u[:], d.Bytes(len(u)))
	return u
}

// id takes the id of an action.
func (d *decoder) id() gtid.UUID {
	u := d.uuid()
	if u.IsZero() {
		d.Fail("an action has no id")
	}
	return u
}

// ascending takes a raft id that must be greater than the one before it.
func (d *decoder) ascending(before uint64) uint64 {
	id := d.Uvarint()
	if id <= before {
		d.Fail("raft id %d follows %d", id, before)
	}
	return id
}

// finish returns the first error, and one if anything is left.
func (d *decoder) finish() error {
	if len(d.Rest) > 0 {
		d.Fail("%d bytes too many", len(d.Rest))
	}
	return d.Err
}

// AppendDescription appends the body of an opening. The description must have
// passed its Check.
func AppendDescription(b []byte, m Description) []byte {
	b = appendUvarints(b, uint64(m.Version), uint64(m.Weight), uint64(m.Oldest), uint64(m.Newest))
	return appendText(b, m.ClientAddress)
}

// DecodeDescription reads what [AppendDescription] wrote. The error wraps
// [ErrMessage], as those of all that decode messages.
func DecodeDescription(b []byte) (Description, error) {
	d := decode(b, ErrMessage)
	m := Description{
		Version: Version(d.uvarintMax(math.MaxUint32)), Weight: uint32(d.uvarintMax(MaxWeight)),
		Oldest: Protocol(d.uvarintMax(math.MaxUint32)), Newest: Protocol(d.uvarintMax(math.MaxUint32)),
		ClientAddress: d.text(MaxClientAddress),
	}
	if err := m.Check(); d.Err == nil && err != nil {
		d.Fail("%v", err)
	}
	return m, d.finish()
}

// AppendFounding appends the body of the message by which a founder gives its
// group a mode and a protocol; see [State.Found].
func AppendFounding(b []byte, mode Mode, p Protocol) []byte {
	return appendUvarints(b, uint64(mode), uint64(p))
}

// DecodeFounding reads what [AppendFounding] wrote.
func DecodeFounding(b []byte) (Mode, Protocol, error) {
	d := decode(b, ErrMessage)
	mode, p := d.mode(), d.protocol()
	return mode, p, d.finish()
}

func (d *decoder) mode() Mode {
	m := Mode(d.uvarintMax(uint64(MultiPrimary)))
	if m == 0 {
		d.Fail("no mode")
	}
	return m
}

func (d *decoder) protocol() Protocol {
	p := Protocol(d.uvarintMax(math.MaxUint32))
	if p < FirstProtocol {
		d.Fail("protocol %d, they count from %d", p, FirstProtocol)
	}
	return p
}

// AppendDeposal appends the body of a deposal. Evidence that is too long is cut.
func AppendDeposal(b []byte, m Deposal) []byte {
	b = appendUvarints(b, m.Epoch, m.Term, m.Target, uint64(len(m.Passed)))
	b = appendUvarints(b, m.Passed...)
	b = appendUvarints(b, uint64(len(m.Progress)))
	for _, p := range m.Progress {
		b = appendUvarints(b, p.RaftID, p.Applied)
	}
	return appendText(b, clip(m.Evidence, MaxReason))
}

// DecodeDeposal reads what [AppendDeposal] wrote.
func DecodeDeposal(b []byte) (Deposal, error) {
	d := decode(b, ErrMessage)
	m := Deposal{Epoch: d.Uvarint(), Term: d.Uvarint(), Target: d.Uvarint()}
	last := uint64(0)
	for range d.count(1) {
		last = d.ascending(last)
		m.Passed = append(m.Passed, last)
	}
	last = 0
	for range d.count(2) {
		last = d.ascending(last)
		m.Progress = append(m.Progress, Progress{last, d.Uvarint()})
	}
	m.Evidence = d.text(MaxReason)
	return m, d.finish()
}

// AppendAction appends the body of an action: what its asker says of it.
func AppendAction(b []byte, a Action) []byte {
	b = append(b, a.ID[:]...)
	b = appendUvarints(b, uint64(a.Kind), a.Epoch, a.View, a.Target, uint64(a.Protocol), a.Grace, bit(a.Force))
	return appendText(b, a.Reason)
}

// DecodeAction reads what [AppendAction] wrote. What no action can be, whatever
// the group is like, is an error; the rest is judged by [State.Begin].
func DecodeAction(b []byte) (Action, error) {
	d := decode(b, ErrMessage)
	a := d.action()
	if why := a.misfit(); d.Err == nil && why != "" {
		d.Fail("%s", why)
	}
	return a, d.finish()
}

func (d *decoder) action() Action {
	return Action{
		ID: d.id(), Kind: ActionKind(d.uvarintMax(uint64(SetProtocol))), Epoch: d.Uvarint(), View: d.Uvarint(),
		Target: d.Uvarint(), Protocol: Protocol(d.uvarintMax(math.MaxUint32)), Grace: d.Uvarint(), Force: d.bool(),
		Reason: d.text(MaxReason),
	}
}

// AppendDrain appends the body of a member's message that it has drained.
func AppendDrain(b []byte, m Drain) []byte { return appendUvarints(append(b, m.Action[:]...), m.Open) }

// DecodeDrain reads what [AppendDrain] wrote.
func DecodeDrain(b []byte) (Drain, error) {
	d := decode(b, ErrMessage)
	// Sums of what members say must not overflow.
	m := Drain{Action: d.id(), Open: d.uvarintMax(math.MaxUint32)}
	return m, d.finish()
}

// AppendLapse appends the body of a leader's message that a grace is over.
func AppendLapse(b []byte, m Lapse) []byte { return appendUvarints(append(b, m.Action[:]...), m.Term) }

// DecodeLapse reads what [AppendLapse] wrote.
func DecodeLapse(b []byte) (Lapse, error) {
	d := decode(b, ErrMessage)
	m := Lapse{Action: d.id(), Term: d.Uvarint()}
	return m, d.finish()
}

// AppendCancel appends the body of a message that cancels an action.
func AppendCancel(b []byte, id gtid.UUID) []byte { return append(b, id[:]...) }

// DecodeCancel reads what [AppendCancel] wrote.
func DecodeCancel(b []byte) (gtid.UUID, error) {
	d := decode(b, ErrMessage)
	id := d.id()
	return id, d.finish()
}
