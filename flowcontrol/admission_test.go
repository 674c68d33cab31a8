package flowcontrol

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func adaptive(rate uint64) *Decision {
	return &Decision{Step: 1, Mode: ModeAdaptive, Throttled: true, Rate: rate, Size: 1000}
}

// TestAdmissionProperties: whatever is asked, decided and withdrawn, those of a tag
// begin in the order in which they came, nobody begins twice or after it withdrew,
// what begins stays within the rate, and with time everybody begins.
func TestAdmissionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := NewAdmission()
		now, id := time.Duration(0), uint64(0)
		waiting := map[string][]uint64{}
		begin := func(g Grant) {
			q := waiting[g.Pass.Tag]
			if len(q) == 0 || q[0] != g.ID {
				t.Fatalf("%d begins of tag %q, in which %v wait", g.ID, g.Pass.Tag, q)
			}
			waiting[g.Pass.Tag] = q[1:]
			a.Charge(g.Pass, 1000)
		}
		tags := []string{"", "a", "b"}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 200).Draw(t, "ms")) * time.Millisecond
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				id++
				tag := rapid.SampledFrom(tags).Draw(t, "tag")
				outcome, p := a.Ask(now, id, tag, uint32(rapid.IntRange(0, 5).Draw(t, "weight")))
				switch {
				case outcome == Waits:
					waiting[tag] = append(waiting[tag], id)
				case a.Waiting() > 0:
					t.Fatalf("%d passes %d that wait", id, a.Waiting())
				case rapid.Bool().Draw(t, "refund"):
					a.Refund(p)
				default:
					a.Charge(p, uint64(rapid.IntRange(1, 10000).Draw(t, "cost")))
				}
			case 3:
				tag := rapid.SampledFrom(tags).Draw(t, "tag")
				if q := waiting[tag]; len(q) > 0 {
					i := rapid.IntRange(0, len(q)-1).Draw(t, "which")
					if !a.Withdraw(now, q[i]) {
						t.Fatalf("%d does not wait any more", q[i])
					}
					waiting[tag] = slices.Delete(slices.Clone(q), i, i+1)
				}
			case 4:
				d := Decision{
					Mode: rapid.SampledFrom([]Mode{ModeAdaptive, ModeQuota}).Draw(t, "mode"), Throttled: rapid.Bool().Draw(t, "throttled"),
					Stopped: rapid.Bool().Draw(t, "stopped"), Rate: uint64(rapid.IntRange(1, 100000).Draw(t, "rate")),
					Quota: uint64(rapid.IntRange(1, 20).Draw(t, "quota")), Period: rapid.Uint64Range(0, 3).Draw(t, "period"), Size: 1000,
				}
				for _, g := range a.Decide(now, &d) {
					begin(g)
				}
			default:
				for _, g := range a.Advance(now) {
					begin(g)
				}
			}
			n := 0
			for _, tag := range tags {
				n += len(waiting[tag])
			}
			if n != a.Waiting() {
				t.Fatalf("%d wait, and %d are counted", n, a.Waiting())
			}
		}
		for _, g := range a.Decide(now, adaptive(1000)) {
			begin(g)
		}
		for range 2 * (int(id) + 20) {
			now += time.Second
			for _, g := range a.Advance(now) {
				begin(g)
			}
		}
		if a.Waiting() != 0 {
			t.Fatalf("%d wait for ever", a.Waiting())
		}
	})
}

// TestAdmissionRate: what begins in a second is what the rate says, however large.
func TestAdmissionRate(t *testing.T) {
	for _, size := range []uint64{100, 1000, 50000} {
		a := NewAdmission()
		a.Decide(0, adaptive(1_000_000))
		id, spent := uint64(0), uint64(0)
		for ms := range 20000 {
			now := time.Duration(ms) * time.Millisecond
			for a.Waiting() < 50 {
				id++
				if outcome, p := a.Ask(now, id, "", 0); outcome == Admitted {
					a.Charge(p, size)
					spent += size
				}
			}
			for _, g := range a.Advance(now) {
				a.Charge(g.Pass, size)
				spent += size
			}
		}
		if spent < 19_000_000 || spent > 21_000_000 {
			t.Errorf("of transactions of %d, %d was spent in 20 s at 1,000,000/s", size, spent)
		}
	}
}

