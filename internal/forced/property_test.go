package forced

import (
	"slices"
	"testing"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// draw makes a plan, as an operator would who trusts nothing, and begins it.
func (w *world) draw() {
	n := w.pick(func(n *node) bool { return n.up })
	if n == nil || len(w.plans) >= 16 {
		return
	}
	var answers []Survey
	listed := []gtid.UUID{n.id.Member}
	var supersedes []gtid.UUID
	for _, p := range w.nodes {
		if !p.up || p == n {
			continue
		}
		answers = append(answers, p.survey(false))
		if w.chance(45) {
			listed = append(listed, p.id.Member)
		}
	}
	if w.chance(60) {
		for _, p := range w.nodes {
			if r := p.rec(); r.Phase == Frozen && p.up {
				supersedes = append(supersedes, r.Order.Plan)
			}
		}
	}
	plan := testUUID(1000 + len(w.plans))
	p, err := New(plan, n.survey(false), listed, answers, supersedes)
	if err != nil {
		return
	}
	p2, err := DecodePlan(p.Append(nil))
	w.check(err == nil, "own plan: %v", err)
	w.plans = append(w.plans, plan)
	w.orders[plan] = p.Order
	w.bosses = append(w.bosses, &boss{c: Run(p2), at: n.n})
	w.send(len(w.bosses) - 1)
}

// resume goes on with a plan from anywhere.
func (w *world) resume() {
	n := w.pick(func(n *node) bool { return n.up })
	if n == nil || len(w.plans) == 0 {
		return
	}
	w.resumeAt(w.plans[w.upTo(len(w.plans)-1)], n)
}

func (w *world) resumeAt(plan gtid.UUID, n *node) *boss {
	b := &boss{c: Resume(plan, n.survey(false)), at: n.n}
	w.bosses = append(w.bosses, b)
	w.send(len(w.bosses) - 1)
	return b
}

func (w *world) send(b int) {
	for _, r := range w.bosses[b].c.Requests() {
		p := packet{boss: b, to: int(r.To.RaftID), step: r.Step}
		if !r.Step.Surveys() {
			p.bytes = r.Append(nil)
		}
		w.packets = append(w.packets, p)
	}
}

// network carries one packet, or two of it, or none.
func (w *world) network() {
	if len(w.packets) == 0 {
		return
	}
	i := w.upTo(len(w.packets) - 1)
	p := w.packets[i]
	switch fate := w.upTo(19); {
	case fate == 0: // lost, and who waits for it learns of it
		w.packets = slices.Delete(w.packets, i, i+1)
		w.lost(p)
		return
	case fate > 1: // otherwise it comes again
		w.packets = slices.Delete(w.packets, i, i+1)
	}
	w.carry(p)
}

func (w *world) lost(p packet) {
	b := w.bosses[p.boss]
	if !b.dead {
		b.c.Lost(uint64(p.to), p.step, "lost")
		w.send(p.boss)
	}
}

func (w *world) carry(p packet) {
	if p.answer {
		w.answered(p)
		return
	}
	n := w.node(p.to)
	if !n.up {
		w.lost(p)
		return
	}
	if p.step.Surveys() {
		s := n.survey(false)
		w.answer(p, s.Append(nil))
		return
	}
	r, err := DecodeRequest(p.bytes)
	w.check(err == nil, "own request: %v", err)
	switch r.Step {
	case StepSurvey, StepLook:
	case StepFreeze:
		w.freeze(n, p, r.Order)
	case StepAlign:
		w.align(n, p, r.Decision)
	case StepAdopt:
		w.adopt(n, p, r.Decision)
	}
}

func (w *world) answer(p packet, bytes []byte) {
	p.answer, p.bytes = true, bytes
	w.packets = append(w.packets, p)
}

// reply answers with the record on disk, or with the refusal.
func (w *world) reply(n *node, p packet, err error) {
	a := Answer{Record: n.rec()}
	if err != nil {
		refused, ok := err.(*RefusedError)
		w.check(ok, "member %d: %v", n.n, err)
		a.Refused = refused
	}
	w.answer(p, a.Append(nil))
}

func (w *world) answered(p packet) {
	b := w.bosses[p.boss]
	if b.dead {
		return
	}
	if p.step.Surveys() {
		s, err := DecodeSurvey(p.bytes)
		w.check(err == nil, "own survey: %v", err)
		b.c.Surveyed(uint64(p.to), p.step, s)
	} else {
		a, err := DecodeAnswer(p.bytes)
		w.check(err == nil, "own answer: %v", err)
		b.c.Answered(uint64(p.to), p.step, a)
	}
	w.send(p.boss)
}

func (w *world) freeze(n *node, p packet, o Order) {
	r := n.rec()
	next, changed, err := r.Freeze(o, n.survey(false))
	if changed {
		n.job, n.leads = nil, false
		n.record = next.Append(nil)
		n.frozen[o.Plan] = string(appendFacts(nil, &next.Facts))
		w.held[frozenKey{o.Plan, n.n}] = slices.Clone(n.entries)
	}
	w.reply(n, p, err)
}

func (w *world) align(n *node, p packet, d Decision) {
	r := n.rec()
	work, err := r.Align(d, &n.disk)
	if err != nil || work.Done() {
		w.reply(n, p, err)
		return
	}
	n.job = &job{request: p, d: d, work: work}
}

// fetch moves one alignment on by some entries.
func (w *world) fetch() {
	n := w.pick(func(n *node) bool { return n.up && n.job != nil })
	if n == nil {
		return
	}
	j := n.job
	seed := w.node(int(j.d.Seed))
	r := seed.rec()
	if !seed.up || r.Serve(j.d.Plan, j.work.From, j.work.To) != nil || !w.calm && w.chance(10) {
		n.job = nil
		w.lost(j.request)
		return
	}
	to := min(j.work.To, j.work.From+uint64(w.upTo(3)))
	es, err := seed.Entries(j.work.From, to+1, 0)
	w.check(err == nil, "seed %d: %v", seed.n, err)
	left, err := j.work.Take(&j.d, es)
	w.check(err == nil, "member %d takes from seed %d: %v", n.n, seed.n, err)
	w.check(j.work.From > n.ever, "alignment cuts entry %d of member %d, which had delivered up to %d", j.work.From, n.n, n.ever)
	n.write(es)
	j.work = left
	if left.Done() {
		n.job = nil
		w.reply(n, j.request, nil)
	}
}

func (w *world) adopt(n *node, p packet, d Decision) {
	r := n.rec()
	a, next, err := r.Adopt(d, n.id, &n.disk)
	if a != nil {
		w.checkAdoption(n, &d, a)
		n.id, n.record = a.Identity, a.Record
		n.entries = n.entries[:a.Last:a.Last]
		n.write(a.Entries)
		n.term, n.vote, n.commit = a.HardState.GetTerm(), a.HardState.GetVote(), a.HardState.GetCommit()
		n.delivered, n.ever = n.commit, n.commit
		n.view = gcs.View{ID: n.view.ID + 1, Index: n.commit, Incarnation: d.Begins, Members: d.Members}
		ledger := w.committed[d.Begins]
		if ledger == nil {
			ledger = map[uint64]commitment{}
			w.committed[d.Begins] = ledger
		}
		for i, e := range n.entries {
			ledger[uint64(i)+1] = commitment{entry: e}
		}
		w.check(next.CheckIdentity(n.id) == nil, "adopted record: %v", next.CheckIdentity(n.id))
	}
	w.reply(n, p, err)
}

// checkAdoption holds one adoption against everything that happened before.
func (w *world) checkAdoption(n *node, d *Decision, a *gcs.Adoption) {
	w.adoptions++
	w.check(n.rec().Order.Plan == d.Plan, "member %d adopts a plan that it is not frozen for", n.n)
	if before, ok := w.decisions[d.Plan]; ok {
		w.check(before.equal(d), "plan %s has two decisions:\n%+v\n%+v", d.Plan, before, *d)
		w.check(slices.Equal(w.logs[d.Plan], n.entries[:a.Last]), "plan %s has two logs", d.Plan)
	}
	w.decisions[d.Plan], w.logs[d.Plan] = *d, slices.Clone(n.entries[:a.Last])
	w.adopters[d.Plan] = append(w.adopters[d.Plan], n.n)
	for _, plan := range w.plans {
		w.check(plan == d.Plan || w.orders[plan].Ends != d.Ends || !w.adopted(plan, n.n),
			"member %d adopts plans %s and %s of one incarnation", n.n, plan, d.Plan)
	}
	// What was committed with the help of any survivor, survives. One that has
	// moved on to another plan meanwhile helped all the same.
	for _, m := range d.Members {
		s := w.node(int(m.RaftID))
		facts, ok := s.frozen[d.Plan]
		w.check(ok, "plan %s is adopted and member %d never froze for it", d.Plan, s.n)
		dec := decoder{}
		dec.Rest = []byte(facts)
		f := dec.facts()
		held := w.held[frozenKey{d.Plan, s.n}]
		for i := range uint64(len(held)) {
			c, ok := w.committed[d.Ends][i+1]
			// With its help, or to its knowledge.
			if ok && (slices.Contains(c.by, s.n) || i < f.Commit) {
				w.check(i < a.Last && n.entries[i] == c.entry && held[i] == c.entry, "plan %s loses entry %d, which member %d helped to commit", d.Plan, i+1, s.n)
			}
		}
	}
	w.check(n.ever <= a.Last, "member %d had delivered up to %d, adopted are entries up to %d", n.n, n.ever, a.Last)
}

func (w *world) checkFrozen() {
	for _, n := range w.nodes {
		r := n.rec()
		if r.Phase == Free {
			continue
		}
		w.check(n.frozen[r.Order.Plan] == string(appendFacts(nil, &r.Facts)), "member %d says of plan %s what it did not say when it froze", n.n, r.Order.Plan)
		w.check(r.CheckIdentity(n.id) == nil, "member %d: %v", n.n, r.CheckIdentity(n.id))
	}
}

// finish drives one coordinator over a network that works.
func (w *world) finish(b *boss) Report {
	for range 10000 {
		w.packets = slices.DeleteFunc(w.packets, func(p packet) bool { return w.bosses[p.boss] != b })
		if b.c.Ended() {
			break
		}
		if len(w.packets) > 0 {
			p := w.packets[0]
			w.packets = w.packets[1:]
			w.carry(p)
			continue
		}
		w.fetch()
	}
	w.check(b.c.Ended(), "the plan does not end: %+v", b.c.Report())
	return b.c.Report()
}

// checkResumable runs every plan once more that can still be completed.
func (w *world) checkResumable() {
	w.calm = true
	for _, n := range w.nodes {
		n.up, n.job = true, nil
	}
	for _, plan := range w.plans {
		part, all, late := 0, 0, len(w.adopters[plan]) > 0
		var at *node
		for _, m := range w.orders[plan].Members {
			all++
			if r := w.node(int(m.RaftID)).rec(); r.In(plan) {
				part++
				at = w.node(int(m.RaftID))
			}
		}
		if part != all {
			continue
		}
		r := w.finish(w.resumeAt(plan, at))
		if late {
			w.check(r.Complete && r.Err == nil, "plan %s was adopted by %v and is not completed: %v", plan, w.adopters[plan], r.Err)
		}
		if refused, ok := r.Err.(*RefusedError); r.Err != nil {
			// The rest cannot be had of these survivors: it is said, and a
			// later plan is made.
			w.check(ok && (refused.Reason == TooFarBehind || refused.Reason == AdoptedOther || refused.Reason == FrozenForOther), "plan %s ends with %v", plan, r.Err)
		} else {
			w.check(r.Complete, "plan %s ended without error, and is not complete: %+v", plan, r)
		}
	}
}

// TestProtocol drives records and coordinators through everything at once.
func TestProtocol(t *testing.T) {
	const worlds = 300
	adoptions, completed, superseding, twice := 0, 0, 0, 0
	for seed := range uint64(worlds) {
		w := newWorld(t, seed)
		w.run()
		adoptions += w.adoptions
		w.checkResumable()
		for _, plan := range w.plans {
			d, ok := w.decisions[plan]
			if !ok || len(w.adopters[plan]) < len(d.Members) {
				continue
			}
			completed++
			if d.Ends != testUUID(251) {
				twice++
			}
			if len(d.Supersedes) > 0 {
				superseding++
			}
		}
	}
	t.Logf("%d worlds: %d adoptions in the turmoil, %d plans completed, %d of them superseding, %d in a forced incarnation",
		worlds, adoptions, completed, superseding, twice)
	if adoptions < worlds/4 || superseding < worlds/50 || twice < worlds/100 {
		t.Error("the worlds are too tame to show anything")
	}
}

// run is the turmoil.
func (w *world) run() {
	steps := []struct {
		often int
		do    func()
	}{
		{8, w.elect},
		{16, w.replicate},
		{2, w.crash},
		{6, w.restart},
		{3, w.truncate},
		{4, w.draw},
		{4, w.resume},
		{45, w.network},
		{12, w.fetch},
	}
	for range 100 + w.upTo(1000) {
		dice := w.upTo(99)
		for _, s := range steps {
			if dice -= s.often; dice < 0 {
				s.do()
				break
			}
		}
		w.checkFrozen()
	}
}

// TestOperatorsAtOnce has several operators force memberships of one group at
// the same time. All who live reach each other: then no two incarnations begin
// where there was one, and who stopped each other can be gone on from.
func TestOperatorsAtOnce(t *testing.T) {
	const worlds = 400
	live, stuck, superseded := 0, 0, 0
	for seed := range uint64(worlds) {
		w := newWorld(t, 10_000+seed)
		w.calm = true
		for range 40 {
			w.elect()
			w.replicate()
		}
		for len(w.peers(w.nodes[0])) > len(w.nodes)/2 {
			w.pick(func(n *node) bool { return n.up && n != w.nodes[0] }).up = false
		}
		plans := 2 + w.upTo(2)
		for range 1500 {
			switch dice := w.upTo(99); {
			case dice < 5 && len(w.plans) < plans:
				w.draw()
			case dice < 6:
				w.resume()
			case dice < 30:
				w.fetch()
			case len(w.packets) > 0:
				i := w.upTo(len(w.packets) - 1)
				p := w.packets[i]
				if w.chance(90) { // otherwise it comes again
					w.packets = slices.Delete(w.packets, i, i+1)
				}
				w.carry(p)
			}
		}
		begun := map[gtid.UUID]gtid.UUID{} // by the incarnation that ended
		for _, plan := range w.plans {
			o := w.orders[plan]
			if len(w.adopters[plan]) < (gcs.View{Members: o.Members}).Quorum() {
				continue
			}
			other, ok := begun[o.Ends]
			w.check(!ok, "plans %s and %s both live on from incarnation %s", other, plan, o.Ends)
			begun[o.Ends] = plan
			live++
			superseded += min(1, len(o.Supersedes))
		}
		if len(w.adopters) == 0 && len(w.plans) > 1 {
			stuck += w.unstick()
		}
	}
	t.Logf("%d worlds: %d incarnations began, %d of them superseding, %d times operators stopped each other", worlds, live, superseded, stuck)
	if live < worlds/4 || stuck < worlds/20 || superseded < worlds/50 {
		t.Error("the operators are too tame to show anything")
	}
}

// unstick has an operator name all the plans that members are frozen for, and
// list all those members. It returns 0 when none is.
func (w *world) unstick() int {
	var at *node
	var listed, plans []gtid.UUID
	var answers []Survey
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		answers = append(answers, n.survey(false))
		if r := n.rec(); r.Phase == Frozen {
			at, listed, plans = n, append(listed, n.id.Member), append(plans, r.Order.Plan)
		}
	}
	if at == nil {
		return 0
	}
	w.packets, w.bosses = nil, nil
	id := testUUID(5000)
	p, err := New(id, at.survey(false), listed, answers, plans)
	if refused, ok := err.(*RefusedError); ok && (refused.Reason == TooFarBehind || refused.Reason == OtherHistory) {
		return 1
	}
	w.check(err == nil, "nobody can go on from plans %v: %v", plans, err)
	w.plans = append(w.plans, id)
	w.orders[id] = p.Order
	w.bosses = append(w.bosses, &boss{c: Run(p), at: at.n})
	w.send(0)
	r := w.finish(w.bosses[0])
	w.check(r.Complete, "the plan that supersedes %v ends with %v", plans, r.Err)
	return 1
}
