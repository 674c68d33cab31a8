package concordat_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/concordatdb/concordat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testGroup = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"

var accounts = concordat.Table{Schema: "bank", Name: "accounts"}

// testContext bounds a test that would otherwise hang.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func testConfig(t testing.TB) concordat.Config {
	cfg := concordat.Config{Group: testGroup, Dir: t.TempDir(), Listen: "127.0.0.1:0"}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	return cfg
}

// openGroup opens n members of a new group.
func openGroup(t testing.TB, n int) []*concordat.Node {
	ctx := testContext(t)
	var nodes []*concordat.Node
	for i := range n {
		cfg := testConfig(t)
		if i == 0 {
			cfg.Bootstrap = true
		} else {
			cfg.Seeds = []string{nodes[0].Address()}
		}
		node, err := concordat.Open(ctx, cfg)
		if err != nil {
			t.Fatalf("open member %d: %v", i, err)
		}
		t.Cleanup(func() { _ = node.Close() })
		nodes = append(nodes, node)
	}
	return nodes
}

func TestThreeMembersAgree(t *testing.T) {
	ctx := testContext(t)
	nodes := openGroup(t, 3)
	for i := range 30 {
		node := nodes[i%3]
		_, err := node.Update(ctx, func(tx *concordat.Tx) error {
			return tx.Put(accounts, []byte(fmt.Sprint("key", i)), []byte("value"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		d, at, err := n.Digest()
		t.Log(n.Status().State, d, at.Index, at.Executed, err)
	}
}
