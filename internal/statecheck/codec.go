package statecheck

import (
	"encoding/binary"
	"errors"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/internal/wire"
)

// ErrMessage marks a message of a check that is not one, ErrState a state.
var (
	ErrMessage = errors.New("statecheck: malformed message")
	ErrState   = errors.New("statecheck: malformed state")
)

// The forms of messages and state. Numbers are uvarints.
//
//	check      := number place budget
//	answer     := number place sum(8, big-endian)*16
//	detail     := number mask cut(1) count (place sum(8))*
//	place      := len schema len name len key
//	state      := number sequence place passes
//	              count round* count finding* count raft-id*
//	round      := check index truth split(1)
//	              count (raft-id uuid(16))* count (raft-id answer)* count (raft-id detail)*
//	finding    := check index member reference flags(1) agreed parties place place
//	              count (place how(1))*
//	member     := raft-id uuid(16)
//
// The numbers of a round's answers and details are not repeated.

// AppendCheck appends the encoding of a check to b.
func AppendCheck(b []byte, c Check) []byte {
	b = binary.AppendUvarint(b, c.Number)
	return binary.AppendUvarint(appendPlace(b, c.From), c.Budget)
}

// DecodeCheck reads what AppendCheck wrote. The error wraps [ErrMessage].
func DecodeCheck(b []byte) (c Check, err error) {
	d := decoder{wire.Decoder{Rest: clone(b), Kind: ErrMessage}}
	c = d.check()
	return c, d.end()
}

// AppendAnswer appends the encoding of an answer to b.
func AppendAnswer(b []byte, a Answer) []byte {
	return appendAnswer(binary.AppendUvarint(b, a.Number), &a)
}

// DecodeAnswer reads what AppendAnswer wrote. The error wraps [ErrMessage].
func DecodeAnswer(b []byte) (a Answer, err error) {
	d := decoder{wire.Decoder{Rest: clone(b), Kind: ErrMessage}}
	number := d.Uvarint()
	a = d.answer(number)
	return a, d.end()
}

// AppendDetail appends the encoding of a detail to b.
func AppendDetail(b []byte, x Detail) []byte {
	return appendDetail(binary.AppendUvarint(b, x.Number), &x)
}

// DecodeDetail reads what AppendDetail wrote. The error wraps [ErrMessage].
func DecodeDetail(b []byte) (x Detail, err error) {
	d := decoder{wire.Decoder{Rest: clone(b), Kind: ErrMessage}}
	number := d.Uvarint()
	x = d.detail(number)
	return x, d.end()
}

// clone keeps what is decoded from holding on to a log entry.
func clone(b []byte) []byte { return append([]byte(nil), b...) }

func appendPlace(b []byte, p applier.Place) []byte {
	for _, part := range [][]byte{[]byte(p.Table.Schema), []byte(p.Table.Name), p.Key} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	return b
}

// placeSize is about what a place takes.
func placeSize(p applier.Place) int { return len(p.Table.Schema) + len(p.Table.Name) + len(p.Key) + 6 }

func appendAnswer(b []byte, a *Answer) []byte {
	b = appendPlace(b, a.Next)
	for _, sum := range a.Sums {
		b = binary.BigEndian.AppendUint64(b, sum)
	}
	return b
}

func appendDetail(b []byte, x *Detail) []byte {
	b = appendBool(binary.AppendUvarint(b, x.Mask), x.Cut)
	b = binary.AppendUvarint(b, uint64(len(x.Pairs)))
	for _, p := range x.Pairs {
		b = binary.BigEndian.AppendUint64(appendPlace(b, p.Place), p.Sum)
	}
	return b
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendMember(b []byte, m Member) []byte {
	return append(binary.AppendUvarint(b, m.RaftID), m.UUID[:]...)
}

// AppendState appends the encoding of the whole state to b.
func (s *State) AppendState(b []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, s.number), s.sequence)
	b = binary.AppendUvarint(appendPlace(b, s.cursor), s.passes)
	b = binary.AppendUvarint(b, uint64(len(s.rounds)))
	for i := range s.rounds {
		b = s.rounds[i].append(b)
	}
	b = binary.AppendUvarint(b, uint64(len(s.findings)))
	for i := range s.findings {
		b = s.findings[i].append(b)
	}
	b = binary.AppendUvarint(b, uint64(len(s.blamed)))
	for _, id := range s.blamed {
		b = binary.AppendUvarint(b, id)
	}
	return b
}

