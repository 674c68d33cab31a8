package sim

import (
	"strconv"
	"strings"
	"testing"
)

// parseHistory reads one transaction from each line:
//
//	T1 I 0 1  a1=0 a2=T7+4 a3=T7* a4=? a[0,9):1=T7,3=T8  !a1 -a2 +a3:4
//
// which is under snapshot isolation (S: serializable), has a snapshot of 0
// transactions and commits as number 1 (-: not at all), reads a1 of nobody, a2
// as T7 put it and with 4 added, a draft of T7, what a stranger wrote, and a
// range of table a; and puts a1, deletes a2 and adds 4 to a3.
func parseHistory(t *testing.T, text string) (h []observed, name func(i int) string) {
	t.Helper()
	var lines [][]string
	ids := map[string]int{"0": 0, "?": 99}
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			lines = append(lines, words)
			ids[words[0]] = len(lines)
		}
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	cellOf := func(s string) cell { return cell{table: s[:1], key: number(s[1:])} }
	sightOf := func(s string) sight {
		c, by, _ := strings.Cut(s, "=")
		by, draft := strings.CutSuffix(by, "*")
		by, sum, added := strings.Cut(by, "+")
		id, ok := ids[by]
		if !ok {
			t.Fatalf("%s is read of an unknown name", s)
		}
		seen := sight{cell: cellOf(c), by: id, draft: draft}
		if added {
			seen.sum = int64(number(sum))
		}
		return seen
	}
	for _, words := range lines {
		o := observed{serializable: words[1] == "S", snapshot: number(words[2])}
		if words[3] != "-" {
			o.commit = number(words[3])
		}
		for _, w := range words[4:] {
			switch {
			case w[0] == '!':
				o.changes = append(o.changes, change{cell: cellOf(w[1:]), kind: puts})
			case w[0] == '-':
				o.changes = append(o.changes, change{cell: cellOf(w[1:]), kind: removes})
			case w[0] == '+':
				c, amount, _ := strings.Cut(w[1:], ":")
				o.changes = append(o.changes, change{cell: cellOf(c), kind: adds, amount: int64(number(amount))})
			case w[1] == '[':
				bounds, found, _ := strings.Cut(w[2:], "):")
				from, to, _ := strings.Cut(bounds, ",")
				s := scanned{table: w[:1], from: number(from), to: number(to)}
				for f := range strings.SplitSeq(found, ",") {
					if f != "" {
						s.found = append(s.found, sightOf(w[:1]+f))
					}
				}
				o.scans = append(o.scans, s)
			default:
				o.reads = append(o.reads, sightOf(w))
			}
		}
		h = append(h, o)
	}
	return h, func(i int) string { return lines[i][0] }
}

