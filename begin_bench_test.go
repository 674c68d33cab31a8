package concordat_test

import (
	"testing"

	"github.com/concordatdb/concordat"
)

// BenchmarkBegin measures the begin and the end of a transaction that does
// nothing: what every transaction pays for the levels of the others.
func BenchmarkBegin(b *testing.B) {
	n := openGroup(b, 1).nodes[0]
	ctx := b.Context()
	run := func(name string, begin func() (*concordat.Tx, error)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tx, err := begin()
				if err != nil {
					b.Fatal(err)
				}
				if err := tx.Rollback(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("write", func() (*concordat.Tx, error) { return n.Begin(ctx) })
	run("read", func() (*concordat.Tx, error) { return n.BeginReadOnly(ctx) })
}
