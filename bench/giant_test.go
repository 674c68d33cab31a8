package bench

import (
	"strings"
	"testing"
	"time"
)

// Small transactions are there before the giant and meanwhile, from callers and at
// a rate. What the figures are is the machine's business.
func TestGiant(t *testing.T) {
	o := GiantDefaults()
	o.Bytes, o.Rate, o.Callers, o.Repeats, o.Dir = 3_000_000, 50, 2, 1, t.TempDir()
	o.Before = 500 * time.Millisecond
	r, err := RunGiant(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 2 || r.Rows[0].Steady || !r.Rows[1].Steady || r.Bytes != o.Bytes || r.Callers != 2 {
		t.Fatalf("%+v", r)
	}
	before, during := int64(0), int64(0)
	for _, row := range r.Rows {
		before, during = before+row.Before.Count, during+row.During.Count
		if row.Seconds <= 0 || row.Before.Count+row.During.Count == 0 || row.During.P99 > row.During.Max*1.001 {
			t.Errorf("%+v", row)
		}
	}
	if before == 0 || during == 0 {
		t.Errorf("%d small transactions before, %d meanwhile", before, during)
	}
}

func TestGiantReport(t *testing.T) {
	r := GiantReport{Bytes: 5000, RowBytes: 100, Rate: 9, Callers: 8, Rows: []GiantRow{
		{Seconds: 1.25, Before: Latency{P50: 1, P99: 2, Max: 3}, During: Latency{P50: 2, P99: 5, Max: 7}, Background: 40},
		{Seconds: 2, Steady: true, Before: Latency{P50: 1, P99: 4, Max: 5}, During: Latency{P50: 2, P99: 6, Max: 8}, LeadChanges: 1},
	}}
	var text strings.Builder
	if err := r.WriteMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"A transaction of 5000 bytes in rows of 100, while at each of the two other members 8 callers commit one small one after the other, or 9 of those arrive",
		"| callers | 1.2 s | 1.0 ms | 2.0 ms | 3.0 ms | 2.0 ms | 5.0 ms | 7.0 ms | 2.5 × | 0 | NOISY: the machine was 40 % busy with something else |\n",
		"| arrivals | 2.0 s | 1.0 ms | 4.0 ms | 5.0 ms | 2.0 ms | 6.0 ms | 8.0 ms | 1.5 × | 1 |  |\n",
		"In the median the p99 rises 2.5-fold for callers and 1.5-fold for arrivals; the aim is less than 3.\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s\nhas no %s", text.String(), want)
		}
	}
}

func TestGiantOptions(t *testing.T) {
	for want, change := range map[string]func(*GiantOptions){ // order-free: each is a test of its own
		"of 5 bytes in rows":    func(o *GiantOptions) { o.Bytes = 5 },
		"0 transactions":        func(o *GiantOptions) { o.Rate = 0 },
		"65 callers":            func(o *GiantOptions) { o.Callers = 65 },
		"nothing is measured":   func(o *GiantOptions) { o.Before = 0 },
		"0 repeats measure not": func(o *GiantOptions) { o.Repeats = 0 },
		"for the members":       func(o *GiantOptions) { o.Dir = "/nonexistent/directory" },
	} {
		o := GiantDefaults()
		change(&o)
		if _, err := RunGiant(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}
