package concordat_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// endless is a context without a deadline, as of a caller who says nothing about
// how long to wait.
func endless(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx
}

// In a minority reads go on. Everything else fails at once, or waits for as long
// as its caller says.
func TestMinority(t *testing.T) {
	t.Parallel()
	g := openLinked(t, 3, neverExpel)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	n := g.nodes[2]
	rest := g.nodes[:2]
	g.isolate(2, true)
	noQuorum(t, n)

	if got := contents(t, n)["before"]; got != "1" {
		t.Errorf("reads %q", got)
	}
	s := n.Status()
	if s.State != concordat.Online || s.Outlook.Reachable != 1 || len(eventsOf(n, concordat.EventQuorumLost)) == 0 {
		t.Errorf("it is %s, reaches %d", s.State, s.Outlook.Reachable)
	}
	for _, m := range s.View.Members {
		if missing := m.UUID != s.Member; missing != (m.State == concordat.Unreachable) || missing != strings.Contains(s.Waiting, m.Address) {
			t.Errorf("%s at %s is %s; it waits for %s", m.UUID, m.Address, m.State, s.Waiting)
		}
	}
	verbs := map[string]func(context.Context) error{
		"commit": func(ctx context.Context) error { return add(ctx, n, "k", 1) },
		"settings": func(ctx context.Context) error {
			s := n.GroupSettings()
			s.OutcomeTransactions++
			_, err := n.SetGroupSettings(ctx, s)
			return err
		},
		"remove": func(ctx context.Context) error {
			return n.Remove(ctx, rest[0].Status().Member, concordat.Force())
		},
		"leave": func(ctx context.Context) error { return n.Leave(ctx, concordat.Force()) },
		"clone": func(ctx context.Context) error { return n.Clone(ctx, "") },
	}
	for name, do := range verbs {
		if err := do(endless(t)); !errors.Is(err, concordat.ErrNoQuorum) {
			t.Errorf("%s: %v, want ErrNoQuorum", name, err)
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := do(short); !errors.Is(err, concordat.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s with a deadline: %v, want ErrNoQuorum and the end of the wait", name, err)
		}
		cancel()
	}
	waiting := map[string]<-chan error{}
	for _, name := range []string{"commit", "settings"} {
		result := make(chan error, 1)
		go func() { result <- verbs[name](testContext(t)) }()
		waiting[name] = result
	}
	mustPut(t, rest[0], "meanwhile", "1")
	g.isolate(2, false)
	for name, result := range waiting {
		if err := <-result; err != nil {
			t.Errorf("%s that waited for the quorum: %v", name, err)
		}
	}
	if err := add(endless(t), n, "k", 1); err != nil {
		t.Errorf("commit when the quorum is back: %v", err)
	}
	if len(eventsOf(n, concordat.EventQuorumBack)) == 0 {
		t.Error("nothing tells that the quorum is back")
	}
	mustAgree(t, g.nodes...)
	if got := contents(t, n); got["k"] != "2" || got["meanwhile"] != "1" {
		t.Errorf("there is %v", got)
	}
}

// What was handed to the group when the quorum is lost ends as unknown, for one
// that does not say how long it waits; whatever waits for a place, or is held
// back by it, has not happened.
func TestQuorumLostUnderCommits(t *testing.T) {
	t.Parallel()
	g := openLinked(t, 3, neverExpel, func(c *concordat.Config) { c.MaxPendingCommits = 1 })
	mustAgree(t, g.nodes...)
	n := g.nodes[2]
	var id gtid.UUID
	for id.IsZero() {
		eventually(t, "a quorum", func() bool { return n.Status().Quorum })
		g.isolate(2, true)
		first := submit(endless(t), n, "first")
		eventually(t, "a commit under way, or the loss", func() bool { return concordat.PendingCommits(n) == 1 || !n.Status().Quorum })
		second := submit(endless(t), n, "second")
		if err := <-second; !errors.Is(err, concordat.ErrNoQuorum) || errors.Is(err, concordat.ErrOutcomeUnknown) {
			t.Fatalf("commit without a place: %v, want ErrNoQuorum", err)
		}
		err := <-first
		if unknown, ok := errors.AsType[*concordat.OutcomeUnknownError](err); ok {
			id = unknown.ID
			if errors.Is(err, concordat.ErrNoQuorum) {
				t.Errorf("%v matches ErrNoQuorum, after which nothing has happened", err)
			}
		} else if !errors.Is(err, concordat.ErrNoQuorum) {
			t.Fatalf("commit under way: %v, want ErrOutcomeUnknown", err)
		}
		g.isolate(2, false)
	}
	eventually(t, "its outcome", func() bool {
		o, err := g.nodes[0].Outcome(testContext(t), id)
		return err == nil && o.State == concordat.OutcomeCommitted
	})
	mustAgree(t, g.nodes...)
	if got := contents(t, n); got["first"] != "1" || got["second"] != "" {
		t.Errorf("there is %v", got)
	}
}

// A member that gives up in a minority goes on in its place when the group still
// has it, and comes back as a new one when not.
func TestMinorityTimeout(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]func(*concordat.Config){"still a member": neverExpel, "expelled": quick} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := openLinked(t, 3, patience, tireless, func(c *concordat.Config) { c.UnreachableMajorityTimeout = 200 * time.Millisecond })
			mustPut(t, g.nodes[0], "before", "1")
			mustAgree(t, g.nodes...)
			n := g.nodes[2]
			before := raftID(t, n)
			g.isolate(2, true)
			eventually(t, "it to give up", func() bool {
				s := n.Status()
				return s.State == concordat.Error && errors.Is(s.Err, concordat.ErrNoQuorum) && s.RejoinTry > 1
			})
			if name == "expelled" {
				eventually(t, "it to be expelled", func() bool { return len(members(g.nodes[0])) == 2 })
			}
			mustPut(t, g.nodes[0], "meanwhile", "1")
			if got := contents(t, n)["before"]; got != "1" {
				t.Errorf("reads %q", got)
			}
			g.isolate(2, false)
			mustBe(t, concordat.Online, n)
			mustPut(t, n, "back", "1")
			if now := raftID(t, n); (now == before) != (name == "still a member") {
				t.Errorf("it had raft id %d, now %d", before, now)
			}
			mustAgree(t, g.nodes...)
		})
	}
}

