package pebblekv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

// What the value of a change record begins with.
const (
	changeWhole    = 0 // the record follows
	changeInPieces = 1 // where its payload is, and the record without that
)

// pieces says where the payload of a change record is that was written before it was
// known where in the log the transaction would stand. Only one at a time is, so these
// are numbered in commit order, and a milestone that says how many came before it
// says which pieces are forgotten with what lies before it.
type pieces struct {
	giant uint64 // how many records in pieces came before
	count uint32 // 0: the record is whole
	bytes uint64 // of payload
}

// pieceKeyLen is the length of the key of one piece.
const pieceKeyLen = 14

func appendPieceKey(b []byte, giant uint64, number uint32) []byte {
	b = binary.BigEndian.AppendUint64(append(b, spaceChanges, changePiece), giant)
	return binary.BigEndian.AppendUint32(b, number)
}

// size is what the pieces take, with their keys.
func (p *pieces) size() uint64 { return p.bytes + uint64(p.count)*pieceKeyLen }

// append appends what the value of the record begins with.
func (p *pieces) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, changeInPieces), p.giant)
	b = binary.BigEndian.AppendUint32(b, p.count)
	return binary.BigEndian.AppendUint64(b, p.bytes)
}

// decodeChangeValue returns where the payload is, and the record.
func decodeChangeValue(b []byte) (p pieces, record []byte, err error) {
	switch {
	case len(b) > 0 && b[0] == changeWhole:
		return p, b[1:], nil
	case len(b) < 21 || b[0] != changeInPieces:
		return p, nil, fmt.Errorf("%w: change record of %d bytes", ErrCorrupt, len(b))
	}
	p.giant, p.count = binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint32(b[9:])
	if p.bytes = binary.BigEndian.Uint64(b[13:]); p.count == 0 || p.bytes < uint64(p.count) {
		return pieces{}, nil, fmt.Errorf("%w: change record of %d bytes in %d pieces", ErrCorrupt, p.bytes, p.count)
	}
	return p, b[21:], nil
}

// read returns the payload. It moves it, which stays in one state of the store.
func (p *pieces) read(it *pebble.Iterator) (payload []byte, err error) {
	ok := it.SeekGE(appendPieceKey(nil, p.giant, 0))
	for n := range p.count {
		if !ok || len(it.Key()) != pieceKeyLen || it.Key()[1] != changePiece ||
			binary.BigEndian.Uint64(it.Key()[2:]) != p.giant || binary.BigEndian.Uint32(it.Key()[10:]) != n {
			return nil, errors.Join(fmt.Errorf("piece %d of %d is missing", n, p.count), it.Error())
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		payload = append(payload, value...)
		ok = it.Next()
	}
	if uint64(len(payload)) != p.bytes {
		return nil, fmt.Errorf("%d bytes in its pieces, it says %d", len(payload), p.bytes)
	}
	return payload, nil
}

// recordPieces is record for a transaction whose payload is in pieces already, and
// writes with set, in the order of keys. It forgets nothing: the next batch does.
func (w *changeWriter) recordPieces(
	set func(key, value []byte) error, b applier.Batch, before *state, in pieces,
) (*keptChanges, error) {
	if w.limit == 0 {
		return nil, nil
	}
	tx := &b.Transactions[0]
	r := applier.ChangeRecord{GTID: tx.GTID, Origin: tx.Origin, Time: tx.Time}
	value := []byte{changeWhole}
	if in.count > 0 {
		value = in.append(nil)
	}
	value, err := applier.AppendChange(value, &r)
	if err != nil {
		return nil, err
	}
	key := appendChangeKey(nil, tx.Index, 0)
	next := *before.changes
	next.bytes += uint64(len(key)+len(value)) + in.size()
	if in.count > 0 {
		next.giants++
	}
	if err := w.mark(set, b.To, &next, w.now().UnixNano()); err != nil {
		return nil, err
	}
	return &next, set(key, value)
}
