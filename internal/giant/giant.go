// Package giant carries transactions that are too large for one message of the
// log.
//
// It owns the form of their fragments, and an [Assembly]: what a member holds of
// giants whose end has not come yet. It promises that which giants are pending,
// and of which fragments, is a function of the log alone; that a giant of which
// nothing comes is given up by every member at the same place; and that the bytes
// in memory stay within a bound. Of what is beyond that bound it remembers only
// where it stands in the log, and reads it back from there.
//
// It must never know what the bytes mean, who certifies them, or how the log is
// kept.
package giant

import "errors"

// ErrFragment marks bytes that are not a fragment.
var ErrFragment = errors.New("giant: malformed fragment")

// ErrState marks bytes that are not the state of an [Assembly].
var ErrState = errors.New("giant: malformed state")

// ErrLost marks a fragment that the log no longer holds as it was delivered.
var ErrLost = errors.New("giant: the log does not hold a fragment that it held")

const (
	// FragmentBytes is how much of a body goes into one fragment, before it is
	// packed. A log entry of that size costs its writer little more than a small
	// one, so that whoever waits for the entries behind it hardly notices.
	FragmentBytes = 128 << 10
	// MaxFragmentBytes bounds what a fragment can hold, and so what an origin
	// makes the others allocate at a time.
	MaxFragmentBytes = 1 << 20
	// MaxFragments bounds the fragments of one giant.
	MaxFragments = 1 << 16
	// MaxBytes bounds a body, whatever the group allows: as in Group Replication.
	MaxBytes = 1<<31 - 1
	// patience is how many times the largest body the log may grow without a
	// fragment of a giant before that is given up. The log is not cut above a
	// fragment that is waited for.
	patience = 8
)

// Total is what the end of a giant says of what went ahead.
type Total struct {
	Fragments int
	Bytes     int    // of the body
	Sum       uint32 // CRC-32C of the body
}

// Place is where a fragment was delivered.
type Place struct {
	Origin  uint64 // raft id
	Session uint64 // of the origin
	Index   uint64 // log index
	Message int    // its number in the entry, from 0
}

// Source reads fragments back.
type Source interface {
	// Fragment returns the body of a message of the log, as it was delivered.
	Fragment(index uint64, message int) ([]byte, error)
}
