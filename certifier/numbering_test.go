package certifier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

var numberedUUID = gtid.UUID{0xaa, 15: 1}

// numberer is the member that scripts and properties name with a letter.
func numberer(letter byte) gtid.UUID { return gtid.UUID{0xbb, 15: letter} }

// ledger is a numbering with what the certifier around it keeps.
type ledger struct {
	*numbering
	executed gtid.Set
}

func newLedger(tag gtid.Tag, block uint64) *ledger {
	return &ledger{numbering: newNumbering(numberedUUID, tag, block)}
}

func (l *ledger) take(member gtid.UUID) (uint64, bool) {
	number, ok := l.next(l.executed, member)
	l.executed = l.executed.Add(gtid.GTID{UUID: l.uuid, Tag: l.tag, Number: number})
	return number, ok
}

func (l *ledger) specify(first, last uint64) {
	l.executed = l.executed.AddInterval(l.uuid, l.tag, first, last)
}

func (l *ledger) view() { l.recompute(l.executed) }

// reload saves the numbering and goes on with what was saved.
func (l *ledger) reload(t interface{ Fatalf(string, ...any) }) {
	const before = "what comes before"
	state := l.appendState([]byte(before))[len(before):]
	n, rest, err := decodeNumbering(state, l.tag)
	if err != nil || len(rest) != 0 {
		t.Fatalf("state %x: %d bytes left, error %v", state, len(rest), err)
	}
	if again := n.appendState(nil); !bytes.Equal(again, state) {
		t.Fatalf("state %x comes back as %x", state, again)
	}
	l.numbering = n
}

func decodeNumbering(b []byte, tag gtid.Tag) (n *numbering, rest []byte, err error) {
	d := newDecoder(b, ErrState)
	n = restoreNumbering(d, numberedUUID, tag)
	return n, d.Rest, d.Err
}

// play carries out a script and checks the numbers in it:
//
//	A7..9    member A takes the numbers 7, 8 and 9, and A7 only that
//	A!       member A takes a number when there is none, and nothing changes
//	=7..9    transactions that asked for these numbers are certified
//	view     a view is installed
//	block:5  the block size changes
//	reload   the state is saved, and restored in its place
//
// M is the last number, and M-2 the second before it.
func play(t *testing.T, l *ledger, script string) {
	t.Helper()
	for i, step := range strings.Fields(script) {
		switch {
		case step == "view":
			l.view()
		case step == "reload":
			l.reload(t)
		case strings.HasPrefix(step, "block:"):
			l.setBlock(l.executed, scriptNumber(t, step[len("block:"):]))
		case step[0] == '=':
			l.specify(scriptRange(t, step[1:]))
		case step[1] == '!':
			before := l.appendState(nil)
			if number, ok := l.take(numberer(step[0])); ok {
				t.Fatalf("step %d, %s: number %d", i, step, number)
			}
			if after := l.appendState(nil); !bytes.Equal(before, after) {
				t.Fatalf("step %d, %s: state %x became %x", i, step, before, after)
			}
		default:
			first, last := scriptRange(t, step[1:])
			for want := first; want <= last; want++ {
				if number, ok := l.take(numberer(step[0])); !ok || number != want {
					t.Fatalf("step %d, %s: number %d, %t, want %d", i, step, number, ok, want)
				}
			}
		}
		if err := l.check(); err != nil {
			t.Fatalf("step %d, %s: %v", i, step, err)
		}
	}
}

func scriptRange(t *testing.T, text string) (first, last uint64) {
	t.Helper()
	from, to, found := strings.Cut(text, "..")
	first = scriptNumber(t, from)
	if !found {
		return first, first
	}
	return first, scriptNumber(t, to)
}

func scriptNumber(t *testing.T, text string) uint64 {
	t.Helper()
	below, fromEnd := strings.CutPrefix(text, "M")
	if fromEnd && below == "" {
		return gtid.MaxNumber
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(below, "-"), 10, 64)
	if err != nil {
		t.Fatalf("script: %v", err)
	}
	if fromEnd {
		return gtid.MaxNumber - n
	}
	return n
}

