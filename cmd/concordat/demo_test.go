package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	out := want(t, exitOK, "demo", "--phase", "300ms", "--clients", "2", "--accounts", "16")
	for _, text := range []string{
		"m1, the primary, is killed", "nobody could write for", "a write there is refused", "at BEFORE each of the 100 showed",
		"as planned", "multi-primary",
		`shop.prices, "widget"`, "what to do      run it again", "lost for that key, to m1", "not one conflict",
		"4 members are at the same position", "the counter shows", "16 accounts hold 16,000",
	} {
		if !strings.Contains(out, text) {
			t.Errorf("the demo does not say %q:\n%s", text, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("there is colour, and no terminal")
	}
}

// An interrupted demo leaves no process and no file.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	temporary := t.TempDir()
	cmd := command(testContext(t), t, "demo", "--phase", "1m")
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, rest, ok := strings.Cut(lines.Text(), "process "); ok && pid == 0 {
			if _, err := fmt.Sscan(rest, &pid); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(lines.Text(), "clients read two accounts") {
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(errOut.String(), "interrupted") {
		t.Errorf("exit code %d\n%s", code, errOut.String())
	}
	if err := syscall.Kill(pid, 0); pid == 0 || !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The audit finds whatever can be wrong with the books.
func TestAudit(t *testing.T) {
	told := func() *bank {
		b := newBank(3, nil)
		b.acknowledged["a"] = transfer{0, 1, 5}
		b.acknowledged["b"] = transfer{1, 2, 7}
		b.unknown["c"] = transfer{2, 0, 1}
		b.unknown["d"] = transfer{2, 0, 2}
		return b
	}
	balances := []int{openingBalance - 5 + 1, openingBalance + 5 - 7, openingBalance + 7 - 1}
	receipts := map[string]transfer{"a": {0, 1, 5}, "b": {1, 2, 7}, "c": {2, 0, 1}}
	f, err := told().compare(balances, receipts, 4)
	if err != nil || f.sum != 3*openingBalance || f.unknownHappened != 1 {
		t.Fatalf("good books: %+v, %v", f, err)
	}
	for _, c := range []struct {
		name  string
		spoil func(balances []int, receipts map[string]transfer, n *uint64)
		want  string
	}{
		{"lost", func(b []int, r map[string]transfer, n *uint64) { delete(r, "a"); b[0] += 5; b[1] -= 5; *n-- }, "a was acknowledged and is missing"},
		{"half lost", func(b []int, _ map[string]transfer, _ *uint64) { b[1] -= 5 }, "account 1 holds"},
		{"another", func(b []int, r map[string]transfer, _ *uint64) {
			r["a"] = transfer{0, 1, 6}
			b[0]--
			b[1]++
		}, "its client had asked for"},
		{"nobody's", func(b []int, r map[string]transfer, n *uint64) {
			r["x"] = transfer{0, 1, 1}
			b[0]--
			b[1]++
			*n++
		}, "x happened, and its client was told that it did not"},
		{"made of nothing", func(b []int, _ map[string]transfer, _ *uint64) { b[2]++ }, "it was 3000 in the beginning"},
		{"uncounted", func(_ []int, _ map[string]transfer, n *uint64) { *n++ }, "the GTID set has 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, r, n := append([]int(nil), balances...), maps.Clone(receipts), uint64(4)
			c.spoil(b, r, &n)
			_, err := told().compare(b, r, n)
			if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// What a loser is told is compared with what the winners were.
func TestCheckConflict(t *testing.T) {
	winner := &demoMember{name: "m1", ready: ready{Member: gtid.UUID{1}.String()}}
	told := concordat.ConflictError{
		Table: concordat.Table{Schema: "shop", Name: "prices"}, Key: hotKey,
		Winner: gtid.GTID{UUID: gtid.UUID{9}, Number: 7}, Member: gtid.UUID{1},
	}
	won := map[string]int64{told.Winner.String(): 0}
	if err := checkConflict(&told, winner, won); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*concordat.ConflictError){
		"table":  func(c *concordat.ConflictError) { c.Table.Name = "hits" },
		"key":    func(c *concordat.ConflictError) { c.Key = nil },
		"winner": func(c *concordat.ConflictError) { c.Winner.Number++ },
		"member": func(c *concordat.ConflictError) { c.Member = gtid.UUID{2} },
	} {
		c := told
		spoil(&c)
		if err := checkConflict(&c, winner, won); !errors.Is(err, errBroken) {
			t.Errorf("another %s: %v", what, err)
		}
	}
}

// What the group answers by id is compared with what has happened.
func TestCheckFates(t *testing.T) {
	const committed, refused, unknown = kvpb.OutcomeResponse_STATE_COMMITTED, kvpb.OutcomeResponse_STATE_REFUSED, kvpb.OutcomeResponse_STATE_UNKNOWN
	for _, c := range []struct {
		state    kvpb.OutcomeResponse_State
		from     uint64
		happened bool
		good     bool
	}{
		{committed, 0, true, true},
		{committed, 0, false, false},
		{refused, 0, false, true},
		{refused, 5, true, false},
		{unknown, 0, false, true},
		{unknown, 0, true, false},
		{unknown, 5, true, true}, // forgotten
		{unknown, 5, false, true},
	} {
		receipts := map[string]transfer{}
		if c.happened {
			receipts["a"] = transfer{}
		}
		err := checkFates(map[string]*kvpb.OutcomeResponse{"a": {State: c.state, From: c.from}}, receipts)
		if (err == nil) != c.good || err != nil && !errors.Is(err, errBroken) {
			t.Errorf("%v from %d, happened %t: %v", c.state, c.from, c.happened, err)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -123: "-123"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) is %s, want %s", n, got, want)
		}
	}
}
