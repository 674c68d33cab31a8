package gcs

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gtid"
)

// ErrMessage marks bytes that are not a message of this protocol version.
var ErrMessage = errors.New("gcs: malformed message")

// MessageKind says which field of a Message is set. The values are part of
// the protocol.
type MessageKind byte

// The kinds of message that members exchange.
const (
	// MessageRaft carries one message of raft itself.
	MessageRaft MessageKind = 1
	// MessageFrame asks the receiver, believed to lead, to propose a frame.
	MessageFrame MessageKind = 2
	// MessageRefusal tells the origin that its frame was not proposed.
	MessageRefusal MessageKind = 3
	// MessageReport tells how far its sender is, and whom it hears.
	MessageReport MessageKind = 4
	// MessageLeave asks the leader to take the sender out of the view.
	MessageLeave MessageKind = 5
	// MessageRemoved tells the receiver that it is no longer in the view.
	MessageRemoved MessageKind = 6
	// MessageRead asks the receiver, believed to lead, from which log index on the
	// sender is up to date.
	MessageRead MessageKind = 7
	// MessageReadIndex answers a MessageRead.
	MessageReadIndex MessageKind = 8
	// MessageDelivered tells how far its sender has delivered the log.
	MessageDelivered MessageKind = 9
)

// Message is what one member says to another. Everything in it is immutable
// once handed over.
type Message struct {
	Kind MessageKind
	// Removed is how the receiver came to be out of the view, for MessageRemoved:
	// by Left, Expelled, Removed, Replaced or Forced; 0 if nobody knows any more.
	Removed ChangeKind
	Raft    *raftpb.Message
	Frame   []byte // an encoded log entry
	Refusal Refusal
	Read    ReadID  // for MessageRead and MessageReadIndex
	Index   uint64  // log index, for MessageReadIndex and MessageDelivered
	Report  *Report // by reference, for messages are copied often and few are reports
}

// Refusal answers a frame that was not proposed. Nothing happened to it; the
// origin sends it again, and those after it.
type Refusal struct {
	Session  uint64 // of the refused frame
	Seq      uint64 // of the refused frame
	Expected uint64 // the sequence number that would be accepted, 0 if none is known
	Leader   uint64 // raft id of the leader the refuser knows of, 0 if none
}

// Report is what a member tells all others about itself, again and again. Losing
// one changes nothing but time. What stands in it must be so: who waits until all
// have delivered an entry, or until somebody shows it, believes it.
type Report struct {
	Delivered uint64 // log index delivered
	Applied   uint64 // log index applied by the engine
	Snapshot  uint64 // log index of the oldest snapshot in use, or Applied
	Exports   uint64 // copies of its state that it gives now
	// Stalled: a write of its log is overdue. It hears the others and is heard,
	// but its votes and acknowledgements wait for that write.
	Stalled bool
	// Recovering: it has no state machine now, for it clones, and so needs
	// nobody's history. Its log indexes are 0, but for Applied: that is of the
	// data that it is to replace, whatever history they are of.
	Recovering bool
	// Session is the last one of the sender in which it may have had a state
	// machine. The next that it has is of a higher one.
	Session uint64
	// Unready: it is heard, but serves no transactions.
	Unready bool
	// Epoch is the newest one it knows. What an epoch is, is for whoever reports
	// it to say.
	Epoch uint64
	// Fresh is how many ticks ago what it shows was up to date, as far as it
	// knows; NeverHeard if it knows nothing of that.
	Fresh uint64
	// Executed is what its engine has executed. It travels empty when its
	// encoding takes more than MaxReportSet bytes.
	Executed gtid.Set
	// Hears is when it last heard each other member of its view, ascending by
	// raft id.
	Hears []Hearing
	// Stats is what its sender tells of its work, at most MaxReportStats bytes. What
	// they mean is for whoever reports them to say.
	Stats []byte
}

// MaxReportStats bounds the statistics in a report, in bytes.
const MaxReportStats = 256

// MaxReportSet bounds the GTID set in a report, in bytes. A set of one interval
// a member takes a quarter of it.
const MaxReportSet = 1 << 10

