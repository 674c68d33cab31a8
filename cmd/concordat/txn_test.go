package main

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func TestParseStep(t *testing.T) {
	app := &kvpb.Table{Schema: "app", Name: "t"}
	for line, want := range map[string]*step{
		"":                             nil,
		"  # a comment":                nil,
		"begin":                        {verb: "begin"},
		"get app.t k # why":            {verb: "get", table: app, key: []byte("k")},
		"\tput  app.t a#b  v\r":        {verb: "put", table: app, key: []byte("a#b"), value: []byte("v")},
		`put app.t "two words" ""`:     {verb: "put", table: app, key: []byte("two words"), value: []byte{}},
		`delete app.t "\x00\xff\"q"`:   {verb: "delete", table: app, key: []byte("\x00\xff\"q")},
		"add app.t n -5":               {verb: "add", table: app, key: []byte("n"), delta: -5},
		"scan app.t":                   {verb: "scan", table: app},
		"scan app.t a":                 {verb: "scan", table: app, key: []byte("a")},
		"scan app.t a b":               {verb: "scan", table: app, key: []byte("a"), value: []byte("b")},
		"commit":                       {verb: "commit"},
		"rollback # it was only a try": {verb: "rollback"},
	} {
		s, ok, err := (&kvFlags{}).parseStep(line)
		if err != nil || ok != (want != nil) {
			t.Errorf("%q: %t, %v", line, ok, err)
			continue
		}
		if want == nil {
			continue
		}
		if diff := cmp.Diff(*want, s, cmp.AllowUnexported(step{}), protocmp.Transform()); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
	for line, want := range map[string]string{
		"take app.t k":          `"take" is nothing`,
		"get app.t":             "write get TABLE KEY",
		"get app.t k v":         "write get TABLE KEY",
		"put app.t k":           "write put TABLE KEY VALUE",
		"begin now":             "write begin",
		"scan":                  "write scan TABLE [FROM [TO]]",
		"scan app.t a b c":      "write scan TABLE [FROM [TO]]",
		"get t k":               "schema.name",
		"add app.t n much":      `"much" is no number`,
		`put app.t "k v`:        "has to end",
		`put app.t "k"v x`:      "a space has to follow",
		`put app.t "\q" x`:      "quoted as in Go",
		"Commit":                `"Commit" is nothing`,
		"delete app.t k secret": "write delete TABLE KEY",
	} {
		_, _, err := (&kvFlags{}).parseStep(line)
		if _, ok := errors.AsType[*usageError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
	if s, _, err := (&kvFlags{hex: true}).parseStep("put app.t 00ff 0a"); err != nil || string(s.key) != "\x00\xff" || string(s.value) != "\n" {
		t.Errorf("hexadecimal: %q %q, %v", s.key, s.value, err)
	}
}

// runScript gives a script to concordat txn.
func runScript(t *testing.T, script string, args ...string) (out, errOut string, code int) {
	t.Helper()
	cmd := command(testContext(t), t, append([]string{"txn"}, args...)...)
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return stdout.String(), stderr.String(), code
}

func TestTxn(t *testing.T) {
	t.Parallel()
	n := startNode(t, t.TempDir(), "--bootstrap", "--single-primary")
	for _, c := range []struct {
		script string
		code   int
		out    string
		says   string
		args   []string
	}{
		{"", exitOK, "", "", nil},
		{"# nothing\nget app.t none\n", exitOK, "none\n", "", nil},
		{"put app.t a 1\nput app.t \"b c\" \"\"\nadd app.t n 7", exitOK, testGroup + ":1\n", "", nil},
		{"get app.t a\nget app.t none\nget app.t \"b c\"\n", exitOK, "a\t1\nnone\n\"b c\"\t\"\"\n", "", nil},
		{"get app.t a\nget app.t none\n", exitOK, `{"key":"a","value":"1"}` + "\n" + `{"found":false,"key":"none"}` + "\n", "", []string{"--json"}},
		{
			"begin\nget app.t a\nput app.t a 2\nget app.t a\nscan app.t a b\nadd app.t n -2\ncommit\nbegin\ndelete app.t a\nget app.t a\nrollback\n",
			exitOK, "a\t1\na\t2\na\t2\n" + testGroup + ":2\na\n", "", nil,
		},
		{"get app.t a\nput app.t c 3\n", exitOK, "a\t2\n" + testGroup + ":3\n", "", []string{"--id", testID}},
		{"get app.t a\nput app.t c 3\n", exitOK, "a\t2\n" + testGroup + ":3\n", "", []string{"--id", testID, "--serializable"}},
		{"begin\nget app.t a\ncommit", exitOK, "a\t2\n", "", []string{"--read-only", "--consistency", "before", "--at-most", "1s", "--after", testGroup + ":1-3"}},
		{"begin\nput app.t a 9\n", exitFailure, "", "the input ended before a commit; the transaction was rolled back", nil},
		{"begin\nput app.t a 9\nbegin\n", exitUsage, "", "line 3: a transaction is open", nil},
		{"begin\ncommit\nbegin", exitUsage, "", "line 3: --id is for one transaction", []string{"--id", testID}},
		{"put app.t a 9\nbegin\n", exitUsage, "", "line 2: a transaction is open", nil},
		{"put app.t a 9\ncommit\n", exitUsage, "", "line 2: commit needs a begin before it", nil},
		{"begin\ncommit\nput app.t a 9\n", exitUsage, "", "line 3: put needs a begin", nil},
		{"scan app.t\n", exitUsage, "", "line 1: scan needs a begin", nil},
		{"begin\nput app.t a 9\ntake\n", exitUsage, "", `line 3: "take" is nothing`, nil},
		{"begin\nput app.t a 9\n", exitUsage, "", "line 2: put writes", []string{"--read-only"}},
		{"put app.t a 9\n", exitUsage, "", "--id", []string{"--id", "x"}},
		{"put app.t a 9\n", exitUsage, "", "without a tag", []string{"--weight", "3"}},
		{"begin\nput app.t a 9\n", exitUsage, "", "line 1: ", []string{"--tag", "bulk", "--weight", "1001"}},
		{"begin\nget app.t a\ncommit\n", exitOK, "a\t2\n", "", []string{"--tag", "bulk", "--weight", "3"}},
		{"get app.t a\n", exitUsage, "", "no place to read", []string{"--read-from", "there"}},
		{"get app.t a\n", exitUsage, "", "--after", []string{"--after", "x"}},
		{"begin\nscan app.t\ncommit\n", exitOK, "a\t2\n\"b c\"\t\"\"\nc\t3\nn\t" + `"\x00\x00\x00\x00\x00\x00\x00\x05"` + "\n", "", nil},
	} {
		out, errOut, code := runScript(t, c.script, append(c.args, "--address", n.ClientAddress)...)
		if code != c.code || code == exitOK && out != c.out || !strings.Contains(errOut, c.says) {
			t.Errorf("%q %v: exit code %d\n%s%swant %d\n%s%s", c.script, c.args, code, out, errOut, c.code, c.out, c.says)
		}
	}
}
