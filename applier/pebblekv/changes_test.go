package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/enginetest"
	"github.com/concordatdb/concordat/gtid"
)

func TestConformanceOfChanges(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprint("old values ", old), func(t *testing.T) {
			enginetest.RunChanges(t, enginetest.Options{
				Open: func(t testing.TB) enginetest.Harness {
					return newHarnessWith(t, func(o *Options) { o.ChangeBytes, o.ChangeOldValues = 64<<20, old })
				},
				Changes: true, OldValues: old,
			})
		})
	}
}

// newHarnessWith is newHarness with other options.
func newHarnessWith(t testing.TB, change func(*Options)) *harness {
	h := newHarness(t)
	if err := h.engine.Close(); err != nil {
		t.Fatal(err)
	}
	change(&h.opts)
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	return h
}

// hands moves the clock of an engine under test.
type hands struct{ at time.Time }

func (h *hands) now() time.Time { return h.at }

// changedAt is a batch of one transaction at a log index.
func changedAt(index uint64, size int) applier.Batch {
	b := batchOf(index, fmt.Sprint("k", index%5), string(bytes.Repeat([]byte{'v'}, size)))
	b.Transactions[0].Index = index
	b.To.Executed = gtid.Set{}.AddInterval(b.Transactions[0].GTID.UUID, "", 1, index)
	return b
}

// kept reads everything that is kept, and returns the log index of the first one.
func kept(t rapid.TB, e *Engine) (first uint64, bytes int) {
	t.Helper()
	gone, ok := gtid.Set{}, false
	_, err := e.FindChanges(gtid.Set{})
	if e, isGone := errors.AsType[*applier.ChangesGoneError](err); isGone {
		gone, ok, err = e.Missing, true, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	place, err := e.FindChanges(gone)
	if err != nil {
		t.Fatal(err)
	}
	records, _, err := e.ReadChanges(place, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		bytes += len(r.Payload)
	}
	end := e.Position()
	if first = end.Index + 1; len(records) > 0 {
		first = records[0].Index
	}
	for i, r := range records {
		if r.Index != first+uint64(i) {
			t.Fatalf("change %d is of %d, the first of %d", i, r.Index, first)
		}
	}
	if n := uint64(len(records)); first+n != end.Index+1 || ok != (first > 1) || gone.Count() != first-1 {
		t.Fatalf("%d changes from %d on, at %d, where %v is gone", n, first, end.Index, gone)
	}
	return first, bytes
}

// TestChangesRetention checks that no more is kept than was asked for, no less than
// that but for a step, and that what is kept has no gap.
func TestChangesRetention(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 20_000).Draw(t, "limit")
		age := time.Duration(rapid.SampledFrom([]int{0, 1000, 20_000}).Draw(t, "age"))
		clock := &hands{at: time.Unix(1000, 0)}
		h := newHarnessWith(outer, func(o *Options) { o.ChangeBytes, o.ChangeAge, o.Now = int64(limit), age, clock.now })
		defer func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}()
		var at []time.Time // when each was applied
		for range rapid.IntRange(1, 60).Draw(t, "batches") {
			size := rapid.IntRange(0, 1500).Draw(t, "size")
			clock.at = clock.at.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "passes")))
			if err := h.engine.Apply(changedAt(uint64(len(at)+1), size)); err != nil {
				t.Fatal(err)
			}
			at = append(at, clock.at)
			if rapid.IntRange(0, 9).Draw(t, "reopen") == 0 {
				if err := h.Reopen(); err != nil {
					t.Fatal(err)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "trim") == 0 {
				if err := h.engine.TrimChanges(); err != nil {
					t.Fatal(err)
				}
			}
			first, bytes := kept(t, h.engine)
			if bytes > limit {
				t.Fatalf("%d bytes are kept, the limit is %d", bytes, limit)
			}
			if first <= uint64(len(at)) && age > 0 && at[first-1].Before(clock.at.Add(-age-age/changeSteps-900)) {
				t.Fatalf("change %d of %v is kept at %v, the age is %v", first, at[first-1], clock.at, age)
			}
			if age == 0 && first > 1 && bytes+limit/changeSteps+4000 < limit {
				t.Fatalf("%d bytes are kept, of %d that could be", bytes, limit)
			}
		}
	})
}

