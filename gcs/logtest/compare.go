package logtest

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
)

// compare asks a log everything and returns the first answer that differs from
// the model's.
func compare(l gcs.Log, m model) error {
	if got := l.Identity(); got != m.identity {
		return fmt.Errorf("identity is %v, want %v", got, m.identity)
	}
	if got := l.Record(); !bytes.Equal(got, m.record) || (got == nil) != (len(m.record) == 0) {
		return fmt.Errorf("record has %d bytes, want %d: %.40q, want %.40q", len(got), len(m.record), got, m.record)
	}
	if got := l.HardState(); !sameHardState(got, m.hardState) {
		return fmt.Errorf("hard state is %v, want %v", got, m.hardState)
	}
	if first, err := l.FirstIndex(); err != nil || first != m.cut+1 {
		return fmt.Errorf("first index is %d (%v), want %d", first, err, m.cut+1)
	}
	if last, err := l.LastIndex(); err != nil || last != m.last() {
		return fmt.Errorf("last index is %d (%v), want %d", last, err, m.last())
	}
	if err := compareTerms(l, m); err != nil {
		return err
	}
	if err := compareEntries(l, m, m.cut+1, m.last()+1, math.MaxUint64); err != nil {
		return err
	}
	return compareCheckpoints(l, m)
}

// compareTerms also asks about the indexes around the log.
func compareTerms(l gcs.Log, m model) error {
	for index := m.cut - min(m.cut, 2); index <= m.last()+2; index++ {
		want, wantErr := m.term(index)
		got, err := l.Term(index)
		if got != want || !errors.Is(err, wantErr) {
			return fmt.Errorf("term of %d is %d (%v), want %d (%v)", index, got, err, want, wantErr)
		}
	}
	return nil
}

func compareEntries(l gcs.Log, m model, lo, hi, maxSize uint64) error {
	want, wantErr := m.slice(lo, hi, maxSize)
	got, err := l.Entries(lo, hi, maxSize)
	if !errors.Is(err, wantErr) {
		return fmt.Errorf("entries %d to %d: error %v, want %v", lo, hi, err, wantErr)
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d entries from %d to %d in %d bytes, want %d", len(got), lo, hi, maxSize, len(want))
	}
	for i := range want {
		if !sameEntry(got[i], want[i]) {
			return fmt.Errorf("entry is %v, want %v", got[i], want[i])
		}
	}
	return nil
}

// compareCheckpoints asks for the newest one at every limit where the answer
// changes.
func compareCheckpoints(l gcs.Log, m model) error {
	limits := []uint64{0, m.cut, m.last(), math.MaxUint64}
	for _, c := range m.checkpoints {
		limits = append(limits, c.Index, c.Index+1, c.Index-min(c.Index, 1))
	}
	for _, limit := range limits {
		want := m.checkpoint(limit)
		got, err := l.Checkpoint(limit)
		if err != nil || got.Index != want.Index || got.Term != want.Term || !bytes.Equal(got.Data, want.Data) {
			return fmt.Errorf("checkpoint at most %d is %d of term %d with %d bytes (%v), want %d of term %d with %d bytes",
				limit, got.Index, got.Term, len(got.Data), err, want.Index, want.Term, len(want.Data))
		}
	}
	return nil
}

func sameHardState(a, b *raftpb.HardState) bool {
	return a.GetTerm() == b.GetTerm() && a.GetVote() == b.GetVote() && a.GetCommit() == b.GetCommit()
}

// sameEntry compares what an entry means: an absent number is zero, and no
// data is empty data.
func sameEntry(a, b *raftpb.Entry) bool {
	return a.GetTerm() == b.GetTerm() && a.GetIndex() == b.GetIndex() &&
		a.GetType() == b.GetType() && bytes.Equal(a.GetData(), b.GetData())
}
