package sim

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime/debug"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// patience is how long after the faults the world may take to heal, P11's
// bounded time.
const patience = 60 * second

// phase is how far a world is.
type phase byte

const (
	faulty  phase = iota // faults strike
	healing              // no more faults, clients go on
	closing              // clients finish what they began
	over
)

// world is one group with its clients and its misfortunes.
type world struct {
	clock
	seed      uint64
	plan      plan
	rand      *rand.Rand
	more      *rand.Rand // for what is no part of a plain world
	flow      *rand.Rand // for flow control
	wrongs    *rand.Rand // for what concerns state checks
	crews     *rand.Rand // for engines that execute side by side
	listening *rand.Rand // for who follows the changes
	huge      *rand.Rand // for transactions in fragments
	brake     *brake     // of flow control, on trial, nil while it is not
	plain     bool       // all members write, and nothing is asked of what they begin with
	group     gtid.UUID
	phase     phase

	members   []*member
	consumers []*consumer
	byRaft    map[uint64]*member
	network   network
	histories []*history // one for each incarnation, in the order in which they began
	told      disclosure
	serving   int64 // when the newest incarnation last had a quorum, once faults are over
	healedAt  int64
	outage    bool // nobody has been ONLINE since all were down
	plans     []*campaign
	report    Report
	reached   marked
	hashed    map[hashedSlice]hashed // for state checks
	trace     *tracer
	tickets   uint64
	trails    [3]trail
	fault     *Violation
	failed    bool
}

// runWorld runs the world of a seed and returns what it was and did.
func runWorld(ctx context.Context, seed uint64, plain bool, t *tracer) (Report, error) {
	before := cryptorand.Reader
	defer func() { cryptorand.Reader = before }()
	cryptorand.Reader = rand.NewChaCha8(chachaSeed(seed))

	w := newWorld(seed, plain, t)
	w.protect("world", w.begin)
	for i := 0; w.phase != over && !w.failed; i++ {
		if i%4096 == 0 && ctx.Err() != nil {
			return Report{}, fmt.Errorf("sim: world of seed %d: %w", seed, context.Cause(ctx))
		}
		if !w.step() {
			w.violate("P11", "nothing will ever happen again")
		}
	}
	w.count()
	return w.report, t.failed()
}

func chachaSeed(seed uint64) (s [32]byte) {
	binary.LittleEndian.PutUint64(s[:], seed)
	return s
}

func newWorld(seed uint64, plain bool, t *tracer) *world {
	w := &world{
		seed:      seed,
		rand:      rand.New(rand.NewPCG(seed, 0)),
		more:      moreRand(seed),
		wrongs:    checksRand(seed),
		listening: consumersRand(seed),
		huge:      hugeRand(seed),
		plain:     plain,
		byRaft:    map[uint64]*member{},
		hashed:    map[hashedSlice]hashed{},
		trace:     t,
	}
	w.plan = drawPlan(w.rand)
	if !plain {
		drawRights(w.more, &w.plan)
		drawChecks(w.wrongs, &w.plan)
		w.crews = rand.New(rand.NewPCG(seed, crewStream))
		w.plan.workers = drawWorkers(w.crews)
		w.flow = drawFlow(seed, &w.plan)
		drawGiants(w.huge, &w.plan)
	}
	w.plan.consumers = drawConsumers(w.listening)
	w.group = w.uuid()
	w.told.ids = map[replica.TransactionID]bool{}
	first := newHistory(w.group, &w.reached, w.violate)
	first.incarnation = w.group
	first.now = func() int64 { return w.now }
	first.siblings = func() []*history { return w.histories }
	first.markTime = 5*second + 100*w.plan.tick
	w.histories = []*history{first}
	w.network = newNetwork(w)
	w.trace.world(w)
	return w
}

func (w *world) uuid() gtid.UUID {
	var u gtid.UUID
	binary.BigEndian.PutUint64(u[:8], w.rand.Uint64())
	binary.BigEndian.PutUint64(u[8:], w.rand.Uint64()|1)
	return u
}

func (w *world) raftID() uint64 {
	for {
		if id, ok := gcs.NewRaftID(w.rand.Uint64()); ok && w.byRaft[id] == nil {
			return id
		}
	}
}

func (w *world) ticket() uint64 {
	w.tickets++
	return w.tickets
}