// TestChangesTrimmed checks that an engine which is given nothing forgets what has grown
// too old, all of it in the end, and no sooner; that this outlasts a crash or not, but
// leaves no gap; and that it goes on behind it.
func TestChangesTrimmed(t *testing.T) {
	const age = 64 * time.Second
	clock := &hands{at: time.Unix(1000, 0)}
	h := newHarnessWith(t, func(o *Options) { o.ChangeBytes, o.ChangeAge, o.Now = 1<<20, age, clock.now })
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range uint64(10) {
		if err := h.engine.Apply(changedAt(i+1, 10)); err != nil {
			t.Fatal(err)
		}
		clock.at = clock.at.Add(time.Second)
	}
	before, digest, position := clock.at, mustDigest(t, h.engine), h.engine.Position()
	for passed := time.Duration(0); passed <= age+3*time.Second; passed += time.Second {
		clock.at = before.Add(passed)
		if err := h.engine.TrimChanges(); err != nil {
			t.Fatal(err)
		}
		first, _ := kept(t, h.engine)
		// The i-th was applied at 9-i seconds before; it goes with the milestone behind it.
		least, most := uint64(1), uint64(1)
		if old := passed + 10*time.Second - age; old > 0 {
			most = min(11, uint64(old/time.Second)+1)
			least = max(most, 3) - 2
		}
		if first < least || first > most {
			t.Errorf("after %v what is kept begins at %d, want %d to %d", passed, first, least, most)
		}
		if at := h.engine.Position(); mustDigest(t, h.engine) != digest || at.Index != position.Index || !at.Executed.Equal(position.Executed) {
			t.Fatalf("after %v the engine is at %v", passed, at)
		}
	}
	if first, _ := kept(t, h.engine); first != 11 {
		t.Errorf("in the end what is kept begins at %d", first)
	}
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Apply(changedAt(11, 10)); err != nil {
		t.Fatal(err)
	}
	if first, _ := kept(t, h.engine); first != 11 {
		t.Errorf("behind it what is kept begins at %d", first)
	}
}

func mustDigest(t testing.TB, e *Engine) applier.Digest {
	t.Helper()
	d, _, err := e.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestChangesOff checks that an engine which keeps nothing says so, and that what
// was kept before does not come back with a gap.
func TestChangesOff(t *testing.T) {
	h := newHarnessWith(t, func(o *Options) { o.ChangeBytes = 1 << 20 })
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	apply := func(index uint64) {
		t.Helper()
		if err := h.engine.Apply(changedAt(index, 10)); err != nil {
			t.Fatal(err)
		}
	}
	reopen := func(bytes int64) {
		t.Helper()
		h.opts.ChangeBytes = bytes
		if err := h.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(5) {
		apply(i + 1)
	}
	place, err := h.engine.FindChanges(gtid.Set{})
	if err != nil {
		t.Fatal(err)
	}
	reopen(0)
	if _, err := h.engine.FindChanges(gtid.Set{}); !errors.Is(err, applier.ErrChangesOff) {
		t.Errorf("find: %v", err)
	}
	if _, _, err := h.engine.ReadChanges(place, 1); !errors.Is(err, applier.ErrChangesOff) {
		t.Errorf("read: %v", err)
	}
	apply(6)
	reopen(1 << 20)
	if first, _ := kept(t, h.engine); first != 7 {
		t.Errorf("what is kept begins at %d, want 7", first)
	}
	apply(7)
	reopen(1 << 20)
	if first, _ := kept(t, h.engine); first != 7 {
		t.Errorf("after a transaction what is kept begins at %d, want 7", first)
	}
	_, err = h.engine.FindChanges(gtid.Set{}.AddInterval(gtid.UUID{1}, "", 1, 5))
	if gone, ok := errors.AsType[*applier.ChangesGoneError](err); !ok || gone.Missing.Count() != 1 {
		t.Errorf("what lacks one that was forgotten: %v", err)
	}
}

// TestChangesOvertaken checks that a place is refused once what comes next there has
// been forgotten, and that what is kept then says what is missing.
func TestChangesOvertaken(t *testing.T) {
	h := newHarnessWith(t, func(o *Options) { o.ChangeBytes = 2000 })
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	place, err := h.engine.FindChanges(gtid.Set{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(40) {
		if err := h.engine.Apply(changedAt(i+1, 200)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.engine.ReadChanges(place, 1); !errors.Is(err, applier.ErrChangesMoved) {
		t.Errorf("read: %v", err)
	}
	_, err = h.engine.FindChanges(gtid.Set{})
	gone, ok := errors.AsType[*applier.ChangesGoneError](err)
	if !ok || !errors.Is(err, applier.ErrChangesGone) {
		t.Fatalf("find: %v", err)
	}
	// Each transaction has a log index of its own here: this is the last forgotten.
	place.Index = gone.Missing.Count()
	if _, _, err := h.engine.ReadChanges(place, 1); !errors.Is(err, applier.ErrChangesMoved) {
		t.Errorf("read from the last that was forgotten: %v", err)
	}
	place.Index++
	if records, _, err := h.engine.ReadChanges(place, 1); err != nil || len(records) != 1 || records[0].Index != place.Index {
		t.Errorf("read from the first that is kept: %+v, %v", records, err)
	}
	// What does not belong where it says is not recorded.
	for _, index := range []uint64{40, 42} {
		b := changedAt(41, 1)
		b.Transactions[0].Index = index
		if err := h.engine.Apply(b); !errors.Is(err, applier.ErrOrder) || h.engine.Position().Index != 40 {
			t.Errorf("transaction of %d in the batch to 41: %v, at %d", index, err, h.engine.Position().Index)
		}
	}
}

// BenchmarkApplyChanges is what keeping changes costs beside applying.
func BenchmarkApplyChanges(b *testing.B) {
	for _, limit := range []int64{0, 64 << 20} {
		b.Run(fmt.Sprintf("%d MiB", limit>>20), func(b *testing.B) {
			h := newHarnessWith(b, func(o *Options) { o.ChangeBytes = limit })
			defer func() { _ = h.Close() }()
			b.ReportAllocs()
			for i := uint64(1); b.Loop(); i++ {
				if err := h.engine.Apply(changedAt(i, 100)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
