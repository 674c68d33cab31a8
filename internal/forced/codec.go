package forced

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/wire"
)

// ErrMalformed marks bytes that are not what they should be: a survey, a
// record, a request, an answer or a plan.
var ErrMalformed = errors.New("forced: malformed")

// format is the first byte of everything encoded here.
const format = 1

const (
	maxAddress = 261  // a DNS name, a colon and a port
	maxText    = 1024 // of a refusal or a warning
)

// Numbers are uvarints, UUIDs 16 bytes, sets in the binary form of package
// gtid, texts and counted things have their length in front. Of everything only
// the one form that is written is read.
//
//	survey   := 1 facts  quorum(1) part
//	record   := nothing for a member without part in a plan, else 1 part
//	request  := 1 step(1)  order when it freezes, decision else
//	answer   := 1 part  reason(1)  (member text) when there is a reason
//	plan     := 1 decision view survivor* count excluded*  executed known(1)  count warning*
//	part     := phase(1)  (order facts  decision' when adopted) unless free
//	order    := plan group ends  count member*  count superseded*
//	decision := order decision'
//	decision':= seed first last term  runs
//	facts    := group incarnation member raftID address view  term first last
//	            runs commit delivered executed  count heard*
//	heard    := raftID delivered ticks executed
//	view     := id index incarnation  count member*
//	member   := uuid raftID version weight state(1) address
//	runs     := count (term first)*
//	survivor := term first last lastTerm commit delivered cut fetch phase(1)
//	excluded := member answers(1) seen(1) by ticks delivered atRisk
//	warning  := member text

// Append appends the encoding of s. Executed sets that are longer than
// MaxExecuted and MaxHeardExecuted are left out.
func (s *Survey) Append(b []byte) []byte {
	b = appendFacts(append(b, format), &s.Facts)
	return appendPart(appendBool(appendBool(b, s.Quorum), s.Unsure), &s.Record)
}

// DecodeSurvey reads what Append appended, all of b. The error wraps
// [ErrMalformed]. Nothing in the survey aliases b.
func DecodeSurvey(b []byte) (Survey, error) {
	d := newDecoder(b)
	s := Survey{Facts: d.facts(), Quorum: d.bool(), Unsure: d.bool(), Record: d.part()}
	return s, d.finish()
}

// Append appends the encoding of r, which is less than 1 MiB: nothing for a
// member without part in any plan.
func (r *Record) Append(b []byte) []byte {
	if r.Phase == Free {
		return b
	}
	return appendPart(append(b, format), r)
}

// DecodeRecord reads what Append appended, all of b. The error wraps
// [ErrMalformed].
func DecodeRecord(b []byte) (Record, error) {
	if len(b) == 0 {
		return Record{}, nil
	}
	d := newDecoder(b)
	r := d.part()
	if r.Phase == Free {
		d.Fail("a record of no plan")
	}
	return r, d.finish()
}

// Append appends the encoding of r, which must not ask for a survey: who asks
// for one need say nothing.
func (r *Request) Append(b []byte) []byte {
	b = append(b, format, byte(r.Step))
	if r.Step == StepFreeze {
		return appendOrder(b, &r.Order)
	}
	b = appendOrder(b, &r.Decision.Order)
	return appendDecided(b, &r.Decision)
}

// DecodeRequest reads what Append appended, all of b. The error wraps
// [ErrMalformed]. To is left empty.
func DecodeRequest(b []byte) (Request, error) {
	d := newDecoder(b)
	r := Request{Step: Step(d.byte())}
	switch r.Step {
	case StepFreeze:
		r.Order = d.order()
	case StepAlign, StepAdopt:
		r.Decision = d.decided(d.order())
	default:
		d.Fail("step %d", byte(r.Step))
	}
	return r, d.finish()
}

// Append appends the encoding of a.
func (a *Answer) Append(b []byte) []byte {
	b = appendPart(append(b, format), &a.Record)
	if a.Refused == nil {
		return append(b, 0)
	}
	b = append(b, byte(a.Refused.Reason))
	b = append(b, a.Refused.Member[:]...)
	return appendText(b, clip(a.Refused.Text))
}

