package giant

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// logged is a log of fragments, by index and number in the entry.
type logged map[[2]uint64][]byte

var errGone = errors.New("gone")

func (l logged) Fragment(index uint64, message int) ([]byte, error) {
	b, ok := l[[2]uint64{index, uint64(message)}]
	if !ok {
		return nil, errGone
	}
	return b, nil
}

// failing is what both a test and a property can do.
type failing interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func cut(t failing, body []byte, size int) ([][]byte, Total) {
	t.Helper()
	w, err := NewWriter(77, size)
	if err != nil {
		t.Fatal(err)
	}
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 1+len(rest)/3)
		w.Add(rest[:n])
		rest = rest[n:]
	}
	if w.Size() != len(body) {
		t.Fatalf("%d bytes were written, it says %d", len(body), w.Size())
	}
	return w.Finish()
}

// TestCutAndRead cuts bodies that pack well, badly and not at all, and reads every
// part of them back from memory and from the log.
func TestCutAndRead(t *testing.T) {
	noise := make([]byte, 9000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	for name, body := range map[string][]byte{
		"one byte": {1}, "zeros": make([]byte, 9000), "noise": noise,
		"mixed": slices.Concat(noise[:3000], make([]byte, 5000), noise[:1500]),
	} {
		for _, size := range []int{1 << 10, 4 << 10, 1 << 20} {
			for _, memory := range []int{0, 5000, 1 << 20} {
				t.Run(fmt.Sprint(name, size, memory), func(t *testing.T) {
					parts, total := cut(t, body, size)
					a, log := NewAssembly(memory), logged{}
					for i, p := range parts {
						if p[0] != 77 {
							t.Fatalf("a message begins with %d", p[0])
						}
						at := Place{Origin: 5, Session: 2, Index: uint64(10 + i), Message: i % 3}
						log[[2]uint64{at.Index, uint64(at.Message)}] = p[1:]
						a.Fragment(at, p[1:], 0)
					}
					if s := a.Stats(); s.Held > memory || s.Bytes != len(body) || s.Fragments != len(parts) {
						t.Fatalf("%+v of %d fragments", s, len(parts))
					}
					w := a.End(5, 2, total)
					if w == nil {
						t.Fatal("it is not whole")
					}
					for _, r := range [][2]int{{0, len(body)}, {0, 0}, {len(body) / 3, len(body) / 2}, {len(body) - 1, len(body)}} {
						got, err := w.Read(r[0], r[1], log)
						if err != nil || !bytes.Equal(got, body[r[0]:r[1]]) {
							t.Fatalf("bytes %d to %d: %d bytes, error %v", r[0], r[1], len(got), err)
						}
					}
					if _, err := w.Read(0, len(body)+1, log); err == nil {
						t.Error("more was read than there is")
					}
					if a.Release(w); a.Stats() != (Stats{}) {
						t.Errorf("%+v is left", a.Stats())
					}
				})
			}
		}
	}
	if parts, total := cut(t, make([]byte, 100<<10), 32<<10); total.Fragments != 4 || len(parts[0]) > 200 {
		t.Errorf("%d fragments, the first has %d bytes", total.Fragments, len(parts[0]))
	}
}

// TestReadBackIsChecked has the log hold something else than it held.
func TestReadBackIsChecked(t *testing.T) {
	parts, total := cut(t, make([]byte, 40), 20)
	a := NewAssembly(0)
	a.Fragment(Place{1, 1, 7, 0}, parts[0][1:], 0)
	a.Fragment(Place{1, 1, 8, 0}, parts[1][1:], 0)
	w := a.End(1, 1, total)
	for name, log := range map[string]logged{
		"nothing": {}, "another": {{7, 0}: parts[1][1:], {8, 0}: parts[0][1:]}, "rubbish": {{7, 0}: {0xff}}, "shorter": {{7, 0}: parts[0][1:10]},
	} {
		if _, err := w.Read(0, 40, log); !errors.Is(err, ErrLost) && !errors.Is(err, errGone) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// slow is the obvious assembly: it keeps all that came, in the clear.
type slow struct {
	pending map[uint64]*slowGiant
	clock   uint64
}

type slowGiant struct {
	session, heard uint64
	parts          int
	body           []byte
}

func (s *slow) fragment(at Place, number int, body []byte, limit int) {
	g := s.pending[at.Origin]
	if number == 0 {
		g = &slowGiant{session: at.Session}
		s.pending[at.Origin] = g
	}
	if g == nil {
		return
	}
	if g.session != at.Session || g.parts != number || len(g.body)+len(body) > limit {
		delete(s.pending, at.Origin)
		return
	}
	g.parts++
	g.heard = s.clock
	g.body = append(slices.Clip(g.body), body...)
}

func (s *slow) passed(n, limit int) {
	s.clock += uint64(n)
	for id, g := range s.pending {
		if s.clock-g.heard > uint64(patience*limit) {
			delete(s.pending, id)
		}
	}
}

// trial is three assemblies that are told the same: one with much memory, one with
// little, and one that is taken from place to place.
type trial struct {
	*rapid.T
	limit, memory       int
	log                 logged
	model               *slow
	roomy, tight, moved *Assembly
	index               uint64
	held                []*Whole          // of tight, ended and not released
	ahead               map[uint64][]byte // what roomy has told of its giants before their end
	senders             [4]trialSender
}

// trialSender is what one origin is sending.
type trialSender struct {
	session uint64 // before the present one
	parts   [][]byte
	bodies  [][]byte
	total   Total
	next    int
}

func (t *trial) all(f func(*Assembly)) {
	for _, a := range []*Assembly{t.roomy, t.tight, t.moved} {
		f(a)
	}
}

// fragment has all take in the nth fragment of a sender.
func (t *trial) fragment(at Place, s *trialSender, n int) {
	b := s.parts[n][1:]
	t.log[[2]uint64{at.Index, uint64(at.Message)}] = b
	t.all(func(a *Assembly) {
		part, data, ok := a.Fragment(at, b, t.limit)
		if a != t.roomy || !ok {
			return
		}
		var r PartReader
		read, err := r.Read(&part, t.log)
		if !bytes.Equal(read, data) {
			t.Fatalf("part %d of giant %d holds %x, it was told %x", part.Number, part.Giant, read, data)
		}
		if _, begun := t.ahead[part.Giant]; err != nil || part.Giant == 0 || begun == (part.Number == 0) {
			t.Fatalf("part %d of giant %d, begun %t, error %v", part.Number, part.Giant, begun, err)
		}
		t.ahead[part.Giant] = append(t.ahead[part.Giant], data...)
	})
	t.model.fragment(at, n, s.bodies[n], t.limit)
	if g := t.model.pending[at.Origin]; g != nil && !slices.ContainsFunc(t.roomy.pending, func(p *pending) bool {
		return p.origin == at.Origin && bytes.Equal(t.ahead[p.number], g.body)
	}) {
		t.Fatalf("what was told of the giants of %d is not %x", at.Origin, g.body)
	}
}

// tellGone has roomy tell of what was dropped: all that has begun, and neither ended
// nor pending.
func (t *trial) tellGone() {
	for _, number := range t.roomy.Gone() {
		if _, begun := t.ahead[number]; !begun {
			t.Fatalf("giant %d is gone, and never began", number)
		}
		delete(t.ahead, number)
	}
	if len(t.ahead) != len(t.roomy.pending) {
		t.Fatalf("%d giants were told of and not that they are gone, %d are pending", len(t.ahead), len(t.roomy.pending))
	}
	t.tight.Gone()
	t.moved.Gone()
}

// end has all take in the end of what a sender has sent.
func (t *trial) end(id, session uint64, s *trialSender) {
	g := t.model.pending[id]
	delete(t.model.pending, id)
	want := g != nil && g.session == session && g.parts == s.total.Fragments && len(g.body) == s.total.Bytes
	t.all(func(a *Assembly) {
		w := a.End(id, session, s.total)
		if (w != nil) != want {
			t.Fatalf("whole %t, want %t", w != nil, want)
		}
		if w == nil {
			return
		}
		if a == t.roomy {
			if !bytes.Equal(t.ahead[w.Number()], g.body) || w.Fragments() != s.total.Fragments {
				t.Fatalf("giant %d of %d fragments: %x was told, want %x", w.Number(), w.Fragments(), t.ahead[w.Number()], g.body)
			}
			delete(t.ahead, w.Number())
		}
		if got, err := w.Read(0, w.Bytes(), t.log); err != nil || !bytes.Equal(got, g.body) {
			t.Fatalf("%x, want %x, error %v", got, g.body, err)
		}
		if a == t.tight && rapid.Bool().Draw(t.T, "hold") {
			t.held = append(t.held, w)
		} else {
			a.Release(w)
		}
	})
	s.parts = nil
}

func (t *trial) giveUp(id uint64) {
	want := t.model.pending[id] != nil
	t.all(func(a *Assembly) {
		if a.GiveUp(id) != want {
			t.Fatalf("given up: %t", !want)
		}
	})
	delete(t.model.pending, id)
}

// prepare has a sender cut another body if it is done with the last.
func (t *trial) prepare(s *trialSender) {
	if s.parts != nil {
		return
	}
	body := rapid.SliceOfN(rapid.Byte(), 1, 150).Draw(t.T, "body")
	size := rapid.IntRange(1, 60).Draw(t.T, "size")
	s.parts, s.total = cut(t, body, size)
	s.bodies, s.next = nil, 0
	for b := range slices.Chunk(body, size) {
		s.bodies = append(s.bodies, b)
	}
}

// step does something that can happen.
func (t *trial) step() {
	t.index++
	id := rapid.Uint64Range(1, 3).Draw(t.T, "origin")
	s := &t.senders[id]
	t.prepare(s)
	at := Place{Origin: id, Session: s.session + 1, Index: t.index, Message: rapid.IntRange(0, 2).Draw(t.T, "message")}
	what := []string{"send", "send", "send", "send", "send", "rubbish", "again", "open", "withdraw", "gone", "pass", "move", "copy"}
	switch rapid.SampledFrom(what).Draw(t.T, "what") {
	case "send":
		if s.next == len(s.parts) {
			t.end(id, at.Session, s)
			break
		}
		t.fragment(at, s, s.next)
		s.next++
	case "rubbish":
		b := rapid.SampledFrom([][]byte{{}, {0}, {0, 9}, {0x80, 0, 0, 1}, {0, 1, 5, 1, 2}, {0, 0}}).Draw(t.T, "bytes")
		t.all(func(a *Assembly) { a.Fragment(at, b, t.limit) })
		delete(t.model.pending, id)
	case "again": // a fragment that came before
		if s.next > 0 {
			t.fragment(at, s, rapid.IntRange(0, s.next-1).Draw(t.T, "which"))
		}
	case "open": // the new session may go on where the old one was, which is wrong
		s.session++
		if rapid.Bool().Draw(t.T, "told") {
			t.giveUp(id)
		}
	case "withdraw":
		t.giveUp(id)
		s.parts = nil
	case "gone":
		t.all(func(a *Assembly) { a.Keep(func(o uint64) bool { return o != id }) })
		delete(t.model.pending, id)
	case "pass":
		n := rapid.IntRange(0, 3*t.limit).Draw(t.T, "bytes")
		t.all(func(a *Assembly) { a.Passed(n, t.limit) })
		t.model.passed(n, t.limit)
	case "move":
		t.move(append(t.moved.AppendState(nil), 1, 2), []byte{1, 2})
	case "copy":
		b, err := t.moved.AppendCopy(nil, t.log)
		if err != nil {
			t.Fatal(err)
		}
		if t.move(b, nil); t.moved.Oldest() != 0 {
			t.Fatalf("a copy needs the log from %d on", t.moved.Oldest())
		}
	}
}

// move restores an assembly from a state.
func (t *trial) move(state, rest []byte) {
	a, left, err := Restore(state, t.memory)
	if err != nil || !bytes.Equal(left, rest) {
		t.Fatalf("restored with %x left, error %v", left, err)
	}
	t.moved = a
}

// check compares all with the model, and looks at the bounds.
func (t *trial) check() {
	if len(t.held) > 3 {
		t.tight.Release(t.held[0])
		t.held = t.held[1:]
	}
	t.all(func(a *Assembly) { checkAgainst(t.T, t.model, a, t.log) })
	ended := 0
	for _, w := range t.held {
		ended += w.held
	}
	if n := t.tight.Stats().Held; n > t.memory || n < ended {
		t.Fatalf("%d bytes are held, at most %d may be, and %d are of giants that ended", n, t.memory, ended)
	}
	if err := t.tight.Check(t.tight.Oldest(), t.index); err != nil {
		t.Fatal(err)
	}
	if err := t.tight.Check(t.index+1, t.index); (err != nil) != (t.tight.Oldest() != 0) {
		t.Fatalf("of a log without the fragments: %v", err)
	}
}

// TestModel compares assemblies with the obvious one: sessions that send giants,
// stop in the middle, send rubbish, and go.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		memory := rapid.IntRange(0, 200).Draw(rt, "memory")
		trial := &trial{
			T: rt, limit: rapid.IntRange(20, 300).Draw(rt, "limit"), memory: memory,
			log: logged{}, model: &slow{pending: map[uint64]*slowGiant{}}, ahead: map[uint64][]byte{},
			roomy: NewAssembly(1 << 20), tight: NewAssembly(memory), moved: NewAssembly(memory),
		}
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			trial.step()
			trial.tellGone()
			trial.check()
		}
	})
}

