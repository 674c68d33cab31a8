package certifier

import (
	"bytes"
	"errors"
	"testing"

	"github.com/concordatdb/concordat/gtid"
	"pgregory.net/rapid"
)

// gnoEnd is what MySQL calls GNO_END: one above the last number. It stands in
// lists of free numbers, and is never given out.
const gnoEnd = gtid.MaxNumber + 1

// numberingModel is Group Replication's generator as its source tells it, with
// all lists written out. Only a block of which nothing is left is treated as
// its authors meant to.
type numberingModel struct {
	uuid      gtid.UUID
	tag       gtid.Tag
	block     uint64
	counter   uint64
	available []closed
	owned     map[gtid.UUID]*closed
}

// closed is the interval of the numbers start to end.
type closed struct{ start, end uint64 }

// search is how the search for a candidate ends.
type search int

const (
	found search = iota
	overflow
	exhausted
)

func (m *numberingModel) used(executed gtid.Set) (list []closed) {
	for in := range executed.Intervals() {
		if in.UUID == m.uuid && in.Tag == m.tag {
			list = append(list, closed{in.First, in.Last})
		}
	}
	return list
}

func (m *numberingModel) recompute(executed gtid.Set) {
	m.counter, m.owned, m.available = 1, map[gtid.UUID]*closed{}, nil
	start := uint64(1)
	for _, u := range m.used(executed) {
		if u.start > start {
			m.available = append(m.available, closed{start, u.start - 1})
		}
		start = u.end + 1
	}
	m.available = append(m.available, closed{start, gnoEnd})
}

func (m *numberingModel) candidate(executed gtid.Set, start, end uint64) (uint64, search) {
	g := start
	for _, u := range m.used(executed) {
		if u.start <= g && g <= u.end {
			g = u.end + 1
		}
	}
	switch {
	case g >= gnoEnd:
		return 0, exhausted
	case g > end:
		return 0, overflow
	}
	return g, found
}

func (m *numberingModel) reserve(executed gtid.Set) *closed {
	if len(m.available) == 0 {
		m.recompute(executed)
	}
	first := &m.available[0]
	if m.block > first.end-first.start {
		whole := *first
		m.available = m.available[1:]
		return &whole
	}
	piece := closed{first.start, first.start + m.block - 1}
	first.start += m.block
	return &piece
}

func (m *numberingModel) next(executed gtid.Set, member gtid.UUID) (uint64, bool) {
	if m.block == 1 {
		g, how := m.candidate(executed, 1, gnoEnd)
		return g, how == found
	}
	if m.counter%(m.block+1) == 0 {
		m.recompute(executed)
	}
	if m.owned[member] == nil {
		block := m.reserve(executed)
		m.owned[member] = block
	}
	for {
		block := m.owned[member]
		g, how := m.candidate(executed, block.start, block.end)
		switch how {
		case found:
			block.start = g
			m.counter++
			return g, true
		case overflow:
			block = m.reserve(executed) // may make m.owned anew
			m.owned[member] = block
		case exhausted:
			return 0, false
		}
	}
}

// pair drives the numbering and its model through the same calls.
type pair struct {
	*ledger
	model numberingModel
	given map[uint64]bool
}

func newPair(tag gtid.Tag, block uint64, executed gtid.Set) *pair {
	p := &pair{ledger: newLedger(tag, block), given: map[uint64]bool{}}
	p.executed = executed
	p.model = numberingModel{uuid: p.uuid, tag: tag, block: block}
	return p
}

// number takes a number of both. Where the model gives up while numbers are
// free, the numbering must give some number that is, and both begin anew.
func (p *pair) number(t *rapid.T, member gtid.UUID) {
	before, state := p.executed, p.appendState(nil)
	number, ok := p.take(member)
	id := gtid.GTID{UUID: p.uuid, Tag: p.tag, Number: number}
	switch {
	case ok && (!id.Valid() || before.Contains(id) || p.given[number]):
		t.Fatalf("number %d, executed %v", number, before)
	case !ok && before.FirstMissing(p.uuid, p.tag, 1) != 0:
		t.Fatalf("exhausted, executed %v", before)
	case !ok && !bytes.Equal(p.appendState(nil), state):
		t.Fatalf("state %x becomes %x without a number", state, p.appendState(nil))
	}
	p.given[number] = ok
	want, found := p.model.next(before, member)
	if found && (!ok || number != want) {
		t.Fatalf("number %d, %t, want %d; executed %v", number, ok, want, before)
	}
	if !found {
		p.handBack()
	}
}

