package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

func TestCheckCommand(t *testing.T) {
	base := t.TempDir()
	first := startNode(t, filepath.Join(base, "1"), "--bootstrap")
	second := startNode(t, filepath.Join(base, "2"), "--seeds", first.Address)
	startNode(t, filepath.Join(base, "3"), "--seeds", first.Address) // or there is no majority without the second
	want(t, exitOK, "put", "--direct", "app.t", "k", "v", "--address", second.ClientAddress)
	if code := second.end(t, syscall.SIGINT); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	check := func(dir string, args ...string) []string {
		return append([]string{"check", "--dir", dir, "--listen", second.Address, "--group", testGroup}, args...)
	}
	out := want(t, exitOK, check(second.dir, "--seeds", first.Address)...)
	for _, text := range []string{second.dir + ": accepted\n", second.Member, testGroup + ":1"} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in\n%s", text, out)
		}
	}
	fresh := t.TempDir()
	if out := want(t, exitOK, check(fresh, "--seeds", first.Address, "--listen", loopback)...); !strings.Contains(out, "no member in it yet") {
		t.Error(out)
	}
	const other = "00000000-0000-4000-8000-000000000001"
	for _, c := range []struct {
		code int
		args []string
		text string
	}{
		{exitRefused, check(second.dir, "--group", other), "belongs to group " + testGroup},
		{exitRefused, check(fresh), "nobody who could be asked"},
		{exitFailure, check(first.dir), first.dir},
		{exitUsage, check(fresh, "--seeds", "nowhere"), "nowhere"},
	} {
		out, errOut, code := runCommand(t, c.args...)
		if code != c.code || !strings.Contains(out+errOut, c.text) {
			t.Errorf("%v: exit code %d, want %d and %q\n%s%s", c.args, code, c.code, c.text, out, errOut)
		}
	}
	second.again(t) // nothing was changed
}

func TestPrintCheck(t *testing.T) {
	uuid := func(text string) gtid.UUID {
		u, err := gtid.ParseUUID(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	r := &concordat.CheckReport{
		Reasons: []string{"it has more", "and more"}, Group: uuid(testGroup), Member: uuid(memberB), First: 3, Last: 9, Applied: 8,
		Executed: gtidSet(t, testGroup+":1-4"), Errant: gtidSet(t, testGroup+":4"),
	}
	const want = `/d: not accepted
  it has more
  and more

group           ` + testGroup + `
incarnation     -
member          ` + memberB + `
log             3 to 9
data up to      8; what follows is taken from the log
executed there  ` + testGroup + `:1-4
only here       ` + testGroup + `:4
`
	var out strings.Builder
	printCheck(&out, "/d", r)
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	whole := *r
	whole.Applied = 9
	out.Reset()
	if printCheck(&out, "/d", &whole); !strings.Contains(out.String(), "data up to      9\n") {
		t.Errorf("of data that have all of the log it says\n%s", out.String())
	}
	text, err := json.Marshal(checkOf("/d", r))
	const wantJSON = `{"dir":"/d","accepted":false,"reasons":["it has more","and more"],"new":false,"group":"` + testGroup + `","member":"` + memberB +
		`","first":3,"last":9,"applied":8,"executed":"` + testGroup + `:1-4","errant":"` + testGroup + `:4"}`
	if diff := cmp.Diff(wantJSON, string(text)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
