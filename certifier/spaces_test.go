package certifier

import (
	"fmt"
	"testing"
)

func tableOf(n int) Index {
	return Index{Name: PrimaryIndex, Schema: "s", Table: fmt.Sprintf("t%d", n)}
}

// TestManySpaces writes to tables in turn, encodes, and goes on: a space has
// one number, however many there are.
func TestManySpaces(t *testing.T) {
	for _, n := range []int{fewSpaces - 1, fewSpaces, fewSpaces + 1, 1000} {
		ws := WriteSet{}
		for i := range 2 * n {
			ws.Delta(tableOf(n-1-i%n), Uint(uint64(i), 8)) // numbered anew when the writes come first
		}
		ws.Write(tableOf(0), Uint(1, 8))
		for _, more := range []int{0, 3} {
			for i := range more {
				ws.Write(tableOf(n-1), Uint(uint64(i), 8))
				ws.Write(tableOf(n+i), Uint(uint64(i), 8))
			}
			b, err := ws.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			e, rest, err := DecodeWriteSet(b)
			if err != nil || len(rest) > 0 {
				t.Fatalf("%d tables and %d more: %v, %d bytes left", n, more, err, len(rest))
			}
			if got := len(e.spaces) / itemLen; got != n+more {
				t.Errorf("%d spaces of %d tables", got, n+more)
			}
			places := map[Space]int{}
			for p := range e.Places() {
				places[p.Space]++
			}
			for i := range n + more {
				x := tableOf(i)
				want := 2
				switch {
				case i >= n:
					want = 1
				case i == n-1 && more > 0:
					want += more
				}
				if i == 0 {
					want++
				}
				if got := places[Space(HashItem(AppendItemText(nil, x.Name, x.Schema, x.Table)))]; got != want {
					t.Errorf("%d tables and %d more: %d places in table %d, want %d", n, more, got, i, want)
				}
			}
		}
	}
}

// BenchmarkManySpaces writes one row of each of many tables.
func BenchmarkManySpaces(b *testing.B) {
	tables := make([]Index, 1<<16)
	for i := range tables {
		tables[i] = tableOf(i)
	}
	for b.Loop() {
		ws := WriteSet{}
		for _, x := range tables {
			ws.Write(x, Uint(1, 8))
		}
		if _, err := ws.AppendBinary(nil); err != nil {
			b.Fatal(err)
		}
	}
}
