package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/concordatdb/concordat"
)

// load runs clients on some members until it is stopped.
type load struct {
	cancel  context.CancelFunc
	clients sync.WaitGroup
	done    atomic.Int64 // transactions that committed
	unknown atomic.Int64 // transactions whose fate nobody heard
}

// startLoad has one client on each member count up one number. It ends with
// the test at the latest.
func startLoad(t testing.TB, nodes ...*concordat.Node) *load {
	ctx, cancel := context.WithCancel(testContext(t))
	l := &load{cancel: cancel}
	for i, n := range nodes {
		l.clients.Go(func() {
			for ctx.Err() == nil {
				err := add(ctx, n, "load", 1)
				switch {
				case err == nil:
					l.done.Add(1)
				case errors.Is(err, concordat.ErrOutcomeUnknown):
					l.unknown.Add(1)
				case ctx.Err() == nil:
					t.Errorf("client of member %d: %v", i, err)
					return
				}
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	l.cancel()
	l.clients.Wait()
}

// more waits until the clients have committed n transactions more.
func (l *load) more(t testing.TB, n int64) {
	t.Helper()
	want := l.done.Load() + n
	eventually(t, "clients go on", func() bool { return l.done.Load() >= want || t.Failed() })
}

// mustCount stops the load and checks that the members agree, and that each
// transaction that was answered counted exactly once.
func (l *load) mustCount(t testing.TB, nodes ...*concordat.Node) {
	t.Helper()
	l.stop()
	mustAgree(t, nodes...)
	got, err := strconv.ParseInt(contents(t, nodes[0])["load"], 10, 64)
	if done := l.done.Load(); err != nil || got < done || got > done+l.unknown.Load() {
		t.Errorf("counted to %d, %v, with %d answered and %d unknown", got, err, done, l.unknown.Load())
	}
}

func TestThreeMembersCountTogether(t *testing.T) {
	t.Parallel()
	const clients, each = 2, 15
	ctx := testContext(t)
	g := openGroup(t, 3)
	var working sync.WaitGroup
	for _, n := range g.nodes {
		for range clients {
			working.Go(func() {
				for i := range each {
					if err := errors.Join(add(ctx, n, "shared", 1), add(ctx, n, fmt.Sprint("spread", i), 1)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	working.Wait()
	mustAgree(t, g.nodes...)
	found := contents(t, g.nodes[0])
	if got, want := found["shared"], strconv.Itoa(3*clients*each); got != want {
		t.Errorf("counted to %s, want %s", got, want)
	}
	for i := range each {
		if got, want := found[fmt.Sprint("spread", i)], strconv.Itoa(3*clients); got != want {
			t.Errorf("counter %d is at %s, want %s", i, got, want)
		}
	}
	executed := g.nodes[0].Status().Executed
	if got, want := executed.Count(), uint64(2*3*clients*each); got != want {
		t.Errorf("%d transactions in %s, want %d", got, executed, want)
	}
}

// Money that moves between accounts on all members at once is neither made nor
// lost, and no reader ever sees it on its way.
func TestBankKeepsItsSum(t *testing.T) {
	t.Parallel()
	const holders, each, start = 6, 25, 100
	ctx := testContext(t)
	g := openGroup(t, 3)
	name := func(i int) string { return fmt.Sprint("account", i%holders) }
	for i := range holders {
		mustPut(t, g.nodes[0], name(i), strconv.Itoa(start))
	}
	mustAgree(t, g.nodes...)
	var working sync.WaitGroup
	for at, n := range g.nodes {
		working.Go(func() {
			for i := range each {
				if err := transfer(ctx, n, name(at+i), name(at+2*i+1), 7); err != nil {
					t.Error(err)
					return
				}
			}
		})
		working.Go(func() {
			for range each {
				if got := sum(t, n); got != holders*start {
					t.Errorf("member %d shows a sum of %d, want %d", at, got, holders*start)
					return
				}
			}
		})
	}
	working.Wait()
	mustAgree(t, g.nodes...)
	for _, n := range g.nodes {
		if got := sum(t, n); got != holders*start {
			t.Errorf("in the end there is %d, want %d", got, holders*start)
		}
	}
}

func transfer(ctx context.Context, n *concordat.Node, from, to string, amount int) error {
	_, err := n.Update(ctx, func(tx *concordat.Tx) error {
		for _, move := range []struct {
			account string
			by      int
		}{{from, -amount}, {to, amount}} {
			v, err := number(tx, move.account)
			if err != nil {
				return err
			}
			if err := tx.Put(accounts, []byte(move.account), []byte(strconv.Itoa(v+move.by))); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func sum(t testing.TB, n *concordat.Node) int {
	total := 0
	for k, v := range contents(t, n) {
		amount, err := strconv.Atoi(v)
		if err != nil {
			t.Errorf("%s holds %q", k, v)
		}
		total += amount
	}
	return total
}

// A member that is closed is missed by nobody but its clients; reopened on its
// directory it catches up. The leader is no exception.
func TestMemberAwayAndBack(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"follower", "leader"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			g := openGroup(t, 3)
			at := leader(t, g.nodes)
			if who == "follower" {
				at = (at + 1) % 3
			}
			rest := others(g.nodes, at)
			l := startLoad(t, rest...)
			l.more(t, 10)
			mustClose(t, g.nodes[at])
			l.more(t, 20)
			back := reopen(t, g.nodes[at], g.cfgs[at])
			l.more(t, 10)
			l.mustCount(t, append(rest, back)...)
			mustPut(t, back, "back", "1")
			if got := len(back.Status().View.Members); got != 3 {
				t.Errorf("view of %d members, want 3", got)
			}
		})
	}
}

// All members of a group can be closed, and go on where they were.
func TestWholeGroupRestarts(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3)
	mustPut(t, g.nodes[1], "k", "v")
	mustAgree(t, g.nodes...)
	before := g.nodes[0].Status().Executed
	for _, n := range g.nodes {
		mustClose(t, n)
	}
	nodes := make([]*concordat.Node, 3)
	var opening sync.WaitGroup
	for i, n := range g.nodes {
		opening.Go(func() {
			var err error
			if nodes[i], err = concordat.Open(testContext(t), again(n, g.cfgs[i])); err != nil {
				t.Errorf("open member %d: %v", i, err)
			}
		})
	}
	opening.Wait()
	for _, n := range nodes {
		if n != nil {
			t.Cleanup(func() { _ = n.Close() })
		}
	}
	if t.Failed() {
		return
	}
	mustAgree(t, nodes...)
	if got := nodes[0].Status().Executed; !got.Equal(before) {
		t.Errorf("executed %s, before the restart %s", got, before)
	}
	mustPut(t, nodes[2], "k", "w")
	mustAgree(t, nodes...)
}

func TestOneMemberRestartsAlone(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	n, cfg := g.nodes[0], g.cfgs[0]
	for i := range 3 {
		mustPut(t, n, fmt.Sprint(i), "v")
		n = reopen(t, n, cfg)
		if got := len(contents(t, n)); got != i+1 {
			t.Fatalf("%d keys after restart %d", got, i)
		}
	}
	if got := n.Status().Executed; got.Count() != 3 || n.Status().Counters.Sequence != 3 {
		t.Errorf("executed %s in sequence %d, want 3 transactions", got, n.Status().Counters.Sequence)
	}
}

// One after the other, members leave: the view shrinks, and with it the number
// that is needed. The last one has to stay.
func TestLeave(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"follower", "leader"} {
		t.Run(first+" first", func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			g := openGroup(t, 3)
			nodes := slices.Clone(g.nodes)
			for _, n := range nodes {
				eventually(t, "a view of three ONLINE members", func() bool { return n.Status().Outlook.Voters == 3 })
			}
			at := leader(t, nodes)
			if first == "follower" {
				at = (at + 1) % 3
			}
			for len(nodes) > 1 {
				gone := nodes[at]
				err := gone.Leave(ctx)
				if tolerant := len(nodes) > 2; tolerant != errors.Is(err, concordat.ErrRefused) {
					t.Fatalf("leave %d members: %v", len(nodes), err)
				} else if tolerant {
					err = gone.Leave(ctx, concordat.Force())
				}
				if err != nil {
					t.Fatalf("leave %d members: %v", len(nodes), err)
				}
				if s := gone.Status().State; s != concordat.Offline {
					t.Errorf("a member that left is %s", s)
				}
				if err := gone.Close(); !errors.Is(err, concordat.ErrClosed) {
					t.Errorf("close after leave: %v", err)
				}
				nodes = others(nodes, at)
				for _, n := range nodes {
					eventually(t, "a smaller view", func() bool { return len(members(n)) == len(nodes) })
					if slices.Contains(members(n), gone.Status().Member) {
						t.Errorf("member that left is still in %v", members(n))
					}
				}
				mustPut(t, nodes[0], fmt.Sprint("with ", len(nodes)), "1")
				at = leader(t, nodes)
			}
			last := nodes[0]
			if err := last.Leave(ctx); !errors.Is(err, concordat.ErrLeave) {
				t.Errorf("the last member leaves: %v, want ErrLeave", err)
			}
			mustPut(t, last, "still here", "1")
		})
	}
}

// A member that left comes back on its directory by itself, under a new raft id,
// with what it still had.
func TestReturnAfterLeave(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2)
	mustPut(t, g.nodes[0], "before", "1")
	gone := g.nodes[1]
	before := raftID(t, gone)
	if err := gone.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	mustPut(t, g.nodes[0], "meanwhile", "1")
	back := mustOpen(t, again(gone, g.cfgs[1]))
	if now := raftID(t, back); now == before {
		t.Errorf("it is back under the raft id %d, which has left", now)
	}
	if back.Status().Member != gone.Status().Member {
		t.Errorf("member %s came back as %s", gone.Status().Member, back.Status().Member)
	}
	mustPut(t, back, "back", "1")
	mustAgree(t, g.nodes[0], back)
}

// raftID is that of a member as it is in its own view.
func raftID(t testing.TB, n *concordat.Node) uint64 {
	t.Helper()
	s := n.Status()
	for _, m := range s.View.Members {
		if m.UUID == s.Member {
			return m.RaftID
		}
	}
	t.Fatalf("%s is not in its view %v", s.Member, s.View)
	return 0
}
