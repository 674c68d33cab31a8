package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// logEntry is an entry with that many bytes.
func logEntry(index, term uint64, size int) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Data: bytes.Repeat([]byte{byte(index)}, size)}
}

// ask fetches entries into a slice.
func ask(t *testing.T, address string, id *peerpb.Identity, first, last uint64) (entries []*raftpb.Entry, batches int, _ error) {
	t.Helper()
	req := &peerpb.EntriesRequest{Identity: id, First: first, Last: last, PlanId: make([]byte, 16)}
	err := Entries(t.Context(), address, req, nil, func(some []*raftpb.Entry) error {
		entries, batches = append(entries, some...), batches+1
		return nil
	})
	return entries, batches, err
}

func TestEntries(t *testing.T) {
	a := start(t, 1)
	id := start(t, 2).Identity()
	// Small ones, some that fill a chunk exactly, one that is larger than any.
	sizes := []int{0, 10, entryChunkBytes / 2, entryChunkBytes / 2, 3 * entryChunkBytes, 0, 7, maxEntryBytes - 100, 1}
	log := []*raftpb.Entry{}
	for i, size := range sizes {
		log = append(log, logEntry(uint64(101+i), uint64(3+i/4), size))
	}
	log[1].Type = raftpb.EntryConfChangeV2.Enum()
	log[5].Data = nil
	a.entries = func(_ context.Context, req *peerpb.EntriesRequest, send func(*raftpb.Entry) error) error {
		for _, e := range log {
			if e.GetIndex() >= req.GetFirst() && e.GetIndex() <= req.GetLast() {
				if err := send(e); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, test := range []struct{ first, last, batches int }{{101, 109, 6}, {101, 102, 1}, {105, 105, 1}, {109, 109, 1}} {
		got, batches, err := ask(t, a.address, id, uint64(test.first), uint64(test.last))
		if err != nil || batches != test.batches {
			t.Errorf("%d to %d: %d batches, %v", test.first, test.last, batches, err)
		}
		if !slices.EqualFunc(got, log[test.first-101:test.last-100], func(a, b *raftpb.Entry) bool { return proto.Equal(a, b) }) {
			t.Errorf("%d to %d: got %d entries", test.first, test.last, len(got))
		}
	}
}

// A handler that does not do what was asked gives an error, never a part.
func TestEntriesOfTheHandlerAreChecked(t *testing.T) {
	a := start(t, 1)
	id := start(t, 2).Identity()
	for _, test := range []struct {
		name string
		log  []*raftpb.Entry
		err  error
		want string
	}{
		{"none", nil, nil, "read up to index 4 only"},
		{"too few", []*raftpb.Entry{logEntry(5, 1, 0)}, nil, "read up to index 5 only"},
		{"gap", []*raftpb.Entry{logEntry(5, 1, 0), logEntry(7, 1, 0)}, nil, "entry 7 of term 1 where 6 is next"},
		{"too early", []*raftpb.Entry{logEntry(4, 1, 0)}, nil, "entry 4 of term 1 where 5 is next"},
		{"too many", []*raftpb.Entry{logEntry(5, 1, 0), logEntry(6, 1, 0), logEntry(7, 1, 0), logEntry(8, 1, 0)}, nil, "and 7 the last"},
		{"terms fall", []*raftpb.Entry{logEntry(5, 2, 0), logEntry(6, 1, 0)}, nil, "of term 2 or later"},
		{"term 0", []*raftpb.Entry{logEntry(5, 0, 0)}, nil, "of term 0"},
		{"too large", []*raftpb.Entry{logEntry(5, 1, maxEntryBytes)}, nil, "more than the limit"},
		{"error", []*raftpb.Entry{logEntry(5, 1, 0)}, errors.New("the disk is gone"), "the disk is gone"},
	} {
		a.entries = func(_ context.Context, _ *peerpb.EntriesRequest, send func(*raftpb.Entry) error) error {
			for _, e := range test.log {
				if err := send(e); err != nil {
					return err
				}
			}
			return test.err
		}
		if got, _, err := ask(t, a.address, id, 5, 7); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %d entries, %v", test.name, len(got), err)
		}
	}
	a.logged(t, "entries of the log ended early", "the disk is gone")
}

func TestEntriesRequestIsChecked(t *testing.T) {
	a := willing(t, 1)
	id := start(t, 2).Identity()
	plan := make([]byte, 16)
	for name, bad := range map[string]*peerpb.EntriesRequest{
		"nothing":    {},
		"from 0":     {First: 0, Last: 3, PlanId: plan},
		"backwards":  {First: 4, Last: 3, PlanId: plan},
		"endless":    {First: 4, Last: 1<<64 - 1, PlanId: plan},
		"no plan":    {First: 1, Last: 3},
		"short plan": {First: 1, Last: 3, PlanId: plan[:15]},
	} {
		bad.Identity = id
		err := Entries(t.Context(), a.address, bad, nil, func([]*raftpb.Entry) error { return nil })
		isRefused(t, name, err, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_REQUEST)
	}
}

// Who takes entries can stop, and so can the end of either side.
func TestEntriesAreInterrupted(t *testing.T) {
	a := start(t, 1)
	id := start(t, 2).Identity()
	ended := make(chan error, 1)
	a.entries = func(_ context.Context, req *peerpb.EntriesRequest, send func(*raftpb.Entry) error) error {
		var err error
		for i := req.GetFirst(); err == nil; i++ {
			err = send(logEntry(i, 1, entryChunkBytes))
		}
		ended <- err
		return err
	}
	full := errors.New("no space")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, test := range []struct {
		name string
		take func() error
		want error
	}{
		{"taker", func() error { return full }, full},
		{"context", func() error { cancel(); return nil }, nil},
		{"server", a.Close, nil},
	} {
		use := t.Context()
		if test.name == "context" {
			use = ctx
		}
		req := &peerpb.EntriesRequest{Identity: id, First: 1, Last: 1 << 40, PlanId: make([]byte, 16)}
		err := Entries(use, a.address, req, nil, func([]*raftpb.Entry) error { return test.take() })
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		if <-ended == nil {
			t.Errorf("%s: the handler goes on", test.name)
		}
	}
}

// chunk makes a chunk with a true checksum.
func chunk(entries ...[]byte) *peerpb.EntriesChunk {
	return &peerpb.EntriesChunk{Entries: entries, Crc32C: sumEntries(entries)}
}

func encoded(t testing.TB, entries ...*raftpb.Entry) (list [][]byte) {
	t.Helper()
	for _, e := range entries {
		b, err := encodeEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

func (l liar) Entries(_ *peerpb.EntriesRequest, stream grpc.ServerStreamingServer[peerpb.EntriesChunk]) error {
	for _, c := range l.entries {
		if err := stream.Send(c); err != nil {
			return err
		}
	}
	return nil
}

func (l liar) Lineage(context.Context, *peerpb.LineageRequest) (*peerpb.LineageResponse, error) {
	return &peerpb.LineageResponse{}, nil
}

func TestEntriesAreVerified(t *testing.T) {
	one, two, three := encoded(t, logEntry(5, 2, 9))[0], encoded(t, logEntry(6, 2, 9))[0], encoded(t, logEntry(7, 2, 9))[0]
	shifted := chunk(one, two)
	shifted.Entries = [][]byte{slices.Concat(one, two[:2]), two[2:]} // the same bytes
	if sumEntries(shifted.GetEntries()) == shifted.GetCrc32C() {
		t.Error("the checksum does not see where an entry ends")
	}
	type chunks []*peerpb.EntriesChunk
	for _, test := range []struct {
		name   string
		chunks chunks
		want   error
	}{
		{"sound", chunks{chunk(one), chunk(two, three)}, nil},
		{"cut off", chunks{chunk(one, two)}, io.ErrUnexpectedEOF},
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"checksum", chunks{{Entries: [][]byte{one}, Crc32C: 1}}, ErrEntriesCorrupt},
		{"lengths", chunks{shifted}, ErrEntriesCorrupt},
		{"empty chunk", chunks{chunk()}, ErrEntriesCorrupt},
		{"empty entry", chunks{chunk(nil)}, ErrEntriesCorrupt},
		{"gap", chunks{chunk(one, three)}, ErrEntriesCorrupt},
		{"twice", chunks{chunk(one), chunk(one)}, ErrEntriesCorrupt},
		{"too many", chunks{chunk(one, two, three), chunk(encoded(t, logEntry(8, 2, 9))...)}, ErrEntriesCorrupt},
		{"term falls", chunks{chunk(one), chunk(encoded(t, logEntry(6, 1, 9))...)}, ErrEntriesCorrupt},
		{"no term", chunks{chunk(encoded(t, logEntry(5, 0, 9))...)}, ErrEntriesCorrupt},
		{"unknown type", chunks{chunk(append([]byte{8, 9}, one...))}, ErrEntriesCorrupt},
		{"unknown field", chunks{chunk(append(slices.Clone(one), 0x78, 1))}, ErrEntriesCorrupt},
		{"term said twice", chunks{chunk(append([]byte{0x10, 2}, one...))}, ErrEntriesCorrupt},
		{"garbage", chunks{chunk([]byte{0xff})}, ErrEntriesCorrupt},
	} {
		got, _, err := ask(t, liar{entries: test.chunks}.serve(t), nil, 5, 7)
		if !errors.Is(err, test.want) || test.want == nil && len(got) != 3 {
			t.Errorf("%s: got %d entries, %v, want %v", test.name, len(got), err, test.want)
		}
	}
}

func FuzzDecodeEntries(f *testing.F) {
	for _, c := range []*peerpb.EntriesChunk{chunk(encoded(f, logEntry(5, 2, 9), logEntry(6, 3, 0))...), chunk([]byte{0x10, 0}), {}} {
		b, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c peerpb.EntriesChunk
		if proto.Unmarshal(b, &c) != nil {
			return
		}
		c.Crc32C = sumEntries(c.GetEntries()) // or nothing would pass
		want := entryRange{next: 5, last: 9}
		got, err := want.decode(&c)
		if err != nil {
			if !errors.Is(err, ErrEntriesCorrupt) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if again := encoded(t, got...); !slices.EqualFunc(again, c.GetEntries(), bytes.Equal) {
			t.Fatalf("%x is read as %x", c.GetEntries(), again)
		}
		for i, e := range got {
			if e.GetIndex() != uint64(5+i) || e.GetTerm() == 0 || i > 0 && e.GetTerm() < got[i-1].GetTerm() {
				t.Fatalf("entry %d is %v", i, e)
			}
		}
	})
}
