package applier

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"

	"github.com/spaolacci/murmur3"
)

// Place is where a pair stands in the order of all pairs of a state: by schema,
// then by the table's name, then by key, each byte by byte. The zero Place comes
// before every pair.
type Place struct {
	Table Table
	Key   []byte
}

// IsZero reports whether p comes before every pair.
func (p Place) IsZero() bool { return p.Table == Table{} && len(p.Key) == 0 }

// Compare returns -1, 0 or 1 as p comes before q, is q, or comes after it.
func (p Place) Compare(q Place) int {
	return cmp.Or(
		cmp.Compare(p.Table.Schema, q.Table.Schema),
		cmp.Compare(p.Table.Name, q.Table.Name),
		bytes.Compare(p.Key, q.Key),
	)
}

// After returns the first place behind p.
func (p Place) After() Place {
	return Place{Table: p.Table, Key: append(bytes.Clone(p.Key), 0)}
}

// String names the pair for people.
func (p Place) String() string {
	if p.IsZero() {
		return "the first key"
	}
	return fmt.Sprintf("%s %.80q", p.Table, p.Key)
}

// Checker is implemented by the snapshots of an engine whose members compare
// their data with each other while they run. An engine of which snapshots are
// none takes part in the group as any other: its data are not compared.
type Checker interface {
	Snapshot
	// Pairs yields the pairs of all tables that stand at from or behind it, in
	// the order of places, as they are stored: it reads them, and does not go by
	// what the engine remembers of them. Place and value are valid only until
	// the next step. After the loop, Err tells whether it ended early.
	Pairs(from Place) iter.Seq2[Place, []byte]
}

// SliceSums is into how many sums a slice's pairs are counted.
const SliceSums = 16

// PairSum is what is remembered of one pair of a slice.
type PairSum struct {
	Place Place
	Sum   uint64 // of key and value
}

// Slice is a part of a state, as hashed.
type Slice struct {
	// Next is the place behind the last pair, zero where the state has ended before
	// the budget was used up.
	Next Place
	// Sums are those of the pairs, each in the one that [SumOf] says. The same
	// pairs lead to the same sums, others to other ones but for a collision.
	Sums [SliceSums]uint64
	// Pairs are those of the slice, in order.
	Pairs []PairSum
}

// SumOf returns in which of a slice's sums a pair is counted. It depends on the
// key alone: of two states in which one pair differs, one sum does.
func SumOf(key []byte) int { return int(murmur3.Sum64(key) % SliceSums) }

// pairCost is what a pair takes of a slice's budget beside its key and value.
const pairCost = 32

// HashSlice hashes the pairs of a snapshot from a place on, until their keys and
// values, and 32 bytes for each, take budget bytes: at least one pair, if there
// is one. It reads what it hashes, and takes memory for the keys. An error is the
// snapshot's, or the cause of the end of ctx.
func HashSlice(ctx context.Context, s Checker, from Place, budget int) (out Slice, err error) {
	var d Digester
	var keys []byte // of the pairs, one behind the other; what is full is left to the pairs in it
	done := false
	for at, value := range s.Pairs(from) {
		if len(out.Pairs)%256 == 255 && ctx.Err() != nil {
			return Slice{}, context.Cause(ctx)
		}
		keys = append(keys, at.Key...)
		key := keys[len(keys)-len(at.Key) : len(keys) : len(keys)]
		sum := d.Hash(at.Table, at.Key, value).h1
		out.Sums[SumOf(at.Key)] += sum
		out.Pairs = append(out.Pairs, PairSum{Place: Place{Table: at.Table, Key: key}, Sum: sum})
		if budget -= len(at.Key) + len(value) + pairCost; budget <= 0 {
			// Whatever comes behind it: what differs there is the next slice's.
			out.Next, done = out.Pairs[len(out.Pairs)-1].Place.After(), true
			break
		}
	}
	if err := s.Err(); err != nil && !done {
		return Slice{}, err
	}
	return out, nil
}
