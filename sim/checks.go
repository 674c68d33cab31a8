package sim

import (
	"bytes"
	"cmp"
	"context"
	"math/rand/v2"
	"slices"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/statecheck"
	"github.com/concordatdb/concordat/sim/simdisk"
)

// checksPlan is how often a world's members compare their data, and whether a disk
// keeps something else than it was given. The zero value is of a world without.
type checksPlan struct {
	interval, bytes int
	harms           span  // between two disks that go wrong; zero for none
	poison          int64 // in a thousand: a transaction that no engine can apply
	picky           int64 // in a thousand: a transaction that one engine refuses
}

// checksRand is the source of what concerns state checks, so that worlds without
// them are the same as ever.
func checksRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 5)) }

func drawChecks(r *rand.Rand, p *plan) {
	if r.IntN(2) == 0 {
		return
	}
	c := &p.checks
	c.poison, c.picky = pick[int64](r, 0, 5, 30), pick[int64](r, 0, 0, 2)
	c.interval = pick(r, 3, 10, 40)
	c.bytes = pick(r, 500, 4000, 1<<16)
	if r.IntN(3) > 0 {
		c.harms = pick(r, span{second, 4 * second}, span{3 * second, 8 * second})
	}
	p.settings.CheckInterval, p.settings.CheckBytes = c.interval, c.bytes
}

// harm is what a member's disk has made of one pair.
type harm struct {
	kind  simdisk.Harm
	place applier.Place
	key   key    // unless it was added
	split bool   // found where only two could compare: their operators have to find out who is wrong
	since uint64 // one more than how often all data had been compared, 0 while nobody counts
}

// strays is where pairs appear that nobody wrote.
var strays = applier.Table{Schema: "sim", Name: "strays"}

// hashedSlice names what a member has hashed.
type hashedSlice struct{ raftID, check uint64 }

// hashed is what came of that. A member that is started again hashes again what it
// has answered, and may hold something else then: the group counts one of the two.
type hashed struct {
	wrong *harm // that a hash was of, nil if none was
	right bool  // a hash was of what there should be
}

// scheduleHarm has a disk go wrong from time to time.
func (w *world) scheduleHarm() {
	if w.plan.checks.harms.hi == 0 {
		return
	}
	w.after(w.plan.checks.harms.draw(w.wrongs), func() {
		if w.phase == faulty {
			w.harmOne()
			w.scheduleHarm()
		}
	})
}

// harmOne has a disk keep something else than it was given. One at a time does, and
// where no majority would be left that knows better none: which of two is right
// nobody can tell.
func (w *world) harmOne() {
	m := w.members[w.wrongs.IntN(len(w.members))]
	whole := 0
	for _, other := range w.members {
		if other.harm != nil {
			return
		}
		if !other.gone && other.engine != nil {
			whole++
		}
	}
	if whole < 3 || m.gone || m.run == nil || m.run.state != replica.Online {
		return
	}
	h := &harm{kind: pick(w.wrongs, simdisk.PairAdded, simdisk.PairAdded, simdisk.PairLost, simdisk.BitFlipped)}
	h.place = applier.Place{Table: strays, Key: []byte{byte(w.wrongs.IntN(256))}}
	if h.kind != simdisk.PairAdded {
		if m.run.mayNow && w.plan.rights.single {
			return // nobody would write, if its clients are not to work with what is wrong
		}
		h.key = key{space: pick(w.wrongs, accounts, counters, registers, sums), n: w.wrongs.IntN(w.plan.work.hot + w.plan.work.cold)}
		h.place = applier.Place{Table: tables[h.key.space], Key: h.key.bytes()}
	}
	if m.engine.Damage(h.kind, h.place.Table, h.place.Key) {
		w.trace.note(w, "the disk of "+m.name+" goes wrong")
		w.report.Faults.Harms++
		m.harm = h
	}
}

// misled reports whether what a member's clients read may be wrong: then they do
// nothing there, for what they would write is none of the group's mistakes.
func (m *member) misled() bool { return m.harm != nil && m.harm.kind != simdisk.PairAdded }

