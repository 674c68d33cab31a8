package applier

import (
	"encoding/binary"

	"github.com/spaolacci/murmur3"
)

// Digester maintains the [Digest] of a state while its pairs change. It costs
// one hash per pair added or removed and never needs to see the rest.
//
// The digest of a state is the sum of the hashes of its pairs, in two lanes of
// 64 bits, each modulo 2^64. A sum does not depend on the order of its terms,
// and a term can be taken back, so the digest is a function of the contents
// alone, whatever happened before. (XOR would have these properties too, but
// would not notice a pair that is counted twice.)
//
//	hash  := MurmurHash3 x64 128 of pair, seed 0; lanes h1, h2
//	pair  := len(schema)(1) schema len(name)(1) name uvarint(len key) key value
//	digest:= sum h1 (8, big-endian) sum h2 (8, big-endian)
//
// The zero Digester is that of an empty state. It is for one goroutine at a
// time.
type Digester struct {
	h1, h2 uint64
	pair   []byte // reused from call to call
}

// maxKeptPair bounds the buffer that a Digester keeps between calls, so that
// one huge value does not stay in memory for ever.
const maxKeptPair = 1 << 20

// Reset makes d the digester of a state whose digest is at.
func (d *Digester) Reset(at Digest) {
	d.h1 = binary.BigEndian.Uint64(at[:8])
	d.h2 = binary.BigEndian.Uint64(at[8:])
}

// Digest returns the digest of the state.
func (d *Digester) Digest() (sum Digest) {
	binary.BigEndian.PutUint64(sum[:8], d.h1)
	binary.BigEndian.PutUint64(sum[8:], d.h2)
	return sum
}

// PairHash is what one pair contributes to a digest.
type PairHash struct{ h1, h2 uint64 }

// Hash returns the contribution of a pair. It does not change the digest.
func (d *Digester) Hash(t Table, key, value []byte) PairHash {
	b := d.pair[:0]
	b = append(append(b, byte(len(t.Schema))), t.Schema...)
	b = append(append(b, byte(len(t.Name))), t.Name...)
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	b = append(b, value...)
	if cap(b) <= maxKeptPair {
		d.pair = b
	}
	h1, h2 := murmur3.Sum128(b)
	return PairHash{h1, h2}
}

// AddHash accounts for a pair that enters the state.
func (d *Digester) AddHash(h PairHash) {
	d.h1 += h.h1
	d.h2 += h.h2
}

// RemoveHash accounts for a pair that leaves the state. The pair must be in it.
func (d *Digester) RemoveHash(h PairHash) {
	d.h1 -= h.h1
	d.h2 -= h.h2
}

// Merge accounts for what o was told beside d, of pairs with other keys. What
// happened to different keys can so be reckoned side by side.
func (d *Digester) Merge(o *Digester) {
	d.h1 += o.h1
	d.h2 += o.h2
}

// Add is AddHash of Hash.
func (d *Digester) Add(t Table, key, value []byte) { d.AddHash(d.Hash(t, key, value)) }

// Remove is RemoveHash of Hash.
func (d *Digester) Remove(t Table, key, value []byte) { d.RemoveHash(d.Hash(t, key, value)) }
