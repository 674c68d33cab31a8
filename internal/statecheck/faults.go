package statecheck

import (
	"encoding/binary"
	"slices"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/wire"
)

const (
	// MaxVotes is how many of the last transactions that an engine could not apply
	// are voted on. Beyond it the oldest is given up: who waits for it fails alone.
	MaxVotes = 16
	// maxFaults is how many of those who failed alone are remembered.
	maxFaults = 8
)

// Opinion is what a member says of a transaction: why its engine could not apply
// it, or ClassNone when it has.
type Opinion struct {
	GTID  gtid.GTID
	Class applier.Class
}

// Fault is a member that did not do with a transaction what the others did.
type Fault struct {
	Index   uint64 // log index where that was found
	Member  Member
	Opinion Opinion
	Verdict applier.Class // what more than half said
}

// vote is what is said of one transaction.
type vote struct {
	of       gtid.GTID
	index    uint64   // log index of the first opinion: who has applied so much has applied the transaction
	parties  []Member // ONLINE as of the last view before it was decided, by raft id
	opinions []opinion
	verdict  verdict
	class    applier.Class // if decided
}

type opinion struct {
	by    uint64
	class applier.Class
}

// verdict is how far a vote is.
type verdict byte

const (
	undecided verdict = 0
	decided   verdict = 1
	hopeless  verdict = 2 // nothing will be the opinion of more than half
)

// Faults is what the group knows of transactions that engines could not apply. It
// belongs to one goroutine.
type Faults struct {
	votes   []vote   // oldest first
	refused gtid.Set // applied nowhere, on the word of more than half
	faults  []Fault  // the last, oldest first
	blamed  []uint64 // raft ids of those in the view that have applied what is refused, ascending

	shown *FaultsSnapshot // of all this, nil when it has changed since
}

// NewFaults returns the state of a new group.
func NewFaults() *Faults { return &Faults{} }

// Judgement is what an opinion, or a view, led to.
type Judgement struct {
	Of      gtid.GTID
	Refused bool    // the transaction is applied nowhere, from here on
	Blamed  []Fault // who said otherwise than more than half
}

// Heard is the delivery of a member's opinion, with those that are ONLINE there and
// who is in the view. One of a transaction that is not executed is void, and so is
// a second one.
func (f *Faults) Heard(index, by uint64, o Opinion, online []Member, executed gtid.Set, inView func(uint64) bool) (j Judgement) {
	f.shown = nil
	v := f.voteOn(o.GTID)
	if v == nil {
		if o.Class == applier.ClassNone || f.refused.Contains(o.GTID) || !executed.Contains(o.GTID) || len(online) == 0 || len(online) > MaxParties {
			return j
		}
		v = f.open(index, o.GTID, online)
	}
	party := slices.IndexFunc(v.parties, func(m Member) bool { return m.RaftID == by })
	if party < 0 || v.said(by) {
		return j
	}
	j.Of = o.GTID
	v.opinions = append(v.opinions, opinion{by: by, class: o.Class})
	if v.verdict == decided {
		f.blame(v, len(v.opinions)-1, index, inView, &j)
		return j
	}
	if v.verdict == undecided {
		f.conclude(v, index, inView, &j)
	}
	return j
}

// conclude looks whether a vote is decided now, and what follows.
func (f *Faults) conclude(v *vote, index uint64, inView func(uint64) bool, j *Judgement) {
	v.decide()
	if v.verdict != decided {
		return
	}
	if v.class != applier.ClassNone {
		f.refused, j.Refused = f.refused.Add(v.of), true
	}
	for i := range v.opinions {
		f.blame(v, i, index, inView, j)
	}
}

func (f *Faults) open(index uint64, of gtid.GTID, online []Member) *vote {
	if len(f.votes) == MaxVotes {
		f.votes = slices.Delete(f.votes, 0, 1)
	}
	parties := slices.Clone(online)
	slices.SortFunc(parties, byRaftID)
	f.votes = append(f.votes, vote{of: of, index: index, parties: parties})
	return &f.votes[len(f.votes)-1]
}

func (f *Faults) voteOn(g gtid.GTID) *vote {
	for i := range f.votes {
		if f.votes[i].of == g {
			return &f.votes[i]
		}
	}
	return nil
}

func (v *vote) said(id uint64) bool {
	return slices.ContainsFunc(v.opinions, func(o opinion) bool { return o.by == id })
}

