package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// askAgain is how long a member waits before it asks another one.
const askAgain = 300 * millisecond

// ask is who asked for what.
type ask struct {
	from    *run
	inquiry *inquiry // nil for one that asks to be taken in
}

// beginJoining asks to become a member until the group has this one in its
// view. It claims what its log holds; one that claims nothing says that it has
// nothing.
func (r *run) beginJoining() {
	m := r.member
	if last, err := m.log.LastIndex(); err == nil && last > 0 && !r.note.clone {
		replay, err := m.replay(^uint64(0))
		switch {
		case errors.Is(err, errNeedsClone): // what the log says cannot be read
			m.stop()
			m.reidentify(keepNothing)
			m.start()
			return
		case err != nil:
			r.world.violate("start", "%s: %v", m.name, err)
			return
		}
		r.claim = replay.Claim()
	}
	r.after(0, r.join)
}

func (r *run) join() {
	if !r.errant {
		r.ask(r.world.someone(), nil)
		r.after(askAgain, r.join)
	}
}

// ask asks a member to take this one in, or q's question. Who runs no state
// machine has an answer too, which says nothing.
func (r *run) ask(whom *member, q *inquiry) {
	if whom == r.member || whom.gone {
		return
	}
	w, m := r.world, r.member
	w.network.carry(m, whom, 0, func() {
		to := whom.run
		switch {
		case to == nil || r.ended:
		case !to.settled():
			if to.replica != nil {
				w.reached[markUnsettled]++
			}
			if q != nil {
				w.network.carry(whom, m, 0, func() { q.answered = true })
			}
		default:
			ticket := w.ticket()
			self := m.self()
			asked := replica.JoinAsked{Ticket: ticket, Member: m.described(), DryRun: q != nil, Oldest: self.Oldest, Newest: self.Newest}
			if q == nil {
				asked.Replaces, asked.Claim = m.replaces, r.claim
			}
			to.joins[ticket] = ask{r, q}
			to.tell(asked)
		}
	})
}

// answerJoins brings the answers back to who asked.
func (r *run) answerJoins(answers []replica.JoinAnswer) {
	for _, a := range answers {
		asked := r.joins[a.Ticket]
		delete(r.joins, a.Ticket)
		r.world.network.carry(r.member, asked.from.member, 0, func() {
			switch {
			case asked.from.ended || asked.from.errant:
			case asked.inquiry != nil:
				asked.inquiry.hear(r.member, a)
			case asked.from.leftBehind(r.history):
				r.world.reached[markLeftBehind]++
				if errors.Is(a.Answer.Refused, replica.ErrOtherLineage) {
					asked.from.member.alien = r.history // should it be the group that stays, its operator knows
				}
			default:
				asked.from.joinAnswered(r.history, a)
			}
		})
	}
}

// leftBehind reports whether an incarnation is the one that the member was left
// out of, or one that its own came from: such a group has ended, and what it says
// does not count.
func (r *run) leftBehind(by *history) bool {
	return by.incarnation == r.note.ended ||
		slices.ContainsFunc(r.claim.Forks, func(f replica.Fork) bool { return f.Incarnation == by.incarnation })
}

func (r *run) joinAnswered(by *history, a replica.JoinAnswer) {
	m, w := r.member, r.world
	var diverged *replica.DivergedError
	refused := a.Answer.Refused
	if refused != nil {
		w.trace.note(w, fmt.Sprintf("%s is refused by %x, with a claim of %s up to %d: %v", m.name, a.Answer.Leader.RaftID, r.claim.Incarnation, r.claim.Index, refused))
	}
	switch {
	case a.Answer.Joined:
		m.enter(a.Answer.View)
	case a.Departed && !a.Foreign:
		// It was taken in and out again before it had heard of the first.
		w.reached[markTakenInAndOut]++
		m.stop()
		m.reidentify(keepCommitted)
		m.start()
	case errors.As(refused, &diverged):
		r.diverges(diverged)
	case tooOld(refused):
		m.upgrade()
	case errors.Is(refused, replica.ErrOtherLineage):
		m.alien = by
	case refused != nil:
		m.replaces = 0 // the operator thinks better of it
	default:
		if leader := w.byRaft[a.Answer.Leader.RaftID]; leader != nil {
			w.reached[markJoinRedirected]++
			r.ask(leader, nil)
		}
	}
}

// enter notes on the disk that the group has taken the member in.
func (m *member) enter(v gcs.View) {
	w := m.world
	m.stop()
	id := m.log.Identity()
	id.Incarnation = v.Incarnation
	if err := m.log.SetIdentity(id); err != nil {
		w.violate("start", "%s: %v", m.name, err)
		return
	}
	m.view, m.named, m.replaces, m.alien = v, v, 0, nil
	w.report.Joins++
	if m.returns {
		m.returns = false
		w.report.Rejoins++
		w.reached[markRejoined]++
	}
	m.start()
}
