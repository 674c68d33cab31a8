package transport

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func drawClaim(t *rapid.T) Claim {
	c := Claim{Incarnation: gtid.UUID{1, 15: rapid.Byte().Draw(t, "incarnation")}}
	if rapid.Bool().Draw(t, "holds something") {
		c.Index, c.Term = rapid.Uint64Min(1).Draw(t, "index"), rapid.Uint64Min(1).Draw(t, "term")
	}
	var run gcs.TermRun
	for range rapid.IntRange(0, 70).Draw(t, "runs") {
		run.Term += uint64(rapid.IntRange(1, 1000).Draw(t, "terms on"))
		run.First += uint64(rapid.IntRange(1, 1000).Draw(t, "entries on"))
		c.Terms = append(c.Terms, run)
	}
	for range rapid.IntRange(0, 3).Draw(t, "intervals") {
		first := rapid.Uint64Range(1, 1000).Draw(t, "first")
		c.Executed = c.Executed.AddInterval(gtid.UUID{rapid.Byte().Draw(t, "source"), 1}, "", first, first+5)
	}
	for i := range rapid.IntRange(0, maxForks+2).Draw(t, "forks") {
		c.Forks = append(c.Forks, Fork{Incarnation: gtid.UUID{2, byte(i)}, Index: uint64(10 * i)})
	}
	return c
}

// A claim reads back as what it was, with the last 64 runs of terms.
func TestClaimsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawClaim(t)
		b, err := proto.Marshal(want.Proto())
		if err != nil {
			t.Fatal(err)
		}
		var p peerpb.Claim
		if err := proto.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		got, err := ParseClaim(&p)
		want.Terms = want.Terms[max(0, len(want.Terms)-64):]
		want.Forks = want.Forks[max(0, len(want.Forks)-64):]
		if err != nil || got.Incarnation != want.Incarnation || got.Index != want.Index || got.Term != want.Term ||
			!slices.Equal(got.Terms, want.Terms) || !slices.Equal(got.Forks, want.Forks) || !got.Executed.Equal(want.Executed) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	})
}

func TestClaimIsChecked(t *testing.T) {
	u := make([]byte, 16)
	u[0] = 1
	runs := func(numbers ...uint64) (runs []*peerpb.TermRun) {
		for pair := range slices.Chunk(numbers, 2) {
			runs = append(runs, &peerpb.TermRun{Term: pair[0], First: pair[1]})
		}
		return runs
	}
	var many []*peerpb.TermRun
	for i := range uint64(maxTermRuns + 1) {
		many = append(many, runs(i+1, i+1)...)
	}
	a := start(t, 1)
	id := start(t, 2).Identity()
	for name, bad := range map[string]*peerpb.Claim{
		"nothing":           {},
		"no incarnation":    {Incarnation: make([]byte, 16)},
		"short incarnation": {Incarnation: u[:15]},
		"index alone":       {Incarnation: u, Index: 5},
		"term alone":        {Incarnation: u, Term: 5},
		"run of term 0":     {Incarnation: u, Terms: runs(0, 1)},
		"run from 0":        {Incarnation: u, Terms: runs(1, 0)},
		"terms fall":        {Incarnation: u, Terms: runs(2, 1, 2, 5)},
		"indexes fall":      {Incarnation: u, Terms: runs(2, 5, 3, 5)},
		"many runs":         {Incarnation: u, Terms: many},
		"bytes for a set":   {Incarnation: u, Executed: []byte{0xff}},
		"two empty sets":    {Incarnation: u, Executed: []byte{0, 0}},
		"empty set":         {Incarnation: u, Executed: []byte{0}},
		"fork of nothing":   {Incarnation: u, Forks: []*peerpb.Fork{{Index: 1}}},
		"forks fall":        {Incarnation: u, Forks: []*peerpb.Fork{{Incarnation: u, Index: 2}, {Incarnation: u, Index: 1}}},
		"many forks":        {Incarnation: u, Forks: slices.Repeat([]*peerpb.Fork{{Incarnation: u}}, maxForks+1)},
	} {
		if got, err := ParseClaim(bad); !errors.Is(err, ErrClaim) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		_, err := Join(t.Context(), a.address, &peerpb.JoinRequest{Identity: id, Claim: bad}, nil)
		isRefused(t, name, err, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_REQUEST)
	}
	_, err := Join(t.Context(), a.address, &peerpb.JoinRequest{Identity: id, Replaces: id.GetRaftId()}, nil)
	isRefused(t, "replaces itself", err, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_REQUEST)
}

// A join arrives with all that it says.
func TestJoinCarriesTheClaim(t *testing.T) {
	a := start(t, 1)
	var asked *peerpb.JoinRequest
	a.join = func(req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
		asked = req
		return &peerpb.JoinResponse{}, nil
	}
	claim := Claim{
		Incarnation: testIncarnation, Index: 9, Term: 3, Terms: []gcs.TermRun{{Term: 3, First: 4}},
		Executed: gtid.Set{}.AddInterval(gtid.UUID{5}, "", 1, 8),
	}
	_, err := Join(t.Context(), a.address, &peerpb.JoinRequest{
		Identity: start(t, 2).Identity(), Replaces: 44, Claim: claim.Proto(), DryRun: true,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseClaim(asked.GetClaim())
	if err != nil || asked.GetReplaces() != 44 || !asked.GetDryRun() || got.Index != 9 || !got.Executed.Equal(claim.Executed) {
		t.Errorf("asked %v, claimed %+v, %v", asked, got, err)
	}
}

func FuzzParseClaim(f *testing.F) {
	whole, err := proto.Marshal(Claim{
		Incarnation: gtid.UUID{1}, Index: 9, Term: 3, Terms: []gcs.TermRun{{Term: 2, First: 1}, {Term: 3, First: 4}},
		Executed: gtid.Set{}.AddInterval(gtid.UUID{5}, "", 1, 8), Forks: []Fork{{Incarnation: gtid.UUID{2}, Index: 7}},
	}.Proto())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p peerpb.Claim
		if proto.Unmarshal(b, &p) != nil {
			return
		}
		c, err := ParseClaim(&p)
		if err != nil {
			if !errors.Is(err, ErrClaim) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		// What was read is all there was, but for fields of a later version.
		p.ProtoReflect().SetUnknown(nil)
		for _, run := range p.GetTerms() {
			run.ProtoReflect().SetUnknown(nil)
		}
		for _, fork := range p.GetForks() {
			fork.ProtoReflect().SetUnknown(nil)
		}
		if again := c.Proto(); !proto.Equal(again, &p) {
			t.Fatalf("%v is read as %v", &p, again)
		}
	})
}
