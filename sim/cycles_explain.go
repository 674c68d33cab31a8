package sim

import (
	"fmt"
	"slices"
	"strings"
)

// view is a sight put in its place: after which step the reader saw a cell.
type view struct {
	tx   int
	c    *chain
	at   int      // -1 for the beginning
	scan *scanned // nil for a read of the one cell
}

// explain returns the gravest anomaly of a history that is not obviously
// sound, "" if it is sound after all.
func (l *ledger) explain() string {
	views, text := l.views()
	if text != "" {
		return text
	}
	if cycle := l.graph(views, false).cycle(); cycle != nil {
		return "G1c: " + l.tell(cycle)
	}
	for _, find := range []func([]view) string{l.lostUpdate, l.interference, l.missedEffects} {
		if text := find(views); text != "" {
			return text
		}
	}
	cycle := l.graph(views, true).cycle()
	if cycle == nil {
		return ""
	}
	if slices.ContainsFunc(cycle, func(h hop) bool { return h.kind == rw && h.view.scan != nil }) {
		return "G2: " + l.tell(cycle)
	}
	return "G2-item: " + l.tell(cycle)
}

// views puts every sight in its place, or says why it has none.
func (l *ledger) views() (views []view, text string) {
	for t := range l.h {
		look := func(c *chain, seen sight, scan *scanned) bool {
			v := view{tx: t, c: c, scan: scan}
			v.at, text = l.locate(t, c, seen)
			views = append(views, v)
			return text == ""
		}
		o := &l.h[t]
		for _, seen := range o.reads {
			if !look(l.of(seen.cell), seen, nil) {
				return nil, text
			}
		}
		for i := range o.scans {
			scan := &o.scans[i]
			if !l.each(scan, func(c *chain, seen sight) bool { return look(c, seen, scan) }) {
				return nil, text
			}
		}
	}
	return views, ""
}

// locate returns the step after which h[t] can have seen what it saw: the one
// that was due, else the last before it, else the first after it.
func (l *ledger) locate(t int, c *chain, seen sight) (at int, text string) {
	due := c.at(l.h[t].snapshot)
	if c.shows(due).same(seen) {
		return due, ""
	}
	if text := l.impossible(t, c, seen); text != "" {
		return 0, text
	}
	for i := due - 1; i >= -1; i-- {
		if c.shows(i).same(seen) {
			return i, ""
		}
	}
	for i := max(due, -1) + 1; i < len(c.steps); i++ {
		if c.shows(i).same(seen) {
			return i, ""
		}
	}
	return 0, l.strangeSum(t, c, seen, c.shows(due))
}

// impossible says why nobody can have seen this put of a cell, "" if somebody
// can.
func (l *ledger) impossible(t int, c *chain, seen sight) string {
	reader, w := l.who(t), seen.by-1
	switch {
	case seen.by == 0:
		return ""
	case w < 0 || w >= len(l.h):
		return fmt.Sprintf("G1a: %s read %s of a transaction that nobody knows", reader, c.cell)
	case l.refused(w):
		return fmt.Sprintf("G1a: %s read %s of %s", reader, c.cell, l.who(w))
	case seen.draft:
		return fmt.Sprintf("G1b: %s read %s of %s, which changed it once more", reader, c.cell, l.who(w))
	case !slices.ContainsFunc(l.h[w].changes, func(ch change) bool { return ch.cell == c.cell && ch.kind == puts }):
		return fmt.Sprintf("garbage: %s read %s of %s, which put nothing there", reader, c.cell, l.who(w))
	}
	return ""
}

