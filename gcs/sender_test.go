package gcs

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// cutSizes submits messages of the given sizes and returns how many messages
// each frame holds.
func cutSizes(t *testing.T, limits Limits, sizes ...int) []int {
	t.Helper()
	s := newSender(1, 1, limits)
	for _, size := range sizes {
		s.submit(make([]byte, size))
	}
	var counts []int
	for entry := s.cut(); entry != nil; entry = s.cut() {
		_, msgs, err := decodeFrame(entry, nil)
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, len(msgs))
	}
	return counts
}

func TestCut(t *testing.T) {
	ten := Limits{FrameBytes: 10, WindowFrames: 5}
	for _, c := range []struct {
		name   string
		limits Limits
		sizes  []int
		want   []int
	}{
		{"nothing", ten, nil, nil},
		{"one", ten, []int{3}, []int{1}},
		{"exactly full", ten, []int{4, 6}, []int{2}},
		{"one byte over", ten, []int{4, 7}, []int{1, 1}},
		{"by bytes", ten, []int{3, 3, 3, 3, 3, 3, 3}, []int{3, 3, 1}},
		{"oversized alone", ten, []int{100}, []int{1}},
		{"oversized between", ten, []int{3, 100, 3, 3}, []int{1, 1, 2}},
		{"oversized first", ten, []int{100, 3}, []int{1, 1}},
		{"empty messages", ten, []int{0, 0, 0}, []int{3}},
		{"empty behind full", ten, []int{10, 0, 1}, []int{2, 1}},
		{"window", ten, []int{9, 9, 9, 9, 9, 9, 9}, []int{1, 1, 1, 1, 1}},
		{"window of one", Limits{FrameBytes: 10, WindowFrames: 1}, []int{9, 9}, []int{1}},
		{"window of bytes", Limits{FrameBytes: 10, WindowFrames: 5, WindowBytes: 40}, []int{9, 9, 9, 9, 9}, []int{1, 1, 1}},
		{"larger than the window", Limits{FrameBytes: 10, WindowFrames: 5, WindowBytes: 40}, []int{100, 1}, []int{1}},
		{"no room for two", Limits{WindowFrames: 5}, []int{1, 1}, []int{1, 1}},
		{"by count", Limits{FrameBytes: 1 << 20, WindowFrames: 5}, make([]int, MaxFrameMessages+2), []int{MaxFrameMessages, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := cutSizes(t, c.limits, c.sizes...); !slices.Equal(got, c.want) {
				t.Errorf("messages for each frame: %v, want %v", got, c.want)
			}
		})
	}
}

// TestSender holds the sender against the sequence of what was submitted:
// frames carry it in order, none is lost at any window, and what is
// outstanding is what was cut and not delivered.
func TestSender(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{
			FrameBytes:   rapid.IntRange(0, 30).Draw(t, "frame bytes"),
			WindowFrames: rapid.IntRange(1, 4).Draw(t, "window"),
			EagerFrames:  rapid.IntRange(1, 5).Draw(t, "eager"),
		}
		s := newSender(9, 5, limits)
		var submitted, framed [][]byte
		alone := map[int]bool{} // by number
		var cut, delivered uint64
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(*rapid.T) {
				msg := fmt.Appendf(nil, "%0*d", rapid.IntRange(0, 40).Draw(t, "size"), len(submitted))
				submitted = append(submitted, msg)
				s.submit(msg)
			},
			"submit alone": func(*rapid.T) {
				alone[len(submitted)] = true
				msg := fmt.Appendf(nil, "alone %d", len(submitted))
				submitted = append(submitted, msg)
				s.submitAlone(msg)
			},
			"cut": func(t *rapid.T) {
				entry := s.cut()
				room := cut-delivered < uint64(limits.WindowFrames)
				worth := cut-delivered < uint64(limits.EagerFrames) ||
					len(bytes.Join(submitted[len(framed):], nil)) >= limits.FrameBytes/8 || // or more than one frame waits
					len(submitted)-len(framed) > 1 && slices.ContainsFunc([]int{len(framed), len(framed) + 1}, func(n int) bool { return alone[n] })
				if want := room && worth && len(framed) < len(submitted); (entry != nil) != want {
					t.Fatalf("a frame is cut: %v, want %v", entry != nil, want)
				}
				if entry == nil {
					return
				}
				h, msgs, err := decodeFrame(entry, nil)
				cut++
				if want := (frameHeader{9, 5, cut}); err != nil || h != want || s.header != want {
					t.Fatalf("header %v, sender at %v, want %v, error %v", h, s.header, want, err)
				}
				for i := range msgs {
					if alone[len(framed)+i] && len(msgs) > 1 {
						t.Fatalf("a frame holds %q, of which message %d was to stand alone", msgs, i)
					}
				}
				framed = append(framed, msgs...)
			},
			"deliver": func(t *rapid.T) {
				if cut > delivered {
					delivered++
					s.delivered(delivered)
				}
			},
			"": func(t *rapid.T) {
				if !slices.EqualFunc(framed, submitted[:len(framed)], bytes.Equal) {
					t.Fatalf("frames hold %q of %q", framed, submitted)
				}
				if got := len(submitted) - len(framed); len(s.waiting) != got {
					t.Fatalf("%d messages wait, want %d", len(s.waiting), got)
				}
				for i, o := range s.outstanding {
					if o.seq != delivered+1+uint64(i) {
						t.Fatalf("outstanding %d is frame %d, %d were delivered", i, o.seq, delivered)
					}
				}
				if uint64(len(s.outstanding)) != cut-delivered {
					t.Fatalf("%d outstanding of %d cut and %d delivered", len(s.outstanding), cut, delivered)
				}
			},
		})
	})
}

