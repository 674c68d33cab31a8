package contention

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

func member(n int) (u gtid.UUID) {
	binary.BigEndian.PutUint32(u[:], uint32(n))
	return u
}

// noted is a conflict in the model: a list of all, forever.
type noted struct {
	at time.Duration
	c  Conflict
}

// inWindow returns what the statistics should know of, stretch by stretch.
func inWindow(all []noted, now, width time.Duration, buckets int) [][]Conflict {
	stretches := make([][]Conflict, buckets)
	for _, n := range all {
		if age := now/width - n.at/width; age >= 0 && age < time.Duration(buckets) {
			stretches[age] = append(stretches[age], n.c)
		}
	}
	return stretches
}

func drawConflict(t *rapid.T) Conflict {
	kind := rapid.Map(rapid.IntRange(0, certifier.Kinds-1), func(i int) certifier.Kind { return certifier.Kind(i) })
	// Half of the keys are one of few, so that some are frequent.
	key := rapid.IntRange(0, 3).Draw(t, "hot")
	if rapid.Bool().Draw(t, "rare") {
		key = rapid.IntRange(4, 60).Draw(t, "key")
	}
	text := fmt.Appendf(nil, "key%d", key)
	if key%5 == 0 { // the second difference lies where it is cut off
		text = append(bytes.Repeat(text[:4], MaxKey/4), text[4:]...)
	}
	return Conflict{
		Table: fmt.Sprintf("table%d", key%3), Key: text,
		Incoming: kind.Draw(t, "incoming"), Earlier: kind.Draw(t, "earlier"),
		Loser: member(rapid.IntRange(0, 2).Draw(t, "loser")), Winner: member(rapid.IntRange(0, 2).Draw(t, "winner")),
		Where: Where(rapid.IntRange(0, Wheres-1).Draw(t, "where")),
	}
}

func kept(c Conflict) keyID {
	return keyID{c.Table, string(c.Key[:min(len(c.Key), MaxKey)]), len(c.Key) > MaxKey}
}

// TestAgainstAll compares reports with a list of everything that was noted.
// Times jump, stand still, and at times come late.
func TestAgainstAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const width = 10 * time.Second
		buckets := rapid.IntRange(1, 4).Draw(t, "buckets")
		keys := rapid.IntRange(1, 12).Draw(t, "keys")
		s := New(time.Duration(buckets)*width, buckets, keys)
		var all []noted
		now := time.Duration(0)
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 19).Draw(t, "step") {
			case 0:
				now += time.Duration(rapid.IntRange(0, 60_000).Draw(t, "quiet")) * time.Millisecond
			case 1:
				check(t, s.Report(now, 0), inWindow(all, now, width, buckets), keys)
			default:
				now += time.Duration(rapid.IntRange(0, 300).Draw(t, "pause")) * time.Millisecond
				late := time.Duration(rapid.IntRange(0, 1).Draw(t, "late")) * time.Second
				n := noted{max(0, now-late), drawConflict(t)}
				s.Note(n.at, n.c)
				all = append(all, n)
			}
		}
		check(t, s.Report(now, 0), inWindow(all, now, width, buckets), keys)
	})
}

// check compares a report with what it should be about.
func check(t *rapid.T, r Report, stretches [][]Conflict, k int) {
	t.Helper()
	want := Report{Covered: r.Covered, Rate: r.Rate, Keys: r.Keys}
	tables, pairs, exact := map[string]uint64{}, map[pair]uint64{}, map[keyID]uint64{}
	precise := true
	for _, stretch := range stretches {
		inStretch := map[keyID]bool{}
		for _, c := range stretch {
			want.Total++
			want.Where[c.Where]++
			want.Kinds[c.Incoming][c.Earlier]++
			tables[c.Table]++
			pairs[pair{c.Loser, c.Winner}]++
			exact[kept(c)]++
			inStretch[kept(c)] = true
		}
		precise = precise && len(inStretch) <= k
	}
	for name, n := range tables {
		want.Tables = append(want.Tables, Table{name, n, r.rate(n)})
	}
	slices.SortFunc(want.Tables, func(a, b Table) int {
		return cmp.Or(-cmp.Compare(a.Count, b.Count), strings.Compare(a.Name, b.Name))
	})
	for p, n := range pairs {
		want.Pairs = append(want.Pairs, Pair{p.loser, p.winner, n, r.rate(n)})
	}
	slices.SortFunc(want.Pairs, func(a, b Pair) int {
		return cmp.Or(-cmp.Compare(a.Count, b.Count), a.Loser.Compare(b.Loser), a.Winner.Compare(b.Winner))
	})
	if !reflect.DeepEqual(r, want) {
		t.Fatalf("report\n%+v\nwant\n%+v", r, want)
	}
	checkKeys(t, r, exact, k, precise)
}

