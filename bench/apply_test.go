package bench

import (
	"context"
	"strings"
	"testing"
)

func TestApplyReport(t *testing.T) {
	r := ApplyReport{Transactions: 1000, Background: 80, Rows: []ApplyRow{
		{Workers: 1, Seconds: []float64{4, 2, 3}, CPU: []float64{1, 2, 3}}, {Workers: 4},
	}}
	var text strings.Builder
	if err := r.WriteMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| 1 | 3 | 3.00 s | 4.00 s | 333 | 2.00 s |\n", "NOISY: the machine was 80 % busy"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s\nhas no %s", text.String(), want)
		}
	}
	if strings.Contains(text.String(), "| 4 |") {
		t.Errorf("%s\nhas a row that was not measured", text.String())
	}
}

func TestApplyOptions(t *testing.T) {
	good := ApplyDefaults()
	good.Start = func(context.Context, MemberOptions) (NodeProcess, error) { return nil, nil }
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	for text, spoil := range map[string]func(o *ApplyOptions){
		"at least one number": func(o *ApplyOptions) { o.Workers = nil },
		"0 workers":           func(o *ApplyOptions) { o.Workers = []int{1, 0} },
		"0 repeats":           func(o *ApplyOptions) { o.Repeats = 0 },
		"0 transactions":      func(o *ApplyOptions) { o.Transactions = 0 },
		"log of 0 bytes":      func(o *ApplyOptions) { o.LogBytes = 0 },
		"no way to start":     func(o *ApplyOptions) { o.Start = nil },
	} {
		o := good
		spoil(&o)
		if err := o.validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q", err, text)
		}
	}
}
