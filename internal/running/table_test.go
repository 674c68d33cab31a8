package running

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
)

// TestTable compares the table with a map, in runs that fill and empty it.
// Factor 1 puts small items all in one place.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := table[int]{factor: rapid.SampledFrom([]uint64{1, 0x9e3779b97f4a7c15, 1<<58 + 1}).Draw(t, "factor")}
		tab.resize(fewSlots)
		model := map[certifier.Item]*entry[int]{}
		for range rapid.IntRange(0, 12).Draw(t, "runs") {
			first := rapid.Uint64Range(0, 200).Draw(t, "first")
			step := rapid.SampledFrom([]uint64{1, 3, 1 << 58}).Draw(t, "step")
			fill := rapid.Bool().Draw(t, "fill")
			for n := range rapid.Uint64Range(0, 200).Draw(t, "length") {
				item := certifier.Item(first + n*step)
				switch _, there := model[item]; {
				case fill && !there:
					model[item] = &entry[int]{item: item}
					tab.add(model[item])
				case !fill && there:
					delete(model, item)
					tab.remove(item)
				}
			}
			if tab.used != len(model) || 4*tab.used > 3*len(tab.slots) || (8*tab.used < len(tab.slots) && len(tab.slots) > fewSlots) {
				t.Fatalf("%d used of %d slots, want %d", tab.used, len(tab.slots), len(model))
			}
			for n := range certifier.Item(1000) {
				if got, want := tab.find(n), model[n]; got != want {
					t.Fatalf("item %d: %p, want %p", n, got, want)
				}
			}
			for item, want := range model {
				if got := tab.find(item); got != want {
					t.Fatalf("item %d: %p, want %p", item, got, want)
				}
			}
		}
	})
}
