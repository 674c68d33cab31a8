package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

func readAt(ctx context.Context, n *concordat.Node, key string, opts ...concordat.TxOption) (value string, err error) {
	err = n.View(ctx, func(tx *concordat.Tx) error {
		v, _, err := tx.Get(accounts, []byte(key))
		value = string(v)
		return err
	}, opts...)
	return value, err
}

func writeAt(ctx context.Context, n *concordat.Node, key, value string, opts ...concordat.TxOption) (gtid.GTID, error) {
	return n.Update(ctx, func(tx *concordat.Tx) error { return tx.Put(accounts, []byte(key), []byte(value)) }, opts...)
}

// What was answered before is seen by who asks for that, on any member: by the
// reader's level, by the writer's, by the age, and by the session.
func TestReadsSeeWhatWasAnswered(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, single)
	for i := range 20 {
		ctx := testContext(t)
		for _, c := range []struct {
			name  string
			write concordat.Consistency
			read  func(gtid.GTID) []concordat.TxOption
		}{
			{"before", concordat.Eventual, func(gtid.GTID) []concordat.TxOption {
				return []concordat.TxOption{concordat.WithConsistency(concordat.Before)}
			}},
			{"after", concordat.After, func(gtid.GTID) []concordat.TxOption { return nil }},
			{"before and after", concordat.BeforeAndAfter, func(gtid.GTID) []concordat.TxOption {
				return []concordat.TxOption{concordat.WithConsistency(concordat.BeforeAndAfter)}
			}},
			{"at most 0", concordat.Eventual, func(gtid.GTID) []concordat.TxOption {
				return []concordat.TxOption{concordat.AtMost(0)}
			}},
			{"session", concordat.Eventual, func(id gtid.GTID) []concordat.TxOption {
				return []concordat.TxOption{concordat.AfterGTIDs(gtid.Set{}.Add(id))}
			}},
		} {
			want := fmt.Sprint(c.name, i)
			id, err := writeAt(ctx, g.nodes[0], "k", want, concordat.WithConsistency(c.write))
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			for at, n := range g.nodes {
				if got, err := readAt(ctx, n, "k", c.read(id)...); err != nil || got != want {
					t.Errorf("%s: member %d reads %q, %v, want %q", c.name, at, got, err, want)
				}
			}
		}
	}
	if s := g.nodes[1].Status(); s.Fresh < 0 {
		t.Errorf("how old the data are is not known: %v", s.Fresh)
	}
}

// Data whose age is known keep being dated while somebody asks for young ones, so
// that they are served at once.
func TestAtMostStaysKnown(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2)
	if _, err := readAt(ctx, g.nodes[1], "k", concordat.AtMost(time.Hour)); err != nil {
		t.Fatal(err)
	}
	first := g.nodes[1].Status().Fresh
	if first < 0 {
		t.Fatalf("how old the data are is not known: %v", first)
	}
	eventually(t, "the data are dated anew", func() bool {
		now := g.nodes[1].Status().Fresh
		younger := now < first
		first = now
		return younger
	})
	eventually(t, "the other one knows how old they are", func() bool {
		members := g.nodes[0].Status().View.Members
		i := slices.IndexFunc(members, func(m concordat.Member) bool { return m.UUID == uuid(g.nodes[1]) })
		return members[i].Fresh >= 0
	})
}

// A commit at After waits for a member that does not answer until the group is
// without it, and who does not wait so long hears whom it was for.
func TestAfterWaitsForMembers(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, single, func(c *concordat.Config) {
		c.MemberSuspectTimeout, c.MemberExpelTimeout = 200*time.Millisecond, 5*time.Second
	})
	mustPut(t, g.nodes[0], "k", "0")
	mustAgree(t, g.nodes...)
	away := uuid(g.nodes[2])
	mustClose(t, g.nodes[2])
	brief, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := writeAt(brief, g.nodes[0], "k", "1", concordat.WithConsistency(concordat.After))
	e, ok := errors.AsType[*concordat.OutcomeUnknownError](err)
	if !ok || e.Index == 0 || !slices.Equal(e.Missing, []gtid.UUID{away}) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want that it waits for %v", err, away)
	}
	if gate := g.nodes[0].Status().Gate; gate == nil || gate.Index != e.Index || !slices.Equal(gate.Waits, e.Missing) {
		t.Errorf("status tells of the gate %+v", gate)
	}
	brief, cancel = context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = readAt(brief, g.nodes[0], "k")
	if w, ok := errors.AsType[*concordat.WaitError](err); !ok || w.Step != concordat.WaitGate || w.Want != e.Index || w.At >= w.Want {
		t.Errorf("a reader at the origin: %v", err)
	}
	o, err := g.nodes[1].Outcome(ctx, e.ID)
	if err != nil || o.State != concordat.OutcomeCommitted || o.Index != e.Index {
		t.Errorf("it came to %+v, %v", o, err)
	}
	if len(members(g.nodes[1])) != 2 {
		t.Errorf("it is visible while a member may miss it: %v", members(g.nodes[1]))
	}
	for _, n := range g.nodes[:2] {
		if got, err := readAt(ctx, n, "k"); err != nil || got != "1" {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

// The group's level counts for who chooses none, on all members.
func TestGroupLevel(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2, single, func(c *concordat.Config) {
		c.Founding.Consistency, c.Founding.PreferMostUpdated = concordat.Before, true
	})
	if s := g.nodes[1].GroupSettings(); s.Consistency != concordat.Before || !s.PreferMostUpdated {
		t.Errorf("settings %+v", s)
	}
	for i := range 20 {
		want := strconv.Itoa(i)
		if _, err := writeAt(ctx, g.nodes[0], "k", want); err != nil {
			t.Fatal(err)
		}
		if got, err := readAt(ctx, g.nodes[1], "k"); err != nil || got != want {
			t.Errorf("read %q, %v, want %q", got, err, want)
		}
	}
	if why := g.nodes[1].Why(); why.Winner == 0 {
		t.Errorf("nobody would be elected: %+v", why)
	}
}

func TestInvalidLevels(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	for _, o := range []concordat.TxOption{concordat.WithConsistency(concordat.BeforeAndAfter + 1), concordat.AtMost(-1)} {
		if _, err := n.Begin(testContext(t), o); !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("begin: %v", err)
		}
		if _, err := n.BeginReadOnly(testContext(t), o); !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("begin read-only: %v", err)
		}
	}
}
