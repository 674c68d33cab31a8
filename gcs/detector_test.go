package gcs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// watching is the detector of member 1, which watches 2 and 3.
func watching(suspect, longest int) *detector {
	d := newDetector(suspect, longest)
	d.align(1, group(online(1), online(2), recovering(3)))
	return &d
}

// TestDetector plays scripts: "x3 .20" is a member that is heard in three ticks
// and then silent for twenty. What comes of it is the ticks at which it is
// suspected and trusted, and after + how long it must be heard steadily.
func TestDetector(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"never heard":              {".20", "suspected 8+0"},
		"heard all the time":       {"x100", ""},
		"heard now and then":       {"x1 .6 x1 .6 x1 .6", ""},
		"falls silent":             {"x3 .20", "suspected 10+0"},
		"trusted at once":          {".20 x9", "suspected 8+0, trusted 21+0"},
		"a second time":            {".20 x1 .9 x20", "suspected 8+0, trusted 21+0, suspected 28+8, trusted 38+8"},
		"a third time":             {".20 x1 .9 x20 .10 x20", "suspected 8+0, trusted 21+0, suspected 28+8, trusted 38+8, suspected 57+16, trusted 76+16"},
		"a gap in the steadiness":  {".20 x1 .9 x2 .4 x20", "suspected 8+0, trusted 21+0, suspected 28+8, trusted 44+8"},
		"pauses in the steadiness": {".20 x1 .9 x2 .3 x20", "suspected 8+0, trusted 21+0, suspected 28+8, trusted 38+8"},
		"no longer than allowed": {
			".20 x1 .9 x20 .9 x20 .9 x40 .9 x40",
			"suspected 8+0, trusted 21+0, suspected 28+8, trusted 38+8, suspected 57+16, trusted 75+16, suspected 86+20, trusted 108+20, suspected 135+20, trusted 157+20",
		},
		"forgotten in quiet time": {".20 x1 .9 x100 .9 x9", "suspected 8+0, trusted 21+0, suspected 28+8, trusted 38+8, suspected 137+0, trusted 140+0"},
	} {
		t.Run(name, func(t *testing.T) {
			d := watching(8, 20)
			var got []string
			now := 0
			for part := range strings.FieldsSeq(c.script) {
				for range number(part[1:]) {
					d.hear(3)
					if part[0] == 'x' {
						d.hear(2)
					}
					now++
					for _, v := range d.tick(now, nil) {
						if v.id != 2 || v.suspected != d.suspected(2) {
							t.Fatalf("at %d: %+v", now, v)
						}
						got = append(got, fmt.Sprintf("%s %d+%d", map[bool]string{true: "suspected", false: "trusted"}[v.suspected], now, v.hold))
					}
				}
			}
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf(" got %s\nwant %s", got, c.want)
			}
		})
	}
}

// Who is heard again is not silent, though it may be suspected for longer.
func TestDetectorSilentIsNow(t *testing.T) {
	d := watching(8, 40)
	for now := range 40 {
		if now == 10 || now >= 30 {
			d.hear(2)
		}
		now++
		d.tick(now, nil)
		silent := now >= 8 && now < 11 || now >= 18 && now < 31
		suspected := silent || now >= 31 && now < 38
		if got := d.silent(2); got != silent {
			t.Errorf("at %d: silent %v", now, got)
		}
		if got := d.suspected(2); got != suspected {
			t.Errorf("at %d: suspected %v", now, got)
		}
	}
}

// A view brings members and takes them away; what is known of the others stays.
func TestDetectorFollowsTheView(t *testing.T) {
	d := watching(8, 40)
	for now := range 9 {
		d.hear(3)
		d.tick(now, nil)
	}
	d.connected(2, LinkRefused)
	d.align(1, group(online(1), online(2), online(4)))
	if !d.suspected(2) || d.find(2).link != LinkRefused || d.find(3) != nil || d.suspected(4) || d.silent(4) {
		t.Errorf("watched are %+v", d.peers)
	}
	d.hear(3)
	d.hear(1)
	d.connected(3, LinkOpen)
	if len(d.peers) != 2 || d.suspected(1) || d.suspected(3) || d.silent(3) {
		t.Errorf("watched are %+v", d.peers)
	}
	d.tick(15, nil)
	if d.suspected(4) {
		t.Error("a newcomer is suspected after 7 ticks")
	}
	d.hear(4)
	d.tick(16, nil)
	if got, want := d.hearings(), []Hearing{{2, NeverHeard}, {4, 1}}; !slices.Equal(got, want) {
		t.Errorf("hearings %v, want %v", got, want)
	}
	if got := ticksAgo(d.hearings(), 9); got != NeverHeard {
		t.Errorf("a stranger was heard %d ticks ago", got)
	}
}

