package outcome

import (
	"fmt"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// wantFate checks what the window says of an id; a zero fate stands for none.
func wantFate(t *testing.T, w *Window, id ID, want Fate) {
	t.Helper()
	if got, ok := w.Find(id); got != want || ok != (want != Fate{}) {
		t.Errorf("found %+v, %v of %v, want %+v", got, ok, id, want)
	}
}

func wantCover(t *testing.T, w *Window, length int, from uint64) {
	t.Helper()
	if w.Len() != length || w.From() != from {
		t.Errorf("%d transactions after index %d, want %d after %d", w.Len(), w.From(), length, from)
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

func TestWindowMoves(t *testing.T) {
	w := New(2, 7)
	wantCover(t, w, 0, 0)
	w.Note(idOf(1), commit(1, 10))
	w.Note(idOf(2), refuse(7, 10))
	wantCover(t, w, 2, 0)
	w.Note(idOf(3), lose(1, 11))
	wantCover(t, w, 2, 10)
	wantFate(t, w, idOf(1), Fate{})
	wantFate(t, w, idOf(2), refuse(7, 10))
	wantFate(t, w, idOf(3), lose(1, 11))
}

func TestRefusedIsSuperseded(t *testing.T) {
	w := New(3, 7)
	w.Note(idOf(1), refuse(3, 1))
	w.Note(idOf(2), commit(1, 2))
	w.Note(idOf(1), lose(1, 3))
	wantFate(t, w, idOf(1), lose(1, 3))
	w.Note(idOf(1), commit(2, 4))
	wantFate(t, w, idOf(1), commit(2, 4))
	wantFate(t, w, idOf(2), commit(1, 2))
	wantCover(t, w, 3, 1)
	w.Note(idOf(3), commit(3, 5))
	wantFate(t, w, idOf(1), commit(2, 4))
	wantFate(t, w, idOf(2), Fate{})
	wantCover(t, w, 3, 2)
}

// TestZeroID checks that the zero id, which superseded entries bear too, is one
// like any other.
func TestZeroID(t *testing.T) {
	w := New(10, 7)
	w.Note(idOf(1), refuse(1, 1))
	w.Note(idOf(1), refuse(1, 2))
	wantFate(t, w, ID{}, Fate{})
	w.Note(ID{}, refuse(1, 3))
	w.Note(ID{}, commit(1, 4))
	wantFate(t, w, ID{}, commit(1, 4))
}

// TestStaleLinkToSuperseded checks that an old link that is taken for one to a
// superseded entry makes no transaction of it.
func TestStaleLinkToSuperseded(t *testing.T) {
	w := New(1<<13, 7)
	w.Note(idOf(1), refuse(1, 1))
	w.Note(idOf(1), refuse(1, 2))
	*w.buckets.head(w.bucket(ID{})) = uint32(w.first)
	wantFate(t, w, ID{}, Fate{})
	for i := uint64(2); w.buckets.n < 4*bucketChunk; i++ {
		w.Note(idOf(i), commit(i, i))
	}
	wantCover(t, w, w.Len(), 0)
	wantFate(t, w, ID{}, Fate{})
}

func TestLimits(t *testing.T) {
	w := New(5, 7)
	for i := uint64(1); i <= 5; i++ {
		w.Note(idOf(i), commit(i, i*10))
	}
	w.SetLimit(2)
	wantCover(t, w, 2, 30)
	wantFate(t, w, idOf(3), Fate{})
	wantFate(t, w, idOf(4), commit(4, 40))

	w.SetLimit(4)
	wantCover(t, w, 2, 30)
	wantFate(t, w, idOf(3), Fate{})
	w.Note(idOf(3), commit(6, 60)) // forgotten, so not known to have committed
	wantFate(t, w, idOf(3), commit(6, 60))
	wantCover(t, w, 3, 30)

	w.SetLimit(0)
	wantCover(t, w, 0, 60)
	w.Note(idOf(7), commit(7, 70))
	w.Note(idOf(7), commit(7, 71))
	wantCover(t, w, 0, 71)
	wantFate(t, w, idOf(7), Fate{})

	for given, want := range map[int]int{-1: 0, MaxLimit: MaxLimit, MaxLimit + 1: MaxLimit} {
		if w.SetLimit(given); w.Limit() != want {
			t.Errorf("limit %d counts as %d, want %d", given, w.Limit(), want)
		}
		if got := New(given, 7).Limit(); got != want {
			t.Errorf("limit %d counts as %d at first, want %d", given, got, want)
		}
	}
}

func TestBroken(t *testing.T) {
	valid := gtid.GTID{UUID: group, Number: 1}
	bad := gtid.GTID{UUID: group, Number: gtid.MaxNumber + 1}
	for name, c := range map[string]struct {
		id   ID
		f    Fate
		want string
	}{
		"committed again":         {idOf(1), commit(1, 20), "the id has committed"},
		"refused after":           {idOf(1), refuse(1, 20), "the id has committed"},
		"committed as nothing":    {idOf(2), Fate{Committed: true, Index: 20}, "no fate"},
		"committed as the bad":    {idOf(2), Fate{Committed: true, GTID: bad, Index: 20}, "no fate"},
		"committed, with reason":  {idOf(2), Fate{Committed: true, GTID: valid, Reason: 1, Index: 20}, "no fate"},
		"committed, with winner":  {idOf(2), Fate{Committed: true, GTID: valid, Winner: valid, Index: 20}, "no fate"},
		"refused, with a GTID":    {idOf(2), Fate{GTID: valid, Index: 20}, "no fate"},
		"refused for the bad":     {idOf(2), Fate{Winner: bad, Index: 20}, "no fate"},
		"delivered before":        {idOf(2), commit(2, 9), "no fate"},
		"delivered before anyone": {idOf(2), commit(2, 0), "no fate"},
	} {
		t.Run(name, func(t *testing.T) {
			w := New(3, 7)
			w.Note(idOf(1), commit(1, 10))
			defer func() {
				text := fmt.Sprint(recover())
				if !strings.Contains(text, c.want) || !strings.Contains(text, c.id.String()) {
					t.Errorf("panic %q, want %q and the id", text, c.want)
				}
			}()
			w.Note(c.id, c.f)
		})
	}
}

// TestBeforeTheForgotten checks that order is asked for even of an empty window.
func TestBeforeTheForgotten(t *testing.T) {
	w := New(0, 7)
	w.Note(idOf(1), commit(1, 10))
	defer func() {
		if recover() == nil {
			t.Error("noted index 9 after 10")
		}
	}()
	w.Note(idOf(2), commit(2, 9))
}

// TestMemoryComesBack checks that after a lower limit each transaction gives
// back a little, until chunks, buckets and sources are as many as are needed.
func TestMemoryComesBack(t *testing.T) {
	const n = 20 * bucketChunk
	w := New(n, 7)
	for i := uint64(1); i <= n; i++ {
		f := commit(i, i)
		f.GTID.UUID[1] = byte(i % 200)
		w.Note(idOf(i), f)
	}
	if w.buckets.n != perEntry*n || len(w.sources.list) != 201 {
		t.Fatalf("%d buckets, %d sources", w.buckets.n, len(w.sources.list))
	}
	w.SetLimit(100)
	wantCover(t, w, 100, n-100)
	for i := uint64(n + 1); i <= n+n/2; i++ {
		chunks, buckets := w.chunks.Len(), w.buckets.n
		w.Note(idOf(i), commit(i, i))
		if w.chunks.Len() < chunks-1 || w.buckets.n+releases < buckets {
			t.Fatalf("one transaction gave back %d chunks and %d buckets", chunks-w.chunks.Len(), buckets-w.buckets.n)
		}
	}
	wantCover(t, w, 100, n+n/2-100)
	if w.chunks.Len() > 2 || w.buckets.n != bucketChunk || len(w.buckets.chunks) > 2 || len(w.sources.byName) != 1 {
		t.Errorf("%d chunks, %d buckets in %d, %d sources", w.chunks.Len(), w.buckets.n, len(w.buckets.chunks), len(w.sources.byName))
	}
}

// TestFullWindowAllocatesNothing also covers ids that are refused and tried
// again.
func TestFullWindowAllocatesNothing(t *testing.T) {
	w := New(3*bucketChunk, 7)
	n := uint64(0)
	step := func() {
		n++
		id := idOf(n)
		if n%8 == 0 {
			id = idOf(0)
		}
		if f, ok := w.Find(id); ok && f.Committed {
			t.Fatalf("%v has committed", id)
		}
		if n%8 == 0 {
			w.Note(id, lose(n-1, n))
		} else {
			w.Note(id, commit(n, n))
		}
	}
	for range 4 * bucketChunk {
		step()
	}
	if allocs := testing.AllocsPerRun(20, func() {
		for range chunkLen {
			step()
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestChainsAreShort checks the spread of ids that differ little, and that of a
// window that has been full for long.
func TestChainsAreShort(t *testing.T) {
	const n = 1 << 14
	w := New(n, 7)
	for i := uint64(1); i <= 3*n; i++ {
		w.Note(idOf(i<<20), commit(i, i))
	}
	steps, longest := 0, 0
	for i := range w.buckets.n {
		length := 0
		for p := w.follow(*w.buckets.head(i), w.next); p != 0; p = w.follow(w.at(p).link, p) {
			length++
			steps += length
		}
		longest = max(longest, length)
	}
	// Of n balls in 2n bins 1.25 steps are expected, and 13 in one bin are less
	// likely than one in 10^8.
	if steps > n*14/10 || longest > 12 {
		t.Errorf("%d steps to find each of %d, longest chain %d", steps, n, longest)
	}
}

// TestNewAfter checks that a window of a group that goes on with others' data does not
// claim to know what was before.
func TestNewAfter(t *testing.T) {
	w := NewAfter(40, 1)
	w.SetLimit(10)
	if w.From() != 40 {
		t.Errorf("it covers what is behind %d, want 40", w.From())
	}
	again, err := Restore(w.AppendState(nil), 1)
	if err != nil || again.From() != 40 {
		t.Errorf("restored: %v", err)
	}
}

// TestRevoke makes a transaction refused that had committed. Then its id may be
// noted again, as after any refusal, and nothing else has changed.
func TestRevoke(t *testing.T) {
	w := New(10, 7)
	for i := uint64(1); i <= 4; i++ {
		w.Note(idOf(i), commit(i, i))
	}
	g := commit(3, 3).GTID
	if !w.Revoke(g, 9) || w.Revoke(g, 9) || w.Revoke(commit(8, 8).GTID, 9) {
		t.Fatal("what is revoked is not what had committed")
	}
	if f, known := w.Find(idOf(3)); !known || f != (Fate{Reason: 9, Index: 3}) {
		t.Errorf("its fate is %+v (%t)", f, known)
	}
	restored, err := Restore(w.AppendState(nil), 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*Window{w, restored} {
		w.Note(idOf(3), commit(5, 5))
		for _, i := range []uint64{1, 2, 4} {
			if f, known := w.Find(idOf(i)); !known || f != commit(i, i) {
				t.Errorf("the fate of %d is %+v (%t)", i, f, known)
			}
		}
		if f, known := w.Find(idOf(3)); !known || f != commit(5, 5) {
			t.Errorf("its second fate is %+v (%t)", f, known)
		}
	}
}
