package raftlog_test

import (
	"fmt"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
)

// BenchmarkWrite measures the synced write on which every commit waits, on a
// real disk: TMPDIR says which.
func BenchmarkWrite(b *testing.B) {
	for _, entries := range []int{1, 32} {
		for _, warm := range []bool{false, true} {
			b.Run(fmt.Sprintf("entries=%d/warm=%t", entries, warm), func(b *testing.B) {
				benchmarkWrite(b, entries, warm)
			})
		}
	}
}

func benchmarkWrite(b *testing.B, entries int, warm bool) {
	l, err := raftlog.Open(b.TempDir(), raftlog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	}()
	data := make([]byte, 100)
	write := []gcs.LogWrite{{
		HardState: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)), Commit: new(uint64(0))},
		Entries:   make([]*raftpb.Entry, entries),
		Sync:      true,
	}}
	next := uint64(1)
	b.ReportAllocs()
	for b.Loop() {
		for i := range write[0].Entries {
			write[0].Entries[i] = &raftpb.Entry{Term: new(uint64(1)), Index: new(next), Data: data}
			next++
		}
		if err := l.Write(write); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs/write")
}
