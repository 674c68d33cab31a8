package replica

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
)

// ErrMessage marks a broadcast message that is not one.
var ErrMessage = errors.New("replica: malformed message")

// ErrSettings marks settings that cannot be a group's.
var ErrSettings = errors.New("replica: invalid group settings")

// The kinds of message that members broadcast through the log. The values are
// part of the log format.
const (
	// kindTransaction is one transaction to certify.
	kindTransaction = 1
	// kindOpen begins a session of its origin: what an earlier run of that
	// member left undelivered never comes after it.
	kindOpen = 2
	// kindMark forgets certification history.
	kindMark = 3
	// kindSettings changes the group's configuration.
	kindSettings = 4
	// kindFounding gives a new group its mode.
	kindFounding = 5
	// kindDepose is a leader's opinion that the primary is silent.
	kindDepose = 6
	// kindAction asks for a planned change.
	kindAction = 7
	// kindDrained says that its origin is done with a right that it loses.
	kindDrained = 8
	// kindGraceOver is a leader's opinion that the origins had time enough.
	kindGraceOver = 9
	// kindCancel takes a planned change back.
	kindCancel = 10
	// kindFragment is a piece of a transaction too large for one message.
	kindFragment = 11
	// kindEnd is the end of such a transaction, which is certified there.
	kindEnd = 12
	// kindGiveUp says that no end comes of what its origin has sent in pieces.
	kindGiveUp = 13
	// kindCheck has all that are ONLINE hash a slice of their data.
	kindCheck = 14
	// kindChecked is what one of them says of its slice.
	kindChecked = 15
	// kindFault is what a member says of a transaction that an engine could not
	// apply.
	kindFault = 16
)

// TransactionID names one attempt to commit. It is drawn at random by its
// origin, so it is known before the fate of the transaction is.
type TransactionID = gtid.UUID

// Header is what a transaction says of itself beside what it did.
type Header struct {
	ID       TransactionID
	Epoch    uint64   // of the election, as its origin knew it when it handed it over
	Snapshot gtid.Set // the snapshot version
	// GTID is the one that the caller asks for; zero for the next of the group,
	// a tag alone for the next under that tag.
	GTID gtid.GTID
	// After: it is visible nowhere before every ONLINE member is bound to show it
	// to whoever begins there.
	After bool
	// Time is the origin's clock at the commit, in microseconds since 1970 in UTC.
	// It is handed on to the engine, and nothing is decided by it.
	Time int64
}

// Transaction is what a member broadcasts to commit.
type Transaction struct {
	Header
	WriteSet certifier.Encoded
	Payload  []byte
	bulk     *Bulk // of one that came in pieces, whose payload is not here
}

// flagAfter is the one flag of a transaction.
const flagAfter = 1

// timeLen is the length of a transaction's time in bytes.
const timeLen = 8

// What a transaction says of its GTID.
const (
	gtidAutomatic = 0
	gtidTagged    = 1
	gtidSpecified = 2
)

// AppendTransaction appends the message for a transaction. The write set is a
// [certifier.WriteSet] or one that was decoded.
//
//	transaction := 1  id(16)  uvarint epoch  flags(1)  time(8)  wish  snapshot  write set  payload
//	wish        := 0 | 1 uvarint len tag | 2 gtid
//	open        := 2  description
//	mark        := 3  uvarint index
//	settings    := 4  version, the certifier's, outcomes, level, choice, the checks', size, those of flow control, as uvarints
//	founding    := 5  body
//	depose      := 6  body
//	action      := 7  body
//	drained     := 8  body
//	grace over  := 9  body
//	cancel      := 10 body
//	fragment    := 11 body
//	end         := 12 id(16)  uvarint epoch  flags(1)  time(8)  wish  snapshot  uvarint fragments, bytes, write set  sum(4)
//	give up     := 13
//	check       := 14 check
//	checked     := 15 (0 answer | 1 detail)
//	fault       := 16 opinion
//
// The only flag is 1, for AFTER. The time is big-endian, in two's complement. GTID
// and snapshot have the binary form of package gtid, the write set that of package
// certifier, description and bodies those of package election, checks, answers,
// details and opinions those of package statecheck, and of a fragment that of
// package giant; the payload is the rest. What the fragments before an end hold is a
// write set of so many bytes, and the payload; sum is the CRC-32C of both,
// big-endian.
func AppendTransaction(b []byte, h *Header, ws encoding.BinaryAppender, payload []byte) (_ []byte, err error) {
	if b, err = h.append(append(b, kindTransaction)); err != nil {
		return nil, err
	}
	if b, err = ws.AppendBinary(b); err != nil {
		return nil, fmt.Errorf("replica: write set: %w", err)
	}
	return append(b, payload...), nil
}