// suspects are histories and what is wrong with them, and next to each what
// is almost that and right.
var suspects = []struct{ want, what, history string }{
	{"", "nothing", ``},
	{"", "a serial history", `
		T1 S 0 1  a1=0 !a1
		T2 S 1 2  a1=T1 -a1 !a2
		T3 S 2 -  a1=0 a2=T2 a[0,9):2=T2`},
	{"", "a refused transaction", `
		T1 I 0 1  !a1
		T2 I 0 -  a1=0 !a1
		T3 I 1 -  a1=T1`},

	{"G1a", "a read of a refused transaction", `
		T1 I 0 -  !a1
		T2 I 0 -  a1=T1`},
	{"G1a", "a read of a stranger", `
		T1 I 0 -  a1=?`},
	{"G1a", "a stranger in a range", `
		T1 I 0 1  !a1
		T2 I 1 -  a[0,9):1=T1,2=?`},
	{"G1a", "a sum with a refused addition", `
		T1 I 0 1  +a1:1
		T2 I 0 -  +a1:2
		T3 I 1 -  a1=0+3`},
	{"G1b", "a draft", `
		T1 I 0 1  !a1
		T2 I 1 -  a1=T1*`},
	{"garbage", "a read of what was never written", `
		T1 I 0 1  !a1
		T2 I 1 -  a2=T1`},
	{"garbage", "a put read of who added", `
		T1 I 0 1  +a1:1
		T2 I 1 -  a1=T1+1`},
	{"garbage", "a sum of nothing", `
		T1 I 0 1  +a1:1
		T2 I 1 2  +a1:2
		T3 I 2 -  a1=0+7`},
	{"garbage", "a sum on another base", `
		T1 I 0 1  !a1
		T2 I 1 2  !a1
		T3 I 2 3  +a1:2
		T4 I 3 4  +a1:4
		T5 I 4 -  a1=T1+4`},

	{"G1c", "two that read each other", `
		T1 I 0 1  a2=T2 !a1
		T2 I 1 2  a1=T1 !a2`},
	{"G1c", "three, by way of a write", `
		T1 I 0 1  a9=T3 !a1
		T2 I 1 2  !a1
		T3 I 2 3  a1=T2 !a9`},
	{"G1c", "by way of an addition", `
		T1 I 0 1  a9=T3 +a1:1
		T2 I 0 2  +a1:2
		T3 I 2 3  a1=0+3 !a9`},
	{"G1c", "by way of a put under an addition", `
		T1 I 0 1  a9=T2 !a1
		T2 I 1 2  +a1:1 !a9`},
	{"G1c", "by way of a put over additions", `
		T1 I 0 1  a9=T3 +a1:1
		T2 I 0 2  +a1:2
		T3 I 2 3  !a1 !a9`},
	{"G1c", "a sum with an own addition and a later one", `
		T1 I 0 1  a1=0+3 +a1:1 !a2
		T2 I 1 2  a2=T1 +a1:2`},
	{"G-SIa", "a sum with an own addition", `
		T1 I 0 1  a1=0+1 +a1:1`},
	{"G-SIa", "an addition beside another is no dependency", `
		T1 I 0 1  a9=T3 +a1:1
		T2 I 0 2  +a1:2
		T3 I 2 3  +a1:4 !a9`},
	{"G-SIa", "a read from the future", `
		T1 I 0 1  !a1
		T2 I 0 2  a1=T1 !a2`},
	{"G-SIa", "an insert from the future in a range", `
		T1 I 0 1  !a1
		T2 I 0 -  a[0,9):1=T1`},
	{"G-SIa", "a sum from the future", `
		T1 I 0 1  +a1:1
		T2 I 0 -  a1=0+1`},
	{"G-SIa", "a later addition without an earlier one", `
		T1 I 0 1  +a1:1
		T2 I 1 2  +a1:2
		T3 I 0 -  a1=0+2`},
	{"G-SIb", "an absence, taken for the earlier of two", `
		T1 I 0 1  !a1
		T2 I 1 2  -a1
		T3 I 1 -  a1=0`},
	{"G-SIa", "a write race", `
		T1 I 0 1  !a1
		T2 I 0 2  !a1`},
	{"", "one after the other", `
		T1 I 0 1  !a1
		T2 I 1 2  !a1`},
	{"G-SIa", "a race of two deletions", `
		T1 I 0 1  !a1
		T2 I 1 2  -a1
		T3 I 1 3  -a1`},
	{"G-SIa", "a put in a race with an addition", `
		T1 I 0 1  +a1:1
		T2 I 0 2  !a1`},
	{"G-SIa", "an addition in a race with a put", `
		T1 I 0 1  !a1
		T2 I 0 2  +a1:1`},
	{"G-SIa", "an addition in a race with a put behind another addition", `
		T1 I 0 1  !a1
		T2 I 1 2  +a1:1
		T3 I 0 3  +a1:2`},
	{"", "additions in a race", `
		T1 I 0 1  +a1:1
		T2 I 0 2  +a1:2
		T3 I 0 3  +a1:4
		T4 I 3 -  a1=0+7 a[0,9):1=0+7`},

	{"lost update", "two that read and write", `
		T1 I 0 1  a1=0 !a1
		T2 I 0 2  a1=0 !a1`},
	{"lost update", "although it is in the snapshot", `
		T1 I 0 1  !a1
		T2 I 1 2  a1=0 !a1`},
	{"lost update", "seen by a scan", `
		T1 I 0 1  a[0,9): !a1
		T2 I 0 2  a[0,9): !a1`},
	{"lost update", "an addition", `
		T1 I 0 1  +a1:1
		T2 I 0 2  a1=0 !a1`},
	{"", "an addition to a counter that was read is not lost", `
		T1 I 0 1  a1=0 +a1:1
		T2 I 0 2  a1=0 +a1:2
		T3 I 2 -  a1=0+3`},

	{"G-SIb", "a snapshot that misses a put", `
		T1 I 0 1  !a1
		T2 I 1 2  !a1
		T3 I 2 -  a1=T1`},
	{"G-SIb", "half of a transaction", `
		T1 I 0 1  !a1 !a2
		T2 I 1 -  a1=T1 a2=0`},
	{"G-SIb", "a missing key in a range", `
		T1 I 0 1  !a1 !a2
		T2 I 1 -  a[0,9):1=T1`},
	{"", "a counter at zero that nobody touched, before another key", `
		T1 I 0 1  !a5
		T2 I 1 -  a[0,9):1=0,5=T1,7=0`},
	{"", "a key outside of the range", `
		T1 I 0 1  !a1 !a2
		T2 I 1 -  a[0,2):1=T1 a[2,2): b[0,9):`},
	{"G-SIb", "a deleted key in a range", `
		T1 I 0 1  !a1 !a2
		T2 I 1 2  -a1
		T3 I 2 -  a[0,9):1=T1,2=T1`},
	{"G-SIb", "delta read skew", `
		T1 I 0 1  +a1:1 +a2:1
		T2 I 1 -  a1=0+1 a2=0`},
	{"G-SIb", "an addition left out", `
		T1 I 0 1  +a1:1
		T2 I 1 2  +a1:2
		T3 I 2 -  a1=0+2`},

	{"", "write skew under snapshot isolation", `
		T1 I 0 1  a1=0 a2=0 !a1
		T2 I 0 2  a1=0 a2=0 !a2`},
	{"", "write skew when the one that is late asked for no better", `
		T1 S 0 1  a1=0 a2=0 !a1
		T2 I 0 2  a1=0 a2=0 !a2`},
	{"G2-item", "write skew when it did", `
		T1 S 0 1  a1=0 a2=0 !a1
		T2 S 0 2  a1=0 a2=0 !a2`},
	{"", "write skew when the one that is early asked for no better", `
		T1 I 0 1  a1=0 a2=0 !a1
		T2 S 0 2  a1=0 a2=0 !a2`},
	{"", "a serializable reader overtaken, which closes no cycle", `
		T1 S 0 1  !a1
		T2 S 0 2  a1=0 !a2`},
	{"", "a phantom under snapshot isolation", `
		T1 I 0 1  a[0,9): !a1
		T2 I 0 2  a[0,9): !a2`},
	{"G2", "a phantom among serializable ones", `
		T1 S 0 1  a[0,9): !a1
		T2 S 0 2  a[0,9): !a2`},
	{"G2", "a deletion in a range", `
		T0 S 0 1  !a1 !a2
		T1 S 1 2  a[0,9):1=T0,2=T0 -a1
		T2 S 1 3  a[0,9):1=T0,2=T0 -a2`},
	{"", "a phantom beside the range", `
		T1 S 0 1  a[0,5): !a6
		T2 S 0 2  a[5,6): !a2`},
	{"", "a deletion of nothing is no phantom", `
		T1 S 0 1  a[0,5): -a6
		T2 S 0 2  a[5,9): -a1`},
	{"", "nobody depends on a deletion of nothing", `
		T1 S 0 1  !a1
		T2 S 1 2  -a1
		T3 S 2 3  -a1 !b1
		T4 S 2 4  b1=0 !b2
		T5 S 3 5  a1=0 b2=0 !b3`},
	{"G2-item", "but on one of something", `
		T1 S 0 1  !a1
		T2 S 1 2  -a1 !b1
		T3 S 2 3  -a1
		T4 S 1 4  b1=0 !b2
		T5 S 3 5  a1=0 b2=0 !b3`},
	{"", "the read-only anomaly under snapshot isolation", `
		T1 I 0 1  y2=0 !y2
		T2 I 0 2  x1=0 y2=0 !x1
		T3 I 1 -  x1=0 y2=T1`},
	{"", "the read-only anomaly when only the one that is late asked for no better", `
		T1 S 0 1  y2=0 !y2
		T2 I 0 2  x1=0 y2=0 !x1
		T3 S 1 -  x1=0 y2=T1`},
	{"G2-item", "the read-only anomaly among serializable ones", `
		T1 S 0 1  y2=0 !y2
		T2 S 0 2  x1=0 y2=0 !x1
		T3 S 1 -  x1=0 y2=T1`},
	{"G2-item", "the read-only anomaly among serializable writers", `
		T1 S 0 1  y2=0 !y2
		T2 S 0 2  x1=0 y2=0 !x1
		T3 I 1 -  x1=0 y2=T1`},
	{"", "the same without the reader is serializable", `
		T1 S 0 1  y2=0 !y2
		T2 S 0 2  x1=0 y2=0 !x1`},
	{"G2-item", "counters that add up to a skew", `
		T1 S 0 1  +a2:1 !a3
		T2 S 0 2  +a2:2
		T3 S 2 -  a2=0+3 a1=0
		T4 S 0 3  a3=0 !a1`},
	{"G2-item", "a put over an addition that somebody had not read", `
		T1 S 0 1  a2=0 +a1:1
		T2 S 1 2  !a1
		T3 S 0 3  a1=0 !a2`},

	{"not a history", "a gap between commits", `
		T1 I 0 2  !a1`},
	{"not a history", "a place taken twice", `
		T1 I 0 1  !a1
		T2 I 0 1  !a2`},
	{"not a history", "a snapshot of itself", `
		T1 I 1 1  !a1`},
	{"not a history", "a snapshot of what is to come", `
		T1 I 1 -  a1=0`},
	{"not a history", "two changes of a cell", `
		T1 I 0 1  !a1 -a1`},
	{"not a history", "a find outside of the range", `
		T1 I 0 -  a[0,1):1=0`},
	{"not a history", "finds out of order", `
		T1 I 0 1  !a1 !a2
		T2 I 1 -  a[0,9):2=T1,1=T1`},
}

