package certifier

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// encodedOf encodes items of a kind.
func encodedOf(k Kind, list ...Item) []byte {
	ws := does(k, list...)
	b, err := ws.AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	return b
}

// What is expected has its room, and nothing else shows that.
func TestExpected(t *testing.T) {
	const n = 5000
	list := itemsOf(n, func(i int) Item { return Item(uint64(i+1) * 0x9e3779b97f4a7c15) })
	c := New(group, roomy)
	before := appendState(t, c)
	b := encodedOf(Write, list...)
	e := c.Expect()
	for len(b) > 0 {
		k := min(len(b), 777) // no multiple of an item
		e.Add(b[:k])
		b = b[k:]
	}
	if c.table.used != n || c.expected != n {
		t.Fatalf("room for %d items, %d expected, want %d", c.table.used, c.expected, n)
	}
	if after := appendState(t, c); !bytes.Equal(before, after) {
		t.Error("the state tells of what is expected")
	}
	if v := judge(c, c.Executed(), writes(list...)); v.Outcome != Certified || v.LastCommitted != 0 {
		t.Fatalf("verdict %+v", v)
	}
	e.Done(Certified)
	if c.table.used != n || c.expected != 0 {
		t.Errorf("room for %d items, %d expected", c.table.used, c.expected)
	}
	if v := judge(c, upTo(0), writes(list[n-1])); v.Outcome != Conflict {
		t.Errorf("verdict %+v", v)
	}
}

// The room goes back when nothing comes of the transaction.
func TestExpectedInVain(t *testing.T) {
	list := itemsOf(5000, func(i int) Item { return Item(uint64(i+1) * 0x9e3779b97f4a7c15) })
	c := New(group, roomy)
	e := c.Expect()
	e.Add(encodedOf(Reference, list...))
	c.table.sweep(1 << 20)
	if c.table.used != len(list) {
		t.Fatalf("room for %d items is left", c.table.used)
	}
	e.Done(Conflict)
	e.Add(encodedOf(Write, list...))
	c.table.sweep(1 << 20)
	if c.table.used != 0 || c.expected != 0 || c.table.count != 1 {
		t.Errorf("room for %d items in %d segments, %d expected", c.table.used, c.table.count, c.expected)
	}
}

// Of all that is expected together there is room for so many items only, and items
// that are read take none.
func TestExpectedIsBounded(t *testing.T) {
	c := New(group, roomy)
	head := func(writes, reads uint64) (b []byte) {
		for _, n := range []uint64{writes, 0, 0, reads, 0, 0} {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	first, second, third := c.Expect(), c.Expect(), c.Expect()
	first.Add(head(maxExpected-1, 5))
	second.Add(head(2, 0))
	third.Add(head(1, 1))
	third.Add(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 7), 8))
	if c.expected != maxExpected || c.table.used != 1 {
		t.Errorf("%d expected, room for %d", c.expected, c.table.used)
	}
	for _, e := range []*Expected{first, second, third} {
		e.Done(GivenUp)
	}
	for _, b := range [][]byte{head(0, 9), head(1<<63, 1<<63), bytes.Repeat([]byte{0x80}, 100), bytes.Repeat([]byte{0xff}, 100)} {
		e := c.Expect()
		for i := range b {
			e.Add(b[i : i+1])
		}
		if !e.ended || c.expected != 0 {
			t.Errorf("of %x %d are expected", b, c.expected)
		}
	}
}

func FuzzExpected(f *testing.F) {
	f.Add(encodedOf(Write, 1, 2, 3), uint8(5))
	f.Add(encodedOf(Read, 1), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		c := New(group, roomy)
		before := appendState(t, c)
		e := c.Expect()
		for rest := b; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			e.Add(rest[:n])
			rest = rest[n:]
		}
		if err := c.table.check(); err != nil {
			t.Fatal(err)
		}
		e.Done(GivenUp)
		if after := appendState(t, c); !bytes.Equal(before, after) || c.expected != 0 {
			t.Fatalf("%x has changed the state, or is expected still: %d", b, c.expected)
		}
	})
}

// The table keeps what it is told of while there is room for others in it.
func TestReserve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newTableModel(keysets[rapid.SampledFrom([]string{"spread", "crowded", "mixed"}).Draw(t, "keys")])
		var held []byte
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			begin, n := rapid.Uint64Range(0, 3000).Draw(t, "from"), rapid.Uint64Range(1, 2000).Draw(t, "count")
			var items []byte
			for i := range n {
				items = binary.LittleEndian.AppendUint64(items, m.keys(begin+i)*unmixer)
			}
			switch rapid.SampledFrom([]string{"reserve", "unreserve", "put", "kill", "sweep"}).Draw(t, "step") {
			case "reserve":
				m.reserve(items)
				held = append(held, items...)
			case "unreserve":
				m.unreserve(held)
				held = nil
			case "put":
				for i := range n {
					m.put(t, begin+i, Kind(i%3))
				}
			case "kill":
				m.kill(Write, rapid.Uint64Range(m.live[Write], m.next).Draw(t, "live"))
			case "sweep":
				m.sweep(int(n))
			}
			m.check(t, 5000)
		}
		m.unreserve(held)
		for k := range Kind(3) {
			m.kill(k, m.next)
		}
		m.sweep(1 << 20)
		if m.used != 0 || len(m.crowd) != 0 {
			t.Fatalf("%d slots and %d in the crowd are left of nothing", m.used, len(m.crowd))
		}
	})
}

// BenchmarkCertifyGiant certifies 100,000 writes of new items at once, in a history of
// so many, with room for them and without.
func BenchmarkCertifyGiant(b *testing.B) {
	const items = 100_000
	encoded := encodeWrites(itemsOf(items, func(i int) Item { return Item(uint64(i+1) * mixer) }))
	for _, history := range []int{1000, 1_000_000} {
		for _, expected := range []bool{false, true} {
			b.Run(fmt.Sprintf("history=%d/expected=%v", history, expected), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					w := newWorkload(0, 4)
					w.universe, w.limit = 0, 1<<60
					for range history / 4 {
						w.certify(w.next())
					}
					if expected {
						w.c.Expect().Add(encoded)
					}
					b.StartTimer()
					ws, _, err := DecodeWriteSet(encoded)
					if err != nil {
						b.Fatal(err)
					}
					if v := judge(w.c, w.c.Executed(), ws); v.Outcome != Certified {
						b.Fatalf("verdict %+v", v)
					}
				}
			})
		}
	}
}