func checkAgainst(t *rapid.T, model *slow, a *Assembly, log logged) {
	s := a.Stats()
	bytesOf, parts := 0, 0
	for _, g := range model.pending {
		bytesOf += len(g.body)
		parts += g.parts
	}
	if s.Pending != len(model.pending) || s.Bytes != bytesOf || s.Fragments != parts || a.clock != model.clock || len(a.Origins()) != s.Pending {
		t.Fatalf("%+v at %d, want %d giants with %d fragments and %d bytes at %d", s, a.clock, len(model.pending), parts, bytesOf, model.clock)
	}
	if oldest := a.Oldest(); oldest != 0 && len(log) == 0 {
		t.Fatalf("the log is needed from %d on, and is empty", oldest)
	}
}

// TestAnotherSum has an end speak of other bytes than came.
func TestAnotherSum(t *testing.T) {
	parts, total := cut(t, []byte("the body"), 4)
	for _, right := range []bool{true, false} {
		a := NewAssembly(0)
		for i, p := range parts {
			a.Fragment(Place{1, 1, uint64(i + 1), 0}, p[1:], 0)
		}
		end := total
		if !right {
			end.Sum++
		}
		if w := a.End(1, 1, end); (w != nil) != right || a.Stats().Pending != 0 {
			t.Errorf("with the right checksum, %t: %v", right, w)
		}
	}
}