// A frame that nobody cut cannot come back: the log is not what it was.
func TestDeliveredRefusesWhatWasNotSent(t *testing.T) {
	for _, seq := range []uint64{0, 1, 3} {
		s := newSender(1, 1, Limits{FrameBytes: 1, WindowFrames: 4})
		for range 3 {
			s.submit([]byte("x"))
			s.cut()
		}
		s.delivered(1)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("frame %d was taken although 2 is the first outstanding", seq)
				}
			}()
			s.delivered(seq)
		}()
	}
}

// waitToResend lets ticks pass until something is to be sent again, and returns
// their number and the frames.
func waitToResend(s *sender) (ticks int, seqs []uint64) {
	for {
		ticks++
		if from := s.tick(); from != 0 {
			for _, o := range s.from(from) {
				seqs = append(seqs, o.seq)
			}
			return ticks, seqs
		}
	}
}

// Refused frames and those behind them are sent again, not those in front. As
// refusals go on the pauses grow; a delivery makes the next one short. What is
// silently lost is sent again from the front.
func TestRefusal(t *testing.T) {
	s := newSender(1, 1, Limits{FrameBytes: 1, WindowFrames: 4})
	for range 5 {
		s.submit([]byte("x"))
	}
	for s.cut() != nil {
		continue
	}
	check := func(wantTicks int, want ...uint64) {
		t.Helper()
		if ticks, seqs := waitToResend(&s); ticks != wantTicks || !slices.Equal(seqs, want) {
			t.Errorf("after %d ticks %v are sent again, want %v after %d", ticks, seqs, want, wantTicks)
		}
	}
	s.refuse(4)
	s.refuse(3)
	s.refuse(4)
	check(1, 3, 4)
	for _, pause := range []int{2, 4, 8} {
		s.refuse(3)
		check(pause, 3, 4)
	}
	s.refuse(3)
	check(resendTicks-1-2-4-8, 1, 2, 3, 4) // nothing came back for so long
	s.refuse(3)
	s.delivered(1)
	if s.cut() != nil {
		t.Error("a frame is cut behind one that was refused")
	}
	check(1, 3, 4)
	if s.cut() == nil {
		t.Error("no frame is cut although there is room")
	}
	for _, stale := range []uint64{0, 1, 6} {
		s.refuse(stale)
	}
	check(resendTicks-1, 2, 3, 4, 5)
	s.refuse(2)
	s.delivered(2)
	check(resendTicks, 3, 4, 5)
}

