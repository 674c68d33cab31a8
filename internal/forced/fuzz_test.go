package forced

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// samples has what travels and what is stored, of a member in each phase.
func samples(tb testing.TB) (surveys []Survey, requests []Request, answers []Answer, plans []Plan) {
	tb.Helper()
	set, err := gtid.ParseSet("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9:11-20")
	if err != nil {
		tb.Fatal(err)
	}
	one, two := says(1, log(2, 1, 1, 2, 2, 2)), says(2, log(1, 1, 1, 3))
	one.Executed = set
	one.Heard = []Heard{{RaftID: 3, Delivered: 9, Executed: set, Ticks: 400}, {RaftID: 4}}
	p, err := New(planA, one, listed(1, 2), []Survey{two, says(3, log(1, 1))}, listed(1001))
	if err != nil {
		tb.Fatal(err)
	}
	frozen, adopted := one, two
	frozen.Record, _, _ = one.Record.Freeze(p.Order, one)
	adopted.Record, _, _ = two.Record.Freeze(p.Order, two)
	d, err := Decide(p.Order, []Facts{one.Facts, two.Facts})
	if err != nil {
		tb.Fatal(err)
	}
	adopted.Record.Phase, adopted.Record.Decision = Adopted, d
	adopted.Quorum, frozen.Unsure = true, true
	surveys = []Survey{one, frozen, adopted, {}}
	requests = []Request{{Step: StepFreeze, Order: p.Order}, {Step: StepAlign, Decision: d}, {Step: StepAdopt, Decision: d}}
	answers = []Answer{{}, {Record: frozen.Record}, {Record: adopted.Record, Refused: &RefusedError{Reason: HasQuorum, Member: testUUID(1), Text: "no"}}}
	return surveys, requests, answers, []Plan{p}
}

// canonical checks that bytes are read back as they were written, or refused.
func canonical(t *testing.T, b []byte, err error, again func() []byte) {
	t.Helper()
	if err != nil {
		if !errors.Is(err, ErrMalformed) {
			t.Fatalf("error of another kind: %v", err)
		}
		return
	}
	if got := again(); !bytes.Equal(got, b) {
		t.Fatalf("read    %x\nwritten %x", b, got)
	}
}

func FuzzDecodeSurvey(f *testing.F) {
	surveys, _, _, _ := samples(f)
	for _, s := range surveys {
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSurvey(b)
		canonical(t, b, err, func() []byte { return s.Append(nil) })
		if err != nil {
			return
		}
		// Whatever a stranger says, a plan is drawn or refused.
		own, two := pair()
		for _, o := range []Survey{own, s} {
			for _, list := range [][]gtid.UUID{listed(1, 2), {o.Member, s.Member}, {s.Member}} {
				p, err := New(planA, o, list, []Survey{s, two}, listed(1001))
				if err == nil {
					if _, err := DecodePlan(p.Append(nil)); err != nil {
						t.Fatalf("own plan: %v", err)
					}
				}
			}
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	surveys, _, _, _ := samples(f)
	for _, s := range surveys {
		f.Add(s.Record.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(b)
		canonical(t, b, err, func() []byte { return r.Append(nil) })
	})
}

func FuzzDecodeRequest(f *testing.F) {
	surveys, requests, _, _ := samples(f)
	for _, r := range requests {
		f.Add(r.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRequest(b)
		canonical(t, b, err, func() []byte { return r.Append(nil) })
		if err != nil {
			return
		}
		// Whatever is ordered, a member does it or refuses.
		disk := log(2, 1, 1, 2, 2, 2)
		for _, s := range surveys[:2] {
			_, _, _ = s.Record.Freeze(r.Order, s)
			_, _, _ = s.Record.Adopt(r.Decision, disk.id, &disk)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	_, _, answers, plans := samples(f)
	for _, a := range answers {
		f.Add(a.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := DecodeAnswer(b)
		canonical(t, b, err, func() []byte { return a.Append(nil) })
		if err != nil {
			return
		}
		c := Run(plans[0])
		c.Surveyed(1, StepSurvey, Survey{Facts: a.Record.Facts, Record: a.Record})
		for _, step := range []Step{StepSurvey, StepFreeze, StepLook, StepAlign, StepAdopt} {
			c.Answered(1, step, a)
		}
		c.Report()
	})
}

func FuzzDecodePlan(f *testing.F) {
	_, _, _, plans := samples(f)
	for _, p := range plans {
		f.Add(p.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePlan(b)
		canonical(t, b, err, func() []byte { return p.Append(nil) })
		if err == nil {
			Run(p).Report()
		}
	})
}

// TestCorrupt changes and cuts every byte of everything that travels.
func TestCorrupt(t *testing.T) {
	surveys, requests, answers, plans := samples(t)
	check := func(b []byte, read func([]byte) ([]byte, error)) {
		t.Helper()
		again := func(b []byte) {
			t.Helper()
			got, err := read(b)
			canonical(t, b, err, func() []byte { return got })
		}
		if got, err := read(b); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("own bytes %x: %x, %v", b, got, err)
		}
		for i := range b {
			for _, v := range []byte{0, 1, 2, 3, 0x7f, 0x80, 0xff, b[i] + 1, b[i] ^ 0x80} {
				c := bytes.Clone(b)
				c[i] = v
				again(c)
			}
			again(b[:i])
			again(append(bytes.Clone(b[:i+1]), b[i:]...))
		}
	}
	for _, s := range surveys {
		check(s.Append(nil), func(b []byte) ([]byte, error) { s, err := DecodeSurvey(b); return s.Append(nil), err })
		check(s.Record.Append(nil), func(b []byte) ([]byte, error) { r, err := DecodeRecord(b); return r.Append(nil), err })
	}
	for _, r := range requests {
		check(r.Append(nil), func(b []byte) ([]byte, error) { r, err := DecodeRequest(b); return r.Append(nil), err })
	}
	for _, a := range answers {
		check(a.Append(nil), func(b []byte) ([]byte, error) { a, err := DecodeAnswer(b); return a.Append(nil), err })
	}
	for _, p := range plans {
		check(p.Append(nil), func(b []byte) ([]byte, error) { p, err := DecodePlan(b); return p.Append(nil), err })
	}
}

// TestLimits writes what is longer than may be read.
func TestLimits(t *testing.T) {
	s := says(1, log(2, 1, 1))
	text := []byte(group.String())
	for i := range MaxExecuted / 2 {
		text = fmt.Appendf(text, ":%d", 3*i+1)
	}
	huge, err := gtid.ParseSet(string(text))
	if err != nil {
		t.Fatal(err)
	}
	s.Executed, s.Heard = huge, []Heard{{RaftID: 2, Executed: huge}}
	got, err := DecodeSurvey(s.Append(nil))
	if err != nil || !got.Executed.IsEmpty() || !got.Heard[0].Executed.IsEmpty() || got.Last != s.Last {
		t.Errorf("of a huge set: %v, %v", got, err)
	}
	a := Answer{Refused: &RefusedError{Reason: NoVote, Text: strings.Repeat("x", maxText-1) + "ü"}}
	if got, err := DecodeAnswer(a.Append(nil)); err != nil || got.Refused.Text != strings.Repeat("x", maxText-1) {
		t.Errorf("of a long text: %v", err)
	}
}