func (p *pair) handBack() {
	p.view()
	p.model.recompute(p.executed)
}

// resize reports whether the size is another than before.
func (p *pair) resize(block uint64) bool {
	p.setBlock(p.executed, block)
	if block == p.model.block {
		return false
	}
	p.model.block = block
	p.model.recompute(p.executed)
	return true
}

// TestNumberingModel compares every number with the model's.
func TestNumberingModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.OneOf(rapid.Uint64Range(1, 9), rapid.SampledFrom([]uint64{1, 20, 1000, gtid.MaxNumber}))
		tag := rapid.SampledFrom([]gtid.Tag{"", "backup"}).Draw(t, "tag")
		// The numbers up to this one are used at the start: none, or nearly all.
		floor := rapid.SampledFrom([]uint64{0, gtid.MaxNumber - 60}).Draw(t, "floor")
		numbers := rapid.Uint64Range(1, 60)
		executed := gtid.Set{}.AddInterval(numberedUUID, tag, 1, floor).
			AddInterval(numberedUUID, "other", 3, 70).AddInterval(numberer('A'), tag, 1, 5)
		for _, n := range rapid.SliceOfN(numbers, 0, 20).Draw(t, "used") {
			executed = executed.AddInterval(numberedUUID, tag, floor+n, floor+n)
		}
		if floor > 0 && rapid.Bool().Draw(t, "hole") {
			executed = executed.Subtract(gtid.Set{}.AddInterval(numberedUUID, tag, 7, 9))
		}
		p := newPair(tag, sizes.Draw(t, "block"), executed)
		p.model.recompute(executed) // as at its first number
		fresh := true
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			op := rapid.IntRange(0, 29).Draw(t, "op")
			switch {
			case op < 18:
				p.number(t, numberer("ABCD"[rapid.IntRange(0, 3).Draw(t, "member")]))
				fresh = false
			case op < 24:
				first := floor + numbers.Draw(t, "first")
				p.specify(first, first+rapid.SampledFrom([]uint64{0, 0, 0, 3, 20}).Draw(t, "more"))
				if fresh {
					p.model.recompute(p.executed)
				}
			case op < 26:
				p.handBack()
				fresh = false
			case op < 27:
				fresh = !p.resize(sizes.Draw(t, "size")) && fresh
			default:
				p.reload(t)
			}
			if err := p.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzRestoreNumbering checks that no bytes make the decoder panic, and that
// what it takes has one encoding and goes on to give numbers that are free.
func FuzzRestoreNumbering(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add([]byte{10, 0})
	f.Add(soundNumbering().encode())
	l := newLedger("", 5)
	l.specify(100, 120)
	for i := range byte(13) {
		l.take(numberer(i % 3))
		f.Add(l.appendState(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, rest, err := decodeNumbering(b, "")
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatalf("error %v is of no known kind", err)
			}
			return
		}
		state := b[:len(b)-len(rest)]
		if again := n.appendState(nil); !bytes.Equal(again, state) {
			t.Fatalf("state %x comes back as %x", state, again)
		}
		for _, last := range []uint64{0, 30, 1 << 40, gtid.MaxNumber} {
			n, _, _ := decodeNumbering(state, "")
			l := &ledger{numbering: n}
			l.specify(1, last)
			for i := range byte(20) {
				before := l.executed
				number, ok := l.take(numberer(i % 4))
				id := gtid.GTID{UUID: numberedUUID, Number: number}
				if ok == (last == gtid.MaxNumber) || ok && (!id.Valid() || before.Contains(id)) {
					t.Fatalf("number %d, %t, executed %v", number, ok, before)
				}
			}
			if err := l.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