// What was passed over is sent again, with all before it that did not come after
// all: something there is missing. Until then nothing is cut.
func TestPassedOver(t *testing.T) {
	type step struct {
		passed    []uint64
		delivered []uint64
		refused   uint64
		wait      int
		again     []uint64
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"the first is lost", []step{{passed: []uint64{2, 3, 4}, wait: 1, again: []uint64{1, 2, 3, 4}}}},
		{"the first comes late", []step{{passed: []uint64{2, 3, 4}, delivered: []uint64{1}, wait: 1, again: []uint64{2, 3, 4}}}},
		{"all in disorder", []step{{passed: []uint64{4, 3}, delivered: []uint64{1, 2}, wait: 1, again: []uint64{3, 4}}}},
		{"all came twice", []step{{passed: []uint64{3, 2}, delivered: []uint64{1, 2, 3}, wait: resendTicks, again: []uint64{4}}}},
		{"a repetition of some", []step{{passed: []uint64{2, 4}, delivered: []uint64{1, 2}, wait: 1, again: []uint64{3, 4}}}},
		{"and one is refused", []step{{passed: []uint64{3}, refused: 4, wait: 1, again: []uint64{1, 2, 3, 4}}}},
		{"and the refused one came", []step{{passed: []uint64{3}, refused: 1, delivered: []uint64{1}, wait: 1, again: []uint64{2, 3, 4}}}},
		{"again and again", []step{
			{passed: []uint64{2}, wait: 1, again: []uint64{1, 2, 3, 4}},
			{passed: []uint64{2}, wait: 2, again: []uint64{1, 2, 3, 4}},
			{passed: []uint64{2}, wait: 4, again: []uint64{1, 2, 3, 4}},
			{passed: []uint64{3}, delivered: []uint64{1}, wait: 1, again: []uint64{2, 3, 4}},
		}},
		{"nothing that was sent", []step{{passed: []uint64{0, 1, 5, 9}, wait: resendTicks, again: []uint64{1, 2, 3, 4}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSender(1, 1, Limits{FrameBytes: 1, WindowFrames: 4})
			for range 4 {
				s.submit([]byte("x"))
				s.cut()
			}
			s.submit([]byte("x"))
			for _, step := range c.steps {
				for _, seq := range step.passed {
					s.passOver(seq)
				}
				if step.refused != 0 {
					s.refuse(step.refused)
				}
				for _, seq := range step.delivered {
					s.delivered(seq)
				}
				if step.wait < resendTicks && s.cut() != nil {
					t.Error("a frame is cut behind one that was passed over")
				}
				if ticks, seqs := waitToResend(&s); ticks != step.wait || !slices.Equal(seqs, step.again) {
					t.Errorf("after %d ticks %v are sent again, want %v after %d", ticks, seqs, step.again, step.wait)
				}
			}
		})
	}
}

// Where every message overtakes the one before, a frame that another one has
// overtaken costs a tick, and not the silence after which all is taken for lost.
func TestFramesOvertakeEachOther(t *testing.T) {
	const frames = 20
	w, leader, _ := pairOf(t)
	origin := w.member(2)
	for i := range frames {
		w.submit(origin, strings.Repeat("x", 60)+strconv.Itoa(i))
	}
	w.pump(origin)
	ticks := 0
	for ; leader.fifo.find(2).next <= frames && ticks <= 2*frames; ticks++ {
		for len(w.wire) > 0 {
			batch := w.wire
			w.wire = nil
			slices.Reverse(batch)
			for _, e := range batch {
				w.hand(e)
			}
		}
		for _, m := range w.up() {
			w.tick(m)
		}
	}
	if ticks > 2*frames {
		t.Errorf("%d frames take more than %d ticks", frames, 2*frames)
	}
}

// A refusal by another than the present leader is of the past.
func TestRefusalByAnotherLeader(t *testing.T) {
	_, _, follower := pairOf(t)
	follower.Submit([]byte("x"))
	follower.Flush()
	follower.Receive(9, Message{Kind: MessageRefusal, Refusal: Refusal{Session: 1, Seq: 1}})
	if got := follower.sender.refused; got != 0 {
		t.Errorf("frame %d counts as refused", got)
	}
	follower.Receive(1, Message{Kind: MessageRefusal, Refusal: Refusal{Session: 1, Seq: 1}})
	if got := follower.sender.refused; got != 1 {
		t.Errorf("frame %d counts as refused, not the first", got)
	}
}

// TestCutEager: a frame far from full waits while two are under way, and only
// then.
func TestCutEager(t *testing.T) {
	s := newSender(1, 1, Limits{FrameBytes: 800, WindowFrames: 4})
	submit := func(size int) (cut bool) {
		s.submit(make([]byte, size))
		return s.cut() != nil
	}
	for i, want := range []bool{true, true, false, false} {
		if got := submit(10); got != want {
			t.Fatalf("message %d cut: %v, want %v", i+1, got, want)
		}
	}
	if !submit(90) {
		t.Fatal("an eighth of a frame was not worth a third one")
	}
	if submit(10) {
		t.Fatal("a fourth one was cut for 10 bytes")
	}
	s.delivered(1)
	if s.cut() != nil {
		t.Fatal("with two under way a small one was cut")
	}
	s.delivered(2)
	if s.cut() == nil {
		t.Fatal("with one under way a small one waits")
	}
}