// DecodeAnswer reads what Append appended, all of b. The error wraps
// [ErrMalformed].
func DecodeAnswer(b []byte) (Answer, error) {
	d := newDecoder(b)
	a := Answer{Record: d.part()}
	if reason := d.byte(); reason != 0 {
		a.Refused = &RefusedError{Reason: Reason(reason), Member: d.uuid(), Text: d.text(maxText)}
	}
	return a, d.finish()
}

// Append appends the encoding of p.
func (p *Plan) Append(b []byte) []byte {
	b = appendDecided(appendOrder(append(b, format), &p.Order), &p.Decision)
	b = appendView(b, &p.View)
	for i := range p.Survivors {
		v := &p.Survivors[i]
		b = appendNumbers(b, v.Term, v.First, v.Last, v.LastTerm, v.Commit, v.Delivered, v.Cut, v.Fetch)
		b = append(b, byte(v.Phase))
	}
	b = appendNumbers(b, uint64(len(p.Excluded)))
	for i := range p.Excluded {
		x := &p.Excluded[i]
		b = appendBool(appendBool(appendMember(b, &x.Member), x.Answers), x.Seen)
		b = appendNumbers(append(b, x.By[:]...), x.Ticks, x.Delivered)
		b = appendSet(b, x.AtRisk)
	}
	b = appendBool(appendSet(b, p.Executed), p.Known)
	b = appendNumbers(b, uint64(len(p.Warnings)))
	for _, w := range p.Warnings {
		b = appendText(append(b, w.Member[:]...), clip(w.Text))
	}
	return b
}

// DecodePlan reads what Append appended, all of b. The error wraps
// [ErrMalformed]. Only plans that [New] has drawn can be read back.
func DecodePlan(b []byte) (Plan, error) {
	d := newDecoder(b)
	p := Plan{Decision: d.decided(d.order()), View: d.view()}
	for _, m := range p.Members {
		v := Survivor{Member: m}
		for _, n := range []*uint64{&v.Term, &v.First, &v.Last, &v.LastTerm, &v.Commit, &v.Delivered, &v.Cut, &v.Fetch} {
			*n = d.Uvarint()
		}
		v.Phase = d.phase()
		p.Survivors = append(p.Survivors, v)
	}
	for range d.max(gcs.MaxMembers) {
		x := Excluded{Member: d.member(), Answers: d.bool(), Seen: d.bool(), By: d.uuid()}
		x.Ticks, x.Delivered, x.AtRisk = d.Uvarint(), d.Uvarint(), d.Set()
		p.Excluded = append(p.Excluded, x)
	}
	p.Executed, p.Known = d.Set(), d.bool()
	for n := d.max(uint64(len(d.Rest))); n > 0 && d.Err == nil; n-- {
		p.Warnings = append(p.Warnings, Warning{Member: d.uuid(), Text: d.text(maxText)})
	}
	return p, d.finish()
}

// clip shortens a text to what is read back, at the end of a character.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

func appendPart(b []byte, r *Record) []byte {
	b = append(b, byte(r.Phase))
	if r.Phase == Free {
		return b
	}
	b = appendFacts(appendOrder(b, &r.Order), &r.Facts)
	if r.Phase == Adopted {
		b = appendDecided(b, &r.Decision)
	}
	return b
}

func appendOrder(b []byte, o *Order) []byte {
	b = append(b, o.Plan[:]...)
	b = append(b, o.Group[:]...)
	b = append(b, o.Ends[:]...)
	b = appendMembers(b, o.Members)
	b = appendNumbers(b, uint64(len(o.Supersedes)))
	for _, p := range o.Supersedes {
		b = append(b, p[:]...)
	}
	return b
}

func appendDecided(b []byte, d *Decision) []byte {
	return appendRuns(appendNumbers(b, d.Seed, d.First, d.Last, d.Term), d.Runs)
}

