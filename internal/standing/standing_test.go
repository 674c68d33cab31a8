package standing_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/internal/standing"
)

const (
	offline    = standing.Offline
	recovering = standing.Recovering
	online     = standing.Online
	failed     = standing.Error
)

// outcomes is every transition once more, by state: what is not here is none.
var outcomes = map[standing.State]map[standing.Trigger]standing.State{
	offline: {
		standing.JoinRefused: offline, standing.Joined: recovering, standing.Opened: recovering,
		standing.Closed: offline, standing.StoreFailed: failed, standing.InvariantBroken: failed,
	},
	recovering: {
		standing.CaughtUp: online, standing.NewSession: recovering, standing.CloneNeeded: recovering,
		standing.Left: offline, standing.Closed: offline,
		standing.Expelled: failed, standing.Removed: failed, standing.Superseded: failed,
		standing.MinorityTimeout: failed, standing.RecoveryFailed: failed, standing.Differs: failed, standing.Diverged: failed,
		standing.StoreFailed: failed, standing.InvariantBroken: failed,
		standing.Frozen: recovering, standing.Thawed: recovering, standing.Adopted: recovering,
	},
	online: {
		standing.NewSession: recovering, standing.CloneNeeded: recovering,
		standing.Left: offline, standing.Closed: offline,
		standing.Expelled: failed, standing.Removed: failed, standing.Superseded: failed,
		standing.MinorityTimeout: failed, standing.StoreFailed: failed, standing.InvariantBroken: failed,
		standing.Frozen: recovering, standing.Differs: failed,
	},
	failed: {
		standing.Joined: recovering, standing.Opened: recovering, standing.Adopted: recovering,
		standing.RejoinBegan: failed, standing.TryFailed: failed, standing.Diverged: failed,
		standing.TriesUsedUp: failed, standing.Frozen: failed, standing.Thawed: failed,
		standing.Superseded: failed, standing.StoreFailed: failed, standing.InvariantBroken: failed,
		standing.Closed: offline,
	},
}

func TestNext(t *testing.T) {
	for _, s := range standing.States() {
		for _, trigger := range standing.Triggers() {
			want, wantOK := outcomes[s][trigger]
			if !wantOK {
				want = s
			}
			if got, ok := standing.Next(s, trigger); got != want || ok != wantOK {
				t.Errorf("%s, and it %s: %s %t, want %s %t", s, trigger, got, ok, want, wantOK)
			}
		}
	}
	for _, trigger := range standing.Triggers() {
		if got, ok := standing.Next(standing.Unreachable, trigger); ok || got != standing.Unreachable {
			t.Errorf("%s leads from UNREACHABLE to %s: no member is that in its own eyes", trigger, got)
		}
	}
}

// A state and a trigger have one line, and every trigger has one.
func TestTableIsAFunction(t *testing.T) {
	type pair struct {
		from    standing.State
		trigger standing.Trigger
	}
	seen := map[pair]bool{}
	used := map[standing.Trigger]bool{}
	for _, line := range standing.Transitions() {
		used[line.Trigger] = true
		if !slices.Contains(standing.States(), line.To) {
			t.Errorf("%s leads to %s", line.Trigger, line.To)
		}
		for _, from := range line.From {
			p := pair{from, line.Trigger}
			if seen[p] {
				t.Errorf("%s, and it %s: two lines", from, line.Trigger)
			}
			seen[p] = true
		}
	}
	for _, trigger := range standing.Triggers() {
		if !used[trigger] {
			t.Errorf("no line has %q", trigger)
		}
	}
}

// The table that is handed out is a copy.
func TestTransitionsAreACopy(t *testing.T) {
	all := standing.Transitions()
	for i := range all {
		clear(all[i].From)
		all[i].To = ""
	}
	if got, ok := standing.Next(recovering, standing.CaughtUp); got != online || !ok {
		t.Errorf("after a change of the copy, %s %t follows on RECOVERING", got, ok)
	}
}

