package replica

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
)

// ahead is a giant that a member's engine gets ready for.
type ahead struct {
	follow  Ready
	number  uint64 // 0 for none
	reader  *PayloadReader
	payload []byte
	whole   bool // all of it has come
}

// getReady gathers what tasks tell of a giant.
func (m *member) getReady(a *Ahead) {
	h := &m.ahead
	if a.Gone {
		if h.follow.Gone(a.Part.Giant) {
			h.number = 0
		}
		return
	}
	if a.Whole {
		if h.follow.Whole(a.Part.Giant) {
			h.whole = true
		}
		return
	}
	if h.whole && h.number == a.Part.Giant {
		m.world.t.Errorf("member %d: part %d of a giant of which all had come", m.identity.RaftID, a.Part.Number)
	}
	switch h.follow.Fragment(a.Part.Giant, a.Part.Number) {
	case Begin:
		h.number, h.reader, h.payload, h.whole = a.Part.Giant, NewPayloadReader(&m.log), nil, false
	case Take:
	default:
		return
	}
	more, err := h.reader.Next(a)
	if err != nil {
		if !errors.Is(err, ErrBulk) || m.log.cut == 0 {
			m.world.t.Fatalf("member %d, part %d: %v", m.identity.RaftID, a.Part.Number, err)
		}
		h.follow.GaveUp() // it is dropped, and the log was cut
		h.number = 0
		return
	}
	h.payload = append(h.payload, more...)
}

// turn checks that what was gathered is the payload of what comes to its turn.
func (m *member) turn(t *Task) {
	for _, p := range t.Bulks {
		this, whole := m.ahead.follow.Turn(p.Bulk.Giant())
		if !this {
			continue
		}
		h := m.ahead
		m.ahead = ahead{}
		rest, err := h.reader.Rest()
		got := append(h.payload, rest...)
		if want := t.Apply.Transactions[p.At].Payload; err != nil || !whole || !h.whole || !h.reader.Of(p.Bulk) || !bytes.Equal(got, want) {
			m.world.t.Errorf("member %d: ahead of its turn %.60q was known, all of it: %t, it is %.60q, error %v", m.identity.RaftID, got, whole, want, err)
		}
		m.wholes++
	}
}

// TestAhead has giants come to their turn, be refused, be given up and lose their
// origin: each member is told of each of them from the beginning to the end.
func TestAhead(t *testing.T) {
	for _, size := range []int{1, 3, 16, 1000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := newGroup(t, settings{mode: election.MultiPrimary, prepares: true, assemblyBytes: 50})
			a, b := w.members[0], w.members[1]
			wholes := func(want int, when string) {
				t.Helper()
				for _, m := range w.members {
					if m.wholes != want || m.ahead.number != 0 {
						t.Errorf("%s: member %d was ready for %d giants, want %d; it gets ready for %d", when, m.identity.RaftID, m.wholes, want, m.ahead.number)
					}
				}
			}
			a.step(a.giant(1, size, strings.Repeat("first ", 40), 1))
			wholes(1, "one giant")

			late := b.giant(2, size, strings.Repeat("late ", 40), 1) // of a snapshot before
			a.step(a.transaction(3, a.position.Executed, "small", 1))
			b.step(late)
			w.tick(2)
			if x := b.answered(2); x == nil || x.Verdict.Outcome != certifier.Conflict {
				t.Fatalf("the giant is answered with %+v", x)
			}
			wholes(1, "a giant in conflict")

			b.step(b.giant(4, size, strings.Repeat("second ", 40), 2))
			wholes(2, "another one")

			w.cut = func(from, _ *member, m gcs.Message) bool { return from == b && m.Kind == gcs.MessageFrame }
			b.step(b.giant(5, size, strings.Repeat("lost ", 400), 3))
			b.restart(b.position.Index)
			w.cut = nil
			w.tick(60)
			wholes(2, "an origin that restarts")
			w.members[2].step(w.members[2].giant(6, size, strings.Repeat("last ", 40), 4))
			wholes(3, "who comes after it")
			w.wantSame(0)
		})
	}
}

// TestEndStandsAlone submits small transactions around a giant: its end shares the
// log entry with none, so that it alone becomes visible.
func TestEndStandsAlone(t *testing.T) {
	w := newGroup(t, settings{mode: election.MultiPrimary, prepares: true})
	a := w.members[0]
	a.step(a.transaction(1, a.position.Executed, "before", 1), a.giant(2, 64, strings.Repeat("giant ", 40), 2),
		a.transaction(3, a.position.Executed, "behind", 3), a.transaction(4, a.position.Executed, "and more", 4))
	w.tick(2)
	for _, m := range w.members {
		i := slices.IndexFunc(m.batches, func(b batch) bool {
			return slices.ContainsFunc(b.payloads, func(p string) bool { return strings.HasPrefix(p, "giant ") })
		})
		if i < 0 || len(m.batches[i].payloads) != 1 {
			t.Errorf("member %d shows %+v", m.identity.RaftID, m.batches)
		}
	}
}
