package election

import (
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// entry is one thing that the state is told. The fields are those that its kind
// has.
type entry struct {
	kind        string
	index, term uint64
	prefer      bool
	origin      uint64
	view        View
	description Description
	mode        Mode
	protocol    Protocol
	deposal     Deposal
	action      Action
	drain       Drain
	lapse       Lapse
}

func (e entry) tell(s *State) Effect {
	switch e.kind {
	case "view":
		return s.View(e.view, e.prefer)
	case "open":
		return s.Open(e.origin, e.description)
	case "found":
		return s.Found(e.index, e.mode, e.protocol)
	case "depose":
		return s.Depose(e.index, e.term, e.deposal, e.prefer)
	case "action":
		return s.Begin(e.index, e.origin, e.action)
	case "drained":
		return s.Drained(e.index, e.origin, e.drain)
	case "grace over":
		return s.GraceOver(e.index, e.term, e.lapse)
	}
	return s.Cancel(e.index, e.drain.Action)
}

// naive knows the group by maps.
type naive struct {
	view, epoch uint64
	mode        Mode
	protocol    Protocol
	primary     uint64
	there       map[uint64]Member // without rights
	since       map[uint64]uint64 // of those who may write
	open        *Action
	waits       map[uint64]bool
	done        []Outcome
	past        []Epoch
}

// recall tells a naive group everything from the start, and returns what it
// knows in the end, without the texts.
func recall(log []entry) Snapshot {
	n := &naive{mode: MultiPrimary, protocol: 1, there: map[uint64]Member{}, since: map[uint64]uint64{}}
	for _, e := range log {
		n.hear(e)
	}
	s := Snapshot{Epoch: n.epoch, View: n.view, Mode: n.mode, Protocol: n.protocol, Primary: n.primary}
	for id := range uint64(20) {
		if m, ok := n.there[id]; ok {
			m.Since, m.Writes = n.since[id]
			s.Members = append(s.Members, m)
		}
	}
	if n.open != nil {
		a := *n.open
		a.Pending = n.pending()
		s.Action = &a
	}
	s.Done = n.done
	s.Past = n.past[max(0, len(n.past)-64):]
	if len(n.past) > 0 {
		s.Began = n.past[len(n.past)-1].Index
	}
	return s
}

func (n *naive) pending() (ids []uint64) {
	for id := range uint64(20) {
		if n.waits[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func (n *naive) hear(e entry) {
	switch e.kind {
	case "view":
		n.newView(e.view, e.prefer)
	case "open":
		if m, ok := n.there[e.origin]; ok {
			d := e.description
			m.Version, m.Weight, m.Oldest, m.Newest, m.ClientAddress = d.Version, d.Weight, d.Oldest, d.Newest, d.ClientAddress
			n.there[e.origin] = m
		}
	case "found":
		if n.epoch == 0 {
			n.mode, n.protocol = e.mode, e.protocol
			winner := uint64(0)
			if e.mode == SinglePrimary {
				winner = n.first(Ballot{})
			}
			n.begin(e.index, Founded, winner)
		}
	case "depose":
		d := e.deposal
		if n.mode == SinglePrimary && d.Epoch == n.epoch && d.Term == e.term && d.Target == n.primary {
			n.depose(e)
		}
	case "action":
		n.act(e)
	case "drained":
		if n.open != nil && n.open.ID == e.drain.Action && n.waits[e.origin] {
			n.open.Cut += e.drain.Open
			delete(n.waits, e.origin)
			n.flip(e.index, false)
		}
	case "grace over":
		if n.open != nil && n.open.ID == e.lapse.Action && e.lapse.Term == e.term {
			n.flip(e.index, true)
		}
	case "cancel":
		if n.open != nil && n.open.ID == e.drain.Action {
			n.end(*n.open, Cancelled, e.index)
		}
	}
	n.rights()
}

// rights writes D3 down: who may write by what is so now, and who could before.
func (n *naive) rights() {
	lowest, _ := n.lowest()
	for id := range uint64(20) {
		m, in := n.there[id]
		_, had := n.since[id]
		var may bool
		switch {
		case !in || !m.Online:
		case n.epoch == 0:
			may = true
		case n.mode == SinglePrimary:
			may = n.primary == id
		default:
			may = had || m.Version == lowest && (n.open == nil || n.open.Kind != ToSingle)
		}
		if may && !had {
			n.since[id] = n.epoch
		}
		if !may {
			delete(n.since, id)
		}
	}
}

func (n *naive) lowest() (v Version, found bool) {
	for _, m := range n.there {
		if m.Online && (!found || m.Version < v) {
			v, found = m.Version, true
		}
	}
	return v, found
}

// first is who is first by rank.
func (n *naive) first(b Ballot) uint64 {
	for _, m := range n.there {
		b.Members = append(b.Members, m)
	}
	return naiveWinner(b)
}

// candidates counts those whom a view could elect.
func (n *naive) candidates() (count int) {
	lowest, _ := n.lowest()
	for _, m := range n.there {
		if m.Online && m.Version == lowest {
			count++
		}
	}
	return count
}

// byView is whom a view elects.
func (n *naive) byView(prefer bool) uint64 {
	if prefer && n.candidates() > 1 {
		return 0
	}
	return n.first(Ballot{})
}

func (n *naive) newView(v View, prefer bool) {
	before := n.there
	n.view, n.there = v.ID, map[uint64]Member{}
	for _, m := range v.Members {
		if old, ok := before[m.RaftID]; ok {
			old.Online = m.Online
			m = old
		}
		m.Weight = min(m.Weight, 100)
		n.there[m.RaftID] = m
		if !m.Online {
			delete(n.since, m.RaftID)
		}
	}
	if n.epoch == 0 {
		return
	}
	stays := n.there[n.primary].Online
	switch {
	case v.Forced:
		if n.open != nil {
			n.end(*n.open, Aborted, v.Index)
		}
		winner := n.primary
		if n.mode == SinglePrimary && !stays {
			winner = n.byView(prefer)
		}
		n.begin(v.Index, ForcedView, winner)
	case n.mode == SinglePrimary && n.primary == 0:
		if winner := n.byView(prefer); winner != 0 {
			n.begin(v.Index, Vacancy, winner)
		}
	case n.mode == SinglePrimary && !stays:
		if n.open != nil && n.there[n.open.Target].Online {
			n.begin(v.Index, PrimaryGone, n.open.Target)
			n.end(*n.open, DoneByFailover, v.Index)
			return
		}
		n.begin(v.Index, PrimaryGone, n.byView(prefer))
		if n.open != nil {
			n.end(*n.open, Aborted, v.Index)
		}
	}
	if n.open == nil {
		return
	}
	if !n.there[n.open.Target].Online {
		n.end(*n.open, Aborted, v.Index)
		return
	}
	for id := range uint64(20) {
		if !n.there[id].Online {
			delete(n.waits, id)
		}
	}
	n.flip(v.Index, false)
}

func (n *naive) depose(e entry) {
	d := e.deposal
	b := Ballot{Deposed: d.Target, Passed: d.Passed}
	if e.prefer {
		b.Progress = d.Progress
	}
	cause := PrimarySilent
	if d.Target == 0 {
		cause = Vacancy
	}
	winner := n.first(b)
	if winner == 0 {
		return
	}
	if n.open != nil && n.there[n.open.Target].Online && !slices.Contains(d.Passed, n.open.Target) {
		winner = n.open.Target
	}
	n.begin(e.index, cause, winner)
	if n.open != nil {
		result := Aborted
		if n.open.Target == winner {
			result = DoneByFailover
		}
		n.end(*n.open, result, e.index)
	}
}

func (n *naive) act(e entry) {
	a := e.action
	a.Index, a.Asker = e.index, n.there[e.origin].UUID
	known := n.open != nil && n.open.ID == a.ID || slices.ContainsFunc(n.done, func(o Outcome) bool { return o.ID == a.ID && o.Result != Refused })
	switch {
	case n.epoch > 0 && (known || n.open == nil && (a.Epoch != n.epoch || a.View != n.view)):
		return // known, or asked again
	case n.epoch == 0 || n.open != nil || !n.there[e.origin].Online || !n.sensible(a):
		n.end(a, Refused, e.index)
		return
	}
	same := a.Kind == SetPrimary && a.Target == n.primary || a.Kind == SetProtocol && a.Protocol == n.protocol ||
		a.Kind == ToSingle && n.mode == SinglePrimary || a.Kind == ToMulti && n.mode == MultiPrimary
	if same {
		n.end(a, NoChange, e.index)
		return
	}
	for _, m := range n.there {
		if !m.Online && !a.Force {
			n.end(a, Refused, e.index)
			return
		}
	}
	switch a.Kind {
	case ToMulti:
		n.mode = MultiPrimary
		n.begin(e.index, SwitchedMulti, 0)
		n.end(a, Done, e.index)
	case SetProtocol:
		n.protocol = a.Protocol
		n.end(a, Done, e.index)
	default:
		if a.Target == 0 {
			a.Target = n.first(Ballot{})
		}
		n.forget(a.ID)
		n.open, n.waits = &a, map[uint64]bool{}
		for id := range n.since {
			n.waits[id] = id != a.Target
		}
		n.flip(e.index, false)
	}
}

// sensible judges what kind and target want of the group.
func (n *naive) sensible(a Action) bool {
	lowest, _ := n.lowest()
	t := n.there[a.Target]
	target := t.Online && t.Version == lowest || a.Target == n.primary
	switch a.Kind {
	case SetPrimary:
		return n.mode == SinglePrimary && target && a.Grace <= MaxGrace
	case ToSingle:
		return (n.mode == MultiPrimary && target || a.Target == 0) && a.Grace <= MaxGrace
	case SetProtocol:
		for _, m := range n.there {
			if a.Protocol != n.protocol && (a.Protocol < m.Oldest || a.Protocol > m.Newest) {
				return false
			}
		}
		return a.Protocol >= n.protocol
	default:
		return true
	}
}

func (n *naive) flip(index uint64, late bool) {
	if len(n.pending()) > 0 && !late {
		return
	}
	cause := Planned
	if n.open.Kind == ToSingle {
		cause, n.mode = SwitchedSingle, SinglePrimary
	}
	n.begin(index, cause, n.open.Target)
	n.end(*n.open, Done, index)
}

func (n *naive) begin(index uint64, cause Cause, primary uint64) {
	n.epoch++
	n.primary = primary
	n.past = append(n.past, Epoch{Number: n.epoch, Index: index, Mode: n.mode, Primary: n.there[primary].UUID, Cause: cause})
}

func (n *naive) end(a Action, result Result, index uint64) {
	if n.open != nil && n.open.ID == a.ID {
		a.Pending = n.pending()
		n.open, n.waits = nil, nil
	}
	n.forget(a.ID)
	n.done = append(n.done, Outcome{Action: a, Result: result, Ended: index})
	n.done = n.done[max(0, len(n.done)-16):]
}

func (n *naive) forget(id gtid.UUID) {
	n.done = slices.DeleteFunc(n.done, func(o Outcome) bool { return o.ID == id })
}
