package replica

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/giant"
	"github.com/concordatdb/concordat/internal/statecheck"
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
	// Consistency is the level of transactions for which nobody chose another.
	Consistency consistency.Level
	// PreferMostUpdated has a new primary elected by how far members are before
	// their weights count.
	PreferMostUpdated bool
	// CheckInterval is how many transactions lie between two state checks, 0 for
	// no checks; CheckBytes how much of its data a member hashes for one.
	CheckInterval int
	CheckBytes    int
	// TransactionSizeLimit is the largest transaction, in bytes of its message, or
	// of write set and payload where it comes in pieces; 0 for as large as can be.
	TransactionSizeLimit int
	// Flow is how writers are slowed; the zero value slows nobody.
	Flow flowcontrol.Settings
}

// The bounds of settings. At all of them together a checkpoint takes some
// 800 MB: it must stay below what a clone can carry.
const (
	MaxHistoryItems = 1 << 25
	MaxHistoryBytes = 1 << 40
	MaxRangeWrites  = 1 << 20
	MaxOutcomes     = 1 << 22
	MaxCheckBytes   = statecheck.MaxBudget
	// MaxTransactionSize is that of Group Replication.
	MaxTransactionSize = giant.MaxBytes
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
		{"StateCheckInterval", s.CheckInterval, math.MaxInt64},
		{"StateCheckBytes", s.CheckBytes, MaxCheckBytes},
		{"TransactionSizeLimit", s.TransactionSizeLimit, MaxTransactionSize},
	} {
		if f.value < 0 || f.value > f.most {
			return fmt.Errorf("%w: %s is %d, it must be between 0 and %d", ErrSettings, f.name, f.value, f.most)
		}
	}
	if b := s.Certifier.BlockSize; b == 0 || b > math.MaxInt64 {
		return fmt.Errorf("%w: GTIDAssignmentBlockSize is %d, it must be between 1 and %d", ErrSettings, b, int64(math.MaxInt64))
	}
	if !s.Consistency.Valid() {
		return fmt.Errorf("%w: Consistency is %v, which is no level", ErrSettings, s.Consistency)
	}
	if s.CheckInterval > 0 && s.CheckBytes == 0 {
		return fmt.Errorf("%w: StateCheckBytes is 0 with checks every %d transactions; set StateCheckInterval to none instead", ErrSettings, s.CheckInterval)
	}
	if s.Flow != (flowcontrol.Settings{}) {
		if err := s.Flow.Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrSettings, err)
		}
	}
	return nil
}

// settingsFields is how many they are.
const settingsFields = 11

// fields lists the settings in the order of their encoding.
func (s *Settings) fields() [settingsFields]uint64 {
	c := &s.Certifier
	prefer := uint64(0)
	if s.PreferMostUpdated {
		prefer = 1
	}
	return [...]uint64{
		s.Version, uint64(c.HistoryItems), uint64(c.HistoryBytes), uint64(c.RangeWrites), c.BlockSize, uint64(s.Outcomes),
		uint64(s.Consistency), prefer, uint64(s.CheckInterval), uint64(s.CheckBytes), uint64(s.TransactionSizeLimit),
	}
}

// append appends the encoding of s: its fields as uvarints, those of flow control
// last.
func (s *Settings) append(b []byte) []byte {
	for _, v := range s.fields() {
		b = binary.AppendUvarint(b, v)
	}
	for _, v := range s.Flow.Fields() {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// takeSettings takes settings off the front of b. They have passed Check.
func takeSettings(b []byte) (s Settings, rest []byte, err error) {
	var fields [settingsFields]uint64
	if b, err = takeFields(b, fields[:]); err != nil {
		return s, nil, err
	}
	if fields[6] > math.MaxUint8 || fields[7] > 1 {
		return s, nil, fmt.Errorf("%w: level %d or choice %d is out of bounds", ErrSettings, fields[6], fields[7])
	}
	s = Settings{
		Version: fields[0], Outcomes: int(fields[5]), Consistency: consistency.Level(fields[6]), PreferMostUpdated: fields[7] == 1,
		CheckInterval: int(fields[8]), CheckBytes: int(fields[9]), TransactionSizeLimit: int(fields[10]),
	}
	s.Certifier = certifier.Settings{
		HistoryItems: int(fields[1]), HistoryBytes: int(fields[2]), RangeWrites: int(fields[3]), BlockSize: fields[4],
	}
	var own [flowcontrol.NumFields]uint64
	if b, err = takeFields(b, own[:]); err != nil {
		return s, nil, err
	}
	if s.Flow, err = flowcontrol.FromFields(own); err != nil {
		return s, nil, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	if s == (Settings{}) {
		return s, b, nil // of a group whose founder's settings are yet to come
	}
	err = s.Check()
	return s, b, err
}

// takeFields takes numbers off the front of b. The first may be any.
func takeFields(b []byte, fields []uint64) (rest []byte, err error) {
	for i := range fields {
		v, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 || i > 0 && v > math.MaxInt64 {
			return nil, fmt.Errorf("%w: field %d is cut off or out of bounds", ErrSettings, i)
		}
		fields[i], b = v, b[n:]
	}
	return b, nil
}
