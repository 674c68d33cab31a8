package replica

import (
	"slices"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/statecheck"
)

const (
	// checkTicks is after how long a check is proposed again of which nothing was
	// heard.
	checkTicks = 40
	// blamedTicks is how long a member that is blamed stays, to tell what of its
	// data differs, after it has learned that.
	blamedTicks = 40
	// keptSlices is of how many checks a member keeps what it hashed, until it is
	// known whether somebody wants the keys.
	keptSlices = 4
)

// What a message of kindChecked holds.
const (
	checkedAnswer = 0
	checkedDetail = 1
)

// checks is this member's part in the group's state checks. Only state is
// replicated.
type checks struct {
	state *statecheck.State

	due     []CheckTask // of the entry that is being delivered
	slices  []ownSlice  // what this member has hashed last, oldest first
	asked   uint64      // number of the check that was proposed last
	askedAt int         // tick
	blamed  int         // tick at which this member found that it is blamed, 0 for not
}

// ownSlice is what this member has hashed for a check.
type ownSlice struct {
	number uint64
	slice  applier.Slice
	told   uint64 // sums of which the pairs were told
}

// CheckTask asks for a slice of the data to be hashed as they are at one position.
type CheckTask struct {
	Number uint64
	Index  uint64 // log index at which the engine is when the task's turn comes
	From   applier.Place
	Budget int // bytes, see [applier.HashSlice]
}

// proposeCheck asks for the next check, if one is due. Only the leader does, but
// of two that do one is void.
func (r *Replica) proposeCheck() {
	c := &r.checks
	if !r.cfg.Checks || !r.group.Status().Leading || r.settings.CheckInterval == 0 {
		return
	}
	next, due := c.state.Due(r.cert.Sequence(), uint64(r.settings.CheckInterval), uint64(r.settings.CheckBytes))
	if !due || c.asked == next.Number && r.ticks-c.askedAt < checkTicks {
		return
	}
	c.asked, c.askedAt = next.Number, r.ticks
	r.submit(localMessage{}, statecheck.AppendCheck([]byte{kindCheck}, next))
}

// deliverCheck begins a check. What cannot be decoded is passed over, here as
// elsewhere.
func (r *Replica) deliverCheck(d *gcs.Delivery, body []byte) {
	check, err := statecheck.DecodeCheck(body)
	if err != nil || !r.checks.state.Begin(d.Index, r.cert.Sequence(), r.online(), check) {
		return
	}
	if d.Index > r.engine && r.checks.state.Asked(check.Number, r.cfg.Group.Identity.RaftID) {
		r.checks.due = append(r.checks.due, CheckTask{
			Number: check.Number, Index: d.Index, From: check.From, Budget: int(check.Budget),
		})
	}
}

// online are the members that are ONLINE by the view.
func (r *Replica) online() (all []statecheck.Member) {
	for _, m := range r.group.View().Members {
		if m.State == gcs.Online {
			all = append(all, statecheck.Member{RaftID: m.RaftID, UUID: m.UUID})
		}
	}
	return all
}

// pinChecks has the engine's state looked at that holds the entry delivered last
// and nothing behind it.
func (r *Replica) pinChecks() {
	if len(r.checks.due) == 0 {
		return
	}
	r.closeBatch()
	for i := range r.checks.due {
		t := r.checks.due[i]
		r.emit(Task{Check: &t}, 0)
	}
	r.checks.due = r.checks.due[:0]
}

// hashed tells the others what this member's slice is.
func (r *Replica) hashed(e Checked) {
	c := &r.checks
	if !c.state.Asked(e.Number, r.cfg.Group.Identity.RaftID) || slices.ContainsFunc(c.slices, func(s ownSlice) bool { return s.number == e.Number }) {
		return
	}
	if len(c.slices) == keptSlices {
		c.slices = slices.Delete(c.slices, 0, 1)
	}
	c.slices = append(c.slices, ownSlice{number: e.Number, slice: e.Slice})
	answer := statecheck.Answer{Number: e.Number, Next: e.Slice.Next, Sums: e.Slice.Sums}
	r.submit(localMessage{}, statecheck.AppendAnswer([]byte{kindChecked, checkedAnswer}, answer))
}

// deliverChecked is what a member says of a check.
func (r *Replica) deliverChecked(d *gcs.Delivery, body []byte) {
	if len(body) == 0 {
		return
	}
	var effect statecheck.Effect
	switch body[0] {
	case checkedAnswer:
		if a, err := statecheck.DecodeAnswer(body[1:]); err == nil {
			effect = r.checks.state.Answered(d.Origin, a, r.inView)
		}
	case checkedDetail:
		if x, err := statecheck.DecodeDetail(body[1:]); err == nil {
			effect = r.checks.state.Told(d.Origin, x)
		}
	}
	if d.Index > r.engine {
		r.effects.Findings = append(r.effects.Findings, effect.Found...)
	}
	if effect.Blame {
		r.tellPairs()
	}
}

func (r *Replica) inView(id uint64) bool {
	_, in := r.group.View().Member(id)
	return in
}

// tellPairs tells what is wanted of this member's slices, so that everybody can
// name the keys.
func (r *Replica) tellPairs() {
	for i := range r.checks.slices {
		s := &r.checks.slices[i]
		mask := r.checks.state.Wanted(s.number, r.cfg.Group.Identity.RaftID)
		if mask&^s.told == 0 {
			continue
		}
		s.told |= mask
		detail := statecheck.NewDetail(s.number, s.told, &s.slice)
		r.submit(localMessage{}, statecheck.AppendDetail([]byte{kindChecked, checkedDetail}, detail))
	}
}

// differs reports whether this member is out because its data differ: by what the
// group has found, and once it has told which they are, if it can.
func (r *Replica) differs() bool {
	c, self := &r.checks, r.cfg.Group.Identity.RaftID
	if !c.state.Blamed(self) {
		c.blamed = 0
		return false
	}
	if c.blamed == 0 {
		c.blamed = r.ticks + 1
	}
	for i := range c.slices {
		if c.state.Wanted(c.slices[i].number, self) != 0 && r.ticks-c.blamed < blamedTicks {
			return false
		}
	}
	return true
}
