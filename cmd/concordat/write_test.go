package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

const testID = "9e107d9d-372b-4b68-8ad5-1f2c3d4e5f60"

// atNode appends a node's address to command lines.
func atNode(n *testNode) func(args ...string) []string {
	return func(args ...string) []string {
		return append([]string{args[0], "--address", n.ClientAddress}, args[1:]...)
	}
}

func TestCounters(t *testing.T) {
	at := atNode(startNode(t, t.TempDir(), "--bootstrap"))
	want(t, exitOK, at("add", "app.t", "n", "7")...)
	want(t, exitOK, at("add", "app.t", "n", "--", "-9")...)
	want(t, exitOK, at("put", "app.t", "text", "abc")...)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"-2\n", []string{"get", "app.t", "n", "--counter"}},
		{`{"key":"n","counter":-2}` + "\n", []string{"get", "app.t", "n", "--counter", "--json"}},
		{"fffffffffffffffe\n", []string{"get", "app.t", "6e", "--hex"}},
		{"-2\n", []string{"get", "app.t", "6e", "--hex", "--counter"}},
		{"n\t" + `"\xff\xff\xff\xff\xff\xff\xff\xfe"` + "\n", []string{"scan", "app.t", "--limit", "1"}},
	} {
		if got := want(t, exitOK, at(c.args...)...); got != c.want {
			t.Errorf("%v printed\n%s\nwant\n%s", c.args, got, c.want)
		}
	}
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{exitFailure, "app.t text holds no counter, but 3 bytes", []string{"get", "app.t", "text", "--counter"}},
		{exitNotFound, "no such key", []string{"get", "app.t", "none", "--counter"}},
		{exitUsage, "holds no counter", []string{"add", "app.t", "text", "1"}},
		{exitUsage, `"1.5" is no number`, []string{"add", "app.t", "n", "1.5"}},
		{exitUsage, "64 bits", []string{"add", "app.t", "n", "9223372036854775808"}},
		{exitUsage, "TABLE KEY N", []string{"add", "app.t", "n"}},
	} {
		if text := want(t, c.code, at(c.args...)...); !strings.Contains(text, c.text) {
			t.Errorf("%v said %q, want %q in it", c.args, text, c.text)
		}
	}
}

// A write has a class, on whichever road it goes, and is refused where it has none
// that can be.
func TestClassOfAWrite(t *testing.T) {
	at := atNode(startNode(t, t.TempDir(), "--bootstrap"))
	for _, direct := range [][]string{nil, {"--direct"}} {
		for _, args := range [][]string{{"put", "app.t", "k", "v"}, {"add", "app.t", "n", "1"}, {"delete", "app.t", "k"}} {
			args = append(args, direct...)
			want(t, exitOK, at(append(args, "--tag", "bulk", "--weight", "2")...)...)
			if text := want(t, exitUsage, at(append(args, "--weight", "2")...)...); !strings.Contains(text, "without a tag") {
				t.Errorf("%v: %s", args, text)
			}
			if text := want(t, exitUsage, at(append(args, "--tag", "bulk", "--weight", "1001")...)...); !strings.Contains(text, "1001") {
				t.Errorf("%v: %s", args, text)
			}
		}
	}
}

// A write with an id happens once, and can be asked for.
func TestIDs(t *testing.T) {
	n := startNode(t, t.TempDir(), "--bootstrap")
	at := atNode(n)
	outcome := []string{"outcome", testID}
	out, errOut, code := runCommand(t, at(outcome...)...)
	if code != exitUnknown || !strings.HasPrefix(out, "unknown: nothing with this id after log index") || !strings.Contains(errOut, testID) {
		t.Errorf("before it was sent: exit code %d\n%s%s", code, out, errOut)
	}
	first := want(t, exitOK, at("add", "app.t", "n", "5", "--id", testID)...)
	want(t, exitOK, at("put", "app.t", "between", "")...)
	for range 2 {
		if again := want(t, exitOK, at("add", "app.t", "n", "5", "--id", testID)...); again != first {
			t.Errorf("again: %q, and first %q", again, first)
		}
	}
	if got := want(t, exitOK, at("get", "app.t", "n", "--counter")...); got != "5\n" {
		t.Errorf("the counter stands at %s", got)
	}
	if got := want(t, exitOK, at(outcome...)...); !strings.HasPrefix(got, "committed as "+strings.TrimSpace(first)+" at log index ") {
		t.Errorf("outcome: %s", got)
	}
	var o outcomeJSON
	if err := json.Unmarshal([]byte(want(t, exitOK, at(append(outcome, "--json")...)...)), &o); err != nil {
		t.Fatal(err)
	}
	if o.ID != testID || o.State != "committed" || o.GTID+"\n" != first || o.Index == 0 || o.Until < o.Index {
		t.Errorf("outcome: %+v", o)
	}
	if got := nodeStatus(t, n.ClientAddress).Counters["duplicates"]; got != 2 {
		t.Errorf("%d duplicates, want 2", got)
	}
}

