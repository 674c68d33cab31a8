package sim

import (
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
)

// surveyable reports whether a member has anything to say: it is in an
// incarnation, has not lost its place as far as it knows, and its log explains
// its data.
func (r *run) surveyable() bool {
	return r != nil && r.history != nil && (!r.out || r.kept) && !r.member.cloning && !r.note.clone
}

// survey is what the member says of itself to whoever draws up or runs a plan.
// ok is false when it has nothing to say: it is down, in no incarnation, or has
// no state that its log explains.
func (m *member) survey() (s forced.Survey, ok bool) {
	r := m.run
	if !r.surveyable() {
		return s, false
	}
	s.Record = r.note.plan
	if !s.Record.MayRun() {
		s.Facts = s.Record.Facts
		// While its log is being aligned, it says what it had when it froze.
		return s, r.job != nil || s.ReadLog(m.log) == nil
	}
	from := r.replica
	if from == nil {
		if r.replay == nil {
			replay, err := m.replay(^uint64(0))
			if err != nil {
				m.world.violate("start", "%s: %v", m.name, err)
				return s, false
			}
			r.replay = replay
		}
		from = r.replay
	}
	st := from.Status()
	s.Facts = m.facts(st, from.Claim())
	// One that is behind may hear a majority of a view long past. When there is
	// a quorum, somebody leads.
	if r.replica != nil { // else it hears nobody
		s.Quorum, s.Unsure = st.Quorum && st.Leader != 0, st.QuorumUnknown
	}
	return s, s.ReadLog(m.log) == nil
}

// facts are those of a state machine, with what the disk has of the hard state.
func (m *member) facts(st replica.Status, c replica.Claim) forced.Facts {
	id, hs := m.log.Identity(), m.log.HardState()
	f := forced.Facts{
		Group: id.Group, Incarnation: id.Incarnation, Member: id.Member, RaftID: id.RaftID, Address: m.name,
		View: st.View, Term: max(st.Term, hs.GetTerm()), Commit: max(hs.GetCommit(), st.Delivered),
		Delivered: st.Delivered, Executed: c.Executed,
	}
	f.View.Cause = gcs.Change{}
	for _, p := range st.Peers {
		if p.Heard != gcs.NeverHeard {
			f.Heard = append(f.Heard, forced.Heard{RaftID: p.RaftID, Delivered: p.Report.Delivered, Executed: p.Report.Executed, Ticks: p.Heard})
		}
	}
	return f
}

// take takes a step of a plan. reply, which may never be called, gets the
// answer.
func (m *member) take(q forced.Request, reply func(forced.Answer)) {
	r := m.run
	if !r.surveyable() {
		return
	}
	boots := m.boots
	answer := func(err error) {
		if m.boots != boots || m.run == nil {
			return
		}
		if m.world.interrupts(m) {
			return
		}
		a := forced.Answer{Record: m.run.note.plan}
		if err != nil && !errors.As(err, &a.Refused) {
			m.world.violate("plan", "%s: %v", m.name, err)
			return
		}
		reply(a)
	}
	switch q.Step {
	case forced.StepFreeze:
		answer(m.freeze(q.Order))
	case forced.StepAlign:
		r.align(q.Decision, answer)
	case forced.StepAdopt:
		answer(m.adopt(q.Decision))
	case forced.StepSurvey, forced.StepLook:
	}
}

// interrupts may crash a member that is in the middle of a plan.
func (w *world) interrupts(m *member) bool {
	if w.phase != faulty || !chance(w.rand, w.plan.members.interrupt) {
		return false
	}
	w.reached[markFrozenCrash]++
	w.report.Faults.Crashes++
	w.crash(m)
	return true
}

// freeze stops the member in its incarnation. What it says of itself counts
// from when its log's writer is done.
func (m *member) freeze(o forced.Order) error {
	r := m.run
	now, ok := m.survey()
	if !ok {
		return nil
	}
	if _, changed, err := r.note.plan.Freeze(o, now); err != nil || !changed {
		return err
	}
	if r.replica != nil && len(r.standing.GateWaits) > 0 {
		m.world.reached[markForcedGate]++
	}
	m.stop()
	if r.note.plan.MayRun() {
		hs := m.log.HardState()
		now.Term, now.Commit = max(now.Term, hs.GetTerm()), max(now.Commit, hs.GetCommit())
	}
	err := now.ReadLog(m.log)
	if err == nil {
		next := r.note
		if next.plan, _, err = r.note.plan.Freeze(o, now); err == nil {
			err = m.log.SetRecord(next.encode())
		}
	}
	m.start()
	return err
}

