package gcs

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// prefer says to all whom the lead should follow.
func (w *world) prefer(id uint64) {
	for _, m := range w.up() {
		m.group.Prefer(id)
	}
}

// handOvers runs the world, and counts how often the lead was offered to somebody.
func (w *world) handOvers(ticks uint64, lost bool) (offers []uint64) {
	for range ticks {
		for _, m := range w.up() {
			w.tick(m)
		}
		for len(w.wire) > 0 {
			for _, e := range w.take(func(envelope) bool { return true }) {
				if e.msg.Kind == MessageRaft && e.msg.Raft.GetType() == raftpb.MsgTimeoutNow {
					offers = append(offers, e.to)
					if lost {
						continue
					}
				}
				w.hand(e)
			}
		}
	}
	return offers
}

// The lead goes to the member that is preferred, by one offer, and stays there.
func TestPreferredLeads(t *testing.T) {
	w := expelling(t, 3)
	w.run(preferTicks)
	first := w.member(1)
	first.kinds()
	for _, id := range []uint64{1, 0, 7} {
		w.prefer(id)
		if got := w.handOvers(10*preferTicks, false); got != nil || !first.leading {
			t.Errorf("preferring %d moves the lead to %v", id, got)
		}
	}
	w.prefer(3)
	took := w.takes("the change of leader", func() bool { return w.member(3).group.Status().Leading })
	if took > 2*reportTicks {
		t.Errorf("it takes %d ticks", took)
	}
	if got, want := first.kinds(), "lead handed over 3"; got != want {
		t.Errorf("noticed: %s, want %s", got, want)
	}
	if got := w.handOvers(10*expelTicks, false); got != nil || w.leader().n != 3 {
		t.Errorf("then %d leads, after offers to %v", w.leader().n, got)
	}
}

// Who leads by chance gives the lead up after a while, and no sooner: who has just
// given it up may have a reason that this one does not know yet.
func TestPreferredGetsTheLeadBack(t *testing.T) {
	w := expelling(t, 3)
	w.prefer(1)
	w.run(2)
	w.crash(w.member(1))
	w.takes("an election", func() bool { return w.member(2).leading || w.member(3).leading })
	w.start(w.member(1))
	w.prefer(1)
	if got := w.handOvers(preferTicks-reportTicks, false); got != nil {
		t.Errorf("the lead is offered to %v at once", got)
	}
	if got := w.handOvers(4*preferTicks, false); !slices.Equal(got, []uint64{1}) || w.leader().n != 1 {
		t.Errorf("the lead is offered to %v, and %d leads", got, w.leader().n)
	}
}

