package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
)

// Who was never heard travels as that, and not as one heard this moment.
func TestHeardTravels(t *testing.T) {
	for heard, want := range map[time.Duration]bool{concordat.NotHeard: true, 0: false, time.Second: false} {
		v := view(concordat.View{Members: []concordat.Member{{State: concordat.Unreachable, Heard: heard}}})
		if got := v.GetMembers()[0].GetHeardNanos(); got < 0 != want || !want && got != int64(heard) {
			t.Errorf("%v is %d", heard, got)
		}
	}
}

// A survivor that does not answer to who draws a plan is a member that cannot be
// reached: nothing happened, and it may be tried again. All else is refused.
func TestSurvivorThatDoesNotAnswer(t *testing.T) {
	refusal := func(r forced.Reason) error {
		return fmt.Errorf("plan: %w", &concordat.ForceRefusedError{Cause: &forced.RefusedError{
			Reason: r, Member: gtid.UUID{15: 2}, Text: "at 10.0.0.2:7400 does not answer; start it, or leave it out",
		}})
	}
	for reason, want := range map[forced.Reason]error{
		forced.Unreachable: concordat.ErrNotOnline, forced.HasQuorum: concordat.ErrRefused, forced.NoVote: concordat.ErrRefused,
	} {
		err := fromStatus(toStatus(undrawn(refusal(reason))), nil)
		if !errors.Is(err, want) || errors.Is(err, concordat.ErrRefused) != (want == concordat.ErrRefused) {
			t.Errorf("%s: %v, want %v", reason, err, want)
		}
		if !strings.Contains(err.Error(), gtid.UUID{15: 2}.String()+" at 10.0.0.2:7400 does not answer") {
			t.Errorf("%s: %v", reason, err)
		}
		if said := strings.Contains(err.Error(), "nothing was changed"); said != (reason == forced.Unreachable) {
			t.Errorf("%s: %v", reason, err)
		}
	}
	if err := undrawn(context.Canceled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