// The shell speaks of a stream when it opens or breaks. Whoever is in the view
// later, or again, has the link that was last told of.
func TestDetectorRemembersLinks(t *testing.T) {
	d := watching(8, 40)
	d.connected(4, LinkRefused)
	d.connected(5, LinkLost)
	d.connected(4, LinkOpen)
	d.connected(3, LinkRefused)
	d.align(1, group(online(1), online(2), online(4)))
	if got := []Link{d.find(2).link, d.find(4).link}; !slices.Equal(got, []Link{LinkUnknown, LinkOpen}) {
		t.Errorf("links of 2 and 4 are %v", got)
	}
	d.align(1, group(online(1), online(2), online(3), online(5)))
	if got := []Link{d.find(2).link, d.find(3).link, d.find(5).link}; !slices.Equal(got, []Link{LinkUnknown, LinkRefused, LinkLost}) {
		t.Errorf("links of 2, 3 and 5 are %v", got)
	}
	if want := []linked{{4, LinkOpen}}; !slices.Equal(d.others, want) {
		t.Errorf("remembered are %+v, want %+v", d.others, want)
	}
	for id := range uint64(1000) {
		d.connected(id+10, LinkLost)
	}
	if got := len(d.others); got != MaxMembers || d.others[got-1].id != 1009 {
		t.Errorf("of %d strangers the links are remembered, the last is %+v", got, d.others[got-1])
	}
}

// opinion works out from all that ever was heard of a member what a detector
// must think of it: slowly, with nothing remembered but the suspicions.
type opinion struct {
	suspect, longest int
	heard            []int // ticks after which it was
	began, ended     []int // of suspicions
}

func (o *opinion) last(now int) int {
	last := 0
	for _, at := range o.heard {
		if at < now {
			last = at
		}
	}
	return last
}

// flaps is the number of the suspicions that belong to the last one.
func (o *opinion) flaps() int {
	n := 1
	for i := len(o.began) - 1; i > 0 && o.began[i]-o.ended[i-1] <= quietSuspicions*o.suspect; i-- {
		n++
	}
	return n
}

// steady reports whether, in this tick and the others of the last hold, the
// last message was not long ago.
func (o *opinion) steady(now, hold int) bool {
	for at := now - max(hold, 1) + 1; at <= now; at++ {
		if at-o.last(at) > o.suspect/2 {
			return false
		}
	}
	return true
}

func (o *opinion) tick(now int) (suspected bool) {
	suspected = len(o.began) > len(o.ended)
	switch {
	case !suspected && now-o.last(now) >= o.suspect:
		o.began = append(o.began, now)
	case suspected:
		hold := 0
		if n := o.flaps(); n > 1 {
			hold = min(o.longest, o.suspect<<(n-2))
		}
		if o.steady(now, hold) {
			o.ended = append(o.ended, now)
		}
	}
	return len(o.began) > len(o.ended)
}

func TestDetectorAgreesWithTheObvious(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &opinion{suspect: rapid.IntRange(2, 12).Draw(t, "suspect"), longest: rapid.IntRange(1, 40).Draw(t, "longest")}
		d := watching(o.suspect, o.longest)
		now := 0
		for range rapid.IntRange(1, 12).Draw(t, "stretches") {
			every := rapid.IntRange(1, 14).Draw(t, "every")
			for i := range rapid.IntRange(1, 60).Draw(t, "ticks") {
				if i%every == 0 && every < 14 {
					d.hear(2)
					o.heard = append(o.heard, now)
				}
				now++
				d.tick(now, nil)
				if want := o.tick(now); d.suspected(2) != want {
					t.Fatalf("at %d: suspected %v, heard at %v, suspicions began at %v and ended at %v", now, !want, o.heard, o.began, o.ended)
				}
				if got, want := d.silent(2), now-o.last(now) >= o.suspect; got != want {
					t.Fatalf("at %d: silent %v, heard at %v", now, got, o.heard)
				}
			}
		}
	})
}
