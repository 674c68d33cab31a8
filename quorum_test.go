package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
)

// submit commits one write beside the test.
func submit(ctx context.Context, n *concordat.Node, key string) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := n.Update(ctx, func(tx *concordat.Tx) error { return tx.Put(accounts, []byte(key), []byte("1")) })
		result <- err
	}()
	return result
}

// A member that starts alone does not say that it has a quorum, and its
// membership is not forced, before the others had the time to be heard.
func TestLoneMemberClaimsNoQuorum(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3)
	for _, n := range g.nodes {
		mustClose(t, n)
	}
	lone := mustStart(t, again(g.nodes[0], g.cfgs[0]))
	unsettled := false
	eventually(t, "a member without quorum", func() bool {
		st := lone.Status()
		if st.Quorum {
			t.Fatalf("alone among three it has a quorum: %+v", st)
		}
		_, err := lone.PlanForceMembers(testContext(t), uuids(lone))
		unsettled = unsettled || err != nil
		return err == nil
	})
	if !unsettled {
		t.Error("the plan is drawn before anybody had the time to be heard")
	}
}

// Without a quorum nothing is answered as committed. What was handed over
// keeps its place; when the quorum is back, all of it is decided, once.
func TestLossOfQuorum(t *testing.T) {
	t.Parallel()
	const places = 3
	g := openGroup(t, 3, func(c *concordat.Config) { c.MaxPendingCommits = places })
	n := g.nodes[0]
	mustPut(t, n, "before", "1")
	mustClose(t, g.nodes[1])
	mustClose(t, g.nodes[2])

	var unknown []*concordat.OutcomeUnknownError
	for i := range places {
		ctx, cancel := context.WithCancelCause(testContext(t))
		result := submit(ctx, n, fmt.Sprint("lost", i))
		eventually(t, "a commit under way", func() bool { return concordat.PendingCommits(n) == i+1 })
		cancel(errors.New("enough"))
		err := <-result
		u, ok := errors.AsType[*concordat.OutcomeUnknownError](err)
		if !ok || !errors.Is(err, concordat.ErrOutcomeUnknown) || u.ID.IsZero() || concordat.Retryable(err) {
			t.Fatalf("commit without quorum: %v, want ErrOutcomeUnknown with an id", err)
		}
		unknown = append(unknown, u)
	}
	if unknown[0].ID == unknown[1].ID || !strings.Contains(unknown[0].Error(), unknown[0].ID.String()) {
		t.Errorf("ids %s and %s, error %v", unknown[0].ID, unknown[1].ID, unknown[0])
	}

	// No place is left. One that waits for a place is certain of its outcome.
	ctx, cancel := context.WithCancel(testContext(t))
	result := submit(ctx, n, "never")
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || errors.Is(err, concordat.ErrOutcomeUnknown) {
		t.Errorf("commit without a place: %v, want a known outcome", err)
	}
	waiting := submit(testContext(t), n, "waited")
	if got := contents(t, n); len(got) != 1 {
		t.Errorf("without quorum there is %v", got)
	}

	back := reopen(t, g.nodes[1], g.cfgs[1])
	if err := <-waiting; err != nil {
		t.Errorf("commit that waited for the quorum: %v", err)
	}
	mustPut(t, n, "after", "1")
	mustAgree(t, n, back)
	found := contents(t, n)
	for _, key := range []string{"before", "lost0", "lost1", "lost2", "waited", "after"} {
		if found[key] != "1" {
			t.Errorf("%s is not there: %v", key, found)
		}
	}
	if _, there := found["never"]; there {
		t.Error("a commit that was never handed over happened")
	}
	eventually(t, "all places to be free", func() bool { return concordat.PendingCommits(n) == 0 })
}

// A commit that is under way when its member closes ends, with an open fate.
func TestCloseEndsCommits(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, func(c *concordat.Config) { c.MaxPendingCommits = 1 })
	n := g.nodes[0]
	mustClose(t, g.nodes[1])
	under := submit(testContext(t), n, "under way")
	eventually(t, "a commit under way", func() bool { return concordat.PendingCommits(n) == 1 })
	waits := submit(testContext(t), n, "waits for a place")
	mustClose(t, n)
	if err := <-under; !errors.Is(err, concordat.ErrOutcomeUnknown) || errors.Is(err, concordat.ErrClosed) {
		t.Errorf("commit under way: %v, want ErrOutcomeUnknown and not ErrClosed, after which nothing has happened", err)
	}
	if err := <-waits; !errors.Is(err, concordat.ErrClosed) || errors.Is(err, concordat.ErrOutcomeUnknown) {
		t.Errorf("commit without a place: %v, want ErrClosed", err)
	}
	if got := concordat.PendingCommits(n); got != 0 {
		t.Errorf("%d places are still taken", got)
	}
}

func TestClosedNode(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openGroup(t, 1).nodes[0]
	tx := begin(t, n)
	mustWrite(t, tx.Put(accounts, []byte("k"), nil))
	mustClose(t, n)
	_, begun := n.Begin(ctx)
	_, _, digest := n.Digest()
	_, commit := tx.Commit(ctx)
	for what, err := range map[string]error{
		"close": n.Close(), "begin": begun, "digest": digest, "commit": commit, "leave": n.Leave(ctx),
		"view": n.View(ctx, func(*concordat.Tx) error { return nil }),
	} {
		if !errors.Is(err, concordat.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
	if s := n.Status(); s.State != concordat.Offline || s.Member.IsZero() {
		t.Errorf("status after close: %+v", s)
	}
}
