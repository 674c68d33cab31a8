package concordat

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func TestRankDonors(t *testing.T) {
	type c = candidate
	uuid := gtid.UUID{7}
	for name, test := range map[string]struct {
		named      string
		candidates []candidate
		want       string // raft ids
	}{
		"by raft id":                   {"", []c{{raftID: 3}, {raftID: 1}, {raftID: 2}}, "123"},
		"the leader last":              {"", []c{{raftID: 1, leader: true}, {raftID: 2}}, "21"},
		"only the leader":              {"", []c{{raftID: 1, leader: true}}, "1"},
		"fewest copies":                {"", []c{{raftID: 1, exports: 1}, {raftID: 2}}, "21"},
		"least to catch up":            {"", []c{{raftID: 1, backlog: 9}, {raftID: 2, backlog: 8}}, "21"},
		"copies before backlog":        {"", []c{{raftID: 1, exports: 1}, {raftID: 2, backlog: 1000}}, "21"},
		"not stalled":                  {"", []c{{raftID: 1, stalled: true}, {raftID: 2, backlog: 10}}, "21"},
		"not suspected":                {"", []c{{raftID: 1, suspected: true}, {raftID: 2, stalled: true}}, "21"},
		"rather a leader that is well": {"", []c{{raftID: 1, stalled: true}, {raftID: 2, leader: true}}, "21"},
		"rather a leader with a place": {"", []c{{raftID: 1, exports: 2}, {raftID: 2, leader: true}}, "21"},
		"named by address":             {"b:1", []c{{raftID: 1}, {raftID: 2, address: "b:1", leader: true}}, "21"},
		"named by UUID":                {uuid.String(), []c{{raftID: 1}, {raftID: 2, uuid: uuid, stalled: true}}, "21"},
		"the named one failed":         {"b:1", []c{{raftID: 2, address: "b:1", failed: 1}, {raftID: 1}}, "12"},
		"failed go to the end":         {"", []c{{raftID: 1, failed: 2}, {raftID: 2, failed: 1}, {raftID: 3, leader: true}}, "321"},
	} {
		rankDonors(test.candidates, test.named)
		got := ""
		for _, c := range test.candidates {
			got += string(rune('0' + c.raftID))
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestRankDonorsOrder: the order in which candidates come in does not matter.
func TestRankDonorsOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []candidate
		for id := range uint64(rapid.IntRange(1, 6).Draw(t, "candidates")) {
			all = append(all, candidate{
				raftID: id, leader: rapid.Bool().Draw(t, "leader"), suspected: rapid.Bool().Draw(t, "suspected"),
				stalled: rapid.Bool().Draw(t, "stalled"), exports: rapid.Uint64Range(0, 3).Draw(t, "exports"),
				backlog: rapid.Uint64Range(0, 2).Draw(t, "backlog"), failed: rapid.IntRange(0, 2).Draw(t, "failed"),
			})
		}
		other := rapid.Permutation(all).Draw(t, "order")
		rankDonors(all, "")
		rankDonors(other, "")
		if !slices.Equal(all, other) {
			t.Fatalf("%v and %v", all, other)
		}
	})
}

// pinnedBytes is an export of bytes.
type pinnedBytes struct {
	bytes  []byte
	closed atomic.Int32
	hang   bool // WriteTo waits for the end of its context
}

func (x *pinnedBytes) Position() applier.Position { return applier.Position{} }
func (x *pinnedBytes) Size() int64                { return int64(len(x.bytes)) }
func (x *pinnedBytes) WriteTo(ctx context.Context, w io.Writer, from int64) error {
	if x.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	_, err := w.Write(x.bytes[from:])
	return err
}

func (x *pinnedBytes) Close() error {
	x.closed.Add(1)
	return nil
}

// giver is donations with exports that are remembered.
type giver struct {
	donations
	hang   bool
	pinned []*pinnedBytes
}

func (g *giver) pin(context.Context) (*donation, error) {
	x := &pinnedBytes{bytes: []byte("export"), hang: g.hang}
	g.pinned = append(g.pinned, x)
	return &donation{head: []byte("head"), export: x}, nil
}

// ask has a member ask for a copy, and returns what comes.
func (g *giver) ask(ctx context.Context, member, number, offset uint64) (string, error) {
	req := &peerpb.CloneRequest{Identity: &peerpb.Identity{RaftId: member}, Copy: number, Offset: offset}
	ctx, s, err := g.take(ctx, req, g.pin)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = s.writeTo(ctx, &out, offset)
	s.done(err == nil)
	return out.String(), err
}

func (g *giver) mustAsk(t *testing.T, member, number, offset uint64, want string) {
	t.Helper()
	if got, err := g.ask(t.Context(), member, number, offset); got != want || err != nil {
		t.Errorf("member %d asks for copy %d from %d on: %q, %v, want %q", member, number, offset, got, err, want)
	}
}

func (g *giver) mustRefuse(t *testing.T, member, number, offset uint64, want peerpb.RefusalReason) {
	t.Helper()
	got, err := g.ask(t.Context(), member, number, offset)
	if r, ok := errors.AsType[*transport.RefusedError](err); !ok || r.Reason != want {
		t.Errorf("member %d asks for copy %d from %d on: %q, %v, want %v", member, number, offset, got, err, want)
	}
}