func TestWishes(t *testing.T) {
	at := atNode(startNode(t, t.TempDir(), "--bootstrap"))
	for _, c := range []struct {
		want string
		args []string
	}{
		{testGroup + ":9\n", []string{"put", "app.t", "k", "v", "--gtid", testGroup + ":9"}},
		{testGroup + ":blue:1\n", []string{"delete", "app.t", "k", "--gtid", "automatic:blue"}},
		{testGroup + ":blue:2\n", []string{"add", "app.t", "k", "1", "--gtid", "AUTOMATIC:blue"}},
	} {
		if got := want(t, exitOK, at(c.args...)...); got != c.want {
			t.Errorf("%v printed %q, want %q", c.args, got, c.want)
		}
	}
	text := want(t, exitFailure, at("put", "app.t", "k", "v", "--gtid", testGroup+":9", "--id", testID)...)
	if !strings.Contains(text, testGroup+":9") {
		t.Errorf("a GTID that is taken: %s", text)
	}
	out, errOut, code := runCommand(t, at("outcome", testID)...)
	if code != exitFailure || !strings.HasPrefix(out, "refused at log index ") || !strings.HasSuffix(out, ": gtid taken\n") || !strings.Contains(errOut, "committed transaction") {
		t.Errorf("outcome of the refused: exit code %d\n%s%s", code, out, errOut)
	}
	for _, c := range []struct {
		text string
		args []string
	}{
		{`"x" is no UUID`, []string{"put", "app.t", "k", "v", "--id", "x"}},
		{`"x" is no UUID`, []string{"delete", "app.t", "k", "--id", "x"}},
		{`"x" is no UUID`, []string{"add", "app.t", "k", "1", "--id", "x"}},
		{"zero UUID", []string{"put", "app.t", "k", "v", "--id", gtid.UUID{}.String()}},
		{"AUTOMATIC:tag", []string{"put", "app.t", "k", "v", "--gtid", "next"}},
		{`"x" is no UUID`, []string{"outcome", "x"}},
		{"takes ID", []string{"outcome"}},
	} {
		if text := want(t, exitUsage, at(c.args...)...); !strings.Contains(text, c.text) {
			t.Errorf("%v said %q, want %q in it", c.args, text, c.text)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]int{
		concordat.ErrConflict: exitTryAgain, concordat.ErrSettings: exitTryAgain, concordat.ErrSnapshotTooOld: exitTryAgain,
		context.DeadlineExceeded: exitTryAgain, context.Canceled: exitFailure,
		fmt.Errorf("%w: %w", concordat.ErrLeave, context.DeadlineExceeded): exitFailure,
		&concordat.OutcomeUnknownError{Cause: context.DeadlineExceeded}:    exitUnknown,
		concordat.ErrGTIDTaken: exitFailure, concordat.ErrExhausted: exitFailure, concordat.ErrOutcomeUnknown: exitUnknown, concordat.ErrInvalid: exitUsage,
	} {
		if got := exitCode(fmt.Errorf("call: %w", err)); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
	}
}

// A process that is stopped has its connections accepted, and answers nothing.
// Nothing can have happened then, not even by what writes.
func TestNoAnswer(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, args := range [][]string{
		{"status"},
		{"get", "app.t", "k"},
		{"scan", "app.t"},
		{"history"},
		{"outcome", testPlan},
		{"leave"},
		{"put", "app.t", "k", "v"},
	} {
		_, errOut := here(t, exitTryAgain, append(args, "--timeout", "50ms", "--address", l.Addr().String())...)
		if !strings.Contains(errOut, "no answer in time") || strings.Contains(errOut, "unknown") {
			t.Errorf("%s said %s", args[0], errOut)
		}
	}
}

// Every write has an id, and who does not hear of its end is told to ask.
func TestLostWrite(t *testing.T) {
	var f writeFlags
	id, err := f.transactionID()
	if err != nil {
		t.Fatal(err)
	}
	drawn, err := gtid.ParseUUID(id)
	if other, _ := f.transactionID(); err != nil || drawn.IsZero() || other == id {
		t.Fatalf("drew %s and %s: %v", id, other, err)
	}
	err = f.printWritten(&cobra.Command{}, written{}, &concordat.OutcomeUnknownError{ID: drawn, Cause: errors.New("the cable")})
	if exitCode(err) != exitUnknown || !strings.Contains(err.Error(), "concordat outcome "+id) || !strings.Contains(err.Error(), "the cable") {
		t.Errorf("exit code %d: %v", exitCode(err), err)
	}
}
