package sim

import (
	"encoding/binary"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// frameName is what a frame can be recognised by.
type frameName struct{ origin, session, seq uint64 }

// frame is a log entry as the checkers read it, with a reader of their own for
// the formats that packages gcs, replica and election draw.
type frame struct {
	origin, session, seq uint64
	transactions         int
	parts                []part
	bytes                uint64 // of its messages
	mark                 uint64 // greatest log index of a history mark in it, 0 for none
}

// part is a message of a frame, if it is one that checkers look at. One field is
// set; of a transaction, what it says of itself.
type part struct {
	transaction bool
	epoch       uint64 // in which it was handed over
	after       bool   // it is to be visible everywhere
	size        uint64 // of its message
	end         *giantEnd

	fragment *fragmentPart
	giveUp   bool

	settings *replica.Settings
	opening  *opening
	founding *founding
	deposal  *deposal
	request  *request
	drained  *drainedWord
	lapse    *lapse
	cancel   *gtid.UUID
}

// What members broadcast of a transaction in fragments, see package giant.
type (
	giantEnd     struct{ fragments, bytes uint64 }
	fragmentPart struct{ number, size uint64 }
)

// What members broadcast about who may write, see docs/DESIGN.md §5.
type (
	opening struct {
		version, weight, oldest, newest uint64
	}
	founding struct{ mode, protocol uint64 }
	deposal  struct {
		epoch, term, target uint64
		passed              []uint64
		progress            [][2]uint64 // raft id, log index
	}
	request struct {
		id                                           gtid.UUID
		kind, epoch, view, target, protocol, graceMS uint64
		force                                        bool
	}
	drainedWord struct {
		id   gtid.UUID
		open uint64
	}
	lapse struct {
		id   gtid.UUID
		term uint64
	}
)

// The bytes of those formats that the checkers look at.
const (
	frameFormat     = 1
	transactionKind = 1
	openKind        = 2
	markKind        = 3
	settingsKind    = 4
	foundingKind    = 5
	deposeKind      = 6
	actionKind      = 7
	drainedKind     = 8
	graceOverKind   = 9
	cancelKind      = 10
	fragmentKind    = 11
	endKind         = 12
	giveUpKind      = 13
)

// reader takes apart what members have encoded. Once something is cut off, bad is
// set and all that follows is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) uuid() (u gtid.UUID) {
	copy(u[:], r.take(uint64(len(u))))
	return u
}

// readFrame returns the frame that an entry holds; ok is false when it holds
// something else.
func readFrame(e *raftpb.Entry) (f frame, ok bool) {
	b := e.GetData()
	if e.GetType() != raftpb.EntryNormal || len(b) == 0 || b[0] != frameFormat {
		return frame{}, false
	}
	r := reader{b: b[1:]}
	f = frame{origin: r.number(), session: r.number(), seq: r.number()}
	for count := r.number(); count > 0 && !r.bad; count-- {
		f.look(r.take(r.number()))
	}
	return f, !r.bad
}

// look adds a message. What is cut off is passed over, as by members.
func (f *frame) look(message []byte) {
	f.bytes += uint64(len(message))
	if len(message) == 0 {
		return
	}
	r := reader{b: message[1:]}
	var p part
	switch message[0] {
	case transactionKind, endKind:
		f.transactions++
		p.size = uint64(len(message))
		r.uuid()
		p.transaction, p.epoch = true, r.number()
		flags := r.take(1)
		p.after, r.bad = len(flags) == 1 && flags[0] == 1, false
		if message[0] == endKind {
			p.end = readEnd(message[1:])
		}
	case fragmentKind:
		p.fragment = readFragment(&r)
	case giveUpKind:
		p.giveUp = true
	case markKind:
		f.mark = max(f.mark, r.number())
		return
	case settingsKind:
		p.settings = readSettings(message[1:])
	case openKind:
		p.opening = &opening{version: r.number(), weight: r.number(), oldest: r.number(), newest: r.number()}
	case foundingKind:
		p.founding = &founding{mode: r.number(), protocol: r.number()}
	case deposeKind:
		p.deposal = readDeposal(&r)
	case actionKind:
		p.request = &request{
			id: r.uuid(), kind: r.number(), epoch: r.number(), view: r.number(), target: r.number(),
			protocol: r.number(), graceMS: r.number(), force: r.number() == 1,
		}
	case drainedKind:
		p.drained = &drainedWord{id: r.uuid(), open: r.number()}
	case graceOverKind:
		p.lapse = &lapse{id: r.uuid(), term: r.number()}
	case cancelKind:
		id := r.uuid()
		p.cancel = &id
	default:
		return
	}
	if !r.bad {
		f.parts = append(f.parts, p)
	}
}

// readEnd reads how much the end of a giant says that it has. That follows what a
// package of its own takes apart: the wish for a GTID and the snapshot.
func readEnd(b []byte) *giantEnd {
	r := reader{b: b}
	r.uuid()
	r.number()
	r.take(1 + 8 + 1) // flags, time, and no wish: clients here have none
	_, rest, err := gtid.DecodeSet(r.b)
	if r.bad || err != nil {
		return &giantEnd{}
	}
	r.b = rest
	return &giantEnd{fragments: r.number(), bytes: r.number()}
}

func readFragment(r *reader) *fragmentPart {
	p := &fragmentPart{number: r.number()}
	switch form := r.take(1); {
	case len(form) == 0:
	case form[0] == fragmentPlain:
		p.size = uint64(len(r.b))
	case form[0] == fragmentPacked:
		p.size = r.number()
	}
	return p
}

func readDeposal(r *reader) *deposal {
	d := &deposal{epoch: r.number(), term: r.number(), target: r.number()}
	for n := r.number(); n > 0 && !r.bad; n-- {
		d.passed = append(d.passed, r.number())
	}
	for n := r.number(); n > 0 && !r.bad; n-- {
		d.progress = append(d.progress, [2]uint64{r.number(), r.number()})
	}
	return d
}

// readSettings reads group settings, nil if they are cut off.
func readSettings(b []byte) *replica.Settings {
	r := reader{b: b}
	var fields [11]uint64
	for i := range fields {
		fields[i] = r.number()
	}
	var flow [flowcontrol.NumFields]uint64
	for i := range flow {
		flow[i] = r.number()
	}
	own, err := flowcontrol.FromFields(flow)
	if r.bad || err != nil {
		return nil
	}
	return &replica.Settings{
		Flow:    own,
		Version: fields[0], Outcomes: int(fields[5]), Consistency: consistency.Level(fields[6]), PreferMostUpdated: fields[7] == 1,
		CheckInterval: int(fields[8]), CheckBytes: int(fields[9]), TransactionSizeLimit: int(fields[10]),
		Certifier: certifier.Settings{
			HistoryItems: int(fields[1]), HistoryBytes: int(fields[2]), RangeWrites: int(fields[3]), BlockSize: fields[4],
		},
	}
}

// intake is the delivery rule for frames: those of members of the view, and of
// each origin the next one.
type intake struct {
	view gcs.View
	next map[uint64]frameName // by origin: the frame that will be accepted
}

func newIntake() intake { return intake{next: map[uint64]frameName{}} }

// accepts takes a frame in, or says that members pass it over.
func (k *intake) accepts(f *frame) bool {
	if _, member := k.view.Member(f.origin); !member {
		return false
	}
	next := k.next[f.origin]
	if f.session > next.session {
		next = frameName{session: f.session, seq: 1}
	}
	if f.session < next.session || f.seq != next.seq {
		return false
	}
	next.seq++
	k.next[f.origin] = next
	return true
}