// append appends the header: id to snapshot.
func (h *Header) append(b []byte) (_ []byte, err error) {
	b = append(b, h.ID[:]...)
	b = binary.AppendUvarint(b, h.Epoch)
	flags := byte(0)
	if h.After {
		flags = flagAfter
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Time))
	switch {
	case h.GTID.Number != 0:
		b, err = h.GTID.AppendBinary(append(b, gtidSpecified))
	case h.GTID.Tag != "":
		b = append(b, gtidTagged, byte(len(h.GTID.Tag)))
		b = append(b, h.GTID.Tag...)
	default:
		b = append(b, gtidAutomatic)
	}
	if err != nil {
		return nil, fmt.Errorf("replica: GTID: %w", err)
	}
	if b, err = h.Snapshot.AppendBinary(b); err != nil {
		return nil, fmt.Errorf("replica: snapshot version: %w", err)
	}
	return b, nil
}

// decode takes the header off the front of b.
func (h *Header) decode(b []byte) (_ []byte, err error) {
	if b, err = h.decodeTerms(b); err != nil {
		return nil, err
	}
	if h.GTID, b, err = decodeWish(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if h.Snapshot, b, err = gtid.DecodeSet(b); err != nil {
		return nil, fmt.Errorf("%w: snapshot version: %w", ErrMessage, err)
	}
	return b, nil
}

// decodeTransaction decodes what follows the kind. The result aliases b.
func decodeTransaction(b []byte) (t Transaction, err error) {
	if b, err = t.decode(b); err != nil {
		return t, err
	}
	if t.WriteSet, b, err = certifier.DecodeWriteSet(b); err != nil {
		return t, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	t.Payload = b
	return t, nil
}

// decodeTerms takes off the front what comes before the wish, at least one byte
// of which follows.
func (h *Header) decodeTerms(b []byte) (rest []byte, err error) {
	if len(b) < len(h.ID) {
		return nil, fmt.Errorf("%w: transaction of %d bytes", ErrMessage, len(b))
	}
	b = b[copy(h.ID[:], b):]
	epoch, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 || len(b) < n+1+timeLen+1 || b[n] > flagAfter {
		return nil, fmt.Errorf("%w: epoch, flags or time of a transaction are cut off or unknown", ErrMessage)
	}
	h.Epoch, h.After, h.Time = epoch, b[n] == flagAfter, int64(binary.BigEndian.Uint64(b[n+1:]))
	return b[n+1+timeLen:], nil
}

func decodeWish(b []byte) (g gtid.GTID, rest []byte, err error) {
	switch kind := b[0]; {
	case kind == gtidAutomatic:
		return g, b[1:], nil
	case kind == gtidSpecified:
		if g, rest, err = gtid.DecodeGTID(b[1:]); err == nil && !g.Valid() {
			err = fmt.Errorf("GTID %v cannot be one", g)
		}
		return g, rest, err
	case kind == gtidTagged && len(b) > 1 && int(b[1]) <= len(b)-2:
		end := 2 + int(b[1])
		if g.Tag, err = gtid.ParseTag(string(b[2:end])); err == nil && (g.Tag == "" || string(g.Tag) != string(b[2:end])) {
			err = fmt.Errorf("tag %q is not in its canonical form", b[2:end])
		}
		return g, b[end:], err
	}
	return g, nil, fmt.Errorf("wish %d for a GTID is cut off or unknown", b[0])
}

func appendMark(b []byte, index uint64) []byte {
	return binary.AppendUvarint(append(b, kindMark), index)
}

// FoundingMessage returns the message by which a founder gives its group the
// settings that it begins with. It belongs into the group's first frame; see
// [gcs.Bootstrap].
func FoundingMessage(s Settings) []byte {
	s.Version = 1
	return appendSettings(nil, s)
}

// FoundingMode returns the message by which a founder gives its group a mode and
// the protocol that it begins with. It belongs into the group's first frame,
// beside [FoundingMessage]. Without it every ONLINE member may write.
func FoundingMode(m election.Mode, p election.Protocol) []byte {
	return election.AppendFounding([]byte{kindFounding}, m, p)
}

func appendSettings(b []byte, s Settings) []byte { return s.append(append(b, kindSettings)) }

func decodeSettings(b []byte) (Settings, error) {
	s, rest, err := takeSettings(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes too many", ErrSettings, len(rest))
	}
	return s, err
}

func decodeMark(b []byte) (index uint64, err error) {
	index, n := binary.Uvarint(b)
	if n <= 0 || n != len(b) {
		return 0, fmt.Errorf("%w: mark of %d bytes", ErrMessage, len(b))
	}
	return index, nil
}
