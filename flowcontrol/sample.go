package flowcontrol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ErrSample marks bytes that are not a sample.
var ErrSample = errors.New("flowcontrol: malformed sample")

// TransactionCost is what a transaction costs beside its bytes: about what an
// engine does for it whatever it holds.
const TransactionCost = 1 << 10

// Cost is what a transaction of so many bytes costs.
func Cost(bytes int) uint64 { return TransactionCost + uint64(bytes) }

// Sample is what a member tells of its work. Totals count from the start of its
// run, so they fall when it starts anew.
type Sample struct {
	Certified uint64 // transactions judged, of all members, committed or not
	Applied   uint64 // of those, the ones that its engine is done with
	Remote    uint64 // of Applied, those of other members
	Served    uint64 // cost of Applied
	Busy      uint64 // microseconds for which its engine had work
	Local     uint64 // transactions that its callers handed to the group
	Offered   uint64 // cost of Local
	Held      uint64 // transactions that had to wait for admission here
	Waited    uint64 // microseconds that those have waited, and those that gave up

	Backlog        uint64 // cost of what its engine has yet to do
	WaitingApply   uint64 // transactions in that
	WaitingRemote  uint64 // and those of other members
	WaitingCertify uint64 // log entries that it knows to be committed and has not judged
	Lag            uint64 // microseconds for which the oldest of Backlog has waited, by its own clock
	Queue          uint64 // transactions that wait for admission here

	// Exempt: it may fall behind, and limits nobody.
	Exempt bool
	// Recovering: it catches up, and limits nobody in ModeAdaptive.
	Recovering bool
}

// Age is Lag as a time.
func (s *Sample) Age() time.Duration {
	return time.Duration(min(s.Lag, uint64(MaxLag/time.Microsecond))) * time.Microsecond
}

// The flags of a sample.
const (
	flagExempt     = 1
	flagRecovering = 2
	allFlags       = flagExempt | flagRecovering
)

func (s *Sample) numbers() [15]*uint64 {
	return [...]*uint64{
		&s.Certified, &s.Applied, &s.Remote, &s.Served, &s.Busy, &s.Local, &s.Offered, &s.Held, &s.Waited,
		&s.Backlog, &s.WaitingApply, &s.WaitingRemote, &s.WaitingCertify, &s.Lag, &s.Queue,
	}
}

// Append appends the encoding of s, at most 151 bytes.
//
//	sample := flags(1)  fields as uvarints, in their order
//
// The flags are 1 for exempt and 2 for recovering. Numbers are in their shortest form.
func (s *Sample) Append(b []byte) []byte {
	flags := byte(0)
	if s.Exempt {
		flags |= flagExempt
	}
	if s.Recovering {
		flags |= flagRecovering
	}
	b = append(b, flags)
	for _, v := range s.numbers() {
		b = binary.AppendUvarint(b, *v)
	}
	return b
}

// DecodeSample is the reverse of Append. It accepts nothing else.
func DecodeSample(b []byte) (s Sample, err error) {
	if len(b) == 0 || b[0] > allFlags {
		return s, fmt.Errorf("%w: %d bytes with flags that this version does not know", ErrSample, len(b))
	}
	s.Exempt, s.Recovering = b[0]&flagExempt != 0, b[0]&flagRecovering != 0
	b = b[1:]
	for i, to := range s.numbers() {
		v, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 {
			return Sample{}, fmt.Errorf("%w: field %d is cut off or not in its shortest form", ErrSample, i)
		}
		*to, b = v, b[n:]
	}
	if len(b) > 0 {
		return Sample{}, fmt.Errorf("%w: %d bytes too many", ErrSample, len(b))
	}
	return s, nil
}
