package gcs

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/concordatdb/concordat/gtid"
)

// uuid is the UUID of the nth member of a test.
func uuid(n uint64) gtid.UUID {
	return gtid.UUID{8: byte(n >> 56), 9: 0xc0, 15: byte(n)}
}

// recovering is the nth member of a test, with n for its raft id.
func recovering(n uint64) Member {
	return Member{
		UUID: uuid(n), RaftID: n, Address: fmt.Sprintf("m%d:7400", n),
		Version: 1<<16 | 2<<8, Weight: 50, State: Recovering,
	}
}

func online(n uint64) Member {
	m := recovering(n)
	m.State = Online
	return m
}

// group is the view that some members form.
func group(members ...Member) View {
	return View{ID: 7, Index: 40, Incarnation: uuid(200), Members: members}
}

func bootstrap(m Member) Change {
	return Change{Kind: Bootstrapped, Member: m, Incarnation: uuid(200)}
}

func join(m Member) Change    { return Change{Kind: Joined, Member: m} }
func promote(m Member) Change { return Change{Kind: Promoted, Member: m} }
func leave(m Member) Change   { return Change{Kind: Left, Member: m} }

// standing is who is what in a view: "1=ONLINE 2=RECOVERING".
func standing(v View) string {
	var b strings.Builder
	for i, m := range v.Members {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d=%s", m.RaftID, m.State)
	}
	return b.String()
}

// with changes one field of a member.
func with(m Member, change func(*Member)) Member {
	change(&m)
	return m
}

func full() View {
	v := group()
	for n := range uint64(MaxMembers) {
		v.Members = append(v.Members, online(n+1))
	}
	return v
}

type applyCase struct {
	name    string
	view    View
	change  Change
	want    string // who is what afterwards
	refused string // part of the reason
}

func applyCases() []applyCase {
	pair, learning := group(online(2), online(4)), group(online(2), recovering(4))
	id := func(n uint64) func(*Member) { return func(m *Member) { m.RaftID = n } }
	return []applyCase{
		{name: "bootstrap", change: bootstrap(recovering(1)), want: "1=ONLINE"},
		{name: "bootstrap twice", view: pair, change: bootstrap(online(1)), refused: "exists already"},
		{name: "bootstrap without raft id", change: bootstrap(with(online(1), id(0))), refused: "lacks"},
		{name: "bootstrap without UUID", change: bootstrap(with(online(1), func(m *Member) { m.UUID = gtid.UUID{} })), refused: "lacks"},

		{name: "join in front", view: pair, change: join(online(1)), want: "1=RECOVERING 2=ONLINE 4=ONLINE"},
		{name: "join between", view: pair, change: join(recovering(3)), want: "2=ONLINE 3=RECOVERING 4=ONLINE"},
		{name: "join behind", view: pair, change: join(recovering(5)), want: "2=ONLINE 4=ONLINE 5=RECOVERING"},
		{name: "join no group", change: join(recovering(1)), refused: "no group"},
		{name: "join a full group", view: full(), change: join(recovering(20)), refused: "has 9 members"},
		{
			name: "join a group with one place", view: group(full().Members[1:]...), change: join(recovering(20)),
			want: standing(group(full().Members[1:]...)) + " 20=RECOVERING",
		},
		{name: "join twice", view: pair, change: join(recovering(4)), refused: "its raft id is in the view"},
		{name: "join with a known UUID", view: pair, change: join(with(recovering(4), id(9))), refused: "its UUID is in the view already, at m4:7400"},
		{
			name: "join at a known address", view: pair, change: join(with(recovering(3), func(m *Member) { m.Address = "m4:7400" })),
			refused: "its address is that of member " + uuid(4).String(),
		},
		{name: "join without raft id", view: pair, change: join(with(recovering(3), id(0))), refused: "lacks"},
		{name: "join without UUID", view: pair, change: join(with(recovering(3), func(m *Member) { m.UUID = gtid.UUID{} })), refused: "lacks"},
		{name: "join without address", view: pair, change: join(with(recovering(3), func(m *Member) { m.Address = "" })), refused: "lacks"},
		{name: "join with raft's own id", view: pair, change: join(with(recovering(3), id(math.MaxUint64))), refused: "reserved"},
		{name: "join with raft's other id", view: pair, change: join(with(recovering(3), id(math.MaxUint64-1))), refused: "reserved"},
		{
			name: "join at the longest address", view: pair, change: join(with(recovering(3), func(m *Member) { m.Address = strings.Repeat("a", 261) })),
			want: "2=ONLINE 3=RECOVERING 4=ONLINE",
		},
		{
			name: "join at an endless address", view: pair, change: join(with(recovering(3), func(m *Member) { m.Address = strings.Repeat("a", 262) })),
			refused: "longer than 261 bytes",
		},

		{name: "promote", view: learning, change: promote(Member{RaftID: 4, UUID: uuid(4)}), want: "2=ONLINE 4=ONLINE"},
		{name: "promote a stranger", view: learning, change: promote(recovering(3)), refused: "not RECOVERING"},
		{name: "promote twice", view: pair, change: promote(recovering(4)), refused: "not RECOVERING"},
		{name: "promote in no group", change: promote(recovering(1)), refused: "not RECOVERING"},

		{name: "leave", view: pair, change: leave(Member{RaftID: 2, UUID: uuid(2)}), want: "4=ONLINE"},
		{name: "leave while RECOVERING", view: learning, change: leave(recovering(4)), want: "2=ONLINE"},
		{name: "leave as last ONLINE", view: learning, change: leave(online(2)), refused: "last ONLINE"},
		{name: "leave alone", view: group(online(2)), change: leave(online(2)), refused: "last ONLINE"},
		{name: "leave unknown", view: pair, change: leave(online(3)), refused: "not in this view"},
		{name: "leave no group", change: leave(online(1)), refused: "not in this view"},

		{name: "nothing", view: pair, change: Change{Member: recovering(2)}, refused: "unknown"},
		{name: "a later kind", view: pair, change: Change{Kind: 99, Member: recovering(2)}, refused: "unknown"},
	}
}