func appendFacts(b []byte, f *Facts) []byte {
	b = append(b, f.Group[:]...)
	b = append(b, f.Incarnation[:]...)
	b = append(b, f.Member[:]...)
	b = appendText(appendNumbers(b, f.RaftID), f.Address)
	b = appendView(b, &f.View)
	b = appendRuns(appendNumbers(b, f.Term, f.First, f.Last), f.Runs)
	b = appendNumbers(b, f.Commit, f.Delivered)
	b = appendSetUpTo(b, f.Executed, MaxExecuted)
	b = appendNumbers(b, uint64(len(f.Heard)))
	for i := range f.Heard {
		h := &f.Heard[i]
		b = appendNumbers(b, h.RaftID, h.Delivered, h.Ticks)
		b = appendSetUpTo(b, h.Executed, MaxHeardExecuted)
	}
	return b
}

func appendView(b []byte, v *gcs.View) []byte {
	b = append(appendNumbers(b, v.ID, v.Index), v.Incarnation[:]...)
	return appendMembers(b, v.Members)
}

func appendMembers(b []byte, ms []gcs.Member) []byte {
	b = appendNumbers(b, uint64(len(ms)))
	for i := range ms {
		b = appendMember(b, &ms[i])
	}
	return b
}

func appendMember(b []byte, m *gcs.Member) []byte {
	b = append(b, m.UUID[:]...)
	b = appendNumbers(b, m.RaftID, uint64(m.Version), uint64(m.Weight))
	return appendText(append(b, byte(m.State)), m.Address)
}

func appendRuns(b []byte, runs []gcs.TermRun) []byte {
	b = appendNumbers(b, uint64(len(runs)))
	for _, r := range runs {
		b = appendNumbers(b, r.Term, r.First)
	}
	return b
}

