package concordat

import (
	"errors"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// What speaks against a planned change only in this member's eyes is found before the
// group is asked, and can be insisted on as far as that helps.
func TestMayChange(t *testing.T) {
	t.Parallel()
	away := func(k *known) { k.Peers = []gcs.Peer{{RaftID: standInOther, Unreachable: true}} }
	recovering := func(k *known) {
		k.Election.Members = append(k.Election.Members, election.Member{UUID: uuidOf(3), RaftID: 3})
	}
	for _, c := range []struct {
		name      string
		change    func(*known)
		target    gtid.UUID
		insist    bool
		text      string // "": it is asked for
		forceable bool
	}{
		{"fine", func(*known) {}, uuidOf(standInOther), false, "", false},
		{"to one that is not heard", away, uuidOf(standInOther), true, "is UNREACHABLE; name one that is heard", false},
		{"beside one that is not heard", away, uuidOf(standInPrimary), false, "are UNREACHABLE", true},
		{"beside one that is not heard, insisted", away, uuidOf(standInPrimary), true, "", false},
		{"beside one that recovers", recovering, uuidOf(standInOther), false, "RECOVERING", true},
		{"beside one that recovers, insisted", recovering, uuidOf(standInOther), true, "", false},
		{"to one that recovers", recovering, uuidOf(3), false, "RECOVERING", false},
		{"to nobody", func(*known) {}, uuidOf(9), true, "no member", false},
	} {
		s := newStandIn(t)
		s.know(func(k *known) {
			k.Election.View = 5
			c.change(k)
		})
		a := election.Action{ID: uuidOf(7), Kind: election.SetPrimary, Asker: s.id.Member, Force: c.insist}
		err := s.mayChange(s.standing.Load(), &a, c.target, &switchOptions{insist: c.insist})
		refused, _ := errors.AsType[*RefusedError](err)
		switch {
		case c.text == "":
			m, _ := s.standing.Load().Election.Member(a.Target)
			if err != nil || a.Epoch != 3 || a.View != 5 || m.UUID != c.target {
				t.Errorf("%s: %+v, %v", c.name, a, err)
			}
		case refused == nil || !strings.Contains(err.Error(), c.text) || refused.Forceable != c.forceable:
			t.Errorf("%s: %v, forceable %v", c.name, err, c.forceable)
		}
	}
}

// What a transaction is told that was fenced names the primary, and says whether it
// is worth to run it again here.
func TestFenced(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	e, ok := errors.AsType[*ReadOnlyError](s.fenced())
	if !ok || e.Primary != s.id.Member || !strings.Contains(e.Error(), "run it again") {
		t.Errorf("of one that writes again: %v", e)
	}
	s.know(func(k *known) {
		k.Election.Primary, k.Election.Members[0].Writes, k.Election.Members[1].Writes = standInOther, false, true
	})
	e, ok = errors.AsType[*ReadOnlyError](s.fenced())
	if !ok || e.Primary != uuidOf(standInOther) || e.ClientAddress != "clients:2" || strings.Contains(e.Error(), "run it again") {
		t.Errorf("of one that does not: %v", e)
	}
}