// alignment is the work under way on a survivor's log.
type alignment struct {
	d      forced.Decision
	work   forced.Work
	answer func(error)
	tries  int
}

// align makes the log of a frozen member that of the plan's seed.
func (r *run) align(d forced.Decision, answer func(error)) {
	work, err := r.note.plan.Align(d, r.member.log)
	if err != nil || work.Done() {
		answer(err)
		return
	}
	if r.job != nil && r.job.d.Plan == d.Plan {
		r.job.answer = answer
		return
	}
	r.job = &alignment{d: d, work: work, answer: answer}
	r.fetch(r.job)
}

// fetch asks the seed for the next entries, some times.
func (r *run) fetch(job *alignment) {
	w := r.world
	if job.tries++; job.tries > 8 {
		r.job = nil
		return
	}
	first := job.work.From
	r.after(200*millisecond, func() {
		if r.job == job && job.work.From == first {
			r.fetch(job)
		}
	})
	seed := w.byRaft[job.d.Seed]
	if seed == nil {
		return
	}
	last := min(job.work.To, first+uint64(w.rand.IntN(20)))
	w.network.carry(r.member, seed, 0, func() {
		if seed.run == nil || seed.run.note.plan.Serve(job.d.Plan, first, last) != nil {
			return
		}
		entries, err := seed.log.Entries(first, last+1, 1<<20)
		if err != nil {
			return // cut since
		}
		w.network.carry(seed, r.member, 0, func() {
			if !r.ended && r.job == job && job.work.From == first {
				r.store(job, entries)
			}
		})
	})
}

// store writes entries of the seed.
func (r *run) store(job *alignment, entries []*raftpb.Entry) {
	m, w := r.member, r.world
	left, err := job.work.Take(&job.d, entries)
	if err == nil {
		err = m.log.Stage([]gcs.LogWrite{{Entries: entries, Sync: true}})
	}
	if err != nil {
		w.violate("plan", "%s: %v", m.name, err)
		return
	}
	job.work, job.tries = left, 0
	w.reached[markAligned]++
	r.after(r.diskTime(w.plan.disk.sync), func() {
		m.log.Sync()
		switch {
		case r.job != job || w.interrupts(m):
		case left.Done():
			r.job = nil
			job.answer(nil)
		default:
			r.fetch(job)
		}
	})
}

// adopt takes the member over to the incarnation that the plan begins.
func (m *member) adopt(d forced.Decision) error {
	w, r := m.world, m.run
	a, next, err := r.note.plan.Adopt(d, m.log.Identity(), m.log)
	if err != nil || a == nil {
		return err
	}
	if err := w.fork(&d, m); err != nil {
		return err
	}
	after := note{plan: next}
	a.Record = after.encode()
	m.stop()
	if err := m.log.Adopt(*a); err != nil {
		return err
	}
	w.trace.note(w, m.name+" goes over to incarnation "+d.Begins.String())
	m.start()
	return nil
}

// fork begins the history of a new incarnation, when the first member adopts
// it.
func (w *world) fork(d *forced.Decision, m *member) error {
	if w.incarnation(d.Begins) != nil {
		return nil
	}
	parent := w.incarnation(d.Ends)
	child, err := parent.fork(d, m.log)
	if err != nil {
		return err
	}
	w.histories = append(w.histories, child)
	var held []forced.Facts
	for _, s := range d.Members {
		if at := w.byRaft[s.RaftID]; at != nil {
			if n, err := decodeNote(at.log.Record()); err == nil && n.plan.In(d.Plan) {
				held = append(held, n.plan.Facts)
			}
		}
	}
	if text := parent.forsaken(d, child, held); text != "" {
		w.violate("P6", "%s", text)
	}
	return nil
}