func (r *round) append(b []byte) []byte {
	b = AppendCheck(b, r.check)
	b = binary.AppendUvarint(b, r.index)
	b = appendBool(binary.AppendUvarint(b, uint64(r.truth)), r.split)
	b = binary.AppendUvarint(b, uint64(len(r.parties)))
	for _, m := range r.parties {
		b = appendMember(b, m)
	}
	b = binary.AppendUvarint(b, uint64(len(r.answers)))
	for i := range r.answers {
		b = appendAnswer(binary.AppendUvarint(b, r.answers[i].by), &r.answers[i].answer)
	}
	b = binary.AppendUvarint(b, uint64(len(r.details)))
	for i := range r.details {
		b = appendDetail(binary.AppendUvarint(b, r.details[i].by), &r.details[i].detail)
	}
	return b
}

// The flags of a finding.
const (
	flagSplit = 1 << iota
	flagNamed
	flagMore
	flagsEnd
)

func (f *Finding) append(b []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, f.Check), f.Index)
	b = appendMember(appendMember(b, f.Member), f.Reference)
	flags := byte(0)
	for i, v := range []bool{f.Split, f.Named, f.More} {
		if v {
			flags |= 1 << i
		}
	}
	b = binary.AppendUvarint(append(b, flags), uint64(f.Agreed))
	b = binary.AppendUvarint(b, uint64(f.Parties))
	b = appendPlace(appendPlace(b, f.From), f.To)
	b = binary.AppendUvarint(b, uint64(len(f.Keys)))
	for _, k := range f.Keys {
		b = append(appendPlace(b, k.Place), byte(k.How))
	}
	return b
}

// decoder takes the parts off the front.
type decoder struct{ wire.Decoder }

func (d *decoder) end() error {
	if len(d.Rest) > 0 {
		d.Fail("%d bytes too many", len(d.Rest))
	}
	return d.Err
}

func (d *decoder) bool() bool {
	b := d.Bytes(1)
	if len(b) == 1 && b[0] > 1 {
		d.Fail("%d is neither true nor false", b[0])
		return false
	}
	return len(b) == 1 && b[0] == 1
}

// count takes a number of things, each of at least so many bytes.
func (d *decoder) count(least, most int) int {
	n := d.Uvarint()
	if n > uint64(most) || n > uint64(len(d.Rest)/least) {
		d.Fail("%d things, at most %d are allowed, and %d bytes are left", n, most, len(d.Rest))
		return 0
	}
	return int(n)
}

// small takes a number that is no count of what follows.
func (d *decoder) small(most int) int {
	n := d.Uvarint()
	if n > uint64(most) {
		d.Fail("%d is more than %d", n, most)
		return 0
	}
	return int(n)
}

func (d *decoder) place() (p applier.Place) {
	text := func(most int) []byte { return d.Bytes(d.count(1, most)) }
	p.Table.Schema, p.Table.Name = string(text(applier.MaxNameLen)), string(text(applier.MaxNameLen))
	if p.Key = text(applier.MaxKeyLen + 1); len(p.Key) == 0 {
		p.Key = nil
	}
	if d.Err == nil && !p.IsZero() && (p.Table.Schema == "" || p.Table.Name == "") {
		d.Fail("a place without a table")
	}
	return p
}

func (d *decoder) member() (m Member) {
	m.RaftID = d.Uvarint()
	copy(m.UUID[:], d.Bytes(len(m.UUID)))
	return m
}

func (d *decoder) sum() uint64 {
	if b := d.Bytes(8); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) check() Check {
	c := Check{Number: d.Uvarint(), From: d.place(), Budget: d.Uvarint()}
	if d.Err == nil && (c.Number == 0 || c.Budget == 0 || c.Budget > MaxBudget) {
		d.Fail("check %d of %d bytes", c.Number, c.Budget)
	}
	return c
}

func (d *decoder) answer(number uint64) Answer {
	a := Answer{Number: number, Next: d.place()}
	for i := range a.Sums {
		a.Sums[i] = d.sum()
	}
	return a
}

