package sim

import (
	"math/rand/v2"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/replica"
)

// giantPlan is how transactions travel in fragments. The zero value is of a world
// in which none does.
type giantPlan struct {
	share    int64 // in a thousand: a transaction that goes in fragments
	fragment int   // bytes
	window   int
	assembly int
	bulk     span  // bytes of value that such a transaction writes beside the rest
	withdraw int64 // in a thousand: one that its client takes back, or tries to
	death    int64 // in a thousand: one during which its member loses power
	clone    int64 // in a thousand: one during which somebody loses its data
}

// hugeRand is a source of its own, so that the rest of a world is drawn as ever.
func hugeRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

func drawGiants(r *rand.Rand, p *plan) {
	g := &p.giants
	g.share = pick[int64](r, 0, 30, 100, 300)
	g.fragment = pick(r, 30, 100, 1000, 8<<10)
	g.window = pick(r, 1, 2, 2, 4)
	g.assembly = pick(r, 1, 500, 10<<10, 1<<20)
	g.bulk = pick(r, span{0, 500}, span{100, 6000}, span{3000, 15000})
	g.fragment = max(g.fragment, int(g.bulk.hi)/30) // or those of many clients would take minutes on slow disks
	g.withdraw = pick[int64](r, 0, 50, 300)
	g.death = pick[int64](r, 0, 20, 100)
	g.clone = pick[int64](r, 0, 0, 20)
	p.settings.TransactionSizeLimit = pick(r, 0, 0, 60<<10, 10<<10, 1500)
}

// big has a transaction travel in fragments, and perhaps write a large value more.
func (c *client) big(s *submission) {
	w := c.member.world
	g := &w.plan.giants
	if w.brake != nil || !chance(w.huge, g.share) {
		return
	}
	s.giant = true
	if k := (key{registers, w.huge.IntN(w.plan.work.cold)}); len(s.writes) > 0 && !s.wrote(k) {
		c.write(s, k, int64(s.number), int(g.bulk.draw(w.huge)))
	}
}

// fragments is the submission as it is broadcast in fragments.
func (s *submission) fragments(size int) (fragments [][]byte, message []byte, err error) {
	w, err := replica.NewGiantWriter(s.writeSet(), size)
	if err != nil {
		return nil, nil, err
	}
	for i := range s.writes {
		w.Add(applier.AppendMutation(nil, s.writes[i].mutation()))
	}
	h := s.header()
	return w.Finish(&h)
}

// accompany lets happen what happens to some giants on their way.
func (c *client) accompany(ticket uint64) {
	w, r := c.member.world, c.run
	g := &w.plan.giants
	soon := func() int64 { return span{0, 30 * millisecond}.draw(w.huge) }
	if chance(w.huge, g.withdraw) {
		r.after(soon(), func() { r.tell(replica.Withdrawn{Ticket: ticket, Asked: ticket}) })
	}
	if w.phase != faulty {
		return
	}
	switch m := c.member; {
	case chance(w.huge, g.death):
		r.after(soon(), func() {
			if r.giants[ticket] {
				w.reached[markGiantOriginDied]++
			}
			w.report.Faults.Crashes++
			w.crash(m)
		})
	case chance(w.huge, g.clone):
		w.after(soon(), w.loseData)
	}
}

// stepped notes which transactions in fragments the member has taken on in a step,
// if it might write before, and how many transactions it has refused at once. What
// it has taken on it may still recall, as long as not all of its fragments have
// gone.
func (r *run) stepped(events []replica.Event, e *replica.Effects, may bool) (refused int) {
	for _, event := range events {
		if s, ok := event.(replica.Submitted); ok && len(s.Fragments) > 0 && may {
			r.giants[s.Ticket] = true
		}
	}
	for _, a := range e.Answers {
		if a.Index == 0 && !r.giants[a.Ticket] {
			refused++
		}
	}
	return refused
}

// recalled checks an answer to a giant whose end its member has not sent.
func (r *run) recalled(s *submission, a replica.Answer) {
	w := r.world
	switch a.Verdict.Outcome {
	case certifier.Fenced:
		w.reached[markGiantRecalled]++
	case certifier.GivenUp:
		w.reached[markGiantWithdrawn]++
	default:
		w.violate("P2", "%s recalls transaction %s: %s", r.member.name, s.id, verdictText(a.Verdict))
	}
	s.recalled = true
}

// checkGiants checks P12 for what a member holds of giants.
func (r *run) checkGiants() {
	w, s := r.world, &r.standing.Giants
	if s.Held > w.plan.giants.assembly {
		w.violate("P12", "%s holds %d bytes of giants in memory, and may hold %d", r.member.name, s.Held, w.plan.giants.assembly)
	}
	if members := len(r.standing.View.Members); s.Pending > members {
		w.violate("P12", "%s has %d giants of %d members", r.member.name, s.Pending, members)
	}
	if s.Pending > 1 {
		w.reached[markGiantsAtOnce]++
	}
	if s.Bytes > s.Held+s.Copied {
		w.reached[markGiantSpilled]++
	}
	if s.Copied > 0 {
		w.reached[markGiantCopied]++
	}
}

// places counts what a session has submitted, by how it travels.
type places struct{ whole, giants int }

func (p *places) of(giant bool) *int {
	if giant {
		return &p.giants
	}
	return &p.whole
}

// next is the place of one more.
func (p *places) next(giant bool) int {
	n := p.of(giant)
	*n++
	return *n
}

// back gives a place back: whoever had it was never handed over.
func (p *places) back(giant bool) { *p.of(giant)-- }
