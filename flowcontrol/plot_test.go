package flowcontrol

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the plots of docs/flow-control.md anew")

// TestPlots checks that the plots in docs are what the model gives today.
func TestPlots(t *testing.T) {
	for i := range stories {
		s := &stories[i]
		path := "../docs/flow-control-" + s.name + ".svg"
		svg := plot(s)
		if *update {
			if err := os.WriteFile(path, []byte(svg), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		old, err := os.ReadFile(path)
		if err != nil || string(old) != svg {
			t.Errorf("%s is not what the model gives (%v); write it anew: go test ./flowcontrol -run TestPlots -update", path, err)
		}
	}
}

// The sizes of a plot, in its units.
const (
	plotWidth, panelHeight = 640, 170
	plotLeft, panelTop     = 60, 30
)

// panel is one diagram: what the lines show, and up to where.
type panel struct {
	title string
	most  float64
	value func(p *period) float64
}

// plot draws a story under both laws, with 64 clients.
func plot(s *story) string {
	adaptive, quota := s.plant(ModeAdaptive, 64).run(), s.plant(ModeQuota, 64).run()
	panels := []panel{
		{"committed, transactions/s", 13000, func(p *period) float64 { return float64(p.committed) }},
		{"the slow member is behind, s", 14, func(p *period) float64 { return p.lag.Seconds() }},
	}
	var b strings.Builder
	height := len(panels) * (panelHeight + panelTop + 20)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n",
		plotLeft+plotWidth+20, height)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i := range panels {
		top := i*(panelHeight+panelTop+20) + panelTop
		panels[i].frame(&b, top, len(adaptive))
		if i == 0 {
			panels[i].line(&b, top, "#999", adaptive, func(p *period) float64 { return p.capacity })
		} else {
			target := Defaults().TargetLag.Seconds()
			panels[i].line(&b, top, "#999", adaptive, func(*period) float64 { return target })
		}
		panels[i].line(&b, top, "#c33", quota, panels[i].value)
		panels[i].line(&b, top, "#27b", adaptive, panels[i].value)
	}
	for i, legend := range []struct{ color, text string }{
		{"#27b", "ADAPTIVE"}, {"#c33", "QUOTA"}, {"#999", "what the slow member can do; the target"},
	} {
		fmt.Fprintf(&b, `<text x="%d" y="14" fill="%s">%s</text>`+"\n", plotLeft+220+i*80, legend.color, legend.text)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (d *panel) frame(b *strings.Builder, top, seconds int) {
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", plotLeft, top-8, d.title)
	for tick := range 3 {
		y := top + panelHeight*tick/2
		fmt.Fprintf(b, `<path d="M%d %dh%d" stroke="#ddd"/><text x="%d" y="%d" text-anchor="end">%g</text>`+"\n",
			plotLeft, y, plotWidth, plotLeft-6, y+4, d.most*float64(2-tick)/2)
	}
	for s := 0; s <= seconds; s += 10 {
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%d s</text>`+"\n", plotLeft+plotWidth*s/seconds, top+panelHeight+14, s)
	}
}

func (d *panel) line(b *strings.Builder, top int, color string, periods []period, value func(*period) float64) {
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, color)
	for i := range periods {
		v := min(value(&periods[i]), d.most*1.02)
		fmt.Fprintf(b, "%.1f,%.1f ", plotLeft+plotWidth*(float64(i)+0.5)/float64(len(periods)), float64(top)+panelHeight*(1-v/d.most))
	}
	b.WriteString(`"/>` + "\n")
}

// TestMeter: an engine is busy at every tick at which it has work, and what waits is
// as old as the oldest of it.
func TestMeter(t *testing.T) {
	var m Meter
	m.Tick(50 * time.Millisecond)
	m.Judged()
	m.Judged()
	m.Given(Work{Index: 7, Transactions: 2, Remote: 1, Bytes: 1000})
	m.Tick(50 * time.Millisecond)
	m.Tick(50 * time.Millisecond)
	const cost = 2*TransactionCost + 1000
	want := Sample{Certified: 2, Busy: 100_000, Backlog: cost, WaitingApply: 2, WaitingRemote: 1, Lag: 100_000}
	if got := m.Sample(); got != want {
		t.Errorf("with work: %+v, want %+v", got, want)
	}
	m.Shown(6)
	if got := m.Sample(); got != want {
		t.Errorf("before it is done: %+v, want %+v", got, want)
	}
	m.Shown(7)
	m.Tick(50 * time.Millisecond)
	want = Sample{Certified: 2, Busy: 100_000, Served: cost, Applied: 2, Remote: 1}
	if got := m.Sample(); got != want {
		t.Errorf("afterwards: %+v, want %+v", got, want)
	}
}