// The lead is offered to nobody who could not take it, or not keep it.
func TestPreferredIsFit(t *testing.T) {
	report := func(change func(r *heard)) func(g *Group) {
		return func(g *Group) {
			r := g.reports[2]
			change(&r)
			g.reports[2] = r
		}
	}
	for name, spoil := range map[string]func(g *Group){
		"is suspected":          func(g *Group) { g.detector.find(2).suspected = true },
		"has not reported":      func(g *Group) { delete(g.reports, 2) },
		"reported long ago":     report(func(r *heard) { r.at -= freshTicks + 1 }),
		"has a stalled disk":    report(func(r *heard) { r.Stalled = true }),
		"hears one less":        report(func(r *heard) { r.Hears = []Hearing{{1, 0}, {3, suspectTicks}} }),
		"does not hear here":    report(func(r *heard) { r.Hears = []Hearing{{1, suspectTicks}, {3, 0}} }),
		"wants to leave":        func(g *Group) { g.leavers[2] = g.ticks },
		"lacks what all have":   func(g *Group) { g.commits[0] = g.last + 1 },
		"is not in the view":    func(g *Group) { g.reports[9], g.preferred.id = g.reports[2], 9 },
		"leads already":         func(g *Group) { g.preferred.id = 1 },
		"has just been offered": func(g *Group) { g.handed = g.ticks },
	} {
		w := expelling(t, 3)
		w.run(2 * preferTicks)
		g := w.member(1).group
		g.preferred.id = 2
		spoil(g)
		if g.followPreferred(); g.preferred.tried != 0 {
			t.Errorf("the lead is offered to a member that %s", name)
		}
	}
	w := expelling(t, 3)
	w.run(2 * preferTicks)
	g := w.member(1).group
	report(func(r *heard) { r.Hears = []Hearing{{1, 0}} })(g)
	g.detector.find(3).heard -= suspectTicks
	g.Prefer(2)
	if g.followPreferred(); g.preferred.tried == 0 {
		t.Error("the lead is not offered to a member that hears all who are heard here")
	}
	for _, c := range []struct{ ago, pause int }{{2 * maxPreferTicks, maxPreferTicks}, {2*maxPreferTicks + 1, preferTicks}} {
		g.ticks += 2 * maxPreferTicks
		g.handed, g.reports[2] = 0, heard{Report: g.reports[2].Report, at: g.ticks}
		g.preferred = preference{id: 2, tried: g.ticks - c.ago, pause: maxPreferTicks}
		if g.followPreferred(); g.preferred.tried != g.ticks || g.preferred.pause != c.pause {
			t.Errorf("an offer %d ticks after another one leaves %+v", c.ago, g.preferred)
		}
	}
}

// A member without a vote is not offered the lead: raft would not say that it
// refuses.
func TestPreferredVotes(t *testing.T) {
	w := expelling(t, 2)
	w.start(w.add(3))
	w.join(w.member(3), w.member(1))
	g := w.member(1).group
	w.settle()
	for range 4 {
		g.Receive(3, Message{Kind: MessageReport, Report: &Report{Delivered: g.Delivered(), Hears: []Hearing{{1, 0}, {2, 0}}}})
		if m, _ := g.View().Member(3); m.State != Recovering || g.keepsLead(3) {
			t.Fatalf("%s, fit %v", g.View(), g.keepsLead(3))
		}
		g.Tick()
		w.settle()
	}
}

// Offers that come to nothing are made more and more rarely, however often the
// same member is preferred. Another one does not pay for that.
func TestOffersThatAreLost(t *testing.T) {
	w := expelling(t, 3)
	w.run(preferTicks)
	const ticks = 2000
	var got []uint64
	for range ticks {
		w.prefer(2)
		got = append(got, w.handOvers(1, true)...)
	}
	if most := 5 + ticks/maxPreferTicks; len(got) < 10 || len(got) > most {
		t.Errorf("%d offers in %d ticks, at most %d are wanted", len(got), ticks, most)
	}
	if !w.member(1).leading {
		t.Error("the lead is lost")
	}
	w.prefer(3)
	if got := w.member(1).group.preferred; got != (preference{id: 3}) {
		t.Errorf("the next one begins with %+v", got)
	}
	w.takes("the lead of the next one", func() bool { return w.member(3).leading })
}

// A lead that is being given up for another reason is not offered to the member
// that is preferred as well: raft would take the first offer back.
func TestOffersDoNotCompete(t *testing.T) {
	w := expelling(t, 3)
	w.run(2 * preferTicks)
	w.prefer(3)
	if err := w.member(1).group.Leave(); err != nil {
		t.Fatal(err)
	}
	if got := w.handOvers(reportTicks, true); len(got) == 0 || slices.Contains(got, 3) {
		t.Errorf("the lead is offered to %v", got)
	}
}

