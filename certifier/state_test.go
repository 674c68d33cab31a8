package certifier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// stateParts are the fields of a serialised state, to be put together wrongly.
type stateParts struct {
	format      byte
	low         gtid.Set
	mark, floor uint64
	counts      [2]uint64 // added to the numbers of records and milestones
	records     []recordParts
	milestones  [][2]uint64 // index, sequence
	tail        []byte
}

type recordParts struct {
	gtid     gtid.GTID
	snapshot gtid.Set
	items    []Item
}

// soundState is of a group that certified five transactions and marked after
// the second.
func soundState() stateParts {
	s := stateParts{format: stateFormat, low: upTo(2), mark: 2, floor: 3, milestones: [][2]uint64{{7, 3}, {9, 5}}}
	for n := uint64(3); n <= 5; n++ {
		id := gtid.GTID{UUID: group, Number: n}
		s.records = append(s.records, recordParts{id, upTo(2), []Item{Item(n), Item(n) << 60}})
	}
	return s
}

func (s stateParts) encode(t testing.TB) []byte {
	t.Helper()
	set := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := append([]byte{s.format}, group[:]...)
	b = set(s.low.AppendBinary(b))
	for _, v := range []uint64{s.mark, s.floor, 0, 0, uint64(len(s.records)) + s.counts[0]} {
		b = binary.AppendUvarint(b, v)
	}
	for _, r := range s.records {
		b = set(r.gtid.AppendBinary(b))
		b = append(b, make([]byte, 16)...)
		b = set(r.snapshot.AppendBinary(b))
		b = binary.AppendUvarint(b, uint64(len(r.items)))
		for _, item := range r.items {
			b = append(binary.LittleEndian.AppendUint64(b, uint64(item)), byte(Write))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s.milestones))+s.counts[1])
	for _, m := range s.milestones {
		b = binary.AppendUvarint(b, m[0])
		b = binary.AppendUvarint(b, m[1])
	}
	return append(append(b, 0), s.tail...)
}

func TestRestore(t *testing.T) {
	state := soundState().encode(t)
	c, err := Restore(state, roomy)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.check(); err != nil {
		t.Error(err)
	}
	if c.Sequence() != 5 || !c.Executed().Equal(upTo(5)) || c.HistoryItems() != 9 {
		t.Errorf("sequence %d, executed %v, history of %d", c.Sequence(), c.Executed(), c.HistoryItems())
	}
	if again := appendState(t, c); !bytes.Equal(again, state) {
		t.Errorf("state %x comes back as %x", state, again)
	}
	want := lost(1, gtid.GTID{UUID: group, Number: 5})
	if v := judge(c, upTo(4), writes(3, 5)); v != want {
		t.Errorf("verdict %+v, want %+v", v, want)
	}
}

func TestRestoreNew(t *testing.T) {
	state := appendState(t, New(group, roomy))
	c, err := Restore(state, roomy)
	if err != nil {
		t.Fatal(err)
	}
	want := Verdict{Outcome: Certified, GTID: gtid.GTID{UUID: group, Number: 1}, Sequence: 1}
	if v := judge(c, gtid.Set{}, writes(1)); v != want {
		t.Errorf("verdict %+v, want %+v", v, want)
	}
}

