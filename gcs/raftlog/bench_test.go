package raftlog_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
)

// BenchmarkWrite measures the synced write that every commit waits for, on a
// real disk: TMPDIR says which. Of the allocations, two for each entry are the
// benchmark's own, which makes the entries.
func BenchmarkWrite(b *testing.B) {
	for _, entries := range []int{1, 32} {
		for _, warm := range []bool{false, true} {
			b.Run(fmt.Sprintf("entries=%d/warm=%t", entries, warm), func(b *testing.B) {
				benchmarkWrite(b, entries, raftlog.Options{WarmSegments: warm})
			})
		}
	}
}

func benchmarkWrite(b *testing.B, entries int, o raftlog.Options) {
	l, err := raftlog.Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	}()
	data := make([]byte, 100)
	term := new(uint64(1))
	ws := []gcs.LogWrite{{
		HardState: &raftpb.HardState{Term: term, Vote: term, Commit: new(uint64(0))},
		Entries:   make([]*raftpb.Entry, entries),
		Sync:      true,
	}}
	var took []time.Duration
	next := uint64(1)
	b.ReportAllocs()
	for b.Loop() {
		for i := range ws[0].Entries {
			ws[0].Entries[i] = &raftpb.Entry{Term: term, Index: new(next), Data: data}
			next++
		}
		start := time.Now()
		if err := l.Write(ws); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*p/100].Microseconds()), fmt.Sprintf("p%d-µs", p))
	}
}
