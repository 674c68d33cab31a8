package concordat_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/certifier"
)

// Every refusal matches one sentinel, and one of a GTID apart from all others
// says what to ask for.
func TestRefusals(t *testing.T) {
	for outcome, want := range map[certifier.Outcome]error{
		certifier.Conflict:       concordat.ErrConflict,
		certifier.SnapshotTooOld: concordat.ErrSnapshotTooOld,
		certifier.GTIDTaken:      concordat.ErrGTIDTaken,
		certifier.GTIDSpread:     concordat.ErrTooLarge,
		certifier.Exhausted:      concordat.ErrExhausted,
		certifier.Unreadable:     concordat.ErrInvalid,
		certifier.GivenUp:        concordat.ErrSnapshotTooOld,
		certifier.TooLarge:       concordat.ErrTooLarge,
	} {
		errs := []error{concordat.Refusal(outcome)}
		if outcome != certifier.Conflict { // which Commit explains
			errs = append(errs, concordat.CommitError(outcome))
		}
		for _, err := range errs {
			for _, sentinel := range []error{
				concordat.ErrConflict, concordat.ErrSnapshotTooOld, concordat.ErrGTIDTaken, concordat.ErrTooLarge,
				concordat.ErrExhausted, concordat.ErrInvalid, concordat.ErrFailed,
			} {
				if errors.Is(err, sentinel) != (sentinel == want) {
					t.Errorf("%v: %v, want %v", outcome, err, want)
				}
			}
		}
	}
	for outcome, text := range map[certifier.Outcome]string{
		certifier.Exhausted: "WithGTID", certifier.Unreadable: "nothing happened",
	} {
		if err := concordat.Refusal(outcome); !strings.Contains(err.Error(), text) || concordat.Retryable(err) {
			t.Errorf("%v, retryable %v", err, concordat.Retryable(err))
		}
	}
	const later = certifier.Outcome(99)
	if err := concordat.Refusal(later); errors.Is(err, concordat.ErrFailed) || !strings.Contains(err.Error(), later.String()) {
		t.Errorf("of a reason that is not known: %v", err)
	}
	err := concordat.Refusal(certifier.GTIDSpread)
	if !strings.Contains(err.Error(), "ask for") || concordat.Retryable(err) {
		t.Errorf("%v, retryable %v", err, concordat.Retryable(err))
	}
}
