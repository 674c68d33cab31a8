package replica

import (
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

func TestPace(t *testing.T) {
	var p pace
	want := func(underWay, tick int, may bool) {
		t.Helper()
		if got := p.may(underWay, 3, tick); got != may {
			t.Errorf("%d under way at tick %d, %+v: may %t", underWay, tick, p, got)
		}
	}
	// Nobody else commits anything: the window alone counts.
	for n := range 5 {
		want(2, 0, true)
		want(3, 0, false)
		p.ended(2, n)
	}
	// Somebody has, since the last one came back. Those under way were sent too early
	// to say anything.
	p.small++
	for left := 2; left >= 0; left-- {
		p.ended(left, 7)
		want(left, 7, false)
	}
	for range yields {
		want(0, 7, false)
		p.small++
	}
	want(1, 7, false)
	want(0, 7, true)
	p.ended(0, 7)
	want(0, 7, false)
	want(0, 8, true) // it need not be somebody who does so often
	want(1, 8, false)
	// And now nobody has any more.
	p.ended(0, 8)
	want(2, 8, true)
	// What went by before a giant says nothing of it.
	p.small++
	p.begin()
	p.ended(0, 8)
	want(2, 8, true)
}

// TestGiantYields has others commit while a giant passes: between two of its fragments
// go their entries. Without them its fragments need no tick.
func TestGiantYields(t *testing.T) {
	for _, others := range []bool{false, true} {
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 1)
			w := newGroup(t, settings{mode: election.MultiPrimary})
			a, b := w.members[0], w.members[1]
			giant := a.giant(1, 10, strings.Repeat("g", 400), 1)
			a.inbox = append(a.inbox, giant)
			small := uint64(0)
			if !others {
				a.step()
			} else {
				for a.answered(1) == nil && small < 1000 {
					small++
					b.step(b.transaction(small, gtid.Set{}, fmt.Sprint("small", small)))
				}
			}
			if x := a.answered(1); x == nil {
				t.Fatal("the giant has not passed")
			}
			if want := uint64(len(giant.Fragments)-4) * yields; others && small < want {
				t.Errorf("%d others went by in the time of %d fragments, want %d", small, len(giant.Fragments), want)
			}
			run := 0 // of fragments without others between them
			for _, e := range a.log.entries {
				msg, err := gcs.FrameMessage(e.GetData(), 0)
				if err != nil || len(msg) == 0 {
					continue
				}
				switch msg[0] {
				case kindFragment:
					if run++; others && run > 3 {
						t.Fatalf("%d fragments without anything between them, at %d", run, e.GetIndex())
					}
				case kindTransaction:
					run = 0
				}
			}
			w.wantSame(0)
		})
	}
}
