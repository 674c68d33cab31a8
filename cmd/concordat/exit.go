package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
)

// The exit codes, which exitHelp explains to users.
const (
	exitOK = iota
	exitFailure
	exitUsage
	exitNotFound
	exitTryAgain
	exitUnknown
	exitMemberFailed
	exitRefused
	exitNoQuorum
	exitReadOnly
	exitGivenUp
	exitAtOnce = 130
)

const exitHelp = `Exit codes:
    0  done
    1  it did not work; the message says why
    2  wrong usage, or a configuration that cannot be
    3  get: there is no such key; primary action: there is no such change
    4  nothing happened: a conflict, or the group is slowed for a member that is
       behind, or the member is not ONLINE, cannot be reached or does not answer;
       try again, or another member
    5  the outcome of a write is unknown; ask with concordat outcome, or send it
       again with the same --id; that of a change of the membership, the primary
       or the settings: look with concordat status, primary action or settings
    6  the member is in ERROR
    7  the group, the member or a plan refuses; the message says what helps
    8  a majority of the group is out of reach; see concordat status
    9  nothing happened: the member does not write; go to the one that the message
       names, or see concordat primary
   10  a planned change of the primary or the mode had begun, and was cancelled or
       could not go on; nothing has changed
  130  node: a second signal stopped it at once`

// usageError is a command line or configuration that cannot be.
type usageError struct{ err error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

var (
	errNotFound = errors.New("no such key")
	// errRefusedPlan: what was planned would be refused. The plan, which was
	// printed, says why.
	errRefusedPlan = errors.New("the change would be refused; the plan says why")
)

// exits pairs errors with exit codes. An error that wraps two is the first one.
var exits = []struct {
	err  error
	code int
}{
	{errNotFound, exitNotFound},
	{errUnknownAction, exitNotFound},
	{errBroken, exitFailure},
	{errAborted, exitMemberFailed},
	{concordat.ErrOutcomeUnknown, exitUnknown},
	{concordat.ErrInvalid, exitUsage},
	{concordat.ErrReadOnly, exitReadOnly},
	{server.ErrGivenUp, exitGivenUp},
	{concordat.ErrNoQuorum, exitNoQuorum},
	{concordat.ErrRefused, exitRefused},
	{concordat.ErrJoinRefused, exitRefused},
	{concordat.ErrDiverged, exitRefused},
	{errRefusedPlan, exitRefused},
	{concordat.ErrDirectory, exitFailure},
	{concordat.ErrFailed, exitMemberFailed},
	{concordat.ErrConflict, exitTryAgain},
	{concordat.ErrSnapshotTooOld, exitTryAgain},
	{concordat.ErrSettings, exitTryAgain},
	{concordat.ErrNotOnline, exitTryAgain},
	{concordat.ErrClosed, exitTryAgain},
	{concordat.ErrLeave, exitFailure},
	{concordat.ErrWait, exitTryAgain}, // what ended the wait says more
	{concordat.ErrThrottled, exitTryAgain},
	// The client says ErrOutcomeUnknown where something may have happened.
	{context.DeadlineExceeded, exitTryAgain},
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	for _, e := range exits {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	return exitFailure
}

// report tells the user of err and returns the exit code.
func report(w io.Writer, err error) int {
	if err != nil {
		// The library's errors begin with its name already.
		text := strings.ReplaceAll(err.Error(), "concordat: ", "")
		say(w, "concordat: %s\n", strings.ReplaceAll(text, "\n", "\n  "))
	}
	return exitCode(err)
}
