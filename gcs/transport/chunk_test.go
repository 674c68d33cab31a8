package transport

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// countingPool counts the buffers that are out.
type countingPool struct{ out int }

func (p *countingPool) Get(n int) *[]byte {
	p.out++
	return new(make([]byte, n))
}

func (p *countingPool) Put(*[]byte) { p.out-- }

// pieces cuts b into buffers of a pool, at the given places.
func pieces(b []byte, at []int, pool mem.BufferPool) (s mem.BufferSlice) {
	slices.Sort(at)
	last := 0
	for _, i := range append(at, len(b)) {
		buf := pool.Get(i - last)
		copy(*buf, b[last:i])
		s = append(s, mem.NewBuffer(buf, pool))
		last = i
	}
	return s
}

// Chunks read back as what they were made of, by this codec and by protobuf's,
// wherever frames of HTTP/2 cut them, and protobuf writes them in the same form.
// No buffer is lost, and the data stay while they are held.
func TestChunksRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(16_000, 17_000)).Draw(t, "size")
		meta := chunkMeta{
			sum:    rapid.Uint32().Draw(t, "sum"),
			last:   rapid.Bool().Draw(t, "last"),
			offset: rapid.Uint64().Draw(t, "offset"),
		}
		want := clonePattern(size)
		out := &outgoingChunk{chunkMeta: meta, pool: &bufferPool{keep: 1 << 20}}
		if size > 0 {
			out.data = new(bytes.Clone(want))
		}
		wire := out.marshal().Materialize()
		var plain peerpb.CloneChunk
		if err := proto.Unmarshal(wire, &plain); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(plain.GetData(), want) || plain.GetCrc32C() != meta.sum || plain.GetLast() != meta.last || plain.GetOffset() != meta.offset {
			t.Fatalf("protobuf reads %v", &plain)
		}
		if again, err := (proto.MarshalOptions{Deterministic: true}).Marshal(&plain); err != nil || !bytes.Equal(again, wire) {
			t.Fatalf("protobuf writes %x, %v; want %x", again, err, wire)
		}

		pool := &countingPool{}
		frames := pieces(wire, rapid.SliceOfN(rapid.IntRange(0, len(wire)), 0, 5).Draw(t, "cuts"), pool)
		in := decodeChunk(frames)
		frames.Free()
		if in.err != nil || in.chunkMeta != meta || !bytes.Equal(in.data.Materialize(), want) {
			t.Fatalf("got %+v of %d bytes, %v; want %+v", in.chunkMeta, in.data.Len(), in.err, meta)
		}
		in.data.Free()
		small := slices.ContainsFunc(frames, func(b mem.Buffer) bool { _, ok := b.(mem.SliceBuffer); return ok })
		if pool.out != 0 && !small { // gRPC never returns small ones
			t.Fatalf("%d buffers are lost", pool.out)
		}
	})
}

// A chunk has one form.
func TestDecodeChunkErrors(t *testing.T) {
	const sum = "\x15abcd"
	for name, b := range map[string]string{
		"length cut off":          "\x0a\xff",
		"data cut off":            "\x0a\x05abcd",
		"empty data":              "\x0a\x00" + sum,
		"long form of the length": "\x0a\x83\x00abc" + sum,
		"data behind the sum":     sum + "\x0a\x01a",
		"data twice":              "\x0a\x01a\x0a\x01b",
		"no sum, said so":         "\x0a\x01a\x15\x00\x00\x00\x00",
		"fields out of order":     "\x20\x01\x18\x01",
		"last is 2":               "\x18\x02",
		"a field cut off":         "\x15abc",
		"an unknown field":        "\x28\x01",
		"much behind the data":    "\x0a\x01a" + sum + "\x18\x01\x20\x01\x28\x01\x28\x01\x28\x01\x28\x01",
	} {
		if in := decodeChunk(mem.BufferSlice{mem.SliceBuffer(b)}); in.err == nil || in.data != nil {
			t.Errorf("%s: got %+v of %d bytes", name, in.chunkMeta, in.data.Len())
		}
	}
	if in := decodeChunk(nil); in.err != nil || in.data.Len() != 0 {
		t.Errorf("nothing: %+v", in)
	}
}

func FuzzDecodeChunk(f *testing.F) {
	f.Add([]byte("\x0a\x03abc\x15abcd\x18\x01\x20\x07"), uint(2))
	f.Add([]byte("\x0a\x05ab"), uint(1))
	f.Add([]byte("\x18\x01"), uint(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint) {
		at %= uint(len(b) + 1)
		in := decodeChunk(mem.BufferSlice{mem.SliceBuffer(b[:at]), mem.SliceBuffer(b[at:])})
		if in.err != nil {
			return
		}
		var want peerpb.CloneChunk
		if err := proto.Unmarshal(b, &want); err != nil {
			t.Fatalf("protobuf finds %v", err)
		}
		if !bytes.Equal(in.data.Materialize(), want.GetData()) || in.chunkMeta != (chunkMeta{want.GetCrc32C(), want.GetLast(), want.GetOffset()}) {
			t.Fatalf("got %+v, want %v", in, &want)
		}
		if again, err := (proto.MarshalOptions{Deterministic: true}).Marshal(&want); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is not canonical, %v", b, err)
		}
	})
}

// BenchmarkCloneStream measures the transport alone, both ends.
func BenchmarkCloneStream(b *testing.B) {
	const size = 64 << 20
	d, a := startDonor(b, 1)
	d.gives(clonePattern(size))
	n := start(b, 2)
	buf := make([]byte, cloneChunkBytes)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		r := n.clone(b, a, CloneOptions{})
		total := 0
		for {
			n, err := r.Read(buf)
			if total += n; err != nil {
				break
			}
		}
		if total != size {
			b.Fatalf("got %d bytes", total)
		}
		r.Close()
	}
}
