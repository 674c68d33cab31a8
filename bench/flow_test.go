package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
)

// What the figures are is the machine's business; that there are figures is not.
func TestFlow(t *testing.T) {
	o := FlowDefaults()
	o.Modes, o.Clients, o.Keys = []concordat.FlowControlMode{concordat.FlowAdaptive}, 6, 60
	o.WarmUp, o.Duration, o.Dir = 2*time.Second, 2*time.Second, t.TempDir()
	r, err := RunFlow(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 1 || len(r.Runs[0].Seconds) != 2 || len(r.Runs[0].Seconds[0].Committed) != Members || r.Runs[0].Capacity*3 != r.Runs[0].Before {
		t.Errorf("%+v", r)
	}
	var b strings.Builder
	if err := r.WriteMarkdown(&b); err != nil || !strings.Contains(b.String(), "| ADAPTIVE | ") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestFlowOptions(t *testing.T) {
	for name, change := range map[string]func(*FlowOptions){ // order-free: each is a test of its own
		"no mode":    func(o *FlowOptions) { o.Modes = nil },
		"no client":  func(o *FlowOptions) { o.Clients = 0 },
		"no key":     func(o *FlowOptions) { o.Keys = 1 },
		"faster":     func(o *FlowOptions) { o.Factor = 0.5 },
		"no warm-up": func(o *FlowOptions) { o.WarmUp = 0 },
	} {
		o := FlowDefaults()
		change(&o)
		if _, err := RunFlow(t.Context(), o); err == nil {
			t.Errorf("%s: measured all the same", name)
		}
	}
}