// AppendMessage appends the encoding of m to b.
//
//	message := kind(1) body
//	raft    := protobuf of raftpb.Message
//	frame   := the log entry's bytes
//	refusal := uvarint session, seq, expected, leader
//	report  := uvarint delivered, applied, snapshot, exports, flags, epoch, fresh, session
//	           set  uvarint count  (uvarint raft id, ticks)*  uvarint len  stats
//	set     := what gtid.Set encodes to
//	leave   := nothing
//	removed := kind of change(1)
//	read    := uvarint session, batch
//	index   := uvarint session, batch, index
//	told    := uvarint index
//
// The flags are 1 for stalled, 2 for recovering and 4 for unready. Numbers are in
// their shortest form.
func AppendMessage(b []byte, m *Message) ([]byte, error) {
	b = append(b, byte(m.Kind))
	switch m.Kind {
	case MessageRaft:
		return proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, m.Raft)
	case MessageFrame:
		return append(b, m.Frame...), nil
	case MessageRefusal:
		r := m.Refusal
		return appendUvarints(b, r.Session, r.Seq, r.Expected, r.Leader), nil
	case MessageReport:
		return appendReport(b, m.Report)
	case MessageLeave:
		return b, nil
	case MessageRemoved:
		return append(b, byte(m.Removed)), nil
	case MessageRead:
		return appendUvarints(b, m.Read.Session, m.Read.Batch), nil
	case MessageReadIndex:
		return appendUvarints(b, m.Read.Session, m.Read.Batch, m.Index), nil
	case MessageDelivered:
		return appendUvarints(b, m.Index), nil
	}
	return nil, fmt.Errorf("%w: kind %d", ErrMessage, m.Kind)
}

// DecodeMessage decodes one message. The result may alias b.
func DecodeMessage(b []byte) (Message, error) {
	if len(b) == 0 {
		return Message{}, fmt.Errorf("%w: empty", ErrMessage)
	}
	m := Message{Kind: MessageKind(b[0])}
	body := b[1:]
	switch m.Kind {
	case MessageRaft:
		m.Raft = &raftpb.Message{}
		if err := proto.Unmarshal(body, m.Raft); err != nil {
			return Message{}, fmt.Errorf("%w: raft: %w", ErrMessage, err)
		}
		return m, nil
	case MessageFrame:
		m.Frame = body
		return m, nil
	case MessageRefusal:
		r := &m.Refusal
		return m, takeUvarints(body, &r.Session, &r.Seq, &r.Expected, &r.Leader)
	case MessageReport:
		var err error
		m.Report, err = decodeReport(body)
		return m, err
	case MessageLeave:
		return m, takeUvarints(body)
	case MessageRemoved:
		if len(body) != 1 || !ChangeKind(body[0]).takesOut() && body[0] != 0 {
			return Message{}, fmt.Errorf("%w: removed by % x", ErrMessage, body)
		}
		m.Removed = ChangeKind(body[0])
		return m, nil
	case MessageRead:
		err := takeUvarints(body, &m.Read.Session, &m.Read.Batch)
		return m, err
	case MessageReadIndex:
		err := takeUvarints(body, &m.Read.Session, &m.Read.Batch, &m.Index)
		return m, err
	case MessageDelivered:
		err := takeUvarints(body, &m.Index)
		return m, err
	}
	return Message{}, fmt.Errorf("%w: unknown kind %d", ErrMessage, m.Kind)
}

// Size is the memory that m holds on to, for bounding queues. It is an
// estimate that costs no encoding.
func (m *Message) Size() int {
	const fixed = 64
	const report = 128
	const hearing = 16
	size := fixed + len(m.Frame)
	if m.Report != nil {
		size += report + hearing*len(m.Report.Hears) + len(m.Report.Stats)
	}
	if m.Raft != nil {
		for _, e := range m.Raft.GetEntries() {
			size += fixed + len(e.GetData())
		}
	}
	return size
}

// plausible reports whether one member's raft may say m to another's. raft
// trusts what it hears: a gap between entries, or a context that it did not
// make, is a panic, and a request meant for its own member is done.
func plausible(m *raftpb.Message) bool {
	if m.GetTerm() == 0 {
		return false
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		return consecutive(m)
	case raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp:
		const counter = 8 // of raft's rounds of reading
		return len(m.GetContext()) == 0 || len(m.GetContext()) == counter
	case raftpb.MsgAppResp, raftpb.MsgSnap, raftpb.MsgTimeoutNow,
		raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp:
		return true
	default: // proposals, too: they come as frames, which can be refused
		return false
	}
}

// consecutive reports whether the entries of a MsgApp follow on what it says
// is before them, in terms that a leader of its term can know.
func consecutive(m *raftpb.Message) bool {
	index, term := m.GetIndex(), m.GetLogTerm()
	for _, e := range m.GetEntries() {
		index++
		if e.GetIndex() != index || e.GetTerm() < term {
			return false
		}
		term = e.GetTerm()
	}
	return term <= m.GetTerm()
}

func appendUvarints(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// takeUvarints decodes exactly the numbers asked for and nothing after them.
func takeUvarints(b []byte, vs ...*uint64) error {
	rest, err := readUvarints(b, vs...)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%w: %d bytes too many", ErrMessage, len(rest))
	}
	return err
}

// readUvarints decodes the numbers asked for, and returns what follows them.
func readUvarints(b []byte, vs ...*uint64) (rest []byte, err error) {
	for _, v := range vs {
		x, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 {
			return nil, fmt.Errorf("%w: number cut off, or not in its shortest form", ErrMessage)
		}
		*v, b = x, b[n:]
	}
	return b, nil
}
