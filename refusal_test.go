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
		certifier.Exhausted:      concordat.ErrFailed,
		certifier.Unreadable:     concordat.ErrFailed,
	} {
		if err := concordat.Refusal(outcome); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", outcome, err, want)
		}
	}
	err := concordat.Refusal(certifier.GTIDSpread)
	if !strings.Contains(err.Error(), "ask for") || concordat.Retryable(err) {
		t.Errorf("%v, retryable %v", err, concordat.Retryable(err))
	}
}
