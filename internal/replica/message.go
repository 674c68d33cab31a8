package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// ErrMessage marks a broadcast message that is not one.
var ErrMessage = errors.New("replica: malformed message")

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
)

// TransactionID names one attempt to commit. It is drawn at random by its
// origin, so it is known before the fate of the transaction is.
type TransactionID = gtid.UUID

// Transaction is what a member broadcasts to commit.
type Transaction struct {
	ID       TransactionID
	Snapshot gtid.Set // the snapshot version
	WriteSet certifier.WriteSet
	Payload  []byte
}

// AppendTransaction appends the message for a transaction.
//
//	transaction := 1  id(16)  snapshot  write set  payload
//	open        := 2
//	mark        := 3  uvarint index
//
// The snapshot has the binary form of package gtid, the write set that of
// package certifier; the payload is the rest.
func AppendTransaction(b []byte, id TransactionID, snapshot gtid.Set, items []certifier.Item, payload []byte) ([]byte, error) {
	b = append(b, kindTransaction)
	b = append(b, id[:]...)
	b, err := snapshot.AppendBinary(b)
	if err != nil {
		return nil, fmt.Errorf("replica: snapshot version: %w", err)
	}
	b = certifier.AppendWriteSet(b, items)
	return append(b, payload...), nil
}

// decodeTransaction decodes what follows the kind. The result aliases b.
func decodeTransaction(b []byte) (t Transaction, err error) {
	if len(b) < len(t.ID) {
		return t, fmt.Errorf("%w: transaction of %d bytes", ErrMessage, len(b))
	}
	b = b[copy(t.ID[:], b):]
	if t.Snapshot, b, err = gtid.DecodeSet(b); err != nil {
		return t, fmt.Errorf("%w: snapshot version: %w", ErrMessage, err)
	}
	if t.WriteSet, b, err = certifier.DecodeWriteSet(b); err != nil {
		return t, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	t.Payload = b
	return t, nil
}

func appendMark(b []byte, index uint64) []byte {
	return binary.AppendUvarint(append(b, kindMark), index)
}

func decodeMark(b []byte) (index uint64, err error) {
	index, n := binary.Uvarint(b)
	if n <= 0 || n != len(b) {
		return 0, fmt.Errorf("%w: mark of %d bytes", ErrMessage, len(b))
	}
	return index, nil
}
