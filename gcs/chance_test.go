package gcs

import (
	"bytes"
	"slices"
	"strconv"
	"testing"
	"testing/cryptotest"

	"pgregory.net/rapid"
)

// TestChance lets chance play: messages are lost, repeated and overtaken,
// members crash and restart, from checkpoints too. The world checks order and
// agreement at every delivery, and that no read is answered with less than was
// delivered anywhere when it was asked. When the trouble is over, all that a
// running member submitted has been delivered, all that it asked is answered, and
// all have the same state.
func TestChance(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cryptotest.SetGlobalRandom(t, rapid.Uint64().Draw(rt, "seed of raft"))
		w := newWorld(rt)
		w.form(3)
		someone := func(t *rapid.T) *member {
			return w.members[rapid.IntRange(0, len(w.members)-1).Draw(t, "member")]
		}
		submitted := 0
		rt.Repeat(map[string]func(*rapid.T){
			"tick": func(t *rapid.T) {
				for range rapid.IntRange(1, 12).Draw(t, "ticks") {
					for _, m := range w.up() {
						w.tick(m)
					}
				}
			},
			"settle":  func(*rapid.T) { w.settle() },
			"message": w.mistreat,
			"submit": func(t *rapid.T) {
				if m := someone(t); m.group != nil {
					submitted++
					w.submit(m, strconv.Itoa(submitted))
					w.pump(m)
				}
			},
			"read": func(t *rapid.T) {
				if m := someone(t); m.group != nil {
					w.ask(m)
					w.pump(m)
				}
			},
			"crash": func(t *rapid.T) {
				if m := someone(t); m.group != nil {
					w.crash(m)
				} else {
					w.start(m)
				}
			},
			"checkpoint": func(t *rapid.T) {
				if m := someone(t); m.group != nil {
					w.saveCheckpoint(m)
				}
			},
			"": func(t *rapid.T) { w.story.end() },
		})
		w.recover()
	})
}

// mistreat does something to a message on the wire.
func (w *world) mistreat(t *rapid.T) {
	if len(w.wire) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.wire)-1).Draw(t, "message")
	e := w.wire[i]
	switch rapid.SampledFrom([]string{"lose", "repeat", "hurry"}).Draw(t, "fate") {
	case "lose":
		w.wire = slices.Delete(w.wire, i, i+1)
	case "repeat":
		w.hand(e)
	case "hurry":
		w.wire = slices.Delete(w.wire, i, i+1)
		w.hand(e)
	}
}

// recover ends the trouble and checks that nothing of it is left.
func (w *world) recover() {
	w.settle()
	for _, m := range w.members {
		if m.group == nil {
			w.start(m)
		}
	}
	w.run(80)
	first := w.members[0]
	for _, m := range w.members {
		if m.own != len(m.submitted) {
			w.t.Errorf("member %d got %d of its own back, it submitted %q", m.n, m.own, m.submitted)
		}
		if len(m.asked) != 0 {
			w.t.Errorf("member %d has no answer to %v", m.n, m.asked)
		}
		if !bytes.Equal(m.group.AppendState(nil), first.group.AppendState(nil)) {
			w.t.Errorf("members %d and %d differ at %d and %d", first.n, m.n, first.group.Delivered(), m.group.Delivered())
		}
	}
}