// check reports the first broken invariant of a numbering that can be seen
// without its past.
func (n *numbering) check() error {
	if n.counter > n.block+1 || uint64(len(n.blocks)) > max(n.counter, 1)-1 {
		return fmt.Errorf("counter %d with block size %d and %d blocks", n.counter, n.block, len(n.blocks))
	}
	if (n.block <= 1 && n.counter != 0) || (n.counter == 0 && (!n.base.IsEmpty() || len(n.blocks) > 0)) {
		return fmt.Errorf("block size %d and counter %d with %d blocks and base %v", n.block, n.counter, len(n.blocks), n.base)
	}
	for i, r := range n.blocks {
		if r.first < 1 || r.first > r.last || r.last > gtid.MaxNumber || r.last-r.first >= n.block {
			return fmt.Errorf("block %+v with block size %d", r, n.block)
		}
		if i > 0 && n.blocks[i-1].member.Compare(r.member) >= 0 {
			return fmt.Errorf("members %v and %v in this order", n.blocks[i-1].member, r.member)
		}
		own := gtid.Set{}.AddInterval(n.uuid, n.tag, r.first, r.last)
		for _, other := range n.blocks[:i] {
			if other.first <= r.last && r.first <= other.last {
				return fmt.Errorf("blocks %+v and %+v share numbers", other, r)
			}
		}
		if !own.Intersect(n.base).IsEmpty() {
			return fmt.Errorf("block %+v has numbers of %v", r, n.base)
		}
	}
	return nil
}

// TestNumbering has the cases of the specification: its section 4.2, and item
// 16 of its checklist.
func TestNumbering(t *testing.T) {
	for name, test := range map[string]struct {
		block  uint64
		script string
	}{
		"size 1, order of certification": {1, "A1 B2 A3 C4 view B5"},
		"size 1, lowest hole":            {1, "=3 =5..6 A1 B2 A4 C7 =8..9 B10"},
		"size 0 means 1":                 {0, "A1 B2 =4 A3 B5"},

		// With a view's own GTID the second member would begin at 1000002, and
		// the first after it.
		"a new group of two":          {1_000_000, "view A1 B1000001 A2 B1000002"},
		"no view before":              {1_000_000, "A1 B1000001 A2 B1000002"},
		"first number after a view":   {1_000_000, "=1..7 view A8 B1000008"},
		"a view after the first":      {10, "A1 B11 view B2 A12 B3 A13"},
		"alternation":                 {100, "A1 B101 A2 B102 C201 A3 C202 B103"},
		"handed back after the block": {3, "A1 B4 A2 B3 A5 B8 C6 A9 B12 A7 B10 C13"},
		"counter wraps for one":       {2, "A1..9"},
		"counter starts at the view":  {4, "A1..3 view B4 A8 B5..6 C7"},
		"holes fill":                  {100, "=1 view =2 A3..91 B102..112 =113..123 A92..101 A124 B224"},

		"gap shorter than the block":   {10, "=1..10 =14..20 A11 B21 A12..13 A31 B22"},
		"gap of one number":            {10, "=1 =3 A2 A4 B14"},
		"gap as long as the block":     {10, "=1..10 =21..30 A11 B31 A12..19"},
		"gap one longer":               {10, "=1..10 =22..30 A11 B21 C31 B41"},
		"gap of two blocks":            {10, "=21..30 A1 B11 C31 D41"},
		"several gaps":                 {10, "=2 =4..5 =8 A1 B3 C6 D9 C7 A19 B29"},
		"gap at the end of the search": {1000, "=1..10 =500 =502..503 A11 B501 C504"},

		"specified in the own block":              {10, "A1 =2..3 A4 =6 A5 A7"},
		"specified in another's block":            {10, "A1 B11 =2..4 =12 B13 A5"},
		"specified beyond the blocks":             {10, "A1 =15 B11..14 B16 C21"},
		"specified beyond, then a view":           {10, "A1 =15 view A2..9 B12 C16 A10"},
		"whole remainder taken":                   {4, "A1 =2..4 A5 B9 A6"},
		"whole remainder of many taken":           {4, "A1 =2..4 B5 =6..8 A9 B13"},
		"whole blocks taken":                      {10, "view =1..34 A35 B41 A36"},
		"very many blocks taken":                  {10, "view =1..4000000000000000004 A4000000000000000005 B4000000000000000011"},
		"whole gaps taken":                        {10, "=11 =14 view =1..10 =12..13 =15..26 A27 B35"},
		"block and gap taken":                     {3, "=9..10 view =1..7 A8 B11"},
		"specified do not count":                  {3, "A1 B4 =100..102 C7 D2"},
		"specified before first use":              {10, "=5 A1 B6"},
		"specified between a view and the first":  {10, "view =5 A1 B11"},
		"refused numbers are not reserved anew":   {10, "A1 =2..10 view A11 B21"},
		"what was left unused comes back":         {3, "A1 B4 C7 A2 B5 C8 B3 A6"},
		"block size of the greatest kind":         {1<<63 - 1, "A1 A2 B3 A4 A5 B6"},
		"block size beyond":                       {1<<64 - 1, "A1 B2 =3 A4"},
		"members that left own nothing":           {10, "A1 B11 view A2 C12 A3"},
		"block size changes":                      {10, "A1 B11 block:5 B2 A7 block:1 A3 B4 block:10 C5 A8 B12"},
		"block size set anew":                     {10, "A1 B11 block:10 A2 B12 C21"},
		"block size set before first use":         {1, "=2 block:3 =5 A1 B3 C6"},
		"saved and restored":                      {10, "reload A1 reload B11 =25 reload A2 C21 view reload =12 A3 reload B13 A4"},
		"saved and restored with gaps ahead":      {10, "=4 =20..25 A1 reload B5 C15 reload D26 reload A2"},
		"saved and restored before a hand back":   {3, "A1 B4 A2 reload B3 A5"},
		"exhausted, size 1":                       {1, "=1..M-2 AM-1 BM A! view A!"},
		"exhausted, a last block short of others": {10, "=1..M-3 AM-2 BM-1 AM A! B! C! view A!"},
		"exhausted, a last block that just fits":  {3, "=1..M-3 AM-2..M A! view A!"},
		"exhausted, by a specified one":           {10, "=1..M-1 view =M A! B!"},
		"exhausted above, a hole below":           {2, "=3..M-1 A1 BM B2 A! B!"},
		"exhausted ahead, blocks below":           {4, "=6..M A1 B5 C2 A3..4 A!"},
		"exhausted, and set back by nothing":      {2, "=1..M-1 AM A! reload A! block:7 A! view A!"},
		"the last number, specified":              {10, "=M A1 B11"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, tag := range []gtid.Tag{"", "backup"} {
				play(t, newLedger(tag, test.block), test.script)
			}
		})
	}
}

