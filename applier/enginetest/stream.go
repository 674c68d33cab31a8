package enginetest

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// stream is what the log brings: batches of transactions with their intervals, and
// what the data must be after each transaction.
type stream struct {
	batches []applier.Batch
	states  []*model // after so many transactions
	whole   []uint64 // by number of transactions, the log index of the last entry that is whole then
	part    []uint64 // and how many there are of the next one
}

type rowName struct {
	table applier.Table
	key   string
}

// newStream makes a stream that looks like one that was certified. A transaction
// depends on the last one before it that touched one of its keys, and now and
// then on everything. With lone, every other batch holds one transaction, which
// writes many keys in order.
func newStream(rng *rand.Rand, batches int, lone bool) *stream {
	m := newModel()
	s := &stream{states: []*model{m.clone()}, whole: []uint64{0}, part: []uint64{0}}
	touched := map[rowName]uint64{}
	sequence := uint64(0)
	for range batches {
		b := applier.Batch{To: m.position}
		alone := lone && rng.IntN(2) == 0
		entries, parts, random := 1+rng.IntN(3), func() int { return rng.IntN(4) }, randomTx
		if alone {
			entries, parts, random = 1, func() int { return 1 }, sortedTx
		}
		for range entries {
			b.To.Index++
			for part := range parts() {
				t := s.transaction(random(rng), rng, m, touched, sequence)
				sequence = t.Sequence
				t.Index = b.To.Index
				b.To.Executed = b.To.Executed.Add(t.GTID)
				b.Transactions = append(b.Transactions, t)
				s.states = append(s.states, m.clone())
				s.whole, s.part = append(s.whole, b.To.Index-1), append(s.part, uint64(part+1))
			}
		}
		m.position = b.To
		s.batches = append(s.batches, b)
	}
	return s
}

// sortedTx writes each of its keys once, in their order.
func sortedTx(rng *rand.Rand) (muts tx) {
	for range 4 {
		muts = append(muts, randomTx(rng)...)
	}
	compare := func(a, b applier.Mutation) int {
		return cmp.Or(strings.Compare(a.Table.Schema, b.Table.Schema), strings.Compare(a.Table.Name, b.Table.Name), bytes.Compare(a.Key, b.Key))
	}
	slices.SortStableFunc(muts, compare)
	return slices.CompactFunc(muts, func(a, b applier.Mutation) bool { return compare(a, b) == 0 })
}

func (s *stream) transaction(muts tx, rng *rand.Rand, m *model, touched map[rowName]uint64, before uint64) applier.Transaction {
	t := applier.Transaction{Sequence: before + 1}
	t.GTID = gtid.GTID{UUID: group, Number: t.Sequence}
	for _, mu := range m.certifiable(muts)[0] {
		row := rowName{mu.Table, string(mu.Key)}
		if last := touched[row]; last != t.Sequence {
			t.LastCommitted = max(t.LastCommitted, last)
		}
		touched[row] = t.Sequence
		t.Payload = applier.AppendMutation(t.Payload, mu)
		m.mutate(mu)
	}
	if rng.IntN(10) == 0 {
		t.LastCommitted = before
	}
	return t
}

// check compares all that an engine shows with what it must show at its position,
// and returns how many transactions that holds. With boundary only ends of
// batches will do.
func (s *stream) check(e applier.Engine, boundary bool) (n int, err error) {
	snap, err := e.Begin()
	if err != nil {
		return 0, err
	}
	at := snap.Position()
	n = int(at.Executed.Count())
	if n >= len(s.states) {
		return n, fmt.Errorf("position %d+%d with %d transactions, there are %d", at.Index, at.Part, n, len(s.states)-1)
	}
	if err := s.checkPosition(at, n, boundary); err != nil {
		return n, err
	}
	want := s.states[n].clone()
	want.position = at
	if err := want.diff(snap); err != nil {
		return n, err
	}
	digest, of, err := e.Digest()
	if err == nil && of.Index == at.Index && of.Part == at.Part && digest != want.digest() {
		err = fmt.Errorf("digest %v at %d+%d, want %v", digest, at.Index, at.Part, want.digest())
	}
	if err != nil {
		return n, err
	}
	return n, snap.Close()
}

// checkPosition checks that a position with n transactions can be one.
func (s *stream) checkPosition(at applier.Position, n int, boundary bool) error {
	executed := gtid.Set{}
	if n > 0 {
		executed = executed.AddInterval(group, "", 1, uint64(n))
	}
	if !at.Executed.Equal(executed) {
		return fmt.Errorf("position with %v, want %v", at.Executed, executed)
	}
	end := at.Index == 0 || slices.ContainsFunc(s.batches, func(b applier.Batch) bool {
		return b.To.Index == at.Index && b.To.Executed.Equal(executed)
	})
	inside := at.Index == s.whole[n] && at.Part == s.part[n]
	if end && at.Part == 0 || inside && !boundary {
		return nil
	}
	return fmt.Errorf("position %d+%d with %d transactions, which are %d+%d", at.Index, at.Part, n, s.whole[n], s.part[n])
}

// rest is what is left to be applied to an engine, as a member finds it in the
// log: whole batches, and the rest of one.
func (s *stream) rest(at applier.Position) (rest []applier.Batch) {
	for _, b := range s.batches {
		if b.To.Index <= at.Index {
			continue
		}
		b.Transactions = slices.DeleteFunc(slices.Clone(b.Transactions), func(t applier.Transaction) bool {
			return at.Executed.Contains(t.GTID)
		})
		rest = append(rest, b)
	}
	return rest
}
