package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testGroup = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"

var accounts = concordat.Table{Schema: "bank", Name: "accounts"}

// testContext bounds a test that would otherwise hang.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// hosts is how many hosts were given away.
var hosts atomic.Uint32

// ownHost is one of this machine's own, and of no other member: whoever closes a
// member and opens it again finds that no test beside it has taken the port. A
// system that has only 127.0.0.1 leaves that to chance.
func ownHost(t testing.TB) string {
	t.Helper()
	n := hosts.Add(1)
	host := net.IPv4(127, byte(os.Getpid()%254+1), byte(n>>8), byte(n)).String()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "127.0.0.1"
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return host
}

// testConfig is a member with a directory of its own and a quick clock.
func testConfig(t testing.TB) concordat.Config {
	cfg := concordat.Config{
		Group: testGroup, Dir: t.TempDir(), Listen: net.JoinHostPort(ownHost(t), "0"),
		TickInterval: 20 * time.Millisecond, ElectionTicks: 15, CacheBytes: 1 << 20,
		FailoverTimeout: 10 * time.Second, // a busy machine is not to depose who is meant to stay
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	return cfg
}

// founder is the configuration of the first member of a group in which all write.
func founder(t testing.TB) concordat.Config {
	cfg := testConfig(t)
	cfg.Bootstrap, cfg.FoundingMode = true, concordat.MultiPrimary
	return cfg
}

// joiner is the configuration of one that joins through another.
func joiner(t testing.TB, seeds ...*concordat.Node) concordat.Config {
	cfg := testConfig(t)
	for _, n := range seeds {
		cfg.Seeds = append(cfg.Seeds, n.Address())
	}
	return cfg
}

// mustOpen opens a member, which is closed at the end of the test at the
// latest.
func mustOpen(t testing.TB, cfg concordat.Config) *concordat.Node {
	t.Helper()
	node, err := concordat.Open(testContext(t), cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = node.Close() })
	return node
}

func mustClose(t testing.TB, n *concordat.Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// reopen closes a member and opens it again on its directory and address.
func reopen(t testing.TB, n *concordat.Node, cfg concordat.Config) *concordat.Node {
	t.Helper()
	if err := n.Close(); err != nil && !errors.Is(err, concordat.ErrClosed) {
		t.Fatalf("close: %v", err)
	}
	return mustOpen(t, again(n, cfg))
}

// again is the configuration for a member that was there before.
func again(n *concordat.Node, cfg concordat.Config) concordat.Config {
	cfg.Listen, cfg.Bootstrap, cfg.Seeds = n.Address(), false, nil
	return cfg
}

// group is a group of members with their configurations.
type group struct {
	nodes []*concordat.Node
	cfgs  []concordat.Config
}

// openGroup opens n members of a new group, changed by change. All of them know that
// all are ONLINE: by its own log each is so first.
func openGroup(t testing.TB, n int, change ...func(*concordat.Config)) *group {
	t.Helper()
	g := &group{}
	for i := range n {
		cfg := founder(t)
		if i > 0 {
			cfg = joiner(t, g.nodes[0])
		}
		for _, f := range change {
			f(&cfg)
		}
		g.cfgs = append(g.cfgs, cfg)
		g.nodes = append(g.nodes, mustOpen(t, cfg))
	}
	eventually(t, "all know that all are ONLINE", func() bool {
		return !slices.ContainsFunc(g.nodes, func(one *concordat.Node) bool {
			members := one.Status().View.Members
			return len(members) != n || slices.ContainsFunc(members, func(m concordat.Member) bool { return m.State != concordat.Online })
		})
	})
	return g
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx := testContext(t)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func mustPut(t testing.TB, n *concordat.Node, key, value string) gtid.GTID {
	t.Helper()
	id, err := n.Update(testContext(t), func(tx *concordat.Tx) error {
		return tx.Put(accounts, []byte(key), []byte(value))
	})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return id
}

// contents reads the whole table of a member.
func contents(t testing.TB, n *concordat.Node) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := n.View(testContext(t), func(tx *concordat.Tx) error {
		for k, v := range tx.Scan(accounts, nil, nil) {
			found[string(k)] = string(v)
		}
		return tx.Err()
	})
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return found
}

// add adds to a number, in a transaction that is run again until it commits.
func add(ctx context.Context, n *concordat.Node, key string, amount int) error {
	_, err := n.Update(ctx, func(tx *concordat.Tx) error {
		v, err := number(tx, key)
		if err != nil {
			return err
		}
		return tx.Put(accounts, []byte(key), []byte(strconv.Itoa(v+amount)))
	})
	return err
}

// number reads a number; there being none counts as 0.
func number(tx *concordat.Tx, key string) (int, error) {
	v, ok, err := tx.Get(accounts, []byte(key))
	if err != nil || !ok {
		return 0, err
	}
	return strconv.Atoi(string(v))
}

// mustAgree waits until the members are at one position, and checks that they
// hold the same there.
func mustAgree(t testing.TB, nodes ...*concordat.Node) {
	t.Helper()
	var digests map[string]bool
	eventually(t, "members at one position", func() bool {
		digests = map[string]bool{}
		positions := map[string]bool{}
		for _, n := range nodes {
			d, at, err := n.Digest()
			if err != nil {
				t.Fatalf("digest: %v", err)
			}
			digests[d.String()] = true
			positions[fmt.Sprint(at.Index, at.Executed)] = true
		}
		return len(positions) == 1
	})
	if len(digests) != 1 {
		t.Fatalf("members at one position hold different data: %v", slices.Collect(maps.Keys(digests)))
	}
}

// members are the UUIDs of a member's view.
func members(n *concordat.Node) []gtid.UUID {
	var ids []gtid.UUID
	for _, m := range n.Status().View.Members {
		ids = append(ids, m.UUID)
	}
	return ids
}

// leader returns the member that leads, once all know the same one.
func leader(t testing.TB, nodes []*concordat.Node) (at int) {
	t.Helper()
	eventually(t, "one leader", func() bool {
		id := nodes[0].Status().Leader
		for _, n := range nodes {
			if n.Status().Leader != id {
				return false
			}
		}
		at = slices.IndexFunc(nodes, func(n *concordat.Node) bool { return n.Status().Member == id })
		return at >= 0
	})
	return at
}

// others returns all members but the one at i.
func others(nodes []*concordat.Node, i int) []*concordat.Node {
	return slices.Delete(slices.Clone(nodes), i, i+1)
}
