package sim

import (
	"encoding/binary"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// frameName is what a frame can be recognised by.
type frameName struct{ origin, session, seq uint64 }

// frame is a log entry as the checkers read it, with a reader of their own for
// the formats that packages gcs and replica draw.
type frame struct {
	origin, session, seq uint64
	transactions         int
	parts                []part
	mark                 uint64 // greatest log index of a history mark in it, 0 for none
}

// part is a message of a frame, if it is one that checkers look at.
type part struct {
	transaction bool
	settings    *replica.Settings
}

// The bytes of those formats that the checkers look at.
const (
	frameFormat     = 1
	transactionKind = 1
	markKind        = 3
	settingsKind    = 4
)

// readFrame returns the frame that an entry holds; ok is false when it holds
// something else.
func readFrame(e *raftpb.Entry) (f frame, ok bool) {
	b := e.GetData()
	if e.GetType() != raftpb.EntryNormal || len(b) == 0 || b[0] != frameFormat {
		return frame{}, false
	}
	b = b[1:]
	take := func() (v uint64) {
		v, n := binary.Uvarint(b)
		ok = ok && n > 0
		b = b[max(n, 0):]
		return v
	}
	ok = true
	f = frame{origin: take(), session: take(), seq: take()}
	for count := take(); count > 0 && ok; count-- {
		size := take()
		if size > uint64(len(b)) {
			return frame{}, false
		}
		f.look(b[:size])
		b = b[size:]
	}
	return f, ok
}

func (f *frame) look(message []byte) {
	switch {
	case len(message) == 0:
	case message[0] == transactionKind:
		f.transactions++
		f.parts = append(f.parts, part{transaction: true})
	case message[0] == settingsKind:
		f.parts = append(f.parts, part{settings: readSettings(message[1:])})
	case message[0] == markKind:
		mark, _ := binary.Uvarint(message[1:])
		f.mark = max(f.mark, mark)
	}
}

// readSettings reads group settings, nil if they are cut off.
func readSettings(b []byte) *replica.Settings {
	var fields [8]uint64
	for i := range fields {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil
		}
		fields[i], b = v, b[n:]
	}
	return &replica.Settings{
		Version: fields[0], Outcomes: int(fields[5]), Consistency: consistency.Level(fields[6]), PreferMostUpdated: fields[7] == 1,
		Certifier: certifier.Settings{
			HistoryItems: int(fields[1]), HistoryBytes: int(fields[2]), RangeWrites: int(fields[3]), BlockSize: fields[4],
		},
	}
}
