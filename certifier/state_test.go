package certifier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// stateParts are the parts of a serialised state, to be put together wrongly.
type stateParts struct {
	format     byte
	low        gtid.Set
	unplaced   uint64
	milestones []uint64
	now        [4]uint64
	records    [][]byte
	links      []uint64
	count      uint64
	items      []uint64
	places     [][]byte
	numberings []byte
	tail       []byte
}

func uvarints(list ...uint64) (b []byte) {
	for _, v := range list {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func setBytes(s gtid.Set) []byte {
	b, err := s.AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	return b
}

func gtidBytes(g gtid.GTID) []byte {
	b, err := g.AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	return b
}

// soundState is of a group that certified five transactions and marked after
// the second. Those after the mark saw E(2), E(2), and 1, 2 and 4. The third and
// the fifth added to one item, the third refers to another that the fourth
// writes, the fifth writes a third one.
func soundState() stateParts {
	return stateParts{
		format: stateFormat, low: upTo(2), unplaced: 1,
		milestones: []uint64{7, 1, 1100, 5000, 2, 2, 2, 1200, 5000, 1},
		records: [][]byte{
			slices.Concat(uvarints(0), foreign[:], uvarints(4, 0)),
			uvarints(0, 0, 1),
			slices.Concat(uvarints(headIrregular, 0), setBytes(upTo(2).AddInterval(group, "", 4, 4))),
		},
		links: []uint64{1, 0, 0, 0, 1, 0, 2, 4},
		count: 3, items: []uint64{100, stampOf(2, Write), 50, stampOf(3, Delta), 1, stampOf(3, Write)},
		places: [][]byte{slices.Concat(uvarints(2, 0), make([]byte, 8), []byte{1, 'a'})},
	}
}

func (s *stateParts) encode() []byte {
	b := append([]byte{s.format}, group[:]...)
	b = append(b, setBytes(s.low)...)
	b = append(b, uvarints(s.unplaced, uint64(len(s.milestones)/5))...)
	b = append(b, uvarints(s.milestones...)...)
	b = append(b, uvarints(s.now[:]...)...)
	b = slices.Concat(b, slices.Concat(s.records...), uvarints(s.links...))
	b = binary.LittleEndian.AppendUint64(b, s.count)
	b = slices.Concat(b, uvarints(s.items...), uvarints(uint64(len(s.places))), slices.Concat(s.places...))
	if s.numberings == nil {
		b = append(b, 0)
	}
	return slices.Concat(b, s.numberings, s.tail)
}

func TestRestore(t *testing.T) {
	s := soundState()
	state := s.encode()
	c, err := Restore(state, roomy)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.check(); err != nil {
		t.Error(err)
	}
	if c.Sequence() != 5 || !c.Executed().Equal(upTo(5)) || c.HistoryItems() != 2300 || c.HistoryBytes() != 10_064 {
		t.Errorf("sequence %d, executed %v, history of %d, %d bytes", c.Sequence(), c.Executed(), c.HistoryItems(), c.HistoryBytes())
	}
	if again := appendState(t, c); !bytes.Equal(again, state) {
		t.Errorf("state %x comes back as %x", state, again)
	}
	if c.straight.to != 5 {
		t.Errorf("GTIDs are known to be in order up to %d", c.straight.to)
	}
	item := func(key uint64) Item { return Item(key * unmixer) }
	want := lost(1, gtid.GTID{UUID: group, Number: 5})
	want.Clash.Member, want.Clash.Earlier = foreign, Delta
	if v := judge(c, upTo(4), writes(item(100), item(150))); v != want {
		t.Errorf("verdict %+v, want %+v", v, want)
	}
	want = lost(0, gtid.GTID{UUID: group, Number: 4})
	want.Clash.Member = foreign
	if v := judge(c, upTo(3), writes(item(100))); v != want {
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

// TestRestoreOldSnapshot saves a record whose snapshot version has as many GTIDs
// as lie before the mark, but not those.
func TestRestoreOldSnapshot(t *testing.T) {
	c := New(group, roomy)
	fill(t, c, 1, 2, milestoneEvery)
	ws := does(Read, 7)
	snapshot := upTo(1).AddInterval(foreign, "", 1, 1)
	if v := judge(c, snapshot, ws); v.Outcome != Certified {
		t.Fatalf("%+v", v)
	}
	c.Mark(2)
	again := saved(t, c)
	if state := appendState(t, c); !bytes.Equal(appendState(t, again), state) {
		t.Errorf("state %x does not come back", state)
	}
	if v := judge(again, upTo(3), ws); v.Outcome != Conflict || v.Clash.Sequence != 3 {
		t.Errorf("who has not all that a barrier saw: %+v", v)
	}
}

// set returns list with another value at i.
func set(list []uint64, i int, v uint64) []uint64 {
	list = slices.Clone(list)
	list[i] = v
	return list
}

func TestRestoreRefuses(t *testing.T) {
	first := slices.Concat(uvarints(0), foreign[:])
	place := func(sequence uint64, head byte, size byte, key string) []byte {
		return slices.Concat(uvarints(sequence), []byte{head}, make([]byte, 8), []byte{size}, []byte(key))
	}
	for name, spoil := range map[string]func(s *stateParts){
		"a later format":                     func(s *stateParts) { s.format++ },
		"a mark beyond all sequences":        func(s *stateParts) { s.low = s.low.AddInterval(foreign, "", 1, gtid.MaxNumber) },
		"keys missing after the end":         func(s *stateParts) { s.unplaced = 4 },
		"keys missing beyond all sequences":  func(s *stateParts) { s.unplaced = 1<<64 - 1 },
		"more milestones than bytes":         func(s *stateParts) { s.milestones = append(s.milestones, make([]uint64, 500)...) },
		"a milestone that forgets nothing":   func(s *stateParts) { s.milestones, s.now = set(s.milestones, 1, 0), [4]uint64{1, 0, 0, 0} },
		"a milestone too early":              func(s *stateParts) { s.milestones = set(s.milestones, 2, milestoneEvery-1) },
		"a milestone at no index":            func(s *stateParts) { s.milestones = set(s.milestones, 0, 0) },
		"milestones at one index":            func(s *stateParts) { s.milestones = set(s.milestones, 5, 0) },
		"indexes that go round":              func(s *stateParts) { s.milestones = set(s.milestones, 5, 1<<64-3) },
		"a sequence beyond all":              func(s *stateParts) { s.milestones = set(s.milestones, 6, maxSequence+1) },
		"more transactions than weight":      func(s *stateParts) { s.now = [4]uint64{1, 0, 0, 0} },
		"more links than weight":             func(s *stateParts) { s.milestones = set(s.milestones, 4, 1100) },
		"more transactions than bytes":       func(s *stateParts) { s.now = [4]uint64{1 << 30, 1 << 30, 0, 0} },
		"a transaction less":                 func(s *stateParts) { s.records = s.records[:2] },
		"an origin out of turn":              func(s *stateParts) { s.records[1] = uvarints(2<<headBits, 0, 1) },
		"a GTID twice":                       func(s *stateParts) { s.records[1] = uvarints(0, 1, 1) },
		"a GTID from before the mark":        func(s *stateParts) { s.records[1] = uvarints(0, 3, 1) },
		"a GTID below all":                   func(s *stateParts) { s.records[0] = slices.Concat(first, uvarints(1, 0)) },
		"a GTID above all":                   func(s *stateParts) { s.records[1] = uvarints(0, 1<<64-2, 1) },
		"a snapshot version before the mark": func(s *stateParts) { s.records[1] = uvarints(0, 0, 2) },
		"a regular snapshot version as another": func(s *stateParts) {
			s.records[2] = slices.Concat(uvarints(headIrregular, 0), setBytes(upTo(4)))
		},
		"a plain GTID by its whole name": func(s *stateParts) {
			s.records[0] = slices.Concat(uvarints(headNamed), foreign[:], gtidBytes(gtid.GTID{UUID: group, Number: 3}), uvarints(0))
			s.records[1] = uvarints(0, 6, 1)
		},
		"a link before the mark":            func(s *stateParts) { s.links = set(s.links, 0, 0) },
		"a link after the end":              func(s *stateParts) { s.links = set(s.links, 6, 3) },
		"a link after its milestone":        func(s *stateParts) { s.milestones = set(set(s.milestones, 4, 3), 9, 0) },
		"a link before its milestone":       func(s *stateParts) { s.milestones = set(set(s.milestones, 4, 1), 9, 2) },
		"a link that follows itself":        func(s *stateParts) { s.links = set(s.links, 7, 0<<1|1) },
		"a link that follows none":          func(s *stateParts) { s.links = set(s.links, 7, 3<<1) },
		"a link of two runs":                func(s *stateParts) { s.links = set(s.links, 7, 1<<1) },
		"a run on top of the future":        func(s *stateParts) { s.links = append(set(s.links, 7, 0), 3<<1|1) },
		"a run on top of its own kind":      func(s *stateParts) { s.links = append(set(s.links, 7, 0), 2<<1|1) },
		"a run on top of itself":            func(s *stateParts) { s.links = append(set(s.links, 7, 0), 1) },
		"a run on top of the mark":          func(s *stateParts) { s.links = append(set(s.links, 7, 0), 3<<1) },
		"more items than bytes":             func(s *stateParts) { s.count = 1 << 40 },
		"one item too many":                 func(s *stateParts) { s.count++ },
		"an item twice":                     func(s *stateParts) { s.items = set(s.items, 4, 0) },
		"keys that go round":                func(s *stateParts) { s.items = set(s.items, 4, 1<<64-100) },
		"a write before the mark":           func(s *stateParts) { s.items = set(s.items, 1, stampOf(0, Write)) },
		"a write after the end":             func(s *stateParts) { s.items = set(s.items, 1, stampOf(4, Write)) },
		"an item that was read":             func(s *stateParts) { s.items = set(s.items, 1, stampOf(1, Read)) },
		"an item of no link":                func(s *stateParts) { s.items = set(s.items, 3, stampOf(4, Delta)) },
		"an item of a link of another kind": func(s *stateParts) { s.items = set(s.items, 3, stampOf(2, Delta)) },
		"a key before those missing":        func(s *stateParts) { s.places[0] = place(0, 0, 1, "a"); s.unplaced = 0 },
		"a key among those missing":         func(s *stateParts) { s.unplaced = 3 },
		"a key after the end":               func(s *stateParts) { s.places[0] = place(4, 0, 1, "a") },
		"a key that was read":               func(s *stateParts) { s.places[0] = place(2, byte(Read)<<1, 1, "a") },
		"a short key that was cut":          func(s *stateParts) { s.places[0] = place(2, 1, 1, "a") },
		"a key too long":                    func(s *stateParts) { s.places[0] = place(2, 0, MaxPlace+1, longKey) },
		"blocks that the settings forbid":   func(s *stateParts) { s.numberings = uvarints(1, 0, 5, 0) },
		"a numbering in blocks of one":      func(s *stateParts) { s.numberings = uvarints(1, 0, 1) },
		"a numbering under no tag":          func(s *stateParts) { s.numberings = append(uvarints(1, 1), '!', 1) },
		"something behind the end":          func(s *stateParts) { s.tail = []byte{0} },
	} {
		s := soundState()
		spoil(&s)
		if _, err := Restore(s.encode(), roomy); !errors.Is(err, ErrState) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestRestoreRefusesSettings restores with other settings than were saved.
func TestRestoreRefusesSettings(t *testing.T) {
	s := soundState()
	few := roomy
	few.RangeWrites = 0
	if _, err := Restore(s.encode(), few); !errors.Is(err, ErrState) {
		t.Errorf("one written key where none is to be remembered: error %v", err)
	}
	blocks := roomy
	blocks.BlockSize = 5
	c := New(group, blocks)
	judge(c, gtid.Set{}, writes(1))
	state := appendState(t, c)
	if _, err := Restore(state, blocks); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(state, roomy); !errors.Is(err, ErrState) {
		t.Errorf("blocks where numbers follow the log: error %v", err)
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
	c.table.each(func(key, _ uint64) {
		if len(list) < 20 {
			list = append(list, Item(key*unmixer))
		}
	})
	for _, snapshot := range []gtid.Set{c.Executed(), {}, upTo(2), c.Executed().Subtract(upTo(1)), c.low.AddInterval(foreign, "", 3, 4)} {
		judge(c, snapshot, Encoded{})
		for kind := range Kind(Kinds) {
			judge(c, snapshot, does(kind, list...))
		}
		judge(c, snapshot, compose(nil, scan{1, "a", ""}, scan{0, "", "b"}))
	}
	if first := c.Markable(1 << 62); first != 0 && markableItems(c, 0) == 0 {
		t.Fatalf("a mark can fall at %d, but none would help", first)
	}
	c.Mark(markableItems(c, c.HistoryItems()/2))
	c.EntryDone(1 << 63)
	if err := c.check(); err != nil {
		t.Fatalf("from sequence %d, marked: %v", sequence, err)
	}
	c.Mark(1 << 63)
	judge(c, c.Executed(), writes(list...))
	if err := c.check(); err != nil {
		t.Fatalf("from sequence %d: %v", sequence, err)
	}
	saved := appendState(t, c)
	again, err := Restore(saved, c.settings)
	if err != nil {
		t.Fatalf("state %x, saved again: %v", state, err)
	}
	if !bytes.Equal(appendState(t, again), saved) {
		t.Fatalf("state %x, saved again, does not come back", state)
	}
}

// TestRestoreDamaged cuts a state off at each byte and flips each of its bits.
// A prefix is refused. A flipped bit may be of an item or a snapshot version,
// which nothing in the state can tell from others; it makes a certifier that
// is wrong, and no more than that.
func TestRestoreDamaged(t *testing.T) {
	s := soundState()
	state := s.encode()
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
	f.Add([]byte{}, uint64(0))
	f.Add(appendState(f, New(group, roomy)), uint64(0))
	s := soundState()
	f.Add(s.encode(), uint64(1))
	blocks := roomy
	blocks.BlockSize = 5
	for _, settings := range []Settings{roomy, blocks} {
		c := New(group, settings)
		for i := range Item(12) {
			ws := does(Kind(i%3), repeated(i/4, 250)...)
			c.Certify(&Request{Origin: gtid.UUID{byte(i % 3)}, Snapshot: c.Executed(), WriteSet: ws, GTID: gtid.GTID{Tag: []gtid.Tag{"", "t"}[i%2]}})
			c.EntryDone(uint64(i) + 1)
		}
		f.Add(appendState(f, c), settings.BlockSize)
		c.Mark(5)
		judge(c, c.Executed().AddInterval(foreign, "", 1, 2), writes(1))
		f.Add(appendState(f, c), settings.BlockSize)
	}
	f.Fuzz(func(t *testing.T, b []byte, block uint64) {
		settings := roomy
		settings.BlockSize = block
		c, err := Restore(b, settings)
		if err == nil {
			goOn(t, c, b)
		} else if !errors.Is(err, ErrState) {
			t.Fatalf("error %v is of no known kind", err)
		}
	})
}

// TestExhausted takes a group to its last number.
func TestExhausted(t *testing.T) {
	for _, block := range []uint64{1, 1000} {
		s := roomy
		s.BlockSize = block
		c := New(group, s)
		judge(c, gtid.Set{}, writes(5))
		// No log is that long, and nobody could wait for it.
		c.executed = upTo(gtid.MaxNumber - 2)
		before := c.executed
		for number := gtid.MaxNumber - 1; number <= gtid.MaxNumber; number++ {
			v := judge(c, c.executed, writes(Item(number)))
			if v.Outcome != Certified || v.GTID != (gtid.GTID{UUID: group, Number: number}) {
				t.Fatalf("verdict %+v, want number %d", v, number)
			}
		}
		state := appendState(t, c)
		for name, try := range map[string]struct {
			items []Item
			want  Outcome
		}{
			"conflict comes first": {[]Item{1, Item(gtid.MaxNumber)}, Conflict},
			"no conflict":          {[]Item{1}, Exhausted},
			"empty write set":      {nil, Exhausted},
		} {
			if v := judge(c, before, writes(try.items...)); v.Outcome != try.want {
				t.Errorf("%s: verdict %+v, want %v", name, v, try.want)
			}
		}
		if !bytes.Equal(appendState(t, c), state) {
			t.Error("a refused transaction changed the state")
		}
	}
}
