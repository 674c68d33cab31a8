package gtid

import "testing"

// shape is a set as groups have them, and one that is ahead of it: the pair of
// a snapshot and what has been executed since.
type shape struct {
	name            string
	snapshot, ahead Set
	next            GTID
}

func shapes(b *testing.B) []shape {
	uuidOne := mustUUID(b, uuidA)
	one := Set{}.AddInterval(uuidOne, "", 1, 1_000_000)
	three := one.AddInterval(mustUUID(b, uuidB), "", 1, 5000).AddInterval(mustUUID(b, uuidC), "", 7, 70)
	next := GTID{UUID: uuidOne, Number: 1_000_001}
	blocks := one.AddInterval(uuidOne, "", 2_000_001, 2_000_500).AddInterval(uuidOne, "", 3_000_001, 3_000_700)
	gaps := manyGaps(uuidOne, 1000)
	nextOfGaps := GTID{UUID: uuidOne, Number: 2000}
	return []shape{
		{"one interval", one, one.Add(next), next},
		{"3 blocks", blocks, blocks.Add(next), next},
		{"3 UUIDs", three, three.Add(next), next},
		{"1000 gaps", gaps, gaps.Add(nextOfGaps), nextOfGaps},
	}
}

func BenchmarkSubsetOf(b *testing.B) {
	for _, shape := range shapes(b) {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !shape.snapshot.SubsetOf(shape.ahead) {
					b.Fatal("the snapshot is not a subset")
				}
			}
		})
	}
}

func BenchmarkContains(b *testing.B) {
	for _, shape := range shapes(b) {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !shape.ahead.Contains(shape.next) {
					b.Fatal("the GTID is missing")
				}
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, shape := range shapes(b) {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sinkSet = shape.snapshot.Add(shape.next)
			}
		})
	}
}

func BenchmarkUnion(b *testing.B) {
	for _, shape := range shapes(b) {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sinkSet = shape.snapshot.Union(shape.ahead)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, shape := range shapes(b) {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			var buffer []byte
			for b.Loop() {
				buffer, _ = shape.ahead.AppendBinary(buffer[:0])
			}
			b.ReportMetric(float64(len(buffer)), "bytes")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, shape := range shapes(b) {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			encoded := encode(b, shape.ahead)
			for b.Loop() {
				var err error
				if sinkSet, _, err = DecodeSet(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseSet(b *testing.B) {
	for _, shape := range shapes(b) {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			text := shape.ahead.String()
			for b.Loop() {
				var err error
				if sinkSet, err = ParseSet(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