// However a member's life goes: it serves transactions only after it has caught
// up since the last thing that could take that from it, it is in service again
// after ERROR only by way of RECOVERING, and what takes it to ERROR is an exit
// that has consequences.
func TestLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := offline
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			trigger := rapid.SampledFrom(standing.Triggers()).Draw(t, "trigger")
			next, ok := standing.Next(state, trigger)
			if !ok {
				continue
			}
			if (next == online) != (trigger == standing.CaughtUp) {
				t.Fatalf("%s, and it %s: it is %s", state, trigger, next)
			}
			if state == failed && next != failed && next != recovering && trigger != standing.Closed {
				t.Fatalf("from ERROR it went to %s as it %s", next, trigger)
			}
			if state != failed && next == failed {
				d := standing.AfterExit(trigger, 0, standing.Policy{AutoRejoinTries: 1, Action: standing.Abort})
				if !d.Rejoin && d.Action != standing.Abort {
					t.Fatalf("it is in ERROR as it %s, and nothing follows", trigger)
				}
			}
			state = next
		}
	})
}

func TestAfterExit(t *testing.T) {
	act := standing.Decision{Action: standing.OfflineMode}
	rejoin := standing.Decision{Rejoin: true}
	policy := func(tries int) standing.Policy {
		return standing.Policy{AutoRejoinTries: tries, Action: standing.OfflineMode}
	}
	for _, c := range []struct {
		cause        standing.Trigger
		tries, allow int
		want         standing.Decision
	}{
		{standing.Expelled, 0, 3, rejoin},
		{standing.Expelled, 2, 3, rejoin},
		{standing.Expelled, 3, 3, act},
		{standing.Expelled, 0, 0, act},
		{standing.Expelled, 0, -1, act},
		{standing.MinorityTimeout, 0, 1, rejoin},
		{standing.MinorityTimeout, 1, 1, act},
		{standing.Superseded, 0, 3, rejoin},
		{standing.Superseded, 4, 3, act},
		{standing.Removed, 0, 3, act},
		{standing.StoreFailed, 0, 3, act},
		{standing.InvariantBroken, 0, 3, act},
		{standing.RecoveryFailed, 0, 3, act},
		{standing.Diverged, 0, 3, act},
		{standing.TriesUsedUp, 0, 3, act},
		{standing.JoinRefused, 0, 3, standing.Decision{}},
		{standing.Left, 0, 3, standing.Decision{}},
		{standing.Closed, 0, 3, standing.Decision{}},
		{standing.CaughtUp, 0, 3, standing.Decision{}},
		{standing.TryFailed, 0, 3, standing.Decision{}},
	} {
		if got := standing.AfterExit(c.cause, c.tries, policy(c.allow)); got != c.want {
			t.Errorf("it %s, after %d of %d tries: %+v, want %+v", c.cause, c.tries, c.allow, got, c.want)
		}
	}
}

func TestShown(t *testing.T) {
	for _, s := range standing.States() {
		for _, c := range []struct {
			itself, heard bool
			want          standing.State
		}{
			{false, true, s},
			{false, false, standing.Unreachable},
			{true, true, s},
			{true, false, s},
		} {
			if got := standing.Shown(s, c.itself, c.heard); got != c.want {
				t.Errorf("%s, itself %t, heard %t: shown as %s, want %s", s, c.itself, c.heard, got, c.want)
			}
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, trigger := range standing.Triggers() {
		if s := trigger.String(); s == "" || seen[s] {
			t.Errorf("trigger %d is called %q, as another one is or as nothing", byte(trigger), s)
		} else {
			seen[s] = true
		}
	}
	if got := standing.Trigger(200).String(); got != "Trigger(200)" {
		t.Errorf("a trigger that is none is called %q", got)
	}
	if got := standing.Observer(200).String(); got != "Observer(200)" {
		t.Errorf("an observer that is none is called %q", got)
	}
}