func TestApply(t *testing.T) {
	for _, c := range applyCases() {
		t.Run(c.name, func(t *testing.T) {
			before := appendView(nil, c.view)
			next, err := c.view.Apply(c.change, 41)
			if !bytes.Equal(appendView(nil, c.view), before) {
				t.Error("Apply changed the view it was called on")
			}
			if c.refused != "" {
				refused, ok := errors.AsType[*RefusedChangeError](err)
				if !ok || !strings.Contains(refused.Reason, c.refused) {
					t.Fatalf("Apply: %v, want a refusal with %q", err, c.refused)
				}
				if diff := cmp.Diff(c.view, next); diff != "" {
					t.Errorf("refused, and yet the view changed (-before +after):\n%s", diff)
				}
				return
			}
			if err != nil {
				t.Fatalf("Apply: %v", err)
			}
			if got := standing(next); got != c.want {
				t.Errorf("members are %s, want %s", got, c.want)
			}
			if next.ID != c.view.ID+1 || next.Index != 41 || next.Incarnation != uuid(200) {
				t.Errorf("next view is %d at %d of incarnation %s", next.ID, next.Index, next.Incarnation)
			}
			if next.Cause.Kind != c.change.Kind || next.Cause.Member.UUID != c.change.Member.UUID {
				t.Errorf("cause is %+v, want that of %+v", next.Cause, c.change)
			}
		})
	}
}

// A cause tells all about its member, although a change need only name it.
func TestApplyCompletesCause(t *testing.T) {
	named := Member{RaftID: 4, UUID: uuid(4)}
	for _, c := range []struct {
		change Change
		want   Member
	}{
		{promote(named), online(4)},
		{leave(named), recovering(4)},
		{join(online(5)), recovering(5)},
	} {
		v, err := group(online(2), recovering(4)).Apply(c.change, 41)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, v.Cause.Member); diff != "" {
			t.Errorf("member of the cause of %s (-want +got):\n%s", c.change.Kind, diff)
		}
	}
}

// A change names its member by raft id and by UUID, and both must agree.
func TestApplyRefusesAnotherUUID(t *testing.T) {
	v := group(online(2), recovering(4))
	other := Member{RaftID: 4, UUID: uuid(9)}
	for _, c := range []Change{promote(other), leave(other)} {
		if next, err := v.Apply(c, 41); err == nil {
			t.Errorf("%s of another UUID made %s", c.Kind, next)
		}
	}
}

func TestQuorum(t *testing.T) {
	for _, c := range []struct {
		view View
		want int
	}{
		{group(online(1)), 1},
		{group(online(1), recovering(2), recovering(3)), 1},
		{group(online(1), online(2)), 2},
		{group(online(1), online(2), online(3)), 2},
		{group(online(1), online(2), online(3), online(4)), 3},
		{full(), 5},
	} {
		if got := c.view.Quorum(); got != c.want {
			t.Errorf("quorum of %s is %d, want %d", standing(c.view), got, c.want)
		}
	}
}

func TestViewText(t *testing.T) {
	v, err := group(online(2)).Apply(join(recovering(4)), 41)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("view 8 at 41 (%s joined): %s=ONLINE %s=RECOVERING", uuid(4), uuid(2), uuid(4))
	if got := v.String(); got != want {
		t.Errorf("String:\n got %s\nwant %s", got, want)
	}
	_, err = v.Apply(bootstrap(online(1)), 42)
	want = fmt.Sprintf("gcs: member %s cannot have bootstrapped: the group exists already", uuid(1))
	if err == nil || err.Error() != want {
		t.Errorf("error:\n got %v\nwant %s", err, want)
	}
}

func TestBootstrapRefusesWhatNobodyCouldRead(t *testing.T) {
	id := Identity{Group: uuid(100), Incarnation: uuid(200), Member: uuid(1), RaftID: 1, Session: 1}
	long := Member{Address: strings.Repeat("a", 262)}
	if _, err := Bootstrap(id, long); err == nil {
		t.Error("Bootstrap wrote a founder that no member can decode")
	}
	if _, err := Bootstrap(id, Member{Address: "m1:7400"}); err != nil {
		t.Errorf("Bootstrap: %v", err)
	}
}