// TestTooMany has a giant come in more fragments than there can be.
func TestTooMany(t *testing.T) {
	a := NewAssembly(0)
	for i := range MaxFragments {
		f := fragment{number: i, form: formPlain, bytes: []byte{1}}
		a.Fragment(Place{1, 1, uint64(i + 1), 0}, f.append(nil), 0)
	}
	if s := a.Stats(); s.Fragments != MaxFragments {
		t.Fatalf("%+v", s)
	}
	f := fragment{number: MaxFragments, form: formPlain, bytes: []byte{1}}
	if a.Fragment(Place{1, 1, MaxFragments + 1, 0}, f.append(nil), 0); a.Stats() != (Stats{}) {
		t.Errorf("%+v is left", a.Stats())
	}
}

// TestRestoreRefuses takes states apart that no log can have led to.
func TestRestoreRefuses(t *testing.T) {
	head := []byte{9, 1, 1, 1, 3, 0, 1} // clock 9; origin, session 1, heard at 3, sum 0, one fragment
	for name, b := range map[string][]byte{
		"cut off":           head[:4],
		"no fragment":       {9, 1, 1, 1, 3, 0, 0},
		"heard too late":    {9, 1, 1, 1, 10, 0, 1, 5, 0, 1},
		"no origin":         {9, 1, 0, 1, 3, 0, 1, 5, 0, 1},
		"no session":        {9, 1, 1, 0, 3, 0, 1, 5, 0, 1},
		"empty fragment":    append(slices.Clone(head), 5, 0, 0),
		"too large":         append(slices.Clone(head), 5, 0, 0xff, 0xff, 0xff, 1),
		"not what was sent": append(slices.Clone(head), 0, 1, 7),
		"two of one":        {9, 2, 1, 1, 3, 0, 1, 5, 0, 1, 1, 1, 3, 0, 1, 6, 0, 1},
		"out of order":      {9, 1, 1, 1, 3, 0, 2, 5, 1, 1, 5, 1, 1},
		"copied after":      {9, 1, 1, 1, 3, 0, 2, 5, 1, 1, 0, 1, 1},
		"too many":          {9, 1, 1, 1, 3, 0, 0xff, 0xff, 3, 5, 1, 1},
		"wide checksum":     {9, 1, 1, 1, 3, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 5, 1, 1},
	} {
		if _, _, err := Restore(b, 0); !errors.Is(err, ErrState) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, _, err := Restore(append(slices.Clone(head), 5, 0, 1), 0); err != nil {
		t.Errorf("a sound state: %v", err)
	}
}

// FuzzFragment takes any bytes for a fragment: what is taken has one form, and
// holds what it says.
func FuzzFragment(f *testing.F) {
	parts, _ := cut(f, make([]byte, 5000), 2000)
	for _, p := range parts {
		f.Add(p[1:])
	}
	f.Add([]byte{0, 0, 1})
	f.Add([]byte{0, 1, 0x80, 0x10, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeFragment(b)
		if err != nil {
			if !errors.Is(err, ErrFragment) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again := got.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x has another form, %x", b, again)
		}
		var u unpacker
		if data, err := u.body(&got); err == nil && len(data) != got.size {
			t.Fatalf("%d bytes, it says %d", len(data), got.size)
		}
	})
}

// FuzzRestore takes any bytes for a state.
func FuzzRestore(f *testing.F) {
	a := NewAssembly(10)
	parts, _ := cut(f, []byte("some bytes of a giant"), 4)
	log := logged{}
	for i, p := range parts {
		log[[2]uint64{uint64(i + 1), 0}] = p[1:]
		a.Fragment(Place{3, 4, uint64(i + 1), 0}, p[1:], 0)
		a.Fragment(Place{9, 1, uint64(i + 1), 1}, p[1:], 0)
		log[[2]uint64{uint64(i + 1), 1}] = p[1:]
		a.Passed(7, 0)
	}
	f.Add(a.AppendState(nil))
	whole, err := a.AppendCopy(nil, log)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, rest, err := Restore(b, 10)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again := append(got.AppendState(nil), rest...); !bytes.Equal(again, b) {
			t.Fatalf("%x has another form, %x", b, again)
		}
	})
}

// BenchmarkFragment takes in the fragments of a body that packs by half.
func BenchmarkFragment(b *testing.B) {
	body := make([]byte, 1<<20)
	for i, x := 0, uint32(1); i < len(body); i += 2 {
		x = x*1664525 + 1013904223
		body[i] = byte(x >> 24)
	}
	parts, _ := cut(b, body, FragmentBytes)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	a := NewAssembly(0)
	for b.Loop() {
		for i, p := range parts {
			a.Fragment(Place{1, 1, uint64(i + 1), 0}, p[1:], 0)
		}
	}
}

// BenchmarkCut cuts the same body.
func BenchmarkCut(b *testing.B) {
	body := make([]byte, 1<<20)
	for i, x := 0, uint32(1); i < len(body); i += 2 {
		x = x*1664525 + 1013904223
		body[i] = byte(x >> 24)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		cut(b, body, FragmentBytes)
	}
}