// After an outage of all, each member says whom it waits for, until a majority
// of the last view is back. The order in which they return does not matter.
func TestTotalOutage(t *testing.T) {
	t.Parallel()
	g := openLinked(t, 3, neverExpel)
	for _, order := range [][]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}} {
		mustPut(t, g.nodes[order[0]], "round", "1")
		mustAgree(t, g.nodes...)
		for _, at := range order {
			mustClose(t, g.nodes[at])
		}
		g.restart(t, order[0])
		first := g.nodes[order[0]]
		eventually(t, "the first one to say for whom it waits", func() bool {
			s := first.Status()
			said := s.State == concordat.Recovering && s.Diagnosis.Code == "NO_QUORUM"
			for _, at := range order[1:] {
				said = said && strings.Contains(s.Waiting, g.links[at].address())
			}
			return said
		})
		if err := first.View(testContext(t), func(*concordat.Tx) error { return nil }); !errors.Is(err, concordat.ErrNotOnline) {
			t.Errorf("it reads before it knows what the group has: %v", err)
		}
		g.restart(t, order[1])
		mustBe(t, concordat.Online, first, g.nodes[order[1]])
		mustPut(t, first, "two", "1")
		g.restart(t, order[2])
		mustBe(t, concordat.Online, g.nodes[order[2]])
		if s := first.Status(); s.Waiting != "" || len(s.View.Members) != 3 {
			t.Errorf("it waits for %q in a view of %d", s.Waiting, len(s.View.Members))
		}
	}
	mustAgree(t, g.nodes...)
}
