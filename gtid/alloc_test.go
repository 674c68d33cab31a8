package gtid

import "testing"

// What is measured must reach memory that the compiler cannot see through.
var (
	sinkSet  Set
	sinkBool bool
)

func TestOneIntervalAllocatesNothing(t *testing.T) {
	uuid := mustUUID(t, uuidA)
	snapshot := Set{}.AddInterval(uuid, "", 1, 1000)
	executed := Set{}.AddInterval(uuid, "", 1, 2000)
	overlap := Set{}.AddInterval(uuid, "", 1500, 3000)
	next := GTID{UUID: uuid, Number: 2001}
	encoded := encode(t, executed)
	buffer := make([]byte, 0, 64)
	checkAllocs(t, map[string]func(){
		"Add":                  func() { sinkSet = executed.Add(next) },
		"Add to the empty set": func() { sinkSet = Set{}.Add(next) },
		"AddInterval":          func() { sinkSet = executed.AddInterval(uuid, "", 2001, 3000) },
		"SubsetOf":             func() { sinkBool = snapshot.SubsetOf(executed) },
		"SubsetOf, false":      func() { sinkBool = executed.SubsetOf(snapshot) },
		"Contains":             func() { sinkBool = executed.Contains(next) },
		"Equal":                func() { sinkBool = executed.Equal(snapshot) },
		"Union":                func() { sinkSet = snapshot.Union(executed) },
		"Union, overlapping":   func() { sinkSet = executed.Union(overlap) },
		"Intersect, subset":    func() { sinkSet = executed.Intersect(snapshot) },
		"Subtract, subset":     func() { sinkSet = snapshot.Subtract(executed) },
		"Last":                 func() { sinkBool = executed.Last(uuid, "") == 0 },
		"FirstMissing":         func() { sinkBool = executed.FirstMissing(uuid, "", 1) == 0 },
		"Count":                func() { sinkBool = executed.Count() == 0 },
		"AppendBinary":         func() { buffer, _ = executed.AppendBinary(buffer[:0]) },
		"DecodeSet":            func() { sinkSet, _, _ = DecodeSet(encoded) },
		"Intervals": func() {
			for in := range executed.Intervals() {
				sinkBool = in.First == 0
			}
		},
	})
}

func TestManyIntervalsAreComparedWithoutAllocating(t *testing.T) {
	uuid := mustUUID(t, uuidA)
	small := manyGaps(uuid, 500)
	large := manyGaps(uuid, 1000).AddInterval(mustUUID(t, uuidB), "a", 1, 5)
	one := Set{}.AddInterval(uuid, "", 1, 1)
	g := GTID{UUID: uuid, Number: 999}
	buffer := make([]byte, 0, 8192)
	checkAllocs(t, map[string]func(){
		"SubsetOf":        func() { sinkBool = small.SubsetOf(large) },
		"SubsetOf, false": func() { sinkBool = large.SubsetOf(small) },
		"SubsetOf of one": func() { sinkBool = one.SubsetOf(large) },
		"SubsetOf one":    func() { sinkBool = large.SubsetOf(one) },
		"Contains":        func() { sinkBool = large.Contains(g) },
		"Equal":           func() { sinkBool = small.Equal(large) },
		"Union of subset": func() { sinkSet = large.Union(small) },
		"Add of present":  func() { sinkSet = large.Add(GTID{UUID: uuid, Number: 1}) },
		"Count":           func() { sinkBool = large.Count() == 0 },
		"AppendBinary":    func() { buffer, _ = large.AppendBinary(buffer[:0]) },
	})
}

func checkAllocs(t *testing.T, calls map[string]func()) {
	t.Helper()
	for name, call := range calls {
		if got := testing.AllocsPerRun(100, call); got != 0 {
			t.Errorf("%s allocates %v times", name, got)
		}
	}
}

// manyGaps returns the odd numbers among the first 2n.
func manyGaps(uuid UUID, n uint64) Set {
	intervals := make([]Interval, 0, n)
	for i := range n {
		intervals = append(intervals, Interval{UUID: uuid, First: 2*i + 1, Last: 2*i + 1})
	}
	return gather(intervals)
}
