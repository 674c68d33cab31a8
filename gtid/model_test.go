package gtid

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// model is a set of GTIDs as one would write it in a minute.
type model map[GTID]struct{}

func (m model) add(id tsid, first, last uint64) model {
	sum := maps.Clone(m)
	for n := first; n <= last; n++ {
		sum[GTID{id.uuid, id.tag, n}] = struct{}{}
	}
	return sum
}

func (m model) union(o model) model {
	sum := maps.Clone(m)
	maps.Copy(sum, o)
	return sum
}

// where returns the GTIDs of m that o has, or those that it has not.
func (m model) where(o model, has bool) model {
	kept := maps.Clone(m)
	maps.DeleteFunc(kept, func(g GTID, _ struct{}) bool {
		_, in := o[g]
		return in != has
	})
	return kept
}

func (m model) subsetOf(o model) bool { return len(m.where(o, false)) == 0 }

func (m model) sorted() []GTID { return slices.SortedFunc(maps.Keys(m), GTID.Compare) }

func (m model) intervals() []Interval {
	var list []Interval
	for _, g := range m.sorted() {
		if n := len(list); n > 0 && (GTID{list[n-1].UUID, list[n-1].Tag, list[n-1].Last + 1}) == g {
			list[n-1].Last++
			continue
		}
		list = append(list, Interval{g.UUID, g.Tag, g.Number, g.Number})
	}
	return list
}

func (m model) text() string {
	var uuids []string
	var before Interval
	for _, in := range m.intervals() {
		numbers := fmt.Sprintf(":%d-%d", in.First, in.Last)
		if in.First == in.Last {
			numbers = fmt.Sprintf(":%d", in.First)
		}
		if len(uuids) == 0 || in.UUID != before.UUID {
			uuids = append(uuids, in.UUID.String())
			before.Tag = ""
		}
		if in.Tag != before.Tag {
			numbers = fmt.Sprintf(":%s%s", in.Tag, numbers)
		}
		uuids[len(uuids)-1] += numbers
		before = in
	}
	return strings.Join(uuids, ",\n")
}

// The universe of the model: few sources, and numbers at both ends of the range,
// so that intervals meet, overlap and end at the limits all the time.
var (
	universeUUIDs = []UUID{{}, {0x10, 15: 1}, {0x10, 15: 2}}
	universeTags  = []Tag{"", "a", "a_1"}
	universeBases = []uint64{0, MaxNumber - 12}
)

const universeWidth = 12

func universe() []GTID {
	var all []GTID
	for _, uuid := range universeUUIDs {
		for _, tag := range universeTags {
			for _, base := range universeBases {
				for n := range uint64(universeWidth) {
					all = append(all, GTID{uuid, tag, base + 1 + n})
				}
			}
		}
	}
	return all
}

// world is every set that a run has made, each with what should be in it.
type world struct {
	sets   []Set
	models []model
}

func (w *world) keep(s Set, m model) {
	w.sets = append(w.sets, s)
	w.models = append(w.models, m)
}

// grow makes one more set out of those there are.
func (w *world) grow(t *rapid.T) {
	pick := rapid.IntRange(0, len(w.sets)-1)
	i, j := pick.Draw(t, "set"), pick.Draw(t, "other")
	s, m := w.sets[i], w.models[i]
	switch rapid.SampledFrom([]string{"add", "interval", "interval", "union", "subtract", "intersect"}).Draw(t, "verb") {
	case "add":
		g := rapid.SampledFrom(universe()).Draw(t, "GTID")
		w.keep(s.Add(g), m.add(tsid{g.UUID, g.Tag}, g.Number, g.Number))
	case "interval":
		id := tsid{rapid.SampledFrom(universeUUIDs).Draw(t, "UUID"), rapid.SampledFrom(universeTags).Draw(t, "tag")}
		base := rapid.SampledFrom(universeBases).Draw(t, "base")
		number := rapid.Uint64Range(base+1, base+universeWidth)
		first, last := number.Draw(t, "first"), number.Draw(t, "last")
		w.keep(s.AddInterval(id.uuid, id.tag, first, last), m.add(id, first, last))
	case "union":
		w.keep(s.Union(w.sets[j]), m.union(w.models[j]))
	case "subtract":
		w.keep(s.Subtract(w.sets[j]), m.where(w.models[j], false))
	case "intersect":
		w.keep(s.Intersect(w.sets[j]), m.where(w.models[j], true))
	}
}

func drawWorld(t *rapid.T) *world {
	w := &world{}
	w.keep(Set{}, model{})
	for range rapid.IntRange(1, 24).Draw(t, "sets") {
		w.grow(t)
	}
	return w
}

