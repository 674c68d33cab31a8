package applier

import (
	"encoding/binary"
	"fmt"
)

// CounterLen is the length of a counter's value in bytes.
const CounterLen = 8

// AppendCounter appends the value of a counter that stands at n to b.
//
//	counter := n(8, big-endian, two's complement)
//
// A counter is a value like any other: what has this length is one, also when
// it was put.
func AppendCounter(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(n))
}

// DecodeCounter returns what the counter with this value stands at. It is not ok
// if the value is not CounterLen bytes long: then it is none.
func DecodeCounter(value []byte) (n int64, ok bool) {
	if len(value) != CounterLen {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(value)), true
}

// AddCounter returns what a key's counter stands at once n is added to it. Every
// engine applies [OpAdd] by it: the key then exists, with the value that
// [AppendCounter] makes of the sum, also when n is 0.
//
// A key that does not exist counts as 0; old is ignored then. The sum wraps
// around in two's complement. Stopping at the limits would not do: deltas come
// in any order, and must lead to the same sum in each.
//
// The error wraps [ErrPayload] and says that old is no counter. The writer has
// seen one in its snapshot, and a delta is certified against every other kind of
// write to its key, so it means corruption or a bug.
func AddCounter(old []byte, exists bool, n int64) (sum int64, err error) {
	if !exists {
		return n, nil
	}
	at, ok := DecodeCounter(old)
	if !ok {
		return 0, fmt.Errorf("%w: delta for a value that is no counter", ErrPayload)
	}
	return at + n, nil
}