// strangeSum explains a sum that the cell has after no step, if one addition
// does.
func (l *ledger) strangeSum(t int, c *chain, seen, due sight) string {
	what := fmt.Sprintf("%s read %s %s; its snapshot has it %s", l.who(t), c.cell, l.shown(seen), l.shown(due))
	if seen.by != due.by {
		return "garbage: " + what
	}
	for u := range l.h {
		for _, ch := range l.h[u].changes {
			if ch.cell != c.cell || ch.kind != adds {
				continue
			}
			inside := l.h[u].commit > 0 && l.h[u].commit <= l.h[t].snapshot
			switch {
			case !inside && seen.sum == due.sum+ch.amount && l.refused(u):
				return fmt.Sprintf("G1a: %s, without the %d of %s", what, ch.amount, l.who(u))
			case !inside && seen.sum == due.sum+ch.amount:
				return fmt.Sprintf("G-SIa: %s, without the %d of %s", what, ch.amount, l.who(u))
			case inside && seen.sum == due.sum-ch.amount:
				return fmt.Sprintf("G-SIb: %s, with the %d of %s", what, ch.amount, l.who(u))
			}
		}
	}
	return "garbage: " + what
}

// lostUpdate looks for a T that read a cell, and wrote over a change by U that
// came after what it had read.
func (l *ledger) lostUpdate(views []view) string {
	for _, v := range views {
		own, next := l.own(v), v.c.next(v.at)
		if own > next && v.c.steps[own].kind != adds {
			u := v.c.steps[next].tx
			return "lost update: " + l.tell([]hop{
				{kind: rw, from: v.tx, to: u, view: v}, {kind: ww, from: u, to: v.tx, view: view{c: v.c, at: next}},
			})
		}
	}
	return ""
}

// interference looks for a ww or wr from outside of a snapshot.
func (l *ledger) interference(views []view) string {
	for _, v := range views {
		if v.at >= 0 && v.c.steps[v.at].commit > l.h[v.tx].snapshot {
			u := v.c.steps[v.at].tx
			return "G-SIa: " + l.tell([]hop{{kind: wr, from: u, to: v.tx, view: v}})
		}
	}
	if len(l.races) > 0 {
		r := l.races[0]
		c := l.of(r.c)
		return "G-SIa: " + l.tell([]hop{{kind: ww, from: c.steps[r.over].tx, to: r.tx, view: view{c: c, at: r.over}}})
	}
	return ""
}

// missedEffects looks for an rw to what is in the reader's own snapshot.
func (l *ledger) missedEffects(views []view) string {
	for _, v := range views {
		if n := v.c.next(v.at); n < len(v.c.steps) && v.c.steps[n].commit <= l.h[v.tx].snapshot {
			u := v.c.steps[n].tx
			return fmt.Sprintf("G-SIb: %s -start-> %s", l.tell([]hop{{kind: rw, from: v.tx, to: u, view: v}}), l.who(v.tx))
		}
	}
	return ""
}

// tell writes down a path, and its transactions where they first occur.
func (l *ledger) tell(path []hop) string {
	var text strings.Builder
	text.WriteString(l.who(path[0].from))
	for i, h := range path {
		to := l.name(h.to)
		if i+1 < len(path) || h.to != path[0].from {
			to = l.who(h.to)
		}
		fmt.Fprintf(&text, " -%s-> %s (%s", h.kind, to, h.view.c.cell)
		if h.kind != ww {
			text.WriteString(" read " + l.shown(h.view.c.shows(h.view.at)))
		}
		if h.view.scan != nil {
			fmt.Fprintf(&text, " in a scan of %s", h.view.scan)
		}
		text.WriteString(")")
	}
	return text.String()
}

// shown says what a sight shows.
func (l *ledger) shown(s sight) string {
	text := "of nobody"
	switch {
	case s.by > 0 && s.by <= len(l.h):
		text = "of " + l.name(s.by-1)
	case s.by != 0:
		text = "of a stranger"
	}
	if s.sum != 0 {
		text += fmt.Sprintf(" and %+d", s.sum)
	}
	return text
}

// who names a transaction and says what there is to know about it.
func (l *ledger) who(t int) string {
	o := &l.h[t]
	level := "snapshot"
	if o.serializable {
		level = "serializable"
	}
	fate := fmt.Sprintf("commit %d", o.commit)
	switch {
	case l.refused(t):
		fate = "refused"
	case o.commit == 0:
		fate = "read-only"
	}
	return fmt.Sprintf("%s [%s, begun after %d, %s]", l.name(t), level, o.snapshot, fate)
}
