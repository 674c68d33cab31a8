package replica

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/certifier"
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
)

// TransactionID names one attempt to commit. It is drawn at random by its
// origin, so it is known before the fate of the transaction is.
type TransactionID = gtid.UUID

// Header is what a transaction says of itself beside what it did.
type Header struct {
	ID       TransactionID
	Snapshot gtid.Set // the snapshot version
	// GTID is the one that the caller asks for; zero for the next of the group,
	// a tag alone for the next under that tag.
	GTID gtid.GTID
}

// Transaction is what a member broadcasts to commit.
type Transaction struct {
	Header
	WriteSet certifier.Encoded
	Payload  []byte
}

// What a transaction says of its GTID.
const (
	gtidAutomatic = 0
	gtidTagged    = 1
	gtidSpecified = 2
)

// AppendTransaction appends the message for a transaction. The write set is a
// [certifier.WriteSet] or one that was decoded.
//
//	transaction := 1  id(16)  wish  snapshot  write set  payload
//	wish        := 0 | 1 uvarint len tag | 2 gtid
//	open        := 2
//	mark        := 3  uvarint index
//	settings    := 4  version, the certifier's, outcomes, as uvarints
//
// GTID and snapshot have the binary form of package gtid, the write set that of
// package certifier; the payload is the rest.
func AppendTransaction(b []byte, h *Header, ws encoding.BinaryAppender, payload []byte) (_ []byte, err error) {
	b = append(b, kindTransaction)
	b = append(b, h.ID[:]...)
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
	if b, err = ws.AppendBinary(b); err != nil {
		return nil, fmt.Errorf("replica: write set: %w", err)
	}
	return append(b, payload...), nil
}

// decodeTransaction decodes what follows the kind. The result aliases b.
func decodeTransaction(b []byte) (t Transaction, err error) {
	if len(b) <= len(t.ID) {
		return t, fmt.Errorf("%w: transaction of %d bytes", ErrMessage, len(b))
	}
	b = b[copy(t.ID[:], b):]
	if t.GTID, b, err = decodeWish(b); err != nil {
		return t, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if t.Snapshot, b, err = gtid.DecodeSet(b); err != nil {
		return t, fmt.Errorf("%w: snapshot version: %w", ErrMessage, err)
	}
	if t.WriteSet, b, err = certifier.DecodeWriteSet(b); err != nil {
		return t, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	t.Payload = b
	return t, nil
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