// Every set is compared with its model after all of them were made, so a set
// that was changed by an operation on another would show.
func TestOperationsAgreeWithModel(t *testing.T) {
	all := universe()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for i, s := range w.sets {
			m := w.models[i]
			if err := s.valid(); err != nil {
				t.Fatalf("%v breaks an invariant: %v", s, err)
			}
			if got := slices.Collect(s.Intervals()); !slices.Equal(got, m.intervals()) {
				t.Fatalf("intervals are %v, want %v", got, m.intervals())
			}
			if s.Count() != uint64(len(m)) || s.IsEmpty() != (len(m) == 0) {
				t.Fatalf("%v counts %d, empty %v; want %d", s, s.Count(), s.IsEmpty(), len(m))
			}
			for _, g := range all {
				if _, want := m[g]; s.Contains(g) != want {
					t.Fatalf("%v contains %v is %v", s, g, !want)
				}
			}
		}
	})
}

func TestPairsAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for i, a := range w.sets {
			for j, b := range w.sets {
				subset := w.models[i].subsetOf(w.models[j])
				equal := subset && w.models[j].subsetOf(w.models[i])
				if a.SubsetOf(b) != subset {
					t.Fatalf("%v is a subset of %v: %v", a, b, !subset)
				}
				if a.Equal(b) != equal {
					t.Fatalf("%v equals %v: %v", a, b, !equal)
				}
				if (a.String() == b.String()) != equal {
					t.Fatalf("texts %q and %q, equal %v", a, b, equal)
				}
				if bytes.Equal(encode(t, a), encode(t, b)) != equal {
					t.Fatalf("encodings of %v and %v, equal %v", a, b, equal)
				}
			}
		}
	})
}

func TestFormsAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for i, s := range w.sets {
			text := s.String()
			if want := w.models[i].text(); text != want {
				t.Fatalf("text is %q, want %q", text, want)
			}
			parsed, err := ParseSet(text)
			if err != nil || !parsed.Equal(s) || parsed.valid() != nil {
				t.Fatalf("%q parses to %v, %v", text, parsed, err)
			}
			decoded, rest, err := DecodeSet(append(encode(t, s), "tail"...))
			if err != nil || !decoded.Equal(s) || decoded.valid() != nil || string(rest) != "tail" {
				t.Fatalf("%v decodes to %v, rest %q, %v", s, decoded, rest, err)
			}
		}
	})
}

func TestNumbersAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		uuid := rapid.SampledFrom(universeUUIDs).Draw(t, "UUID")
		tag := rapid.SampledFrom(universeTags).Draw(t, "tag")
		from := rapid.SampledFrom(universeBases).Draw(t, "base") + rapid.Uint64Range(0, universeWidth+2).Draw(t, "from")
		for i, s := range w.sets {
			last := uint64(0)
			for g := range w.models[i] {
				if g.UUID == uuid && g.Tag == tag {
					last = max(last, g.Number)
				}
			}
			if got := s.Last(uuid, tag); got != last {
				t.Fatalf("the last of %v is %d, want %d", s, got, last)
			}
			missing := max(from, 1)
			for taken := true; taken; {
				if _, taken = w.models[i][GTID{uuid, tag, missing}]; taken {
					missing++
				}
			}
			if missing > MaxNumber {
				missing = 0
			}
			if got := s.FirstMissing(uuid, tag, from); got != missing {
				t.Fatalf("the first missing of %v from %d is %d, want %d", s, from, got, missing)
			}
		}
	})
}

func encode(t rapid.TB, s Set) []byte {
	b, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// valid checks the invariants that are listed on Set, but for the fifth.
func (s Set) valid() error {
	if s.groups == nil {
		empty := s.only == span{}
		if empty && s.id != (tsid{}) || !empty && !(group{s.id, []span{s.only}}).normalised() {
			return fmt.Errorf("one interval %v of %v", s.only, s.id)
		}
		return nil
	}
	if s.id != (tsid{}) || s.only != (span{}) {
		return fmt.Errorf("groups beside the interval %v of %v", s.only, s.id)
	}
	if len(s.groups) == 0 || len(s.groups) == 1 && len(s.groups[0].spans) == 1 {
		return fmt.Errorf("groups for one interval or none: %v", s.groups)
	}
	for i, g := range s.groups {
		if i > 0 && s.groups[i-1].id.compare(g.id) >= 0 {
			return fmt.Errorf("group %d is out of order", i)
		}
		if !g.normalised() {
			return fmt.Errorf("group %d is not normalised: %v", i, g.spans)
		}
	}
	return nil
}

func (g group) normalised() bool {
	least := uint64(1)
	for _, s := range g.spans {
		if s.first < least || s.last < s.first || s.last > MaxNumber {
			return false
		}
		least = s.last + 2
	}
	return len(g.spans) > 0 && g.id.tag.Valid()
}