// TestNumberingApart checks that numbers of other UUIDs and tags do not count.
func TestNumberingApart(t *testing.T) {
	for _, block := range []uint64{1, 10} {
		l := newLedger("backup", block)
		for _, other := range []gtid.GTID{{UUID: numberedUUID}, {UUID: numberer(1), Tag: "backup"}, {UUID: numberedUUID, Tag: "backups"}} {
			l.executed = l.executed.AddInterval(other.UUID, other.Tag, 1, 15)
		}
		l.view()
		l.specify(13, 13)
		l.reload(t)
		play(t, l, "A1..2 =4 A3 A5..12 A14")
	}
}

// numberingParts are the fields of a serialised numbering, to be put together
// wrongly.
type numberingParts struct {
	block, counter uint64
	base           gtid.Set
	count          uint64 // added to the number of blocks
	blocks         []reservation
}

func soundNumbering() numberingParts {
	return numberingParts{
		block: 10, counter: 6, base: gtid.Set{}.AddInterval(numberedUUID, "", 31, 40),
		blocks: []reservation{{numberer('A'), 1, 10}, {numberer('B'), 25, 30}, {numberer('C'), 11, 20}},
	}
}

func (s numberingParts) encode() []byte {
	b := binary.AppendUvarint(nil, s.block)
	b = binary.AppendUvarint(b, s.counter)
	b, _ = s.base.AppendBinary(b)
	b = binary.AppendUvarint(b, uint64(len(s.blocks))+s.count)
	for _, r := range s.blocks {
		b = append(b, r.member[:]...)
		b = binary.AppendUvarint(b, r.first)
		b = binary.AppendUvarint(b, r.last-r.first)
	}
	return b
}

func TestRestoreNumbering(t *testing.T) {
	state := soundNumbering().encode()
	n, rest, err := decodeNumbering(append(slices.Clone(state), 7), "")
	if err != nil || !bytes.Equal(rest, []byte{7}) {
		t.Fatalf("%x left, error %v", rest, err)
	}
	if again := n.appendState(nil); !bytes.Equal(again, state) {
		t.Errorf("state %x comes back as %x", state, again)
	}
	l := &ledger{numbering: n, executed: soundNumbering().base}
	l.specify(1, 5)
	l.specify(11, 13)
	l.specify(25, 30)
	play(t, l, "A6 B41 C14 D51 A7")
}