func (v *vote) isParty(id uint64) bool {
	return slices.ContainsFunc(v.parties, func(m Member) bool { return m.RaftID == id })
}

func (v *vote) asks(id uint64) bool {
	return v.verdict == undecided && v.isParty(id) && !v.said(id)
}

// decide looks whether more than half say the same, or never will.
func (v *vote) decide() {
	most := 0
	for _, o := range v.opinions {
		n := 0
		for _, other := range v.opinions {
			if other.class == o.class {
				n++
			}
		}
		if most = max(most, n); 2*n > len(v.parties) {
			v.verdict, v.class = decided, o.class
			return
		}
	}
	if open := len(v.parties) - len(v.opinions); 2*(most+open) <= len(v.parties) {
		v.verdict = hopeless
	}
}

func (f *Faults) blame(v *vote, i int, index uint64, inView func(uint64) bool, j *Judgement) {
	o := v.opinions[i]
	if o.class == v.class {
		return
	}
	if at, known := slices.BinarySearch(f.blamed, o.by); !known && inView(o.by) && o.class == applier.ClassNone {
		f.blamed = slices.Insert(f.blamed, at, o.by)
	}
	party := slices.IndexFunc(v.parties, func(m Member) bool { return m.RaftID == o.by })
	x := Fault{Index: index, Member: v.parties[party], Opinion: Opinion{v.of, o.class}, Verdict: v.class}
	if len(f.faults) == maxFaults {
		f.faults = slices.Delete(f.faults, 0, 1)
	}
	f.faults = append(f.faults, x)
	j.Blamed = append(j.Blamed, x)
}

// Refused reports whether a transaction is applied nowhere.
func (f *Faults) Refused(g gtid.GTID) bool { return f.refused.Contains(g) }

// Alone reports whether a member whose engine could not apply a transaction, and
// that has said so, has to take that for its own fault: the others have said
// otherwise, or will never say anything.
func (f *Faults) Alone(g gtid.GTID) bool {
	v := f.voteOn(g)
	return v == nil || v.verdict == hopeless || v.verdict == decided && v.class == applier.ClassNone
}

// Asks reports whether a member's opinion of a transaction is still to come. What it
// said before it was ONLINE is none.
func (f *Faults) Asks(self uint64, g gtid.GTID) bool {
	v := f.voteOn(g)
	return v != nil && v.asks(self)
}

// Wanted returns the first transaction of which a member has yet to say that it has
// applied it, being asked, when it has applied the log up to an index. Once it is
// decided nobody is asked: who has left it out since has come as far, too.
func (f *Faults) Wanted(self, applied uint64) (gtid.GTID, bool) {
	for i := range f.votes {
		v := &f.votes[i]
		if v.index <= applied && v.asks(self) {
			return v.of, true
		}
	}
	return gtid.GTID{}, false
}

// View tells of a view, with those that are ONLINE in it: these are to decide what
// is not decided. Who has gone will never say anything, and who has come may have
// to, for there to be more than half.
func (f *Faults) View(index uint64, online []Member, inView func(id uint64) bool) (all []Judgement) {
	f.shown = nil
	f.blamed = slices.DeleteFunc(f.blamed, func(id uint64) bool { return !inView(id) })
	if len(online) == 0 || len(online) > MaxParties {
		return nil
	}
	for i := range f.votes {
		v := &f.votes[i]
		if v.verdict == decided {
			continue
		}
		v.parties = slices.Clone(online)
		slices.SortFunc(v.parties, byRaftID)
		v.opinions = slices.DeleteFunc(v.opinions, func(o opinion) bool { return !v.isParty(o.by) })
		j := Judgement{Of: v.of}
		v.verdict = undecided
		f.conclude(v, index, inView, &j)
		all = append(all, j)
	}
	return all
}

// Blamed reports whether a member of the view has applied what is refused: its data
// are not the group's. One that could not apply what the others have has only to
// try again.
func (f *Faults) Blamed(id uint64) bool {
	_, is := slices.BinarySearch(f.blamed, id)
	return is
}

