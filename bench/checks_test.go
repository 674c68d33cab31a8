package bench

import (
	"strings"
	"testing"
	"time"
)

// What is measured is the machine's business; that there were checks, and only
// where they were asked for, is not.
func TestChecks(t *testing.T) {
	o := CheckDefaults()
	o.Intervals, o.Bytes, o.Clients, o.Keys, o.Repeats = []int{5}, 1000, 4, 200, 2
	o.Duration, o.WarmUp, o.Dir = 400*time.Millisecond, 10*time.Millisecond, t.TempDir()
	r, err := RunChecks(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	row := &r.Rows[0]
	if len(row.PerSecond) != 2 || len(row.Without) != 2 || row.Checks == 0 || row.Pairs < 1 || row.HashShare <= 0 {
		t.Errorf("%+v", row)
	}
	var text strings.Builder
	if err := r.WriteMarkdown(&text); err != nil || !strings.Contains(text.String(), "| 5 | 1000 |") {
		t.Errorf("%v:\n%s", err, text.String())
	}
	o.Repeats = 0
	if _, err := RunChecks(t.Context(), o); err == nil {
		t.Error("nothing is measured without an error")
	}
}