// checkKeys checks what the comment of Report promises of keys.
func checkKeys(t *rapid.T, r Report, exact map[keyID]uint64, k int, precise bool) {
	t.Helper()
	listed := map[keyID]bool{}
	for i, line := range r.Keys {
		id := keyID{line.Table, line.Key, line.Cut}
		n := exact[id]
		switch {
		case listed[id]:
			t.Fatalf("%+v is listed twice", line)
		case n == 0:
			t.Fatalf("%+v is listed and was never noted", line)
		case n > line.Count || line.Count > n+line.Overcount:
			t.Fatalf("%+v came %d times", line, n)
		case line.Overcount > r.Total/uint64(k):
			t.Fatalf("%+v may be off by more than %d/%d", line, r.Total, k)
		case precise && line.Overcount != 0:
			t.Fatalf("%+v may be off though there are counters for all", line)
		}
		listed[id] = true
		if i > 0 {
			above := r.Keys[i-1]
			if c := cmp.Or(cmp.Compare(above.Count, line.Count), strings.Compare(line.Table, above.Table),
				strings.Compare(line.Key, above.Key)); c < 0 || (c == 0 && !line.Cut) {
				t.Fatalf("%+v stands above %+v", above, line)
			}
		}
	}
	for id, n := range exact {
		if n*uint64(k) > r.Total && !listed[id] {
			t.Fatalf("%+v came %d times of %d, and is not among %d keys", id, n, r.Total, k)
		}
	}
}

// TestTime is about what the window covers.
func TestTime(t *testing.T) {
	const minute = time.Minute
	tests := []struct {
		name    string
		notes   []time.Duration
		now     time.Duration
		total   uint64
		covered time.Duration
	}{
		{"nothing at the beginning", nil, 0, 0, 0},
		{"all at the beginning", []time.Duration{0, 0}, 0, 2, 0},
		{"younger than the window", []time.Duration{0, minute}, 90 * time.Second, 2, 90 * time.Second},
		{"the oldest bucket still counts", []time.Duration{0}, 10*minute - 1, 1, 10*minute - 1},
		{"the oldest bucket has gone", []time.Duration{minute - 1}, 10 * minute, 0, 9 * minute},
		{"the next one stays", []time.Duration{minute}, 10 * minute, 1, 9 * minute},
		{"a quiet day", []time.Duration{0, 5 * minute}, 24 * 60 * minute, 0, 9 * minute},
		{"a conflict after a quiet day", []time.Duration{0, 1440 * minute}, 1440 * minute, 1, 9 * minute},
		{"a late one", []time.Duration{5 * minute, 4 * minute}, 6 * minute, 2, 6 * minute},
		{"a much too late one", []time.Duration{20 * minute, 10 * minute}, 20 * minute, 1, 9 * minute},
		{"not yet begun", []time.Duration{-minute}, -minute, 1, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := New(10*minute, 10, 5)
			for _, at := range test.notes {
				s.Note(at, Conflict{Table: "t"})
			}
			r := s.Report(test.now, 0)
			if r.Total != test.total || r.Covered != test.covered {
				t.Fatalf("%d in %v, want %d in %v", r.Total, r.Covered, test.total, test.covered)
			}
			rate := 0.0
			if r.Covered > 0 {
				rate = float64(r.Total) / r.Covered.Seconds()
			}
			if r.Rate != rate {
				t.Errorf("%v per second, want %v", r.Rate, rate)
			}
		})
	}
}

// TestLimit checks that what is cut off the lists is still counted.
func TestLimit(t *testing.T) {
	s := New(time.Minute, 6, 10)
	for i := range 6 {
		for range i + 1 {
			s.Note(0, Conflict{Table: fmt.Sprint(i), Loser: member(i), Winner: member(0)})
		}
	}
	r := s.Report(2*time.Second, 2)
	if want := []Table{{"5", 6, 3}, {"4", 5, 2.5}}; !slices.Equal(r.Tables, want) || r.OtherTables != 10 {
		t.Errorf("tables %v and %d others, want %v and 10", r.Tables, r.OtherTables, want)
	}
	if want := []Pair{{member(5), member(0), 6, 3}, {member(4), member(0), 5, 2.5}}; !slices.Equal(r.Pairs, want) || r.OtherPairs != 10 {
		t.Errorf("pairs %v and %d others, want %v and 10", r.Pairs, r.OtherPairs, want)
	}
	if want := []Key{{Table: "5", Count: 6, Rate: 3}, {Table: "4", Count: 5, Rate: 2.5}}; !slices.Equal(r.Keys, want) {
		t.Errorf("keys %v, want %v", r.Keys, want)
	}
}

