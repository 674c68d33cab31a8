package sim

import (
	"math/rand/v2"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// plan is what a world is like. It is drawn before the world begins.
type plan struct {
	founders int // members that form the group
	joiners  int // that come while faults strike
	clients  int // on each member

	faulty int64 // how long faults strike
	healed int64 // how long clients go on after that

	tick          int64
	electionTicks int
	drift         span // of each member's clock, in thousandths

	network networkPlan
	disk    diskPlan
	faults  faultPlan
	work    workPlan
	members memberPlan
	rights  rightsPlan
	checks  checksPlan
	workers workersPlan
	flow    flowPlan
	giants  giantPlan

	consumers consumersPlan

	limits          gcs.Limits
	applyBytes      int
	settings        replica.Settings
	checkpointBytes int
}

type networkPlan struct {
	delay     span
	loss      int64 // in a thousand
	repeat    int64 // in a thousand
	late      int64 // in a thousand: a message that takes very long
	reorder   bool  // else messages of one link arrive in order
	unnoticed int64 // in a thousand: lost without the sender being told
	bandwidth int64 // bytes in a millisecond, for copies of the state
}

type diskPlan struct {
	sync    span  // of the log
	unsync  span  // a log write that asks for no sync
	apply   span  // a batch
	flush   span  // of the engine
	install span  // of a copied state
	flushes int64 // in a thousand: an engine flushes a part by itself after a batch
}

type faultPlan struct {
	every     span // between two faults
	down      span // how long a crashed member stays down
	cut       span // how long a partition lasts
	crash     int  // weights
	blackout  int
	partition int
	oneWay    int
	storm     int
	leave     int
	stall     int
	voter     int64 // in a thousand: a member crashes just after it voted
	partial   int
	flap      int
	hang      int
	disk      int
	data      int
	remove    int
	replace   int
	force     int // an operator forces the membership, whether there is a reason or not
	pause     int
	slow      int
	skew      int
}

// memberPlan is how patient members are with each other, in ticks, and what
// happens to plans of force-members.
type memberPlan struct {
	suspectTicks  int
	expelTicks    int // negative: never
	stallTicks    int
	majorityTicks int // 0: for ever

	disasters int   // times that a majority is gone at once
	interrupt int64 // in a thousand: who takes a step of a plan crashes
	secondary int64 // in a thousand: a second operator at the same time
}

func drawMembers(r *rand.Rand, p *plan) {
	m := &p.members
	m.suspectTicks = 5 + r.IntN(p.electionTicks*3)
	m.expelTicks = pick(r, -1, 5, 10, 20, 40, 80)
	m.stallTicks = pick(r, 2, 5, 20)
	m.majorityTicks = pick(r, 0, 0, 0, 30, 80)
	m.interrupt = pick[int64](r, 0, 50, 150, 300)
	m.secondary = pick[int64](r, 0, 300, 700)
	f := &p.faults
	// Not every world has everything, or none would get anywhere.
	for _, weight := range []*int{&f.partial, &f.flap, &f.hang, &f.disk, &f.data, &f.remove, &f.replace} {
		*weight = pick(r, 0, 0, 1, 2)
	}
	if f.replace > 0 {
		p.joiners = max(p.joiners, 1)
	}
	if m.disasters = pick(r, 0, 0, 1, 1, 2, 3); m.disasters > 0 {
		f.force = r.IntN(3)
		m.suspectTicks = 5 + r.IntN(8)
		p.founders = pick(r, 2, 3, 4, 4, 5, 5, 6)
		p.faulty += int64(m.disasters) * 4 * second
	}
}

type workPlan struct {
	think    span
	run      span
	long     int64 // in a thousand: a transaction that takes its time
	longRun  span
	big      int64 // in a thousand: a transaction with large values
	bigBytes span
	marks    int64 // in a thousand: a history mark at some index instead
	reads    int64 // in a thousand: a transaction that only reads
	mixed    bool  // scans, additions, references and write skew beside the rest
	again    int64 // in a thousand: a transaction that was submitted before
	asks     int64 // in a thousand: the outcome of some transaction is asked for
	settings int64 // in a thousand: the group's settings are changed

	serializable int64 // in a thousand
	hot          int   // keys
	cold         int
	accounts     int
}

// rightsPlan is who may write, what is asked of the data that a transaction begins
// with, and what happens to that. The zero value is of a world in which all members
// write, and nothing is asked.
type rightsPlan struct {
	single        bool  // the group is founded with one primary
	failoverTicks int   // 0 for the default
	newer         int64 // in a thousand: a member runs the newer version
	upgrade       int64 // in a thousand: one that starts anew is upgraded
	weights       bool  // members differ in weight

	levels    levelWeights
	bounded   int64 // in a thousand: a transaction that bounds the age of its data
	atMost    span
	session   int64 // in a thousand: one that must see what its client did before
	impatient int64 // in a thousand: one that does not say how long it waits
	patience  span  // of the others
	readers   int64 // in a thousand: a client that never writes, and so never waits for a commit
	ignorant  int64 // in a thousand: a client where nobody may write tries all the same
	between   span  // two planned changes; zero for none
	death     int64 // in a thousand: a planned change is followed by a crash, or a pause
	graces    []uint64
	cancel    int64 // in a thousand: somebody takes it back
	holdups   int64 // in a thousand: a member is held up between two effects
}

// levelWeights are how often each level is asked for. That of no level at all is
// for what the group's settings say.
type levelWeights [consistency.BeforeAndAfter + 1]int

func (l *levelWeights) draw(r *rand.Rand) consistency.Level {
	total := 0
	for _, n := range l {
		total += n
	}
	if total == 0 {
		return consistency.Eventual
	}
	level, n := 0, r.IntN(total)
	for n >= l[level] {
		n -= l[level]
		level++
	}
	return consistency.Level(level)
}

// drawRights draws from a source of its own, so that a world without all this is
// the same as ever.
func drawRights(r *rand.Rand, p *plan) {
	g := &p.rights
	g.single = r.IntN(2) == 0
	g.failoverTicks = pick(r, 4, 8, 12, 20, 40)
	g.newer = pick[int64](r, 0, 0, 300, 1000)
	g.upgrade = pick[int64](r, 100, 500)
	g.weights = r.IntN(2) == 0
	g.levels = drawLevels(r)
	g.bounded = pick[int64](r, 0, 0, 100, 400)
	g.atMost = pick(r, span{0, 20 * millisecond}, span{50 * millisecond, 2 * second})
	g.session = pick[int64](r, 0, 100, 500)
	g.impatient = pick[int64](r, 0, 200, 700)
	g.patience = pick(r, span{50 * millisecond, 500 * millisecond}, span{500 * millisecond, 5 * second})
	g.ignorant = pick[int64](r, 0, 20, 100)
	g.between = pick(r, span{}, span{500 * millisecond, 3 * second}, span{100 * millisecond, second})
	g.death = pick[int64](r, 0, 200, 600)
	g.graces = pick(r, []uint64{10_000}, []uint64{0, 50, 300, 2000})
	g.cancel = pick[int64](r, 50, 200)
	g.holdups = pick[int64](r, 0, 0, 5, 30)
	p.settings.PreferMostUpdated = r.IntN(3) == 0
	p.settings.Consistency = pick(r, consistency.Default, consistency.Default, consistency.Eventual, consistency.Before, consistency.After)
	p.work.reads = pick[int64](r, 100, 300, 600)
	g.readers = pick[int64](r, 0, 300, 500)
	faults := &p.faults
	faults.pause, faults.slow, faults.skew = pick(r, 0, 2, 4, 8), pick(r, 0, 0, 1, 2), pick(r, 0, 0, 1)
}

// drawLevels draws what levels a world's transactions ask for. Some worlds know one
// level only.
func drawLevels(r *rand.Rand) levelWeights {
	const (
		none     = consistency.Default
		eventual = consistency.Eventual
		failover = consistency.BeforeOnPrimaryFailover
		before   = consistency.Before
		after    = consistency.After
		both     = consistency.BeforeAndAfter
	)
	return pick(r,
		levelWeights{eventual: 1},
		levelWeights{none: 1, eventual: 4, failover: 1, before: 2, after: 1, both: 1},
		levelWeights{eventual: 6, failover: 1, before: 1},
		levelWeights{eventual: 3, after: 1},
		levelWeights{before: 1},
		levelWeights{after: 1},
		levelWeights{both: 1},
		levelWeights{eventual: 1, failover: 4},
		levelWeights{none: 1})
}

func drawPlan(r *rand.Rand) plan {
	p := plan{
		founders:      pick(r, 1, 2, 3, 3, 3, 3, 4, 5, 5),
		joiners:       pick(r, 0, 0, 1, 1, 2),
		clients:       1 + r.IntN(4),
		faulty:        span{4 * second, 12 * second}.draw(r),
		healed:        second,
		tick:          pick[int64](r, 20, 50, 100) * millisecond,
		electionTicks: 5 + r.IntN(6),
		drift:         pick(r, span{}, span{-20, 20}, span{-150, 150}),
		network:       drawNetwork(r),
		disk:          drawDisk(r),
		faults:        drawFaults(r),
		work:          drawWork(r),
	}
	p.limits = gcs.Limits{
		FrameBytes:       pick(r, 1, 200, 1000, 4<<10, 256<<10),
		WindowFrames:     pick(r, 1, 2, 8, 8),
		UncommittedBytes: pick[uint64](r, 2<<10, 16<<10, 64<<20),
		InflightBytes:    pick[uint64](r, 1<<20, 32<<20),
		DeliveryBytes:    pick[uint64](r, 1, 4<<10, 16<<20),
	}
	p.applyBytes = pick(r, 1, 2<<10, 64<<10, 16<<20)
	p.settings = drawSettings(r, &p.work)
	drawMembers(r, &p)
	p.checkpointBytes = pick(r, 2<<10, 8<<10, 40<<10, 64<<20)
	return p
}

func drawSettings(r *rand.Rand, work *workPlan) replica.Settings {
	s := replica.Settings{
		Certifier: certifier.Settings{
			HistoryItems: pick(r, 10, 300, 1000, 1<<20),
			HistoryBytes: pick(r, 1<<30, 1<<30, 20<<10),
			RangeWrites:  pick(r, 1<<20, 1<<20, 100, 1, 0),
			BlockSize:    pick[uint64](r, 1, 1, 1, 3, 100),
		},
		Outcomes: pick(r, 0, 1, 50, 1000),
	}
	if work.again > 0 {
		// What is sent again after its id was forgotten commits twice, and no
		// checker knows the two apart.
		s.Outcomes = 1 << 20
	}
	return s
}

func drawNetwork(r *rand.Rand) networkPlan {
	return networkPlan{
		delay: pick(r,
			span{50 * microsecond, 200 * microsecond},
			span{200 * microsecond, 2 * millisecond},
			span{100 * microsecond, 20 * millisecond}),
		loss:      pick[int64](r, 0, 0, 5, 30, 100),
		repeat:    pick[int64](r, 0, 0, 10, 100),
		late:      pick[int64](r, 0, 0, 2, 20),
		reorder:   pick(r, true, false),
		unnoticed: pick[int64](r, 0, 500, 1000),
		bandwidth: pick[int64](r, 1, 20, 1000),
	}
}

func drawDisk(r *rand.Rand) diskPlan {
	return diskPlan{
		sync: pick(r,
			span{20 * microsecond, 60 * microsecond},
			span{100 * microsecond, millisecond},
			span{millisecond, 15 * millisecond}),
		unsync: span{1 * microsecond, 20 * microsecond},
		apply: pick(r,
			span{5 * microsecond, 50 * microsecond},
			span{50 * microsecond, millisecond},
			span{millisecond, 20 * millisecond}),
		flush:   span{millisecond, 30 * millisecond},
		install: pick(r, span{millisecond, 30 * millisecond}, span{50 * millisecond, second}),
		flushes: pick[int64](r, 0, 20, 200),
	}
}

func drawFaults(r *rand.Rand) faultPlan {
	return faultPlan{
		every: pick(r,
			span{100 * millisecond, second},
			span{200 * millisecond, 3 * second},
			span{second, 5 * second}),
		down: pick(r,
			span{millisecond, 200 * millisecond},
			span{10 * millisecond, 2 * second},
			span{500 * millisecond, 5 * second}),
		cut:       pick(r, span{50 * millisecond, second}, span{500 * millisecond, 4 * second}),
		crash:     r.IntN(6),
		blackout:  r.IntN(3),
		partition: r.IntN(4),
		oneWay:    r.IntN(3),
		storm:     r.IntN(2),
		leave:     r.IntN(3),
		stall:     r.IntN(3),
		voter:     pick[int64](r, 0, 0, 100, 500),
	}
}

func drawWork(r *rand.Rand) workPlan {
	return workPlan{
		think: pick(r,
			span{100 * microsecond, 2 * millisecond},
			span{millisecond, 20 * millisecond},
			span{10 * millisecond, 200 * millisecond}),
		run:      pick(r, span{}, span{10 * microsecond, 500 * microsecond}, span{millisecond, 20 * millisecond}),
		long:     pick[int64](r, 0, 5, 20),
		longRun:  span{200 * millisecond, 3 * second},
		big:      pick[int64](r, 0, 0, 20),
		bigBytes: span{100, 6000},
		marks:    pick[int64](r, 0, 0, 5, 50),
		reads:    pick[int64](r, 20, 100),
		hot:      1 + r.IntN(10),
		cold:     20 + r.IntN(400),
		accounts: 2 + r.IntN(8),

		mixed:        r.IntN(5) > 0,
		again:        pick[int64](r, 0, 0, 20, 100),
		asks:         pick[int64](r, 0, 20, 100),
		settings:     pick[int64](r, 0, 0, 3, 20),
		serializable: pick[int64](r, 0, 300, 700, 1000),
	}
}
