package sim

import (
	"bytes"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// electorate is who may write, by the obvious rules of docs/primaries.md, from
// what stands in the log and nothing else. It is told of each message and view in
// the order of the log.
type electorate struct {
	epoch, view, protocol uint64
	single                bool
	primary               uint64 // raft id, 0 for nobody
	voters                []voter
	rights                map[uint64]uint64 // the epoch since which a member may write, by raft id
	change                *plannedChange
	known                 []knownChange // of the last changes, oldest first
	prefer                bool          // the most up to date first
	settings              uint64        // version of the group's settings

	turns []turn // epochs, from 1
}

// voter is a member of the view.
type voter struct {
	id                              uint64 // raft id
	uuid                            gtid.UUID
	version, weight, oldest, newest uint64
	online                          bool
}

// plannedChange is a planned change that takes the right to write from somebody.
type plannedChange struct {
	request
	pending []uint64 // raft ids of those who have not said that they are done
	ranked  bool     // nobody was named, and the target is the first by rank
}

// knownChange is one whose end is remembered.
type knownChange struct {
	id      gtid.UUID
	refused bool
}

// turn is an epoch.
type turn struct {
	index  uint64
	change gtid.UUID // that was asked for, zero for none
	late   bool      // not all had drained
	writes map[uint64]bool
	lost   bool // the primary was gone, or silent
}

// The kinds of change that operators ask for, and the most that they may ask.
const (
	setPrimary  = 1
	toSingle    = 2
	toMulti     = 3
	setProtocol = 4

	mostGraceMS    = 3600 * 1000
	rememberedEnds = 16
)

func newElectorate() electorate { return electorate{protocol: 1, rights: map[uint64]uint64{}} }

func (c *electorate) voter(id uint64) *voter {
	for i := range c.voters {
		if c.voters[i].id == id {
			return &c.voters[i]
		}
	}
	return nil
}

func (c *electorate) online(id uint64) bool {
	v := c.voter(id)
	return v != nil && v.online
}

// lowest is the lowest version among those ONLINE.
func (c *electorate) lowest() (lowest uint64) {
	for _, v := range c.voters {
		if v.online && (lowest == 0 || v.version < lowest) {
			lowest = v.version
		}
	}
	return lowest
}

// admits reports whether a transaction handed over in an epoch may be certified.
func (c *electorate) admits(origin, epoch uint64) bool {
	since, may := c.rights[origin]
	return may && since <= epoch && epoch <= c.epoch
}

// tell tells of a message at a log index and term, and settles the rights.
func (c *electorate) tell(index, term, origin uint64, p *part) {
	switch {
	case p.settings != nil:
		if p.settings.Version == c.settings+1 {
			c.settings, c.prefer = p.settings.Version, p.settings.PreferMostUpdated
		}
	case p.opening != nil:
		if v := c.voter(origin); v != nil {
			o := p.opening
			v.version, v.weight, v.oldest, v.newest = o.version, o.weight, o.oldest, o.newest
		}
	case p.founding != nil && c.epoch == 0:
		c.single, c.protocol = p.founding.mode == 1, p.founding.protocol
		if c.single {
			c.primary = c.best(ballot{})
		}
		c.turn(turn{index: index})
	case p.deposal != nil:
		c.depose(index, term, p.deposal)
	case p.request != nil:
		c.ask(index, origin, *p.request)
	case p.drained != nil && c.change != nil && p.drained.id == c.change.id:
		c.done(index, func(id uint64) bool { return id == origin })
	case p.lapse != nil && c.change != nil && p.lapse.id == c.change.id && p.lapse.term == term:
		c.flip(index, true)
	case p.cancel != nil && c.change != nil && *p.cancel == c.change.id:
		c.end()
	}
	c.settle()
}

// see tells of a view.
func (c *electorate) see(v *gcs.View) {
	old := c.voters
	c.view, c.voters = v.ID, nil
	for _, m := range v.Members {
		next := voter{id: m.RaftID, uuid: m.UUID, version: uint64(m.Version), weight: min(uint64(m.Weight), 100)}
		for _, o := range old {
			if o.id == m.RaftID && o.uuid == m.UUID {
				next = o
			}
		}
		next.online = m.State == gcs.Online
		c.voters = append(c.voters, next)
	}
	if c.epoch > 0 {
		c.replacePrimary(v)
		if c.change != nil {
			if !c.online(c.change.target) {
				c.end()
			} else {
				c.done(v.Index, func(id uint64) bool { return !c.online(id) })
			}
		}
	}
	c.settle()
}

// replacePrimary finds a primary when the view took the one there was, or lets
// somebody be it. A forced view begins an epoch in any case.
func (c *electorate) replacePrimary(v *gcs.View) {
	switch {
	case v.Cause.Kind == gcs.Forced:
		c.end()
		lost := c.single && !c.online(c.primary)
		if lost {
			c.primary = c.bestUnlessAsked()
		}
		c.turn(turn{index: v.Index, lost: lost})
	case !c.single:
	case c.primary == 0 && c.bestUnlessAsked() == 0:
	case c.primary == 0 || !c.online(c.primary):
		c.succeed(v.Index, ballot{}, c.bestUnlessAsked())
	}
}

// bestUnlessAsked is who is elected by a view. Where progress counts, and there is
// a choice, nobody is before the leader has said how far everybody is.
func (c *electorate) bestUnlessAsked() uint64 {
	if c.prefer && len(c.candidates(ballot{})) > 1 {
		return 0
	}
	return c.best(ballot{})
}

// succeed makes the target of the open change primary, if it can be, else heir.
func (c *electorate) succeed(index uint64, b ballot, heir uint64) {
	if c.change != nil && c.online(c.change.target) && !slices.Contains(b.passed, c.change.target) {
		heir = c.change.target
	}
	c.primary = heir
	c.end()
	c.turn(turn{index: index, lost: true})
}

// depose judges what a leader says of the primary. It counts in its own term and
// epoch only, and not when nobody else can be primary.
func (c *electorate) depose(index, term uint64, d *deposal) {
	b := ballot{deposed: d.target, passed: d.passed}
	if c.prefer {
		b.progress = d.progress
	}
	if !c.single || d.epoch != c.epoch || d.term != term || d.target != c.primary || c.best(b) == 0 {
		return
	}
	c.succeed(index, b, c.best(b))
}

// ask judges what an operator asks for.
func (c *electorate) ask(index, origin uint64, a request) {
	drains := a.kind == setPrimary || a.kind == toSingle
	if a.id.IsZero() || a.kind < setPrimary || a.kind > setProtocol || a.protocol != 0 && a.kind != setProtocol ||
		!drains && (a.target != 0 || a.graceMS != 0) || a.kind == setPrimary && a.target == 0 {
		return // no member sends it
	}
	began := c.change != nil && c.change.id == a.id
	for _, k := range c.known {
		began = began || k.id == a.id && !k.refused
	}
	switch {
	case began: // an id stands for one change
	case c.epoch > 0 && c.change == nil && (a.epoch != c.epoch || a.view != c.view): // it may be asked for again
	case c.epoch == 0 || c.change != nil || !c.allows(origin, a):
		c.remember(a.id, true)
	case c.isSo(a):
		c.remember(a.id, false)
	case drains:
		c.open(index, a)
	case a.kind == toMulti:
		c.single, c.primary = false, 0
		c.turn(turn{index: index, change: a.id})
		c.remember(a.id, false)
	default:
		c.protocol = a.protocol
		c.remember(a.id, false)
	}
}

// isSo reports whether there is nothing to be changed.
func (c *electorate) isSo(a request) bool {
	switch a.kind {
	case setPrimary:
		return a.target == c.primary
	case toSingle:
		return c.single
	case toMulti:
		return !c.single
	}
	return a.protocol == c.protocol
}

// allows reports whether nothing speaks against a change.
func (c *electorate) allows(origin uint64, a request) bool {
	if !c.online(origin) {
		return false
	}
	switch a.kind {
	case setPrimary, toSingle:
		if c.single != (a.kind == setPrimary) && a.target != 0 || a.graceMS > mostGraceMS {
			return false
		}
		if t := c.voter(a.target); a.target != 0 && a.target != c.primary && (t == nil || !t.online || t.version != c.lowest()) {
			return false
		}
	case setProtocol:
		if a.protocol < c.protocol {
			return false
		}
		for _, v := range c.voters {
			if a.protocol != c.protocol && (a.protocol < v.oldest || a.protocol > v.newest) {
				return false
			}
		}
	}
	for _, v := range c.voters {
		if !v.online && !a.force && !c.isSo(a) {
			return false
		}
	}
	return true
}

// open begins a change that waits for those who lose the right to write.
func (c *electorate) open(index uint64, a request) {
	ranked := a.target == 0
	if ranked {
		a.target = c.best(ballot{})
	}
	c.change = &plannedChange{request: a, ranked: ranked}
	c.forget(a.id)
	for _, v := range c.voters {
		if _, writes := c.rights[v.id]; writes && v.id != a.target {
			c.change.pending = append(c.change.pending, v.id)
		}
	}
	if len(c.change.pending) == 0 {
		c.flip(index, false)
	}
}

// done takes members out of those whom the open change waits for.
func (c *electorate) done(index uint64, which func(id uint64) bool) {
	before := len(c.change.pending)
	c.change.pending = slices.DeleteFunc(c.change.pending, which)
	if before > 0 && len(c.change.pending) == 0 {
		c.flip(index, false)
	}
}

// flip makes the target of the open change the primary.
func (c *electorate) flip(index uint64, late bool) {
	id := c.change.id
	c.single, c.primary = true, c.change.target
	c.end()
	c.turn(turn{index: index, change: id, late: late})
}

// end closes the open change, if there is one.
func (c *electorate) end() {
	if c.change != nil {
		c.remember(c.change.id, false)
		c.change = nil
	}
}

func (c *electorate) forget(id gtid.UUID) {
	c.known = slices.DeleteFunc(c.known, func(k knownChange) bool { return k.id == id })
}

func (c *electorate) remember(id gtid.UUID, refused bool) {
	c.forget(id)
	c.known = append(c.known, knownChange{id, refused})
	if n := len(c.known) - rememberedEnds; n > 0 {
		c.known = c.known[n:]
	}
}

// turn begins an epoch.
func (c *electorate) turn(t turn) {
	c.epoch++
	c.turns = append(c.turns, t)
}

// settle gives each member the right that is its due. Who keeps it has it since
// when it had.
func (c *electorate) settle() {
	lowest, rights := c.lowest(), map[uint64]uint64{}
	for _, v := range c.voters {
		since, had := c.rights[v.id]
		var has bool
		switch {
		case c.epoch == 0:
			has = v.online
		case c.single:
			has = v.id == c.primary
		case c.change != nil: // it would have to give it back at once
			has = v.online && had
		default:
			has = v.online && (had || v.version == lowest)
		}
		if !had {
			since = c.epoch
		}
		if has {
			rights[v.id] = since
		}
	}
	c.rights = rights
	if n := len(c.turns); n > 0 {
		writes := map[uint64]bool{}
		// order-free: a copy
		for id := range rights {
			writes[id] = true
		}
		c.turns[n-1].writes = writes
	}
}

// ballot is what counts in an election beside the view.
type ballot struct {
	deposed  uint64
	passed   []uint64
	progress [][2]uint64
}

// candidates are those who can be primary.
func (c *electorate) candidates(b ballot) (all []voter) {
	lowest := c.lowest()
	for _, v := range c.voters {
		if v.online && v.id != b.deposed && v.version == lowest {
			all = append(all, v)
		}
	}
	return all
}

// best is the candidate that is better than every other one, 0 if there is none.
func (c *electorate) best(b ballot) uint64 {
	all := c.candidates(b)
	most := uint64(0)
	for _, p := range b.progress {
		if slices.ContainsFunc(all, func(v voter) bool { return v.id == p[0] }) {
			most = max(most, p[1])
		}
	}
	for _, v := range all {
		beaten := slices.ContainsFunc(all, func(o voter) bool { return o.id != v.id && b.better(o, v, most) })
		if !beaten {
			return v.id
		}
	}
	return 0
}

// better reports whether v goes before o.
func (b *ballot) better(v, o voter, most uint64) bool {
	if vp, op := slices.Contains(b.passed, v.id), slices.Contains(b.passed, o.id); vp != op {
		return op
	}
	if vb, ob := b.behind(v.id, most), b.behind(o.id, most); vb != ob {
		return vb < ob
	}
	if v.weight != o.weight {
		return v.weight > o.weight
	}
	return bytes.Compare(v.uuid[:], o.uuid[:]) < 0
}

// behind is how far a member is behind the one that is most up to date, in classes:
// less than 64 entries, less than 128, less than 256, and so on.
func (b *ballot) behind(id, most uint64) (class int) {
	if len(b.progress) == 0 {
		return 0
	}
	for _, p := range b.progress {
		if p[0] == id {
			for limit := uint64(64); most-p[1] >= limit; limit *= 2 {
				class++
			}
			return class
		}
	}
	return 1 << 10
}
