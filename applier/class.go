package applier

import (
	"errors"
	"fmt"
)

// Class says why an engine could not apply a transaction, in a word that means the
// same on every member: members compare it, to tell a transaction that nobody can
// apply from a member that cannot apply what the others can. Values below
// ClassProgram are the library's, the others those of a program's own engine.
type Class uint32

// The classes.
const (
	// ClassNone: it was applied.
	ClassNone Class = 0
	// ClassPayload: its payload is none, or asks for what its key does not allow.
	ClassPayload Class = 1
	// ClassProgram is the first that a program's own engine may use.
	ClassProgram Class = 1000
)

// String names the class for people.
func (c Class) String() string {
	switch c {
	case ClassNone:
		return "applied"
	case ClassPayload:
		return "malformed payload"
	case ClassProgram:
	}
	return fmt.Sprintf("class %d", uint32(c))
}

// ClassedError is an error that every member would meet that applies the same
// transaction to the same data, unless something is wrong with its data.
type ClassedError struct {
	Class Class
	Err   error
}

// Error returns the text of what went wrong.
func (e *ClassedError) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *ClassedError) Unwrap() error { return e.Err }

// ClassOf returns the class of an error of Apply, and ClassNone for one that is the
// member's own: of its disk, say. What wraps [ErrPayload] is of ClassPayload.
func ClassOf(err error) Class {
	if c, ok := errors.AsType[*ClassedError](err); ok {
		return c.Class
	}
	if errors.Is(err, ErrPayload) {
		return ClassPayload
	}
	return ClassNone
}