// TestBounds notes far more tables, pairs and keys than are told apart, for
// far longer than the window.
func TestBounds(t *testing.T) {
	const buckets, keys = 3, 8
	s := New(buckets*time.Second, buckets, keys)
	key := make([]byte, 10*MaxKey)
	n := 0
	for now := time.Duration(0); now < 20*time.Second; now += 2 * time.Millisecond {
		n++
		binary.BigEndian.PutUint32(key, uint32(n))
		s.Note(now, Conflict{Table: fmt.Sprint(n), Key: key, Loser: member(n), Winner: member(n)})
	}
	for i := range s.buckets {
		b := &s.buckets[i]
		if len(b.tables.counts) != MaxTables || len(b.pairs.counts) != MaxPairs {
			t.Errorf("bucket of %d tables and %d pairs", len(b.tables.counts), len(b.pairs.counts))
		}
		if len(b.keys.counters) != keys || len(b.keys.index) != keys || len(b.keys.heap) != keys {
			t.Errorf("bucket of %d counters, %d in the index, %d in the heap",
				len(b.keys.counters), len(b.keys.index), len(b.keys.heap))
		}
		for _, c := range b.keys.counters {
			if len(c.id.key) != MaxKey {
				t.Errorf("key of %d bytes", len(c.id.key))
			}
		}
	}
	r := s.Report(20*time.Second-1, 0)
	if want := uint64(500 * buckets); r.Total != want || r.OtherTables != want-MaxTables*buckets || r.OtherPairs != want-MaxPairs*buckets {
		t.Errorf("%d conflicts, %d of other tables, %d of other pairs", r.Total, r.OtherTables, r.OtherPairs)
	}
}

// TestKeysAreCopied changes a key after it was noted.
func TestKeysAreCopied(t *testing.T) {
	s := New(time.Minute, 1, 1)
	key := []byte("before")
	s.Note(0, Conflict{Key: key})
	copy(key, "after!")
	if r := s.Report(0, 0); r.Keys[0].Key != "before" {
		t.Errorf("key %q", r.Keys[0].Key)
	}
}

// TestLeastArguments checks that useless arguments make usable statistics.
func TestLeastArguments(t *testing.T) {
	s := New(0, 0, 0)
	s.Note(0, Conflict{Key: []byte("k")})
	if r := s.Report(0, 0); r.Total != 1 || len(r.Keys) != 1 {
		t.Errorf("report %+v", r)
	}
}

func TestWhere(t *testing.T) {
	for where, want := range map[Where]string{Refused: "refused", Doomed: "doomed", Held: "held", Wheres: "Where(3)"} {
		if got := where.String(); got != want {
			t.Errorf("%d is %q, want %q", where, got, want)
		}
	}
}

// BenchmarkNote notes keys of which most are new: the dear case.
func BenchmarkNote(b *testing.B) {
	for _, distinct := range []uint64{50, 1 << 40} {
		b.Run(fmt.Sprintf("keys=%d", distinct), func(b *testing.B) {
			s := New(DefaultWindow, DefaultBuckets, DefaultKeys)
			key := make([]byte, 16)
			b.ReportAllocs()
			for i := range b.N {
				binary.BigEndian.PutUint64(key, uint64(i)*0x9e3779b97f4a7c15%distinct)
				s.Note(time.Duration(i)*time.Microsecond, Conflict{Table: "t", Key: key})
			}
		})
	}
}

// BenchmarkReport reports on full buckets.
func BenchmarkReport(b *testing.B) {
	s := New(DefaultWindow, DefaultBuckets, DefaultKeys)
	key := make([]byte, 16)
	now := time.Duration(0)
	for i := range 600_000 {
		binary.BigEndian.PutUint64(key, uint64(i)*0x9e3779b97f4a7c15)
		s.Note(now, Conflict{Table: "t", Key: key})
		now += time.Millisecond
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Report(now, 20)
	}
}
