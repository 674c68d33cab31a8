package raftlog

import (
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func drawEntry(r *rapid.T) *raftpb.Entry {
	e := &raftpb.Entry{}
	if rapid.Bool().Draw(r, "has term") {
		e.Term = new(rapid.Uint64().Draw(r, "term"))
	}
	if rapid.Bool().Draw(r, "has index") {
		e.Index = new(rapid.Uint64().Draw(r, "index"))
	}
	if rapid.Bool().Draw(r, "has type") {
		e.Type = raftpb.EntryType(rapid.IntRange(0, 2).Draw(r, "type")).Enum()
	}
	if rapid.Bool().Draw(r, "has data") {
		e.Data = make([]byte, rapid.IntRange(0, 20_000).Draw(r, "data"))
	}
	return e
}

// TestEncodedSize: limits are counted as raft counts them.
func TestEncodedSize(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		e := drawEntry(r)
		if got, want := encodedSize(e), uint64(proto.Size(e)); got != want {
			r.Fatalf("size of %v is %d, want %d", e, got, want)
		}
	})
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		want := drawEntry(r)
		key := indexKey(kindEntry, want.GetIndex())
		value := make([]byte, entryHeaderLen+len(want.GetData()))
		putEntry(key, value, want)
		if !intact(key, value, entryHeaderLen) {
			r.Fatal("a sealed entry is not intact")
		}
		got := getEntry(want.GetIndex(), value)
		if got.GetTerm() != want.GetTerm() || got.GetIndex() != want.GetIndex() ||
			got.GetType() != want.GetType() || !bytes.Equal(got.GetData(), want.GetData()) {
			r.Fatalf("%v became %v", want, got)
		}
	})
}

// FuzzIntact feeds records that were never sealed, and those that were and
// changed; no key or value may do more than be refused.
func FuzzIntact(f *testing.F) {
	f.Add([]byte{kindEntry}, []byte{1, 2, 3}, uint16(0))
	f.Add(indexKey(kindEntry, 7), make([]byte, entryHeaderLen+3), uint16(40))
	f.Fuzz(func(t *testing.T, key, value []byte, bit uint16) {
		if len(value) < entryHeaderLen {
			if intact(key, value, entryHeaderLen) {
				t.Fatal("a record that is too short is intact")
			}
			return
		}
		value = bytes.Clone(value) // what is fuzzed must not be written to
		seal(key, value)
		if !intact(key, value, entryHeaderLen) {
			t.Fatal("a sealed record is not intact")
		}
		value[int(bit)/8%len(value)] ^= 1 << (bit % 8)
		if intact(key, value, entryHeaderLen) {
			t.Fatalf("bit %d is flipped and nobody noticed", bit)
		}
	})
}
