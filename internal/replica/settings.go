package replica

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/concordatdb/concordat/certifier"
)

// Settings is the group's configuration: what all members must agree on. It is
// part of the replicated state and changes at a place in the log.
type Settings struct {
	// Version counts the changes; the founder's settings are version 1. A
	// change names the version that it was made from, so that of two at the
	// same time one fails.
	Version   uint64
	Certifier certifier.Settings
	// Outcomes is how many transactions are remembered by their ids.
	Outcomes int
}

// The bounds of settings. At all of them together a checkpoint takes some
// 800 MB: it must stay below what a clone can carry.
const (
	MaxHistoryItems = 1 << 25
	MaxHistoryBytes = 1 << 40
	MaxRangeWrites  = 1 << 20
	MaxOutcomes     = 1 << 22
)

// Check reports the first field that is out of its bounds.
func (s *Settings) Check() error {
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"HistoryItems", s.Certifier.HistoryItems, MaxHistoryItems},
		{"HistoryBytes", s.Certifier.HistoryBytes, MaxHistoryBytes},
		{"RangeWrites", s.Certifier.RangeWrites, MaxRangeWrites},
		{"OutcomeTransactions", s.Outcomes, MaxOutcomes},
	} {
		if f.value < 0 || f.value > f.most {
			return fmt.Errorf("%w: %s is %d, it must be between 0 and %d", ErrSettings, f.name, f.value, f.most)
		}
	}
	if b := s.Certifier.BlockSize; b == 0 || b > math.MaxInt64 {
		return fmt.Errorf("%w: GTIDAssignmentBlockSize is %d, it must be between 1 and %d", ErrSettings, b, int64(math.MaxInt64))
	}
	return nil
}

// fields lists the settings in the order of their encoding.
func (s *Settings) fields() [6]uint64 {
	c := &s.Certifier
	return [...]uint64{
		s.Version, uint64(c.HistoryItems), uint64(c.HistoryBytes), uint64(c.RangeWrites), c.BlockSize, uint64(s.Outcomes),
	}
}

// append appends the encoding of s: its fields as uvarints.
func (s *Settings) append(b []byte) []byte {
	for _, v := range s.fields() {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// takeSettings takes settings off the front of b. They have passed Check.
func takeSettings(b []byte) (s Settings, rest []byte, err error) {
	var fields [6]uint64
	for i := range fields {
		v, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 || i > 0 && v > math.MaxInt64 {
			return s, nil, fmt.Errorf("%w: field %d is cut off or out of bounds", ErrSettings, i)
		}
		fields[i], b = v, b[n:]
	}
	s = Settings{Version: fields[0], Outcomes: int(fields[5])}
	s.Certifier = certifier.Settings{
		HistoryItems: int(fields[1]), HistoryBytes: int(fields[2]), RangeWrites: int(fields[3]), BlockSize: fields[4],
	}
	if s == (Settings{}) {
		return s, b, nil // of a group whose founder's settings are yet to come
	}
	err = s.Check()
	return s, b, err
}