// open counts the exports that are pinned.
func (g *giver) open() (n int) {
	for _, x := range g.pinned {
		if x.closed.Load() == 0 {
			n++
		}
	}
	return n
}

// broken is a context of a link that is broken already.
func broken(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// TestDonationsLinger: a copy can be asked for again for a while, and for no
// longer.
func TestDonationsLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g giver
		g.mustRefuse(t, 1, 5, 1, peerpb.RefusalReason_REFUSAL_REASON_COPY_GONE)
		whole := "headexport"
		g.mustAsk(t, 1, 5, 0, whole)
		for from := range len(whole) + 1 {
			time.Sleep(donationLinger - 1)
			g.mustAsk(t, 1, 5, uint64(from), whole[from:])
		}
		if _, err := g.ask(t.Context(), 1, 5, uint64(len(whole)+1)); err == nil {
			t.Error("a copy is written from beyond its end")
		}
		if len(g.pinned) != 1 || g.open() != 1 {
			t.Errorf("%d exports, %d of them open, want 1", len(g.pinned), g.open())
		}
		time.Sleep(donationLinger)
		synctest.Wait()
		if g.open() != 0 {
			t.Error("the export is kept for ever")
		}
		g.mustRefuse(t, 1, 5, 1, peerpb.RefusalReason_REFUSAL_REASON_COPY_GONE)
		g.mustAsk(t, 1, 5, 0, whole)
		g.end()
	})
}

// TestDonationsPlaces: so many copies at a time, and no more; a member that
// begins anew gives up what it had.
func TestDonationsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := giver{hang: true}
		for member := range uint64(maxDonations) {
			if _, err := g.ask(broken(t), member+1, 5, 0); err == nil {
				t.Error("a broken link is none")
			}
		}
		g.mustRefuse(t, 9, 5, 0, peerpb.RefusalReason_REFUSAL_REASON_BUSY)
		if g.given() != maxDonations {
			t.Errorf("gives %d copies, want %d", g.given(), maxDonations)
		}
		g.hang = false
		g.mustAsk(t, 1, 6, 0, "headexport")
		g.mustRefuse(t, 1, 5, 1, peerpb.RefusalReason_REFUSAL_REASON_COPY_GONE)
		if g.given() != maxDonations-1 {
			t.Errorf("gives %d copies, one of which was sent", g.given())
		}
		g.mustAsk(t, 9, 5, 0, "headexport")
		g.mustAsk(t, 1, 6, 3, "dexport")
		time.Sleep(donationLinger)
		synctest.Wait()
		if g.given() != 0 || g.open() != 0 || len(g.pinned) != maxDonations+2 {
			t.Errorf("gives %d copies of %d pinned, %d are open", g.given(), len(g.pinned), g.open())
		}
	})
}

// TestDonationsRenewed: who asks again has given up the stream before, also when
// this member has not noticed yet.
func TestDonationsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := giver{hang: true}
		ended := make(chan error)
		go func() {
			_, err := g.ask(t.Context(), 1, 5, 0)
			ended <- err
		}()
		synctest.Wait()
		g.pinned[0].hang = false
		g.mustAsk(t, 1, 5, 2, "adexport")
		if err := <-ended; !errors.Is(err, errDonationRenewed) {
			t.Errorf("the stream before ended with %v", err)
		}
		if len(g.pinned) != 1 {
			t.Errorf("%d exports, want the same one", len(g.pinned))
		}
		g.end()
	})
}

// TestDonationsEnd: a donor that stops ends what it gives, and waits for it.
func TestDonationsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := giver{hang: true}
		ended := make(chan error)
		go func() {
			_, err := g.ask(t.Context(), 1, 5, 0)
			ended <- err
		}()
		if _, err := g.ask(broken(t), 2, 5, 0); err == nil {
			t.Error("a broken link is none")
		}
		synctest.Wait()
		go func() { g.end(); ended <- nil }()
		if err := <-ended; !errors.Is(err, errDonorStops) {
			t.Errorf("the stream ended with %v", err)
		}
		<-ended
		if g.open() != 0 || g.given() != 0 {
			t.Errorf("%d exports are open", g.open())
		}
		for _, x := range g.pinned {
			if x.closed.Load() != 1 {
				t.Errorf("an export was closed %d times", x.closed.Load())
			}
		}
	})
}

// TestDonationsPinFails: what could not be pinned takes no place.
func TestDonationsPinFails(t *testing.T) {
	var d donations
	gone := errors.New("not now")
	for range maxDonations + 1 {
		_, _, err := d.take(t.Context(), &peerpb.CloneRequest{Copy: 1}, func(context.Context) (*donation, error) { return nil, gone })
		if !errors.Is(err, gone) || d.given() != 0 {
			t.Errorf("%v, %d copies", err, d.given())
		}
	}
	if err := notOnline("it sleeps"); !strings.Contains(err.Error(), "it sleeps") {
		t.Errorf("%v", err)
	}
}