func TestRestoreNumberingRefuses(t *testing.T) {
	for name, spoil := range map[string]func(s *numberingParts){
		"block size 0":                    func(s *numberingParts) { s.block = 0 },
		"block size beyond all numbers":   func(s *numberingParts) { s.block = gtid.MaxNumber + 1 },
		"a counter beyond the block size": func(s *numberingParts) { s.counter = 12 },
		"more blocks than numbers":        func(s *numberingParts) { s.counter = 3 },
		"numbers without blocks":          func(s *numberingParts) { s.blocks = nil },
		"more blocks than bytes":          func(s *numberingParts) { s.counter, s.block, s.count = 1<<40, 1<<40, 1<<36 },
		"one block too many":              func(s *numberingParts) { s.count = 1 },
		"a base within the blocks":        func(s *numberingParts) { s.base = s.base.AddInterval(numberedUUID, "", 25, 25) },
		"a base of another UUID":          func(s *numberingParts) { s.base = s.base.AddInterval(numberer('A'), "", 35, 35) },
		"a base of another tag":           func(s *numberingParts) { s.base = s.base.AddInterval(numberedUUID, "backup", 35, 35) },
		"a block longer than the size":    func(s *numberingParts) { s.base, s.blocks[1].first, s.blocks[1].last = gtid.Set{}, 21, 31 },
		"a block that begins at 0":        func(s *numberingParts) { s.blocks[0].first, s.blocks[0].last = 0, 0 },
		"a block across the last number": func(s *numberingParts) {
			s.base, s.blocks[1] = gtid.Set{}, reservation{numberer('B'), gtid.MaxNumber, gtid.MaxNumber + 1}
		},
		"a block beyond the last number": func(s *numberingParts) {
			s.base, s.blocks[1] = gtid.Set{}, reservation{numberer('B'), gtid.MaxNumber + 1, gtid.MaxNumber + 1}
		},
		"a block that ends before":   func(s *numberingParts) { s.blocks[1].last = 24 - 1 },
		"a member twice":             func(s *numberingParts) { s.blocks[1].member = s.blocks[0].member },
		"members in the wrong order": func(s *numberingParts) { slices.Reverse(s.blocks) },
		"blocks that share a number": func(s *numberingParts) { s.blocks[0].first, s.blocks[0].last = 2, 11 },
	} {
		s := soundNumbering()
		spoil(&s)
		if _, _, err := decodeNumbering(s.encode(), ""); !errors.Is(err, ErrState) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, state := range [][]byte{soundNumbering().encode(), {10, 0}, {1}} {
		for n := range state {
			if _, _, err := decodeNumbering(state[:n], ""); !errors.Is(err, ErrState) {
				t.Errorf("prefix of %d of %d bytes: error %v", n, len(state), err)
			}
		}
	}
}

// TestNumberingAllocates checks that a number costs no memory, and neither does
// a block that is not out of a hole.
func TestNumberingAllocates(t *testing.T) {
	for _, block := range []uint64{1, 1_000_000} {
		l := newLedger("", block)
		l.specify(1, 1000)
		if allocs := testing.AllocsPerRun(1000, func() {
			l.view()
			for i := range byte(9) {
				l.next(l.executed, numberer(i%3))
			}
		}); allocs != 0 {
			t.Errorf("block size %d: %v allocations for 9 numbers", block, allocs)
		}
	}
}

// BenchmarkNumberingHoles is the cost of a number in holes of one number each,
// of which there are 1,000.
func BenchmarkNumberingHoles(b *testing.B) {
	l := newLedger("", 1_000_000)
	for n := uint64(1); n <= 2000; n += 2 {
		l.specify(n, n)
	}
	b.ReportAllocs()
	for b.Loop() {
		l.view()
		l.next(l.executed, numberer('A'))
	}
}

// BenchmarkNumbering is the cost of a number among three members: alone, and
// with its entry into the executed set, which the certifier pays for.
func BenchmarkNumbering(b *testing.B) {
	for _, block := range []uint64{1, 10, 1_000_000} {
		for _, added := range []bool{false, true} {
			b.Run(fmt.Sprintf("block=%d/added=%t", block, added), func(b *testing.B) {
				l := newLedger("", block)
				for i := range 30 {
					l.take(numberer(byte(i % 3)))
				}
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					if i++; added {
						l.take(numberer(byte(i % 3)))
					} else {
						l.next(l.executed, numberer(byte(i%3)))
					}
				}
			})
		}
	}
}
