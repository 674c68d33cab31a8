package enginetest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// records are the changes that a log keeps of the stream, in commit order.
func (s *stream) records(old bool) (all []applier.ChangeRecord) {
	for _, b := range s.batches {
		for i := range b.Transactions {
			tx := &b.Transactions[i]
			r := applier.ChangeRecord{
				Index: tx.Index, Number: uint32(s.part[len(all)+1] - 1), GTID: tx.GTID, Origin: tx.Origin, Time: tx.Time, Payload: bytes.Clone(tx.Payload),
			}
			if old {
				r.Old = oldValues(s.states[len(all)].clone(), tx.Payload)
			}
			all = append(all, r)
		}
	}
	return all
}

// oldValues are those that a payload's keys have before each of its mutations.
func oldValues(before *model, payload []byte) []applier.OldValue {
	old := []applier.OldValue{}
	for mu, err := range applier.Mutations(payload) {
		if err != nil {
			return nil // which no record of this payload has
		}
		value, exists := before.tables[mu.Table][string(mu.Key)]
		old = append(old, applier.OldValue{Value: []byte(value), Exists: exists})
		before.mutate(mu)
	}
	return old
}

// follower reads the changes of an engine on its way along a road.
type follower struct {
	t      *testing.T
	rng    *rand.Rand
	all    []applier.ChangeRecord
	engine applier.Engine
	place  applier.ChangePlace
	got    []applier.ChangeRecord
}

// follow begins anew, with an engine that may hold some of the stream.
func (f *follower) follow(e applier.Engine) {
	f.t.Helper()
	f.engine = e
	f.got, f.place = collect(f.t, changeLog(f.t, e), gtid.Set{}, 200)
	f.look()
}

// look checks that what is visible is in the log, exactly, be it a part of an entry:
// for who follows, and for who begins somewhere.
func (f *follower) look() {
	f.t.Helper()
	log := changeLog(f.t, f.engine)
	for more := true; more; {
		records, next, err := log.ReadChanges(f.place, f.rng.IntN(300))
		if err != nil {
			f.t.Fatalf("read from %+v: %v", f.place, err)
		}
		f.got, f.place, more = append(f.got, records...), next, len(records) > 0
	}
	at := f.engine.Position()
	n := int(at.Executed.Count())
	if err := sameChanges(f.got, f.all[:n]); err != nil {
		f.t.Fatalf("followed to %d+%d: %v", at.Index, at.Part, err)
	}
	from := f.rng.IntN(n + 1)
	set := gtid.Set{}
	if from > 0 {
		set = set.AddInterval(group, "", 1, uint64(from))
	}
	got, _ := collect(f.t, log, set, f.rng.IntN(300))
	if err := sameChanges(got, f.all[from:n]); err != nil {
		f.t.Fatalf("after %v, at %d+%d: %v", set, at.Index, at.Part, err)
	}
}

// changesOnRoad checks the log at every call of a road, also in a copy of the state at
// one of them, and where the power was lost at one.
func (s *suite) changesOnRoad(t *testing.T, r road, crashes bool) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 13))
		st := newStream(rng, 8, r.lone)
		f := &follower{t: t, rng: rng, all: st.records(s.opts.OldValues)}
		h := s.open(t)
		f.follow(h.Engine())
		stop, points, copied := rng.IntN(40), 0, []byte(nil)
		crashed := crashes && seed%2 == 1
		w := &walker{engine: h.Engine(), rng: rng, concurrent: s.opts.Concurrent, point: func() error {
			f.look()
			if points++; points-1 != stop {
				return nil
			}
			if crashed {
				return errCrashed
			}
			copied = exportOf(t.Context(), t, h.Engine())
			return nil
		}}
		if err := r.run(w, st.batches); err != nil && !errors.Is(err, errCrashed) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		to := h.Engine()
		if crashed {
			if err := crash(h, rng); err != nil {
				t.Fatal(err)
			}
			to = h.Engine()
		} else if copied != nil {
			to = s.open(t).Engine()
			if _, err := to.Import(t.Context(), bytes.NewReader(copied)); err != nil {
				t.Fatal(err)
			}
		}
		w.discard() // of an engine that may be gone
		f.follow(to)
		stop = -1
		w.engine = to
		if err := r.run(w, st.rest(to.Position())); err != nil {
			t.Fatalf("seed %d, gone on: %v", seed, err)
		}
		if f.look(); len(f.got) != len(f.all) {
			t.Fatalf("seed %d: %d changes of %d", seed, len(f.got), len(f.all))
		}
	}
}
