package bench

import (
	"strings"
	"testing"
	"time"
)

// Every row is measured, and each consumer gets changes. What the figures are is the
// machine's business.
func TestChanges(t *testing.T) {
	o := ChangeDefaults()
	o.Clients, o.Keys, o.Repeats, o.Dir = 4, 200, 1, t.TempDir()
	o.Duration, o.WarmUp, o.OldValues = 150*time.Millisecond, 50*time.Millisecond, true
	r, err := RunChanges(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 4 || r.Rows[0].Kept || !r.Rows[1].Kept {
		t.Fatalf("%+v", r.Rows)
	}
	for _, row := range r.Rows {
		consumed := 0
		if row.Consumers > 0 {
			consumed = 1
		}
		if len(row.CommitsPerSecond) != 1 || len(row.ChangesPerSecond) != consumed || len(row.DelayP99) != consumed {
			t.Errorf("%+v", row)
		}
	}
	var b strings.Builder
	if err := r.WriteMarkdown(&b); err != nil || strings.Count(b.String(), "| kept") != 3 || !strings.Contains(b.String(), "100 %") {
		t.Errorf("%v in\n%s", err, b.String())
	}
	o.Consumers = nil
	if _, err := RunChanges(t.Context(), o); err == nil {
		t.Error("nothing to measure is measured")
	}
}