// AppendState appends the encoding of the whole state to b. The error is that of a
// GTID which cannot be one.
//
//	faults  := refused  count vote*  count fault*  count raft-id*
//	vote    := gtid index  count member*  count (raft-id class)*  verdict(1) class
//	fault   := index member gtid class class
func (f *Faults) AppendState(b []byte) (_ []byte, err error) {
	if b, err = f.refused.AppendBinary(b); err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, uint64(len(f.votes)))
	for i := range f.votes {
		v := &f.votes[i]
		if b, err = v.of.AppendBinary(b); err != nil {
			return nil, err
		}
		b = binary.AppendUvarint(b, v.index)
		b = binary.AppendUvarint(b, uint64(len(v.parties)))
		for _, m := range v.parties {
			b = appendMember(b, m)
		}
		b = binary.AppendUvarint(b, uint64(len(v.opinions)))
		for _, o := range v.opinions {
			b = binary.AppendUvarint(binary.AppendUvarint(b, o.by), uint64(o.class))
		}
		b = binary.AppendUvarint(append(b, byte(v.verdict)), uint64(v.class))
	}
	b = binary.AppendUvarint(b, uint64(len(f.faults)))
	for _, x := range f.faults {
		b = appendMember(binary.AppendUvarint(b, x.Index), x.Member)
		if b, err = AppendOpinion(b, x.Opinion); err != nil {
			return nil, err
		}
		b = binary.AppendUvarint(b, uint64(x.Verdict))
	}
	b = binary.AppendUvarint(b, uint64(len(f.blamed)))
	for _, id := range f.blamed {
		b = binary.AppendUvarint(b, id)
	}
	return b, nil
}

// RestoreFaults takes a state off the front of b. The error wraps [ErrState].
func RestoreFaults(b []byte) (*Faults, []byte, error) {
	d := decoder{wire.Decoder{Rest: clone(b), Kind: ErrState}}
	f := &Faults{refused: d.Set()}
	for range d.count(20, MaxVotes) {
		v := d.vote()
		if d.Err == nil && f.voteOn(v.of) != nil {
			d.Fail("two votes on %v", v.of)
		}
		f.votes = append(f.votes, v)
	}
	for range d.count(20, maxFaults) {
		f.faults = append(f.faults, Fault{Index: d.Uvarint(), Member: d.member(), Opinion: d.opinion(), Verdict: d.class()})
	}
	for range d.count(1, MaxParties) {
		id := d.Uvarint()
		if n := len(f.blamed); d.Err == nil && n > 0 && f.blamed[n-1] >= id {
			d.Fail("those who are blamed are out of order")
		}
		f.blamed = append(f.blamed, id)
	}
	if d.Err != nil {
		return nil, nil, d.Err
	}
	return f, b[len(b)-len(d.Rest):], nil
}

func (d *decoder) vote() (v vote) {
	v.of, v.index = d.gtid(), d.Uvarint()
	v.parties = d.parties()
	for range d.count(2, MaxParties) {
		o := opinion{by: d.Uvarint(), class: d.class()}
		if d.Err == nil && (!v.isParty(o.by) || v.said(o.by)) {
			d.Fail("opinion of %x, who is not asked", o.by)
		}
		v.opinions = append(v.opinions, o)
	}
	if b := d.Bytes(1); len(b) == 1 {
		v.verdict = verdict(b[0])
	}
	if v.class = d.class(); d.Err == nil && (v.verdict > hopeless || v.verdict != decided && v.class != 0) {
		d.Fail("verdict %d of class %d", v.verdict, v.class)
	}
	return v
}

func (d *decoder) class() applier.Class {
	n := d.Uvarint()
	if n > 1<<32-1 {
		d.Fail("class %d", n)
		return 0
	}
	return applier.Class(n)
}

func (d *decoder) opinion() Opinion { return Opinion{GTID: d.gtid(), Class: d.class()} }

// gtid takes a GTID that is one.
func (d *decoder) gtid() gtid.GTID {
	g := d.GTID()
	if d.Err == nil && !g.Valid() {
		d.Fail("GTID %v cannot be one", g)
	}
	return g
}

// AppendOpinion appends the encoding of an opinion to b: the GTID and the class as
// a uvarint. The error is that of a GTID which cannot be one.
func AppendOpinion(b []byte, o Opinion) ([]byte, error) {
	b, err := o.GTID.AppendBinary(b)
	return binary.AppendUvarint(b, uint64(o.Class)), err
}

// DecodeOpinion reads what AppendOpinion wrote. The error wraps [ErrMessage].
func DecodeOpinion(b []byte) (o Opinion, err error) {
	d := decoder{wire.Decoder{Rest: clone(b), Kind: ErrMessage}}
	o = d.opinion()
	return o, d.end()
}