// wrong reports whether a member still holds something else than its disk was
// given. A write of the key puts that right.
func (m *member) wrong() bool {
	if m.gone || m.harm == nil || m.run == nil || m.run.history == nil {
		return false
	}
	s, err := m.engine.Begin()
	if err != nil {
		return false
	}
	got, there, err := s.Get(m.harm.place.Table, m.harm.place.Key)
	if err != nil || m.harm.kind == simdisk.PairAdded {
		return err == nil && there
	}
	h := m.run.history
	index := s.Position().Index
	if index == 0 || index > uint64(len(h.oracle.reached)) {
		return false
	}
	want := h.state.read(m.harm.key, h.oracle.reached[index-1])
	return there != (want != nil) || !bytes.Equal(got, want)
}

// hidden reports whether a member may hold something wrong, and is not back in the
// group yet, where that could be found.
func (m *member) hidden() bool {
	return !m.gone && m.harm != nil && (m.run == nil || m.run.history == nil)
}

const (
	// mendBy is how long after the faults operators wait for state checks to find
	// what is wrong, where the group has too little to do to come to them. Where
	// nobody could be blamed they look for themselves.
	mendBy = 8 * second
	// unfound is after how many times that all data were compared, with a member
	// ONLINE all the time, what is wrong there must have been found.
	unfound = 3
)

// close ends the clients' work, once no member is left with wrong data.
func (w *world) close() {
	wait := false
	for _, m := range w.members {
		if m.hidden() && w.now < w.healedAt+patience {
			wait = true
			continue
		}
		if !m.wrong() {
			continue
		}
		passes := m.run.standing.Checks.Passes
		switch {
		case m.run.state != replica.Online || m.harm.since == 0:
			m.harm.since = passes + 1
		case m.run.voters() < 3: // there are not enough to compare with
			m.harm.split = true
		case passes >= m.harm.since+unfound && !m.harm.split:
			w.violate("P5", "%s holds a wrong %v, and no state check has found it: %+v", m.name, m.harm.place, m.run.standing.Checks)
			return
		}
		if w.now < w.healedAt+mendBy && !m.harm.split {
			wait = true
			continue
		}
		if m.run.voters() < 3 {
			m.mend()
			continue
		}
		w.trace.note(w, "the operator of "+m.name+" gives it another disk")
		m.stop()
		m.renew()
	}
	if wait {
		w.after(200*millisecond, w.close)
		return
	}
	w.phase = closing
	w.awaitQuiet(w.now + patience)
}

// voters are how many are ONLINE in the view that a member knows.
func (r *run) voters() (n int) {
	for _, v := range r.standing.View.Members {
		if v.State == gcs.Online {
			n++
		}
	}
	return n
}

// mend has an operator put right by hand what is wrong, for the group may have
// nobody else's data.
func (m *member) mend() {
	w, at := m.world, m.engine.Position().Index
	w.trace.note(w, "the operator of "+m.name+" mends its data")
	var value []byte
	if h := m.run.history; m.harm.kind != simdisk.PairAdded {
		value = h.state.read(m.harm.key, h.oracle.reached[at-1])
	}
	m.engine.Mend(m.harm.place.Table, m.harm.place.Key, value)
	m.harm = nil
}

// hash answers a check from the state that the engine has now, a little later.
func (r *run) hash(t *replica.CheckTask) {
	w, m := r.world, r.member
	s, err := m.engine.Begin()
	if err != nil {
		w.violate("engine", "%s cannot begin: %v", m.name, err)
		return
	}
	if at := s.Position().Index; at != t.Index {
		w.violate("P4", "%s is at %d for the state check at %d", m.name, at, t.Index)
		return
	}
	c, ok := s.(applier.Checker)
	if !ok {
		w.violate("engine", "a snapshot is a %T", s)
		return
	}
	slice, err := applier.HashSlice(context.Background(), c, t.From, t.Budget)
	if err != nil {
		w.violate("engine", "%s: %v", m.name, err)
		return
	}
	odd := slice.Sums != r.history.expected(t)
	if odd && m.harm == nil {
		w.violate("P5", "%s hashes other data at %d than the committed transactions left", m.name, t.Index)
		return
	}
	name := hashedSlice{r.raftID, t.Number}
	sums := w.hashed[name]
	if odd {
		sums.wrong = m.harm
	} else {
		sums.right = true
	}
	w.hashed[name] = sums
	r.after(span{100 * microsecond, 5 * millisecond}.draw(w.wrongs), func() {
		r.tell(replica.Checked{Number: t.Number, Slice: slice})
	})
}