// TestAdmissionWeights: tags get parts of the rate by their weights, and one that
// asks for less leaves the rest to the others.
func TestAdmissionWeights(t *testing.T) {
	a := NewAdmission()
	a.Decide(0, adaptive(1_000_000))
	begun := map[string]int{}
	weights := map[string]uint32{"bulk": 1, "front": 3}
	id := uint64(0)
	for ms := range 20000 {
		now := time.Duration(ms) * time.Millisecond
		for _, tag := range []string{"bulk", "front"} {
			for range 4 {
				id++
				if outcome, p := a.Ask(now, id, tag, weights[tag]); outcome == Admitted {
					begun[tag]++
					a.Charge(p, 1000)
				}
			}
		}
		for _, g := range a.Advance(now) {
			begun[g.Pass.Tag]++
			a.Charge(g.Pass, 1000)
		}
	}
	if r := float64(begun["front"]) / float64(begun["bulk"]); r < 2.8 || r > 3.2 {
		t.Errorf("by weights of 3 and 1 they began %v", begun)
	}
	tags := a.Tags()
	if len(tags) != 2 || tags[0].Tag != "bulk" || tags[0].Held == 0 || tags[0].Waited == 0 {
		t.Errorf("counted: %+v", tags)
	}
}

// TestAdmissionLarge: one that is larger than all that may begin in a second passes,
// and holds the next ones up for a second at most.
func TestAdmissionLarge(t *testing.T) {
	a := NewAdmission()
	a.Decide(0, adaptive(1000))
	_, _ = a.Ask(0, 1, "", 0)
	g := slices.Clone(a.Advance(time.Second))
	if len(g) != 1 {
		t.Fatalf("%d began", len(g))
	}
	a.Charge(g[0].Pass, 1<<40)
	a.Ask(time.Second, 2, "", 0)
	if g := a.Advance(time.Second + maxDebt/2); len(g) != 0 {
		t.Errorf("%v begin while something is owed", g)
	}
	if len(a.Advance(3*time.Second)) != 1 {
		t.Error("nobody begins two seconds later")
	}
}

// TestAdmissionBounds: what waits is bounded, and so are the tags.
func TestAdmissionBounds(t *testing.T) {
	a := NewAdmission()
	d := adaptive(1)
	d.Stopped = true
	a.Decide(0, d)
	for i := range MaxWaiting + 10 {
		outcome, _ := a.Ask(0, uint64(i+1), fmt.Sprint(i), 5)
		if want := Waits; i < MaxWaiting && outcome != want {
			t.Fatalf("the %d-th: %v", i, outcome)
		} else if i >= MaxWaiting && outcome != Refused {
			t.Fatalf("the %d-th: %v", i, outcome)
		}
	}
	tags := a.Tags()
	if n := len(tags); n > MaxTags+1 {
		t.Errorf("%d tags", n)
	}
	if tags[0].Tag != "" || tags[0].Weight != 1 || tags[0].Waiting == 0 {
		t.Errorf("those that found no room have joined %+v", tags[0])
	}
	if n := len(a.Decide(time.Second, &Decision{Mode: ModeDisabled})); n != MaxWaiting || a.Waiting() != 0 {
		t.Errorf("%d began when there was no limit any more", n)
	}
}

// TestQuotaGate: in ModeQuota whoever comes beyond the quota waits for the period's
// end, or a second.
func TestQuotaGate(t *testing.T) {
	a := NewAdmission()
	a.Decide(0, &Decision{Mode: ModeQuota, Throttled: true, Quota: 2, Period: 1})
	for i := range uint64(4) {
		outcome, _ := a.Ask(0, i+1, "", 0)
		if (outcome == Admitted) != (i < 2) {
			t.Errorf("the %d-th with a quota of 2: %v", i, outcome)
		}
	}
	if g := a.Decide(500*time.Millisecond, &Decision{Mode: ModeQuota, Throttled: true, Quota: 2, Period: 2}); len(g) != 2 {
		t.Errorf("%v begin with the next period, want the two that waited", g)
	}
	for i := range uint64(3) {
		a.Ask(500*time.Millisecond, 10+i, "", 0)
	}
	if g := a.Advance(1499 * time.Millisecond); len(g) != 0 {
		t.Errorf("%v begin before their second is over", g)
	}
	if g := a.Advance(1500 * time.Millisecond); len(g) != 1 || g[0].ID != 12 {
		t.Errorf("%v begin after a second, want 12", g)
	}
}
