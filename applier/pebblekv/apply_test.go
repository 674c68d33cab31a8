package pebblekv

import (
	"testing"

	"pgregory.net/rapid"
)

// TestOverlay compares the overlay with a map.
func TestOverlay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o overlay
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			want := map[string]string{}
			for range rapid.IntRange(0, 40).Draw(t, "keys") {
				k := rapid.StringOfN(rapid.RuneFrom([]rune{0, 'a', 'b'}), 0, 3, -1).Draw(t, "key")
				v := rapid.StringN(1, 2, -1).Draw(t, "value")
				entry := o.find([]byte(k))
				if was, ok := want[k]; ok != (entry != nil) || ok && string(entry.value) != was {
					t.Fatalf("find %q: %v, want %q, %v", k, entry, was, ok)
				}
				if entry == nil {
					entry = o.add([]byte(k))
				}
				entry.value = []byte(v)
				want[k] = v
			}
			o.reset()
			for k := range want {
				if o.find([]byte(k)) != nil {
					t.Fatalf("%q is found after a reset", k)
				}
			}
		}
	})
}

// TestOverlayCollision checks keys that share a hash.
func TestOverlayCollision(t *testing.T) {
	var o overlay
	o.add([]byte("first")).value = []byte("1")
	hash := o.hash([]byte("second"))
	o.first[hash] = 0 // as if "first" had it
	if o.find([]byte("second")) != nil {
		t.Fatal("found another key")
	}
	o.add([]byte("second")).value = []byte("2")
	delete(o.first, o.hash([]byte("first")))
	o.first[o.hash([]byte("first"))] = 1
	for key, want := range map[string]string{"first": "1", "second": "2"} {
		if e := o.find([]byte(key)); e == nil || string(e.value) != want {
			t.Errorf("find %q: %v, want %q", key, e, want)
		}
	}
}
