package forced

import (
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// forecast makes the plan that an operator reads from a decision and what is
// known of the survivors, as they are or as they were when they froze.
func (s *situation) forecast(d Decision, facts []Facts) Plan {
	p := Plan{Decision: d, View: s.view}
	for i := range facts {
		f := &facts[i]
		p.Executed = p.Executed.Union(f.Executed)
		p.Known = p.Known || f.Delivered == d.Last
	}
	for _, m := range d.Members {
		p.Survivors = append(p.Survivors, s.survivor(&d, m, facts))
	}
	for _, m := range s.view.Members {
		if !d.has(m.UUID, m.RaftID) {
			p.Excluded = append(p.Excluded, s.excluded(m, p.Executed, facts))
		}
	}
	p.Warnings = s.warnings(&p)
	return p
}

func (s *situation) survivor(d *Decision, m gcs.Member, facts []Facts) Survivor {
	v := Survivor{Member: m}
	if a := s.answer(m.UUID); a != nil && a.Record.In(s.plan) {
		v.Phase = a.Record.Phase
	}
	i := slices.IndexFunc(facts, func(f Facts) bool { return f.RaftID == m.RaftID })
	if i < 0 {
		return v
	}
	f := &facts[i]
	v.Term, v.First, v.Last, v.LastTerm = f.Term, f.First, f.Last, f.LastTerm()
	v.Commit, v.Delivered = f.Commit, f.Delivered
	if w, err := d.work(f); err == nil {
		v.Cut, v.Fetch = w.Cut, w.Fetch()
	}
	return v
}

// excluded gathers what is known of a member that is left out: its own answer,
// and the reports that the survivors have of it. What they report only grows,
// so all reports together say what the newest does, and more where that one
// was too long to say it.
func (s *situation) excluded(m gcs.Member, executed gtid.Set, facts []Facts) Excluded {
	x := Excluded{Member: m}
	var known gtid.Set
	if a := s.answer(m.UUID); a != nil && a.RaftID == m.RaftID {
		x.Answers = true
		if a.Incarnation == s.ends {
			x.Seen, x.By, x.Delivered = true, m.UUID, a.Delivered
			known = a.Executed
		}
	}
	for i := range facts {
		for _, h := range facts[i].Heard {
			if h.RaftID != m.RaftID {
				continue
			}
			if !x.Seen || x.By != m.UUID && h.Ticks < x.Ticks {
				x.Seen, x.By, x.Ticks = true, facts[i].Member, h.Ticks
			}
			x.Delivered = max(x.Delivered, h.Delivered)
			known = known.Union(h.Executed)
		}
	}
	x.AtRisk = known.Subtract(executed)
	return x
}

func (s *situation) warnings(p *Plan) []Warning {
	var ws []Warning
	warn := func(member gtid.UUID, format string, args ...any) {
		ws = append(ws, Warning{Member: member, Text: fmt.Sprintf(format, args...)})
	}
	for i := range p.Excluded {
		x := &p.Excluded[i]
		switch {
		case x.Answers:
			warn(x.Member.UUID, "is to be left out and is alive at %s: what it goes on to commit with others is not in this group; stop it first", x.Member.Address)
		case !x.Seen:
			warn(x.Member.UUID, "has not been heard of by any survivor: what only it has is lost, and cannot be listed")
		}
		if x.Delivered > p.Last {
			warn(x.Member.UUID, "had delivered the log up to entry %d, and the survivors have it up to %d: what is after that is lost", x.Delivered, p.Last)
		}
		if a := s.answer(x.Member.UUID); a != nil && a.Record.Phase == Frozen && !a.Record.In(s.plan) {
			warn(x.Member.UUID, "is frozen for plan %s: somebody else may be forcing the membership", a.Record.Order.Plan)
		}
	}
	for i := range s.answers {
		r := &s.answers[i].Record
		if r.Phase != Frozen || r.In(s.plan) || !contains(s.supersedes, r.Order.Plan) {
			continue
		}
		for _, m := range r.Order.Members {
			if !p.has(m.UUID, m.RaftID) && s.answer(m.UUID) == nil {
				warn(m.UUID, "is a survivor of plan %s, does not answer, and may have adopted that plan; be sure that it is down", r.Order.Plan)
			}
		}
	}
	return slices.Compact(ws)
}