func TestRestoreRefuses(t *testing.T) {
	for name, spoil := range map[string]func(s *stateParts){
		"a later format":                     func(s *stateParts) { s.format++ },
		"a mark below what was certified":    func(s *stateParts) { s.mark = 1 },
		"a mark above what was certified":    func(s *stateParts) { s.mark, s.floor = 3, 4 },
		"a mark beyond all numbers":          func(s *stateParts) { s.mark, s.floor = 1<<63, 1<<63 },
		"a floor below the mark":             func(s *stateParts) { s.floor = 1 },
		"a floor above the sequence":         func(s *stateParts) { s.floor = 6 },
		"more records than bytes":            func(s *stateParts) { s.counts[0] = 1 << 36 },
		"one record too many":                func(s *stateParts) { s.counts[0] = 1 },
		"a GTID twice":                       func(s *stateParts) { s.records[1].gtid = s.records[0].gtid },
		"a GTID from before the mark":        func(s *stateParts) { s.records[1].gtid.Number = 1 },
		"a record of no transaction":         func(s *stateParts) { s.records[1].gtid = gtid.GTID{} },
		"more milestones than bytes":         func(s *stateParts) { s.counts[1] = 1 << 40 },
		"a milestone that forgets nothing":   func(s *stateParts) { s.milestones[0][1] = 2 },
		"a milestone above the sequence":     func(s *stateParts) { s.milestones[1][1] = 6 },
		"milestones at one sequence":         func(s *stateParts) { s.milestones[1][1] = 3 },
		"milestones at one index":            func(s *stateParts) { s.milestones[1][0] = 7 },
		"milestones in the wrong order":      func(s *stateParts) { slices.Reverse(s.milestones) },
		"a milestone at no index":            func(s *stateParts) { s.milestones[0][0] = 0 },
		"something behind the end":           func(s *stateParts) { s.tail = []byte{0} },
		"a set with more than can be marked": func(s *stateParts) { s.low = s.low.AddInterval(foreign, "", 1, gtid.MaxNumber) },
	} {
		s := soundState()
		spoil(&s)
		if _, err := Restore(s.encode(t), roomy); !errors.Is(err, ErrState) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestRestoreRefusesBytes spoils what no field can say.
func TestRestoreRefusesBytes(t *testing.T) {
	s := soundState()
	s.low, s.mark, s.floor, s.records, s.milestones = gtid.Set{}, 0, 0, nil, nil
	empty := s.encode(t)
	long := slices.Insert(slices.Clone(empty), len(empty)-1, 0x80)
	s.records = []recordParts{{gtid: gtid.GTID{UUID: group, Number: 1}}}
	one := s.encode(t)
	items := slices.Concat(one[:len(one)-2], []byte{0x81, 0x80, 0x80, 0x08}, one[len(one)-1:])
	for name, b := range map[string][]byte{
		"nothing":                         {},
		"a number not in its shortest":    long,
		"more items than a write set has": items,
	} {
		if _, err := Restore(b, roomy); !errors.Is(err, ErrState) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// goOn uses a restored certifier in every way that there is.
func goOn(t *testing.T, c *Certifier, state []byte) {
	t.Helper()
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	if again := appendState(t, c); !bytes.Equal(again, state) {
		t.Fatalf("state %x comes back as %x", state, again)
	}
	sequence := c.Sequence()
	list := []Item{1, 3}
	if n := c.hashes.Len(); n > 0 {
		list = append(list, c.hashes.At(0).item, c.hashes.At(n-1).item)
	}
	for _, snapshot := range []gtid.Set{c.Executed(), {}, upTo(2)} {
		judge(c, snapshot, Encoded{})
		judge(c, snapshot, writes(list...))
	}
	if first := c.Markable(1 << 62); first != 0 && markableItems(c, 0) == 0 {
		t.Fatalf("a mark can fall at %d, but none would help", first)
	}
	c.Mark(markableItems(c, c.HistoryItems()/2))
	c.EntryDone(1 << 63)
	c.Mark(1 << 63)
	judge(c, c.Executed(), writes(list...))
	if err := c.check(); err != nil {
		t.Fatalf("from sequence %d: %v", sequence, err)
	}
}

// TestRestoreDamaged cuts a state off at each byte and flips each of its bits.
// A prefix is refused. A flipped bit may be of an item or a snapshot version,
// which nothing in the state can tell from others; it makes a certifier that
// is wrong, and no more than that.
func TestRestoreDamaged(t *testing.T) {
	state := soundState().encode(t)
	for n := range state {
		if _, err := Restore(state[:n], roomy); !errors.Is(err, ErrState) {
			t.Fatalf("prefix of %d of %d bytes: error %v", n, len(state), err)
		}
	}
	refused := 0
	for bit := range 8 * len(state) {
		flipped := bytes.Clone(state)
		flipped[bit/8] ^= 1 << (bit % 8)
		c, err := Restore(flipped, roomy)
		switch {
		case err == nil:
			goOn(t, c, flipped)
		case errors.Is(err, ErrState):
			refused++
		default:
			t.Fatalf("bit %d: error %v is of no known kind", bit, err)
		}
	}
	if refused == 0 || refused == 8*len(state) {
		t.Errorf("%d of %d flipped bits refused", refused, 8*len(state))
	}
}

// FuzzRestore checks that no bytes make Restore panic, and that what it takes
// is a state: it has one encoding, and its certifier keeps its invariants.
func FuzzRestore(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendState(f, New(group, roomy)))
	f.Add(soundState().encode(f))
	c := New(group, roomy)
	for i := range Item(6) {
		judge(c, upTo(uint64(i/2)), writes(repeated(i, 250)...))
		c.EntryDone(uint64(i) + 1)
	}
	f.Add(appendState(f, c))
	c.Mark(5)
	f.Add(appendState(f, c))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Restore(b, roomy)
		if err == nil {
			goOn(t, c, b)
		} else if !errors.Is(err, ErrState) {
			t.Fatalf("error %v is of no known kind", err)
		}
	})
}

// TestExhausted takes a group to its last number.
func TestExhausted(t *testing.T) {
	s := soundState()
	before := upTo(gtid.MaxNumber - 2)
	s.low, s.mark, s.floor, s.records, s.milestones = before, gtid.MaxNumber-2, gtid.MaxNumber-2, nil, nil
	c, err := Restore(s.encode(t), roomy)
	if err != nil {
		t.Fatal(err)
	}
	for number := gtid.MaxNumber - 1; number <= gtid.MaxNumber; number++ {
		want := Verdict{
			Outcome: Certified, GTID: gtid.GTID{UUID: group, Number: number},
			LastCommitted: gtid.MaxNumber - 2, Sequence: number,
		}
		if v := judge(c, before, writes(Item(number))); v != want {
			t.Fatalf("verdict %+v, want %+v", v, want)
		}
	}
	state := appendState(t, c)
	for name, try := range map[string]struct {
		items []Item
		want  Verdict
	}{
		"conflict comes first": {
			[]Item{1, Item(gtid.MaxNumber)},
			lost(1, gtid.GTID{UUID: group, Number: gtid.MaxNumber}),
		},
		"no conflict":     {[]Item{1}, Verdict{Outcome: Exhausted}},
		"empty write set": {nil, Verdict{Outcome: Exhausted}},
	} {
		if v := judge(c, before, writes(try.items...)); v != try.want {
			t.Errorf("%s: verdict %+v, want %+v", name, v, try.want)
		}
	}
	if v := judge(c, gtid.Set{}, writes(1)); v.Outcome != SnapshotTooOld {
		t.Errorf("snapshot below the mark: verdict %+v", v)
	}
	if !bytes.Equal(appendState(t, c), state) {
		t.Error("a refused transaction changed the state")
	}
}
