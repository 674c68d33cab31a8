package main

import (
	"encoding/json"
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// serveNode serves a group of one from this process.
func serveNode(t *testing.T) (*concordat.Node, string) {
	t.Helper()
	s := defaultSettings()
	s.Group, s.Dir, s.Bootstrap, s.Listen = testGroup, t.TempDir(), true, loopback
	node, err := concordat.Open(testContext(t), s.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	served := server.Start(server.Config{Listener: l})
	t.Cleanup(func() { served.Stop(t.Context()) })
	served.SetNode(node)
	return node, l.Addr().String()
}

// lose makes a transaction lose to another one that has put the same key.
func lose(t *testing.T, n *concordat.Node, key string) {
	t.Helper()
	ctx, table := testContext(t), concordat.Table{Schema: "bank", Name: "accounts"}
	tx, err := n.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := n.Update(ctx, func(tx *concordat.Tx) error { return tx.Put(table, []byte(key), nil) }); err != nil {
		t.Fatal(err)
	}
	if err = tx.Put(table, []byte(key), nil); err == nil {
		_, err = tx.Commit(ctx)
	}
	if !errors.Is(err, concordat.ErrConflict) {
		t.Fatal(err)
	}
}

func TestConflictsCommand(t *testing.T) {
	first, address := serveNode(t)
	second, otherAddress := serveNode(t)
	quiet := want(t, exitOK, "conflicts", "--address", address)
	if !regexp.MustCompile(`^member ` + first.Status().Member.String() + `: no conflicts in \S+, 0\.00 per second\n$`).MatchString(quiet) {
		t.Errorf("without any: %s", quiet)
	}
	for key, count := range map[string]int{"\x00\xff": 3, "-": 2, strings.Repeat("long ", 20): 1} {
		for range count {
			lose(t, first, key)
		}
	}
	out := want(t, exitOK, "conflicts", "--address", address+","+otherAddress)
	for _, line := range []string{
		`member \S+: 6 conflicts in \S+, \S+ per second`,
		`bank\.accounts +6 +\S+`,
		`bank\.accounts +"\\x00\\xff" +3 +\S+`,
		`bank\.accounts +"-" +2 +\S+`,
		`bank\.accounts +"(long ){12}long"… +1 +\S+`,
		first.Status().Member.String() + ` +` + first.Status().Member.String() + ` +6 +\S+`,
		`write +write +6`,
		`member ` + second.Status().Member.String() + `: no conflicts in .*`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(out) {
			t.Errorf("no line %s in\n%s", line, out)
		}
	}

	var report struct{ Members []conflictsJSON }
	out = want(t, exitOK, "conflicts", "--json", "--limit", "2", "--address", address+","+otherAddress)
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if len(report.Members) != 2 || report.Members[0].Total != 6 || report.Members[1].Total != 0 || report.Members[1].Member != second.Status().Member.String() {
		t.Fatalf("%+v", report)
	}
	keys := report.Members[0].Keys
	if len(keys) != 2 || keys[0].KeyHex != "00ff" || keys[0].Key != nil || keys[0].Count != 3 || keys[1].KeyHex != "2d" || *keys[1].Key != "-" {
		t.Errorf("keys %+v", keys)
	}
	sum := uint64(0)
	for _, n := range report.Members[0].Places {
		sum += n
	}
	if sum != 6 || len(report.Members[0].Kinds) != 1 || report.Members[0].Kinds[0] != (conflictKindJSON{"write", "write", 6}) {
		t.Errorf("places %v, kinds %v", report.Members[0].Places, report.Members[0].Kinds)
	}

	// One that does not answer does not hide the others.
	out, errOut, code := runCommand(t, "conflicts", "--address", "127.0.0.1:1,"+address)
	if code != exitTryAgain || !strings.Contains(out, "6 conflicts") || !strings.Contains(errOut, "127.0.0.1:1") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	for text, args := range map[string][]string{
		"-1":         {"conflicts", "--limit", "-1", "--address", address},
		"no address": {"conflicts", "--address", ""},
		"arguments":  {"conflicts", "now"},
	} {
		if said := want(t, exitUsage, args...); !strings.Contains(said, text) {
			t.Errorf("%v said %q, want %q in it", args, said, text)
		}
	}
}

func TestPrintConflicts(t *testing.T) {
	const a, b = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
	report := &adminpb.ConflictsResponse{
		Member: a, CoveredNanos: 590e9, Total: 59, Rate: 0.1,
		Places:      []*adminpb.ConflictPlace{{Where: kvpb.Where_WHERE_REFUSED, Count: 50}, {Where: kvpb.Where_WHERE_HELD, Count: 9}},
		Kinds:       []*adminpb.ConflictKinds{{Incoming: kvpb.Kind_KIND_READ, Earlier: kvpb.Kind_KIND_DELTA, Count: 59}},
		Tables:      []*adminpb.ConflictTable{{Table: "bank.accounts", Count: 40, Rate: 0.068}, {Count: 10, Rate: 0.017}},
		OtherTables: 9,
		Keys: []*adminpb.ConflictKey{
			{Table: "bank.accounts", Key: []byte("alice"), Count: 30, Overcount: 2, Rate: 0.051},
			{Table: "bank.accounts", Key: []byte("é…"), Count: 3},
			{Table: "bank.accounts", Key: []byte("é"), Cut: true, Count: 2},
			{Table: "bank.my table", Key: []byte("a\tb\n"), Count: 2, Overcount: 3},
			{Count: 1},
		},
		Pairs:      []*adminpb.ConflictPair{{Loser: a, Winner: b, Count: 50, Rate: 0.085}},
		OtherPairs: 9,
	}
	const want = `member ` + a + `: 59 conflicts in 9m50s, 0.10 per second

TABLE          COUNT  PER SECOND
bank.accounts  40     0.07
-              10     0.02
(others)       9

TABLE            KEY       COUNT  PER SECOND
bank.accounts    alice     28-30  0.05
bank.accounts    é…        3      0.00
bank.accounts    "é"…      2      0.00
"bank.my table"  "a\tb\n"  0-2    0.00
-                -         1      0.00

LOSER                                 WINNER                                COUNT  PER SECOND
` + a + `  ` + b + `  50     0.09
(others)                              9

LOSER DID  WINNER DID  COUNT
read       delta       59

LOSER WAS  COUNT
refused    50
held       9
`
	var out strings.Builder
	if err := printConflicts(&out, report); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
