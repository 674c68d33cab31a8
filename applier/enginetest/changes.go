package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// feed applies transactions to an engine and knows what its log of changes must
// hold.
type feed struct {
	model *model
	rng   *rand.Rand
	old   bool
	all   []applier.ChangeRecord // in commit order
}

func (s *suite) newFeed(seed uint64) *feed {
	return &feed{model: newModel(), rng: rand.New(rand.NewPCG(seed, 7)), old: s.opts.OldValues}
}

// apply applies one batch of some log entries, each of some transactions.
func (f *feed) apply(t *testing.T, e applier.Engine) {
	t.Helper()
	b := applier.Batch{To: f.model.position}
	for range f.rng.IntN(4) {
		b.To.Index += 1 + f.rng.Uint64N(3)
		for number := range uint32(f.rng.IntN(3)) {
			muts := f.model.certifiable(randomTx(f.rng))[0]
			id := gtid.GTID{UUID: group, Number: uint64(len(f.all) + 1)}
			r := applier.ChangeRecord{
				Index: b.To.Index, Number: number, GTID: id, Origin: gtid.UUID{byte(number)}, Time: int64(f.rng.Uint64()),
			}
			if f.old {
				r.Old = []applier.OldValue{}
			}
			for _, mu := range muts {
				old, exists := f.model.tables[mu.Table][string(mu.Key)]
				if f.old {
					r.Old = append(r.Old, applier.OldValue{Value: []byte(old), Exists: exists})
				}
				r.Payload = applier.AppendMutation(r.Payload, mu)
				f.model.mutate(mu)
			}
			b.To.Executed = b.To.Executed.Add(id)
			b.Transactions = append(b.Transactions, applier.Transaction{
				GTID: id, Index: r.Index, Origin: r.Origin, Time: r.Time, Payload: bytes.Clone(r.Payload),
			})
			f.all = append(f.all, r)
		}
	}
	b.To.Index++
	f.model.position = b.To
	if err := e.Apply(b); err != nil {
		t.Fatalf("apply: %v", err)
	}
	for i := range b.Transactions {
		clear(b.Transactions[i].Payload) // nobody may keep it
	}
}

// lose forgets what an engine has lost that is at a position now.
func (f *feed) lose(at applier.Position) {
	for len(f.all) > 0 && f.all[len(f.all)-1].Index > at.Index {
		f.all = f.all[:len(f.all)-1]
	}
}

// after is what must come behind a set.
func (f *feed) after(set gtid.Set) (want []applier.ChangeRecord) {
	for _, r := range f.all {
		if !set.Contains(r.GTID) {
			want = append(want, r)
		}
	}
	return want
}

func changeLog(t *testing.T, e applier.Engine) applier.ChangeLog {
	t.Helper()
	log, ok := e.(applier.ChangeLog)
	if !ok {
		t.Fatalf("%T keeps no changes", e)
	}
	return log
}

// collect reads all that is kept and not in a set, most bytes at a time, and returns
// it with the place behind.
func collect(t *testing.T, log applier.ChangeLog, after gtid.Set, most int) (got []applier.ChangeRecord, place applier.ChangePlace) {
	t.Helper()
	place, err := log.FindChanges(after)
	if err != nil {
		t.Fatalf("find what is after %v: %v", after, err)
	}
	for {
		records, next, err := log.ReadChanges(place, most)
		if err != nil {
			t.Fatalf("read from %+v: %v", place, err)
		}
		if place = next; len(records) == 0 {
			return got, place
		}
		for _, r := range records {
			if !after.Contains(r.GTID) {
				got = append(got, r)
			}
		}
	}
}

// sameChanges says how what was read differs from what it should be.
func sameChanges(got, want []applier.ChangeRecord) error {
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		same := g.Index == w.Index && g.Number == w.Number && g.GTID == w.GTID && g.Origin == w.Origin && g.Time == w.Time &&
			bytes.Equal(g.Payload, w.Payload) && len(g.Old) == len(w.Old) && (g.Old == nil) == (w.Old == nil)
		for j := 0; same && j < len(g.Old); j++ {
			same = g.Old[j].Exists == w.Old[j].Exists && bytes.Equal(g.Old[j].Value, w.Old[j].Value)
		}
		if !same {
			return fmt.Errorf("change %d is %+v, want %+v", i, g, w)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d changes, want %d", len(got), len(want))
	}
	return nil
}