func (d *decoder) detail(number uint64) Detail {
	x := Detail{Number: number, Mask: d.Uvarint(), Cut: d.bool()}
	if x.Mask >= 1<<applier.SliceSums {
		d.Fail("sums %x, there are %d", x.Mask, applier.SliceSums)
	}
	for range d.count(11, MaxDetail) {
		p := applier.PairSum{Place: d.place(), Sum: d.sum()}
		if n := len(x.Pairs); d.Err == nil && n > 0 && x.Pairs[n-1].Place.Compare(p.Place) >= 0 {
			d.Fail("pairs out of order")
		}
		x.Pairs = append(x.Pairs, p)
	}
	return x
}

// Restore takes a state off the front of b. The error wraps [ErrState].
func Restore(b []byte) (*State, []byte, error) {
	d := decoder{wire.Decoder{Rest: clone(b), Kind: ErrState}}
	s := &State{number: d.Uvarint(), sequence: d.Uvarint(), cursor: d.place(), passes: d.Uvarint()}
	rounds := d.count(10, Window)
	if uint64(rounds) > s.number || s.number > 0 && rounds == 0 {
		d.Fail("%d of %d checks", rounds, s.number)
	}
	for i := range rounds {
		r := d.round()
		if d.Err == nil && r.check.Number != s.number-uint64(rounds-1-i) {
			d.Fail("check %d of %d is number %d", i, rounds, r.check.Number)
		}
		s.rounds = append(s.rounds, r)
	}
	for range d.count(40, MaxFindings) {
		s.findings = append(s.findings, d.finding())
	}
	for range d.count(1, MaxParties) {
		id := d.Uvarint()
		if n := len(s.blamed); d.Err == nil && n > 0 && s.blamed[n-1] >= id {
			d.Fail("those who are blamed are out of order")
		}
		s.blamed = append(s.blamed, id)
	}
	if d.Err != nil {
		return nil, nil, d.Err
	}
	return s, b[len(b)-len(d.Rest):], nil
}

func (d *decoder) round() (r round) {
	r.check, r.index = d.check(), d.Uvarint()
	r.truth, r.split = d.small(MaxParties), d.bool()
	r.parties = d.parties()
	for range d.count(132, MaxParties) {
		a := answer{by: d.Uvarint()}
		a.answer = d.answer(r.check.Number)
		if d.Err == nil && (!r.isParty(a.by) || r.answerOf(a.by) != nil) {
			d.Fail("answer of %x, who is not asked", a.by)
		}
		r.answers = append(r.answers, a)
	}
	for range d.count(4, MaxParties) {
		t := told{by: d.Uvarint()}
		t.detail = d.detail(r.check.Number)
		if d.Err == nil && (r.answerOf(t.by) == nil || r.detailOf(t.by) != nil) {
			d.Fail("detail of %x, who has not answered", t.by)
		}
		r.details = append(r.details, t)
	}
	if d.Err == nil && (r.truth > len(r.answers) || r.split && (r.truth > 0 || len(r.answers) == 0)) {
		d.Fail("truth %d of %d answers, split %t", r.truth, len(r.answers), r.split)
	}
	return r
}

// parties takes members by their raft ids, ascending.
func (d *decoder) parties() (all []Member) {
	for range d.count(17, MaxParties) {
		m := d.member()
		if n := len(all); d.Err == nil && n > 0 && all[n-1].RaftID >= m.RaftID {
			d.Fail("parties out of order")
		}
		all = append(all, m)
	}
	return all
}

func (d *decoder) finding() (f Finding) {
	f.Check, f.Index, f.Member, f.Reference = d.Uvarint(), d.Uvarint(), d.member(), d.member()
	if b := d.Bytes(1); len(b) == 1 {
		if b[0] >= flagsEnd {
			d.Fail("flags %x of a finding", b[0])
		}
		f.Split, f.Named, f.More = b[0]&flagSplit != 0, b[0]&flagNamed != 0, b[0]&flagMore != 0
	}
	f.Agreed, f.Parties = d.small(MaxParties), d.small(MaxParties)
	f.From, f.To = d.place(), d.place()
	for range d.count(4, MaxKeys) {
		k := Key{Place: d.place()}
		if b := d.Bytes(1); len(b) == 1 {
			k.How = Difference(b[0])
		}
		if d.Err == nil && (k.How < Differs || k.How > Extra) {
			d.Fail("a key differs by %d", k.How)
		}
		f.Keys = append(f.Keys, k)
	}
	return f
}

// MaxBudget bounds a check's budget in bytes.
const MaxBudget = 64 << 20
