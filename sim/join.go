package sim

import (
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// join asks to become a member until the group has been heard of: once this
// member is in a view, its log tells it all.
func (r *run) join() {
	if r.member.joined || r.state != replica.Offline {
		return
	}
	w := r.world
	r.askToJoin(w.members[w.rand.IntN(len(w.members))])
	r.after(300*millisecond, r.join)
}

func (r *run) askToJoin(whom *member) {
	if whom == r.member || whom.gone {
		return
	}
	w := r.world
	w.network.carry(r.member, whom, 0, func() {
		if whom.run == nil || whom.run.replica == nil {
			return
		}
		ticket := w.ticket()
		whom.run.joins[ticket] = r
		whom.run.tell(replica.JoinAsked{Ticket: ticket, Member: r.member.described()})
	})
}

// answerJoins brings the answers back to who asked.
func (r *run) answerJoins(answers []replica.JoinAnswer) {
	for _, a := range answers {
		from := r.joins[a.Ticket]
		delete(r.joins, a.Ticket)
		r.world.network.carry(r.member, from.member, 0, func() {
			if !from.ended {
				from.joinAnswered(a.Answer)
			}
		})
	}
}

func (r *run) joinAnswered(a gcs.JoinAnswer) {
	leader := r.world.byRaft[a.Leader.RaftID]
	if a.Joined || a.Refused != nil || leader == nil || r.member.joined {
		return
	}
	r.world.reached[markJoinRedirected]++
	r.askToJoin(leader)
}