// changes checks that each transaction is in the log once, in commit order, as soon
// as it is visible, from wherever one begins to read.
func (s *suite) changes(t *testing.T) {
	f, e := s.newFeed(1), s.open(t).Engine()
	log := changeLog(t, e)
	if got, _ := collect(t, log, gtid.Set{}, 1); len(got) != 0 {
		t.Fatalf("an empty engine has changes: %+v", got)
	}
	followed, place := collect(t, log, gtid.Set{}, 1)
	for range 60 {
		f.apply(t, e)
		records, next, err := log.ReadChanges(place, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		followed, place = append(followed, records...), next
	}
	if err := sameChanges(followed, f.all); err != nil {
		t.Fatalf("followed: %v", err)
	}
	sets := []gtid.Set{{}, gtid.Set{}.AddInterval(gtid.UUID{9}, "", 1, 5)}
	for range 20 {
		prefix := gtid.Set{}.AddInterval(group, "", 1, 1+f.rng.Uint64N(uint64(len(f.all))))
		sets = append(sets, prefix, prefix.Union(sets[1]), prefix.Add(gtid.GTID{UUID: group, Number: uint64(len(f.all))}))
	}
	for _, set := range sets {
		got, _ := collect(t, log, set, f.rng.IntN(400))
		if err := sameChanges(got, f.after(set)); err != nil {
			t.Fatalf("after %v: %v", set, err)
		}
	}
}

// changesResumed checks that the log goes on where an engine is opened again.
func (s *suite) changesResumed(t *testing.T) {
	f, h := s.newFeed(2), s.open(t)
	for range 5 {
		for range 8 {
			f.apply(t, h.Engine())
		}
		if err := h.Reopen(); err != nil {
			t.Fatal(err)
		}
		got, _ := collect(t, changeLog(t, h.Engine()), gtid.Set{}, 100)
		if err := sameChanges(got, f.all); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Engine().Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := changeLog(t, h.Engine()).FindChanges(gtid.Set{}); !errors.Is(err, applier.ErrClosed) {
		t.Errorf("find in a closed engine: %v", err)
	}
	if _, _, err := changeLog(t, h.Engine()).ReadChanges(applier.ChangePlace{}, 1); !errors.Is(err, applier.ErrClosed) {
		t.Errorf("read in a closed engine: %v", err)
	}
}

// changesTransfer checks that a copy has the donor's changes, and that places in
// what was there before lead nowhere.
func (s *suite) changesTransfer(t *testing.T) {
	f, donor := s.newFeed(3), s.open(t).Engine()
	for range 30 {
		f.apply(t, donor)
	}
	own, to := s.newFeed(4), s.open(t).Engine()
	for range 10 {
		own.apply(t, to)
	}
	log := changeLog(t, to)
	_, place := collect(t, log, gtid.Set{}, 1<<20)
	stream := exportOf(t.Context(), t, donor)
	f.apply(t, donor) // which the copy has not
	if _, err := to.Import(t.Context(), bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := log.ReadChanges(place, 1<<20); !errors.Is(err, applier.ErrChangesMoved) {
		t.Fatalf("place of the state before: %v", err)
	}
	f.lose(to.Position())
	f.model.position = to.Position()
	f.apply(t, to)
	got, _ := collect(t, log, gtid.Set{}, 200)
	if err := sameChanges(got, f.all); err != nil {
		t.Fatal(err)
	}
}

// changesCrash checks that a crash takes a transaction's change exactly when it
// takes the transaction.
func (s *suite) changesCrash(t *testing.T) {
	for seed := range uint64(seeds) {
		f, h := s.newFeed(100+seed), s.open(t)
		for range 3 {
			past := history{}
			past.add(f.model)
			for range f.rng.IntN(30) {
				f.apply(t, h.Engine())
				past.add(f.model)
				if f.rng.IntN(8) == 0 {
					if err := h.Engine().Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := crash(h, f.rng); err != nil {
				t.Fatal(err)
			}
			at := h.Engine().Position()
			m, err := past.after(h.Engine(), 0)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			f.model = m
			f.lose(at)
			got, _ := collect(t, changeLog(t, h.Engine()), gtid.Set{}, 300)
			if err := sameChanges(got, f.all); err != nil {
				t.Fatalf("seed %d, at %d: %v", seed, at.Index, err)
			}
		}
	}
}
