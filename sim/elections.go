package sim

import (
	"slices"
	"strings"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
)

// enterElection notes who may write after an entry, and counts what came about.
func (h *history) enterElection(e *entry) {
	var before *election.Snapshot
	if n := len(h.elections); n > 0 {
		before = h.elections[n-1]
	}
	now := e.election
	if now == nil {
		now = before
	}
	h.elections = append(h.elections, now)
	if e.election == nil {
		return
	}
	if n := len(now.Past); n > 0 && now.Past[n-1].Index == e.index {
		h.countEpoch(e, before, now)
	}
	for _, o := range now.Done {
		if o.Ended == e.index {
			h.countOutcome(&o)
		}
	}
	if e.view != nil && e.view.Cause.Kind == gcs.Forced && before != nil && before.Action != nil {
		h.reached[markForcedAction]++
	}
}

// countEpoch counts why an epoch began.
func (h *history) countEpoch(e *entry, before, now *election.Snapshot) {
	last := now.Past[len(now.Past)-1]
	switch last.Cause {
	case election.PrimaryGone:
		h.reached[markPrimaryGone]++
	case election.PrimarySilent:
		h.reached[markPrimarySilent]++
		if f, ok := readFrame(e.raw); ok && f.origin == now.Primary {
			h.reached[markHeirLeads]++
		}
	case election.Vacancy:
		h.reached[markVacancy]++
	case election.SwitchedSingle:
		h.reached[markToSingle]++
	case election.SwitchedMulti:
		h.reached[markToMulti]++
	case election.Founded, election.Planned, election.ForcedView:
	}
	lowest := now.Lowest()
	newer := func(m election.Member) bool { return m.Online && m.Version > lowest }
	if now.Primary != 0 && slices.ContainsFunc(now.Members, newer) {
		h.reached[markNewerPassedOver]++
	}
	if before != nil && before.Mode == election.SinglePrimary && now.Mode == before.Mode && now.Primary == 0 {
		h.reached[markNoPrimary]++
	}
}

// countOutcome counts how an action ended.
func (h *history) countOutcome(o *election.Outcome) {
	switch o.Result {
	case election.Done:
		if strings.Contains(o.Text, "the grace was over") {
			h.reached[markGraceOver]++
		}
		switch o.Kind {
		case election.SetProtocol:
			h.reached[markProtocolRaised]++
		default:
			h.reached[markActionDone]++
		}
	case election.DoneByFailover:
		h.reached[markDoneByFailover]++
	case election.Aborted:
		h.reached[markActionAborted]++
	case election.Cancelled:
		h.reached[markActionCancelled]++
	case election.Refused:
		h.reached[markActionRefused]++
	case election.NoChange:
	}
}

// countFenced counts a transaction whose origin had no right to write where it
// was ordered.
func (h *history) countFenced(s *submission) {
	h.refused.Fenced++
	h.reached[markDeposedWrite]++
	if s.begun == nil {
		return
	}
	for _, p := range s.begun.run.pauses {
		if p.to == 0 || p.to > s.handed {
			continue
		}
		began := func(e election.Epoch) bool {
			first := h.at(e.Index)
			return first != nil && first.at > p.from && first.at < p.to && s.epoch < e.Number
		}
		if now := h.electionAt(uint64(len(h.elections))); now != nil && slices.ContainsFunc(now.Past, began) {
			h.reached[markSleeperRefused]++
			return
		}
	}
}

// refusedEarly notes that a submission was refused without being broadcast. Those
// that its session hands over after it take its place.
func (h *history) refusedEarly(s *submission) {
	s.early, s.order = true, 0
	h.refused.Early++
	h.reached[markRefusedAtOnce]++
}

// fenced reports whether a verdict is that the origin had no right to write.
func fenced(v certifier.Verdict) bool { return v.Outcome == certifier.Fenced }