// A member that does not hear somebody else loses the lead for that one's sake.
// It does not get it back before it hears it, though it is preferred.
func TestPreferredAndSpared(t *testing.T) {
	w := expelling(t, 3)
	w.prefer(1)
	w.cut[[2]uint64{1, 3}] = true
	offers := w.handOvers(20*expelTicks, false)
	if !slices.Equal(offers, []uint64{2}) || w.leader().n != 2 || !has(w.leader().group.View(), 3) {
		t.Errorf("the lead was offered to %v, %d leads %s", offers, w.leader().n, w.leader().group.View())
	}
	clear(w.cut)
	if offers := w.handOvers(4*suspectTicks, false); !slices.Equal(offers, []uint64{1}) || w.leader().n != 1 {
		t.Errorf("then it was offered to %v, and %d leads", offers, w.leader().n)
	}
}

// A member whose disk has stalled gets the lead back when its disk is.
func TestPreferredAndRelieved(t *testing.T) {
	w := expelling(t, 3)
	first := w.member(1)
	w.prefer(1)
	first.stalled = true
	w.load(first, 1)
	offers := w.handOvers(10*expelTicks, false)
	if len(offers) != 1 || w.leader().n == 1 {
		t.Errorf("the lead was offered to %v, %d leads", offers, w.leader().n)
	}
	w.resume(first)
	if offers := w.handOvers(2*preferTicks, false); !slices.Equal(offers, []uint64{1}) || w.leader().n != 1 {
		t.Errorf("then it was offered to %v, and %d leads", offers, w.leader().n)
	}
}

// A disk that stalls whenever its member leads does not make the lead go round:
// each time the others wait longer.
func TestPreferredWithABadDisk(t *testing.T) {
	w := expelling(t, 3)
	first := w.member(1)
	w.prefer(1)
	offers := 0
	const rounds = 60
	for range rounds {
		if first.leading && !first.stalled {
			first.stalled = true
			w.load(first, 1)
		} else if !first.leading && first.stalled {
			w.resume(first)
		}
		offers += len(slices.DeleteFunc(w.handOvers(2*stallTicks, false), func(to uint64) bool { return to != 1 }))
	}
	if most := 2 * (5 + rounds*2*stallTicks/maxPreferTicks); offers < 4 || offers > most {
		t.Errorf("%d times in %d ticks the lead went back, at most %d are wanted", offers, rounds*2*stallTicks, most)
	}
}

