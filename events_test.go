package concordat

import (
	"context"
	"testing"
)

// TestEventsAreBounded checks that the newest events are kept, in order, and
// that numbers go on.
func TestEventsAreBounded(t *testing.T) {
	var e events
	for range 3*keptEvents + 5 {
		e.add(Event{Kind: EventState})
	}
	all := e.after(0)
	if len(all) != keptEvents {
		t.Fatalf("%d events are kept, want %d", len(all), keptEvents)
	}
	for i, ev := range all {
		if want := uint64(2*keptEvents + 6 + i); ev.Seq != want {
			t.Fatalf("event %d has number %d, want %d", i, ev.Seq, want)
		}
	}
	if rest := e.after(all[len(all)-1].Seq - 2); len(rest) != 2 || rest[1].Seq != 3*keptEvents+5 {
		t.Errorf("the last two are %v", rest)
	}
	if none := e.after(^uint64(0)); len(none) != 0 {
		t.Errorf("after the end there are %v", none)
	}
}

func TestWaitEvents(t *testing.T) {
	n := &Node{}
	got := make(chan []Event, 1)
	go func() {
		evs, _ := n.WaitEvents(t.Context(), 1)
		got <- evs
	}()
	n.events.add(Event{Text: "first"})
	n.events.add(Event{Text: "second"})
	if evs := <-got; len(evs) != 1 || evs[0].Text != "second" {
		t.Errorf("waited for the second event, got %v", evs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if evs, err := n.WaitEvents(ctx, 2); err == nil {
		t.Errorf("an ended wait gives %v and no error", evs)
	}
}
