package pebblekv

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// giantBenchBytes is the payload of the transaction in the group's own benchmark, in
// rows of 1,000 bytes that do not pack.
const giantBenchBytes = 100_000_000

func giantPayload() []byte {
	random := rand.NewChaCha8([32]byte{7})
	value := make([]byte, 1000)
	var payload []byte
	for i := range giantBenchBytes / len(value) {
		_, _ = random.Read(value) // it never fails
		payload = applier.AppendMutation(payload, applier.Mutation{Op: applier.OpPut, Table: table, Key: fmt.Appendf(nil, "giant-%08d", i), Value: value})
	}
	return payload
}

// BenchmarkGiant applies a transaction of 100 MB that overwrites one like it, in its
// turn, and one that the engine has got ready for, of which only the turn counts.
func BenchmarkGiant(b *testing.B) {
	for _, changes := range []int64{0, 1 << 30} {
		for _, ready := range []bool{false, true} {
			b.Run(fmt.Sprintf("changes=%d,ready=%t", changes, ready), func(b *testing.B) { benchGiant(b, changes, ready) })
		}
	}
}

func benchGiant(b *testing.B, changes int64, ready bool) {
	e, err := Open(b.TempDir(), Options{ChangeBytes: changes})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { mustClose(b, e) })
	payload := giantPayload()
	at := e.Position()
	next := func() applier.Batch {
		at.Index++
		id := gtid.GTID{UUID: gtid.UUID{2}, Number: at.Index}
		at.Executed = at.Executed.Add(id)
		return applier.Batch{To: at, Transactions: []applier.Transaction{{Index: at.Index, GTID: id, Payload: payload}}}
	}
	mustApply(b, e, next())
	if err := e.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		batch := next()
		if !ready {
			mustApply(b, e, batch)
			continue
		}
		b.StopTimer()
		p := prepareAll(b, e, batch)
		b.StartTimer()
		if err := p.Apply(without(batch)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		p.Discard()
		b.StartTimer()
	}
}