// begin founds the group and lets the others come.
func (w *world) begin() {
	for i := range w.plan.founders + w.plan.joiners {
		m := newMember(w, i)
		w.members = append(w.members, m)
		switch {
		case i == 0:
			m.found()
		case i < w.plan.founders:
			w.after(span{0, 200 * millisecond}.draw(w.rand), m.arrive)
		default:
			w.after(span{second, w.plan.faulty}.draw(w.rand), m.arrive)
		}
	}
	w.scheduleFault()
	w.scheduleAction()
	w.scheduleHarm()
	for range w.plan.members.disasters {
		at := span{2 * second, w.plan.faulty}.draw(w.rand)
		w.after(at, w.disaster)
		w.changeBefore(at)
	}
	if w.plan.members.disasters > 0 {
		w.reworkPlans()
	}
	w.after(w.plan.faulty, w.heal)
	w.beginConsumers()
}

// heal ends the faults: whoever is down comes back, every link works.
func (w *world) heal() {
	w.phase = healing
	w.trace.note(w, "heal")
	w.network.heal()
	for _, m := range w.members {
		m.stalled, m.hung, m.slowed = false, 0, 0
		m.labour = 0
		m.resume()
		if m.run == nil && !m.gone {
			m.start()
		}
	}
	w.serving, w.healedAt = w.now, w.now
	w.tidy()
	w.after(w.plan.healed, w.tryBrake)
}

// awaitQuiet ends the world once every member is ONLINE and level with the
// others and no call is pending.
func (w *world) awaitQuiet(deadline int64) {
	unrest := w.unrest()
	switch {
	case unrest == "":
		w.finish()
	case w.now >= deadline:
		w.violate("P11", "%d s after the last fault, %s", (patience+w.plan.healed)/second, unrest)
	default:
		w.after(50*millisecond, func() { w.awaitQuiet(deadline) })
	}
}

// unrest says what is not quiet yet.
func (w *world) unrest() string {
	level := uint64(0)
	for _, m := range w.members {
		if m.gone {
			continue
		}
		if text := m.unrest(); text != "" {
			return text
		}
		index := m.engine.Position().Index
		if level != 0 && index != level {
			return fmt.Sprintf("%s is at %d, another member at %d", m.name, index, level)
		}
		level = index
	}
	return ""
}

// finish lets the checkers look at what is left.
func (w *world) finish() {
	w.phase = over
	if text := w.newest().unnamed(&w.told); text != "" {
		w.violate("P6", "%s", text)
		return
	}
	for _, m := range w.members {
		if m.gone {
			continue
		}
		snapshot, err := m.engine.Begin()
		if err != nil {
			w.violate("P5", "%s cannot be read: %v", m.name, err)
			return
		}
		m.run.history.tell(func(c checker) string { return c.ended(m.name, snapshot) })
		m.checkDigest()
	}
	w.finishConsumers()
	for _, h := range w.histories {
		h.conclude()
	}
}

func (w *world) count() {
	r := &w.report
	r.Worlds = 1
	r.Events = w.done
	r.Virtual = w.now
	for _, h := range w.histories {
		w.countHistory(h)
	}
	r.Marks = w.reached.named()
	if w.fault != nil {
		r.Violations = []Violation{*w.fault}
	}
	w.trace.end(w)
}

// countHistory adds what came about in one incarnation and in none before.
func (w *world) countHistory(h *history) {
	r := &w.report
	r.Incarnations++
	if now := h.electionAt(uint64(len(h.elections))); now != nil {
		r.Epochs += int(now.Epoch)
	}
	r.Refused.add(h.refused)
	for _, s := range h.sent {
		if s.inherited {
			continue
		}
		if s.commit > 0 {
			r.Committed++
		}
		switch {
		case s.acked:
			r.Acknowledged++
		case s.lost && s.index == 0:
			r.Unknown++
			w.reached[markUnknownLost]++
		case s.lost:
			r.Unknown++
			w.reached[markUnknownDelivered]++
		}
	}
}

// incarnation returns the history of an incarnation, nil if there is none.
func (w *world) incarnation(name gtid.UUID) *history {
	for _, h := range w.histories {
		if h.incarnation == name {
			return h
		}
	}
	return nil
}

// violate records that a promise was broken, which ends the world. What comes
// after the first is a consequence.
func (w *world) violate(promise, format string, args ...any) {
	if w.failed {
		return
	}
	w.failed = true
	w.fault = &Violation{
		Seed: w.seed, Promise: promise,
		Seconds: float64(w.now) / float64(second), Text: fmt.Sprintf(format, args...),
	}
	w.trace.note(w, "violation of "+promise)
}

// protect runs what a member does. A panic is a violation.
func (w *world) protect(who string, what func()) {
	defer func() {
		if r := recover(); r != nil {
			w.violate("panic", "%s: %v\n%s", who, r, debug.Stack())
		}
	}()
	what()
}
