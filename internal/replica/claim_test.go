package replica

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// forcedIncarnation began after entry 5 of the log that forked builds.
var forcedIncarnation = gtid.UUID{15: 0x10}

// forked is a member whose log is, by terms, 1 1 1 2 2 | 3 3 4 4, with a forced
// view in the place of the bar's next entry.
func forked(t *testing.T) *Replica {
	t.Helper()
	m := newWorld(t).member(1, settings{})
	founding := Settings{Outcomes: 1}
	founding.Certifier.BlockSize = 1
	write, err := gcs.Bootstrap(m.identity, m.info(), FoundingMessage(founding))
	if err != nil {
		t.Fatal(err)
	}
	self := m.info()
	self.State = gcs.Online
	forced, err := gcs.ForcedEntry(3, 6, gcs.Change{Kind: gcs.Forced, Incarnation: forcedIncarnation, Members: []gcs.Member{self}})
	if err != nil {
		t.Fatal(err)
	}
	for i, term := range []uint64{1, 2, 2, 3, 3, 4, 4} {
		e := &raftpb.Entry{Index: new(uint64(i + 3)), Term: new(term), Type: raftpb.EntryNormal.Enum()}
		if e.GetIndex() == 6 {
			e = forced
		}
		write.Entries = append(write.Entries, e)
	}
	write.HardState = &raftpb.HardState{Term: new(uint64(4)), Vote: new(uint64(0)), Commit: new(uint64(9))}
	m.log.write(write)
	m.identity.Incarnation = forcedIncarnation
	m.identity.Session++
	m.start()
	m.tick(1)
	if s := m.replica.Status(); s.Delivered != 9 || len(s.Forks) != 1 || s.Forks[0].Index != 5 {
		t.Fatalf("delivered %d, forks %+v", s.Delivered, s.Forks)
	}
	return m.replica
}

func TestClaims(t *testing.T) {
	runs := func(of ...uint64) (rs []gcs.TermRun) {
		for i := 0; i < len(of); i += 2 {
			rs = append(rs, gcs.TermRun{Term: of[i], First: of[i+1]})
		}
		return rs
	}
	const none = ^uint64(0) // taken
	sibling := func(index, end uint64, terms []gcs.TermRun) Claim {
		return Claim{Incarnation: gtid.UUID{15: 0x20}, Index: index, Terms: terms, Forks: []Fork{{Incarnation: incarnation, Index: end}}}
	}
	for _, c := range []struct {
		what   string
		claim  Claim
		common uint64
	}{
		{"nothing", Claim{}, none},
		{"the present incarnation, whatever is in it", Claim{Incarnation: forcedIncarnation, Index: 9, Terms: runs(1, 1, 2, 4, 3, 6, 4, 8)}, none},
		{"all that was taken over", Claim{Incarnation: incarnation, Index: 5, Terms: runs(1, 1, 2, 4)}, none},
		{"less than was taken over", Claim{Incarnation: incarnation, Index: 4, Terms: runs(1, 1, 2, 4)}, none},
		{"more of the last term", Claim{Incarnation: incarnation, Index: 6, Terms: runs(1, 1, 2, 4)}, 5},
		{"a tail in the term of the forced view", Claim{Incarnation: incarnation, Index: 7, Terms: runs(1, 1, 2, 4, 3, 6)}, 5},
		{"a tail that ends as the group's log does", Claim{Incarnation: incarnation, Index: 9, Terms: runs(1, 1, 2, 4, 3, 6, 4, 8)}, 5},
		{"another entry in the place of one taken over", Claim{Incarnation: incarnation, Index: 5, Terms: runs(1, 1, 3, 4)}, 3},
		{"one forced beside it, at the same end", sibling(9, 5, runs(1, 1, 2, 4, 3, 6, 4, 8)), 5},
		{"one forced beside it, earlier", sibling(8, 4, runs(1, 1, 2, 4, 3, 5)), 4},
		{"one forced beside it, later", sibling(9, 8, runs(1, 1, 2, 4, 3, 9)), 5},
		{"one forced beside it, after other entries", sibling(9, 8, runs(1, 1, 3, 4, 4, 9)), 3},
		{"one forced beside it, too long ago", sibling(9, 8, runs(3, 9)), 0},
		{"too long ago", Claim{Incarnation: incarnation, Index: 9, Terms: runs(3, 7)}, 0},
	} {
		c.claim.Executed = gtid.Set{}.AddInterval(groupName, "", 1, 3)
		err := forked(t).judgeClaim(c.claim)
		var diverged *DivergedError
		switch {
		case c.common == none && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.common != none && (!errors.As(err, &diverged) || diverged.Common != c.common || !diverged.Extra.Equal(c.claim.Executed)):
			t.Errorf("%s: %v, want a divergence after %d", c.what, err, c.common)
		}
	}
	for what, stranger := range map[string]Claim{
		"another lineage": {Incarnation: gtid.UUID{15: 0x20}, Index: 1, Terms: runs(1, 1)},
		"an incarnation that came of this one": {
			Incarnation: gtid.UUID{15: 0x20}, Index: 12, Terms: runs(1, 1, 2, 4, 3, 6, 4, 8, 5, 12),
			Forks: []Fork{{Incarnation: incarnation, Index: 5}, {Incarnation: forcedIncarnation, Index: 11}},
		},
	} {
		if err := forked(t).judgeClaim(stranger); !errors.Is(err, ErrOtherLineage) {
			t.Errorf("a claim from %s is answered with %v", what, err)
		}
	}
}

// A member that does not lead may be behind: it names who leads, and refuses
// nobody.
func TestWhoLeadsJudgesClaims(t *testing.T) {
	w := newGroup(t, settings{})
	ask := JoinAsked{
		Ticket: 5, Member: gcs.Member{UUID: gtid.UUID{9}, RaftID: 9, Address: "member-9"}, DryRun: true,
		Claim: Claim{Incarnation: gtid.UUID{15: 0x20}, Index: 1, Terms: []gcs.TermRun{{Term: 1, First: 1}}},
	}
	for i, m := range w.members {
		m.joins = nil
		m.step(ask)
		a := m.joins[0].Answer
		if leads := m.replica.Status().Leading; leads != errors.Is(a.Refused, ErrOtherLineage) || leads == (a.Leader.RaftID != 0) {
			t.Errorf("member %d, which leads: %t, answers %+v", i, leads, a)
		}
	}
}