// expected are the sums of a slice by what the clients of the certified
// transactions meant to write.
func (h *history) expected(t *replica.CheckTask) (sums [applier.SliceSums]uint64) {
	if h.slices == nil {
		h.slices = map[uint64][applier.SliceSums]uint64{}
	}
	if sums, known := h.slices[t.Index]; known {
		return sums
	}
	defer func() { h.slices[t.Index] = sums }()
	type kept struct {
		place applier.Place
		value []byte
	}
	var all []kept
	// order-free: sorted below
	for k := range h.state.versions {
		if v := h.state.read(k, h.oracle.reached[t.Index-1]); v != nil {
			all = append(all, kept{applier.Place{Table: tables[k.space], Key: k.bytes()}, v})
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return a.place.Compare(b.place) })
	slice := simdisk.NewEngine()
	var payload []byte
	for _, p := range all {
		payload = applier.AppendMutation(payload, applier.Mutation{Op: applier.OpPut, Table: p.place.Table, Key: p.place.Key, Value: p.value})
	}
	tx := applier.Transaction{Payload: payload}
	if err := slice.Apply(applier.Batch{Transactions: []applier.Transaction{tx}, To: applier.Position{Index: 1}}); err != nil {
		h.violate("P5", "what was committed cannot be applied: %v", err)
		return sums
	}
	s, err := slice.Begin()
	if err == nil {
		c, _ := s.(applier.Checker)
		var out applier.Slice
		if out, err = applier.HashSlice(context.Background(), c, t.From, t.Budget); err == nil {
			return out.Sums
		}
	}
	h.violate("P5", "what was committed cannot be hashed: %v", err)
	return sums
}

// found looks at what state checks have found: only what is wrong may be blamed,
// and the keys that are named must be those.
func (r *run) found(findings []statecheck.Finding) {
	w := r.world
	for _, f := range findings {
		member, reference := w.hashed[hashedSlice{f.Member.RaftID, f.Check}], w.hashed[hashedSlice{f.Reference.RaftID, f.Check}]
		h := cmp.Or(member.wrong, reference.wrong)
		switch {
		case h == nil, !f.Split && (member.wrong == nil || !reference.right):
			w.violate("P5", "%s finds by state check %d that %x differs from %x (split %t): they hashed wrong data: %t, %t, and right ones: %t, %t",
				r.member.name, f.Check, f.Member.RaftID, f.Reference.RaftID, f.Split, member.wrong != nil, reference.wrong != nil, member.right, reference.right)
			return
		case f.Split:
			h.split = true
			w.reached[markCheckSplit]++
		case !f.Named:
			w.reached[markCheckBlamed]++
		}
		if !f.Named {
			continue
		}
		w.reached[markCheckNamed]++
		if len(f.Keys) == 0 && !f.More && (member.wrong != nil && member.right || reference.wrong != nil && reference.right) {
			continue // who is wrong was started again, and what it told then is right
		}
		if f.More || len(f.Keys) != 1 || f.Keys[0].Place.Compare(h.place) != 0 {
			w.violate("P5", "%s names %+v by state check %d (others: %t), and %+v is wrong", r.member.name, f.Keys, f.Check, f.More, h)
		}
	}
}

// differs is a member that is out because its data are wrong. Its operator has it
// give them up for a copy of another one's.
func (r *run) differs() {
	m, w := r.member, r.world
	known := false
	// order-free: whether there is one
	for name, sums := range w.hashed {
		known = known || name.raftID == r.raftID && sums.wrong != nil
	}
	if !known {
		w.violate("P5", "%s is out for its data, and never hashed anything that is wrong", m.name)
		return
	}
	w.reached[markCheckOut]++
	w.trace.note(w, m.name+" is out, for its data differ")
	m.stop()
	m.renew()
}

// renew has a member that is stopped come back without data of its own.
func (m *member) renew() {
	m.reidentify(keepNothing)
	m.harm = nil // nobody gets to see them any more
	m.world.comeBack(m)
}

// mendMisled has an operator give the member another disk that was elected
// primary with wrong data: for its clients do nothing, and without transactions
// there is no check. Its log goes with its data. Where there is no majority without
// it, nobody else may have what was acknowledged, and nobody can name that then. To
// wait for one would be in vain: others may wait for a copy, which it does not give.
func (r *run) mendMisled() {
	m := r.member
	if !m.misled() || r.standing.Election.Primary != r.raftID {
		return
	}
	r.after(0, func() {
		if m.run == r && m.misled() {
			if !m.world.expendable(m) {
				m.world.blind(m)
			}
			m.stop()
			m.renew()
		}
	})
}