func appendNumbers(b []byte, ns ...uint64) []byte {
	for _, n := range ns {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func appendText(b []byte, s string) []byte { return append(appendNumbers(b, uint64(len(s))), s...) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendSet(b []byte, s gtid.Set) []byte {
	b, _ = s.AppendBinary(b) // the error is always nil
	return b
}

func appendSetUpTo(b []byte, s gtid.Set, limit int) []byte {
	n := len(b)
	if b = appendSet(b, s); len(b)-n > limit {
		return appendSet(b[:n], gtid.Set{})
	}
	return b
}

// decoder is wire's with the fields of this package.
type decoder struct{ wire.Decoder }

func newDecoder(b []byte) *decoder {
	d := &decoder{wire.Decoder{Rest: b, Kind: ErrMalformed}}
	if f := d.byte(); f != format {
		d.Fail("format %d is not known to this version", f)
	}
	return d
}

func (d *decoder) finish() error {
	if d.Err == nil && len(d.Rest) != 0 {
		d.Fail("%d bytes too many", len(d.Rest))
	}
	return d.Err
}

// max takes a number of at most limit, so that nothing is made of more.
func (d *decoder) max(limit uint64) uint64 {
	n := d.Uvarint()
	if n > limit {
		d.Fail("number %d exceeds %d", n, limit)
		return 0
	}
	return n
}

func (d *decoder) byte() byte {
	if b := d.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.Fail("a yes or no of %d", b)
	}
	return b == 1
}

func (d *decoder) phase() Phase {
	p := Phase(d.byte())
	if p > Adopted {
		d.Fail("phase %d", byte(p))
		return Free
	}
	return p
}

func (d *decoder) uuid() (u gtid.UUID) {
	copy(u[:], d.Bytes(len(u)))
	return u
}

func (d *decoder) text(limit uint64) string {
	s := string(d.Bytes(int(d.max(limit))))
	if !utf8.ValidString(s) {
		d.Fail("a text that is not UTF-8")
	}
	return s
}

func (d *decoder) part() Record {
	r := Record{Phase: d.phase()}
	if r.Phase == Free {
		return r
	}
	r.Order, r.Facts = d.order(), d.facts()
	if r.Phase == Adopted {
		r.Decision = d.decided(r.Order)
	}
	if d.Err == nil {
		if reason := r.flaw(); reason != "" {
			d.Fail("%s", reason)
		}
	}
	if d.Err != nil {
		return Record{}
	}
	return r
}

// flaw says what in r no member can have written down, "" when nothing.
func (r *Record) flaw() string {
	if reason := r.Facts.flaw(); reason != "" {
		return "the member " + reason
	}
	if !r.Order.has(r.Facts.Member, r.Facts.RaftID) || r.Facts.Incarnation != r.Order.Ends || r.Facts.Group != r.Order.Group {
		return "the member is no survivor of its plan"
	}
	if r.Phase == Adopted {
		if err := r.of(&r.Decision); err != nil {
			return err.Error()
		}
	}
	return ""
}

func (d *decoder) order() Order {
	o := Order{Plan: d.uuid(), Group: d.uuid(), Ends: d.uuid()}
	o.Begins = Incarnation(o.Plan)
	o.Members = d.members()
	for range d.max(MaxSupersedes) {
		o.Supersedes = append(o.Supersedes, d.uuid())
	}
	if d.Err == nil {
		if reason := o.flaw(); reason != "" {
			d.Fail("%s", reason)
		}
	}
	return o
}

// decided reads what makes an order a decision.
func (d *decoder) decided(o Order) Decision {
	v := Decision{Order: o, Seed: d.Uvarint(), First: d.Uvarint(), Last: d.Uvarint(), Term: d.Uvarint(), Runs: d.runs()}
	if len(v.Runs) > 0 {
		v.LastTerm = v.Runs[len(v.Runs)-1].Term
	}
	if d.Err == nil {
		if reason := v.flaw(); reason != "" {
			d.Fail("%s", reason)
		}
	}
	return v
}

func (d *decoder) facts() Facts {
	f := Facts{Group: d.uuid(), Incarnation: d.uuid(), Member: d.uuid(), RaftID: d.Uvarint(), Address: d.text(maxAddress)}
	f.View = d.view()
	f.Term, f.First, f.Last, f.Runs = d.Uvarint(), d.Uvarint(), d.Uvarint(), d.runs()
	f.Commit, f.Delivered, f.Executed = d.Uvarint(), d.Uvarint(), d.setUpTo(MaxExecuted)
	for range d.max(gcs.MaxMembers) {
		h := Heard{RaftID: d.Uvarint(), Delivered: d.Uvarint(), Ticks: d.Uvarint(), Executed: d.setUpTo(MaxHeardExecuted)}
		if n := len(f.Heard); n > 0 && f.Heard[n-1].RaftID >= h.RaftID {
			d.Fail("reports out of order")
		}
		f.Heard = append(f.Heard, h)
	}
	return f
}

func (d *decoder) setUpTo(limit int) gtid.Set {
	n := len(d.Rest)
	s := d.Set()
	if n-len(d.Rest) > limit && d.Err == nil {
		d.Fail("a set of more than %d bytes", limit)
	}
	return s
}

func (d *decoder) view() gcs.View {
	return gcs.View{ID: d.Uvarint(), Index: d.Uvarint(), Incarnation: d.uuid(), Members: d.members()}
}

func (d *decoder) members() []gcs.Member {
	var ms []gcs.Member
	for range d.max(gcs.MaxMembers) {
		m := d.member()
		if n := len(ms); n > 0 && ms[n-1].RaftID >= m.RaftID {
			d.Fail("members out of order")
		}
		ms = append(ms, m)
	}
	return ms
}

func (d *decoder) member() gcs.Member {
	m := gcs.Member{UUID: d.uuid(), RaftID: d.Uvarint(), Version: uint32(d.max(1<<32 - 1)), Weight: uint32(d.max(1<<32 - 1))}
	m.State, m.Address = gcs.MemberState(d.byte()), d.text(maxAddress)
	if m.State != gcs.Online && m.State != gcs.Recovering && d.Err == nil {
		d.Fail("member %s is in the unknown state %d", m.UUID, byte(m.State))
	}
	return m
}

func (d *decoder) runs() []gcs.TermRun {
	var runs []gcs.TermRun
	for range d.max(MaxRuns) {
		runs = append(runs, gcs.TermRun{Term: d.Uvarint(), First: d.Uvarint()})
	}
	return runs
}