// Neither leaving nor being ordered out is in the way of being preferred.
func TestPreferredGoes(t *testing.T) {
	for name, ask := range map[string]func(w *world){
		"leaves": func(w *world) { _ = w.member(1).group.Leave() },
		"is ordered out": func(w *world) {
			for _, m := range w.up() {
				if m.leading {
					m.group.Change(Change{Kind: Removed, Member: online(1)})
					w.pump(m)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := expelling(t, 3)
			w.prefer(1)
			w.run(preferTicks)
			ask(w)
			offers := 0
			for tick := range uint64(100) {
				if w.member(1).group.Removed() {
					break
				}
				offers += len(w.handOvers(1, false))
				if name == "is ordered out" && tick%(2*preferTicks) == 0 {
					ask(w) // seldom
				}
			}
			if v := w.member(2).group.View(); has(v, 1) || offers > 3 {
				t.Errorf("after %d offers of the lead: %s", offers, v)
			}
		})
	}
}

// A member that asks for the lead gets it when the others have not heard theirs
// for long enough, and not before.
func TestCampaign(t *testing.T) {
	w := expelling(t, 3)
	third := w.member(3)
	third.group.Campaign()
	w.pump(third)
	w.settle()
	w.run(2)
	if !w.member(1).leading || third.leading {
		t.Fatal("a leader that is heard loses the lead")
	}
	w.crash(w.member(1))
	w.run(9) // the others wait for 10 to 20
	for range 2 {
		w.run(1)
		if w.member(2).leading || third.leading {
			t.Fatal("an election came first; the test needs another seed")
		}
	}
	third.group.Campaign()
	w.pump(third)
	w.settle()
	if !third.leading {
		t.Error("it does not lead")
	}
	term := third.group.Status().Term
	third.group.Campaign()
	w.pump(third)
	w.settle()
	if got := third.group.Status(); !got.Leading || got.Term != term {
		t.Errorf("a leader that asks for the lead has %+v", got)
	}
}

// A member whose disk has stalled does not ask.
func TestStalledMemberDoesNotAskForTheLead(t *testing.T) {
	w := expelling(t, 3)
	g := w.member(3).group
	g.report.Stalled = true
	g.Campaign()
	w.pump(w.member(3))
	if len(w.wire) != 0 || g.Status().Leader != 1 {
		t.Errorf("it says %+v", w.wire)
	}
}

// Silence is of the other one, contact is of this one there: where the way is cut
// in one direction, the two differ.
func TestSilenceAndContact(t *testing.T) {
	const ticks = suspectTicks + expelTicks/2
	near := func(got, want int) bool { return got >= want-1 && got <= want+2*reportTicks }
	for name, c := range map[string]struct {
		cut             func(w *world)
		silent, contact int
	}{
		"nothing": {func(*world) {}, 0, 0},
		"to it":   {func(w *world) { w.deaf[[2]uint64{1, 2}] = true }, 0, ticks},
		"from it": {func(w *world) { w.deaf[[2]uint64{2, 1}] = true }, ticks, ticks},
		"both":    {func(w *world) { w.cut[[2]uint64{1, 2}] = true }, ticks, ticks},
		"it died": {func(w *world) { w.crash(w.member(2)) }, ticks, ticks},
	} {
		t.Run(name, func(t *testing.T) {
			w := expelling(t, 3)
			g := w.member(1).group
			c.cut(w)
			for range ticks {
				for _, m := range w.up() {
					w.tick(m)
				}
				w.settle()
			}
			if !near(g.Silent(2), c.silent) || !near(g.Contact(2), c.contact) {
				t.Errorf("silent for %d, want %d; contact %d ago, want %d", g.Silent(2), c.silent, g.Contact(2), c.contact)
			}
			if g.Silent(3) > 2*reportTicks || g.Contact(3) > 3*reportTicks || g.Silent(1) != 0 || g.Contact(1) != 0 {
				t.Errorf("of 3 %d and %d, of itself %d and %d", g.Silent(3), g.Contact(3), g.Silent(1), g.Contact(1))
			}
			if g.Silent(7) != neverTicks || g.Contact(7) != neverTicks {
				t.Errorf("of a stranger %d and %d", g.Silent(7), g.Contact(7))
			}
		})
	}
}

// A member that starts anew has heard nobody. That does not make the others
// believe that it never heard them.
func TestContactSurvivesARestart(t *testing.T) {
	w := expelling(t, 3)
	g := w.member(1).group
	w.run(50)
	before := g.Contact(2)
	for _, hears := range [][]Hearing{nil, {{1, NeverHeard}}, {{1, 1 << 20}}, {{1, 40}}, {{3, 0}}} {
		g.Receive(2, Message{Kind: MessageReport, Report: &Report{Hears: hears}})
		if got := g.Contact(2); got != before {
			t.Errorf("after %v contact was %d ticks ago, before that %d", hears, got, before)
		}
	}
	g.Receive(2, Message{Kind: MessageReport, Report: &Report{Hears: []Hearing{{1, 0}}}})
	if got := g.Contact(2); got != 0 {
		t.Errorf("contact was %d ticks ago, just now", got)
	}
}

// Of who has never been heard, time counts from when this member began to listen.
func TestSilenceOfABeginner(t *testing.T) {
	w := expelling(t, 2)
	m := w.member(1)
	w.saveCheckpoint(m)
	w.crash(m)
	w.start(m)
	for range 7 {
		m.group.Tick()
	}
	if a, b := m.group.Silent(2), m.group.Contact(2); a != 7 || b != 7 {
		t.Errorf("after 7 ticks silence is %d and contact %d", a, b)
	}
}
