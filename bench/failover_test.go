package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
)

func TestFailoverReport(t *testing.T) {
	r := FailoverReport{Rows: []FailoverRow{
		{Event: PrimaryStopped, Seconds: []float64{1.25, 1.5, 1.3}, Quiet: []float64{0.004, 0.002, 0.003}, Acknowledged: 77, Unknown: 2, Refused: 1, Stale: 24},
		{Event: PrimarySwitched, Seconds: []float64{0.02, 0.1}, Quiet: []float64{0.004, 0.002}, Acknowledged: 5, Background: 30},
	}}
	var text strings.Builder
	if err := r.WriteMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| SIGSTOP of the primary | 3 | 1.30 s | 1.50 s | 2.00 s | 3 ms | 4 ms | 77 writes acknowledged, none lost; " +
			"2 with unknown outcome; 1 refused; 24 writes waited at the stopped one, all refused |\n",
		"| planned switch | 2 | 20 ms | 100 ms | 100 ms | 2 ms | 4 ms | AIM MISSED; 5 writes acknowledged, none lost; " +
			"NOISY: the machine was 30 % busy with something else |\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s\nhas no %s", text.String(), want)
		}
	}
}

func TestFailoverOptions(t *testing.T) {
	good := FailoverDefaults()
	good.Start = func(context.Context, MemberOptions) (NodeProcess, error) { return nil, nil }
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*FailoverOptions){
		"at least one event": func(o *FailoverOptions) { o.Events = nil },
		`"flood"`:            func(o *FailoverOptions) { o.Events = []Event{"flood"} },
		"0 repeats":          func(o *FailoverOptions) { o.Repeats = 0 },
		"0 writers":          func(o *FailoverOptions) { o.Writers = 0 },
		"no way to start":    func(o *FailoverOptions) { o.Start = nil },
	} {
		o := good
		change(&o)
		if _, err := RunFailover(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}

// Whatever can be wrong with what the members hold is found.
func TestTroopCheck(t *testing.T) {
	w := &troop{prefix: "r000-", writers: []*scribe{
		{fates: []fate{acknowledged, refused, acknowledged}},
		{fates: []fate{unknown, unknown}},
	}}
	good := func() map[string]bool {
		return map[string]bool{string(w.key(0, 0)): true, string(w.key(0, 2)): true, string(w.key(1, 1)): true}
	}
	if err := w.check(good()); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(map[string]bool){
		"is lost":                         func(m map[string]bool) { delete(m, string(w.key(0, 2))) },
		"was told that it is not":         func(m map[string]bool) { m[string(w.key(0, 1))] = true },
		"the writers know of 3":           func(m map[string]bool) { m[string(w.staleKey(1))] = true },
		"4 rows are there, and the write": func(m map[string]bool) { m[string(w.key(0, 3))] = true },
	} {
		m := good()
		spoil(m)
		if err := w.check(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	var row FailoverRow
	w.count(&row)
	if row.Acknowledged != 2 || row.Unknown != 2 || row.Refused != 1 {
		t.Errorf("%+v", row)
	}
}

func TestCheckStale(t *testing.T) {
	for _, c := range []struct {
		stale []error
		want  string
	}{
		{nil, ""},
		{[]error{&concordat.ReadOnlyError{}, fmt.Errorf("it: %w", concordat.ErrReadOnly)}, ""},
		{[]error{&concordat.ReadOnlyError{}, nil}, "it has committed"},
		{[]error{errors.New("broken")}, "broken"},
	} {
		w := &troop{stale: c.stale}
		if err := w.checkStale(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.stale, err, c.want)
		}
	}
}