func TestAnomalies(t *testing.T) {
	for _, c := range suspects {
		t.Run(c.want+" "+c.what, func(t *testing.T) {
			h, name := parseHistory(t, c.history)
			text := findAnomaly(h, name)
			if got, _, _ := strings.Cut(text, ":"); got != c.want {
				t.Errorf("found %q", text)
			}
		})
	}
}

// TestAnomalyText checks that a report names the cycle, and the shortest one.
func TestAnomalyText(t *testing.T) {
	for _, c := range []struct{ history, want string }{
		{
			`
		T1 S 0 1  a1=0 a2=0 !a1
		T2 S 0 2  a1=0 a2=0 !a2`,
			"G2-item: T1 [serializable, begun after 0, commit 1] -rw-> T2 [serializable, begun after 0, commit 2] (a/2 read of nobody) -rw-> T1 (a/1 read of nobody)",
		},
		{
			`
		T1 S 0 1  b1=0 a[0,9): !a1
		T2 S 0 2  a[0,9): !a2`,
			"G2: T1 [serializable, begun after 0, commit 1] -rw-> T2 [serializable, begun after 0, commit 2] (a/2 read of nobody in a scan of a [0, 9)) -rw-> T1 (a/1 read of nobody in a scan of a [0, 9))",
		},
		{
			`
		T1 I 0 1  a9=T3 +a1:1
		T2 I 0 2  +a1:2
		T3 I 2 3  a1=0+3 !a9`,
			"G1c: T1 [snapshot, begun after 0, commit 1] -wr-> T3 [snapshot, begun after 2, commit 3] (a/1 read of nobody and +3) -wr-> T1 (a/9 read of T3)",
		},
		{
			`
		T1 I 0 1  !a1
		T2 I 1 2  a1=T1 !a1
		T3 I 1 3  a1=T1 !a1`,
			"lost update: T3 [snapshot, begun after 1, commit 3] -rw-> T2 [snapshot, begun after 1, commit 2] (a/1 read of T1) -ww-> T3 (a/1)",
		},
		{
			`
		T1 I 0 1  !a1
		T2 I 0 2  -a1`,
			"G-SIa: T1 [snapshot, begun after 0, commit 1] -ww-> T2 [snapshot, begun after 0, commit 2] (a/1)",
		},
		{
			`
		T1 I 0 1  !a1
		T2 I 0 -  a1=T1`,
			"G-SIa: T1 [snapshot, begun after 0, commit 1] -wr-> T2 [snapshot, begun after 0, read-only] (a/1 read of T1)",
		},
		{
			`
		T1 I 0 1  !a1 +a2:5
		T2 I 1 2  +a1:3
		T3 I 2 -  a1=T1`,
			"G-SIb: T3 [snapshot, begun after 2, read-only] -rw-> T2 [snapshot, begun after 1, commit 2] (a/1 read of T1) -start-> T3 [snapshot, begun after 2, read-only]",
		},
		{
			`
		T1 S 0 1  a2=0 !a1
		T2 S 1 2  a3=0 !a2
		T3 S 0 3  a1=0 a4=0 !a3
		T4 S 0 4  a3=0 !a4`,
			"G2-item: T3 [serializable, begun after 0, commit 3] -rw-> T4 [serializable, begun after 0, commit 4] (a/4 read of nobody) -rw-> T3 (a/3 read of nobody)",
		},
		{
			`
		T1 I 0 -  !a1
		T2 S 0 -  a1=T1`,
			"G1a: T2 [serializable, begun after 0, read-only] read a/1 of T1 [snapshot, begun after 0, refused]",
		},
		{`
		T1 I 0 1  +a1:1
		T2 I 1 -  a1=T1`, "garbage: T2 [snapshot, begun after 1, read-only] read a/1 of T1 [snapshot, begun after 0, commit 1], which put nothing there"},
		{
			`
		T1 I 0 1  +a1:1
		T2 I 1 -  a1=0+-1`,
			"garbage: T2 [snapshot, begun after 1, read-only] read a/1 of nobody and -1; its snapshot has it of nobody and +1",
		},
	} {
		h, name := parseHistory(t, c.history)
		if got := findAnomaly(h, name); got != c.want {
			t.Errorf("found  %s\nwanted %s", got, c.want)
		}
	}
}
