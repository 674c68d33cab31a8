package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// The commands find who writes, whichever members they are told, and read where
// they are asked to.
func TestCommandsRoute(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	first := startNode(t, filepath.Join(base, "1"), "--bootstrap", "--single-primary")
	second := startNode(t, filepath.Join(base, "2"), "--seeds", first.Address)
	third := startNode(t, filepath.Join(base, "3"), "--seeds", first.Address)
	followers := second.ClientAddress + "," + third.ClientAddress

	var put written
	out := want(t, exitOK, "put", "app.t", "k", "1", "--json", "--address", followers)
	if err := json.Unmarshal([]byte(out), &put); err != nil || put.Member != first.Member || put.Epoch != 1 || put.GTID != testGroup+":1" {
		t.Errorf("put says %s, %v", out, err)
	}
	for _, verb := range [][]string{{"put", "app.t", "k", "2"}, {"delete", "app.t", "k"}, {"add", "app.t", "n", "1"}} {
		text := want(t, exitReadOnly, append(verb, "--direct", "--address", second.ClientAddress)...)
		if !strings.Contains(text, first.ClientAddress) || !strings.Contains(text, first.Member) {
			t.Errorf("%s at a secondary: %s", verb[0], text)
		}
	}
	want(t, exitOK, "add", "app.n", "n", "3", "--direct", "--address", first.ClientAddress)
	want(t, exitOK, "add", "app.n", "n", "4", "--address", third.ClientAddress, "--consistency", "after")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"7\n", []string{"get", "app.n", "n", "--counter", "--address", second.ClientAddress}}, // it was AFTER
		{"1\n", []string{"get", "app.t", "k", "--address", third.ClientAddress, "--consistency", "BEFORE"}},
		{"1\n", []string{"get", "app.t", "k", "--address", third.ClientAddress, "--after", put.GTID}},
		{"1\n", []string{"get", "app.t", "k", "--address", third.ClientAddress, "--at-most", "1s"}},
		{"1\n", []string{"get", "app.t", "k", "--address", followers}},
		{"1\n", []string{"get", "app.t", "k", "--address", first.ClientAddress, "--read-from", "secondary", "--consistency", "before-and-after"}},
		{"1\n", []string{"get", "app.t", "k", "--address", first.ClientAddress, "--read-from", "nearest", "--after", put.GTID}},
		{"1\n", []string{"get", "app.t", "k", "--address", first.ClientAddress, "--read-from", "1s"}},
		{"k\t1\n", []string{"scan", "app.t", "--address", followers, "--read-from", "secondary", "--reverse", "--after", put.GTID}},
	} {
		if got := want(t, exitOK, c.args...); got != c.want {
			t.Errorf("%v printed %q, want %q", c.args, got, c.want)
		}
	}
	want(t, exitNotFound, "get", "app.t", "none", "--address", followers)
	// A member answers half a second before the time is over, for which a busy machine
	// may need longer.
	for ctx, text := testContext(t), ""; !strings.Contains(text, "session"); {
		if ctx.Err() != nil {
			t.Fatalf("what nobody has written: %s", text)
		}
		text = want(t, exitTryAgain, "get", "app.t", "k", "--address", second.ClientAddress, "--after", testGroup+":99", "--timeout", "2500ms")
	}
	if text := want(t, exitUsage, "put", "app.t", "k", "1", "--direct", "--address", followers); !strings.Contains(text, "one --address") {
		t.Errorf("--direct at two: %s", text)
	}
}
