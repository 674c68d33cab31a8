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
func expel(m Member) Change   { return Change{Kind: Expelled, Member: m} }
func remove(m Member) Change  { return Change{Kind: Removed, Member: m} }

func replace(old uint64, m Member) Change {
	return Change{Kind: Replaced, Member: m, Replaces: old}
}

func force(members ...Member) Change {
	return Change{Kind: Forced, Incarnation: uuid(201), Members: members}
}

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

		{name: "expel", view: pair, change: expel(Member{RaftID: 2, UUID: uuid(2)}), want: "4=ONLINE"},
		{name: "expel while RECOVERING", view: learning, change: expel(recovering(4)), want: "2=ONLINE"},
		{name: "expel the last ONLINE", view: learning, change: expel(online(2)), refused: "last ONLINE"},
		{name: "expel unknown", view: pair, change: expel(online(3)), refused: "not in this view"},
		{name: "remove", view: pair, change: remove(Member{RaftID: 4, UUID: uuid(4)}), want: "2=ONLINE"},
		{name: "remove the last ONLINE", view: learning, change: remove(online(2)), refused: "last ONLINE"},
		{name: "remove unknown", view: pair, change: remove(online(3)), refused: "not in this view"},

		{name: "replace", view: pair, change: replace(2, recovering(5)), want: "4=ONLINE 5=RECOVERING"},
		{name: "replace in front", view: pair, change: replace(4, online(1)), want: "1=RECOVERING 2=ONLINE"},
		{name: "replace itself", view: pair, change: replace(4, with(recovering(4), id(9))), want: "2=ONLINE 9=RECOVERING"},
		{name: "replace in a full group", view: full(), change: replace(1, with(recovering(1), id(20))), want: standing(group(full().Members[1:]...)) + " 20=RECOVERING"},
		{name: "replace one RECOVERING", view: learning, change: replace(4, recovering(5)), want: "2=ONLINE 5=RECOVERING"},
		{name: "replace the last ONLINE", view: learning, change: replace(2, recovering(5)), refused: "is the last ONLINE member"},
		{name: "replace unknown", view: pair, change: replace(3, recovering(5)), refused: "the member 3 that it is to replace is not"},
		{name: "replace under the same raft id", view: pair, change: replace(4, recovering(4)), refused: "draw a new one"},
		{name: "replace one, being another", view: pair, change: replace(4, with(recovering(2), id(9))), refused: "its UUID is in the view already, at m2:7400"},
		{name: "replace without address", view: pair, change: replace(4, with(recovering(3), func(m *Member) { m.Address = "" })), refused: "lacks"},

		{name: "force one", view: full(), change: force(online(3)), want: "3=ONLINE"},
		{name: "force a learner ONLINE", view: learning, change: force(online(4)), want: "4=ONLINE"},
		{name: "force strangers", view: pair, change: force(online(1), recovering(2), online(7)), want: "1=ONLINE 2=RECOVERING 7=ONLINE"},
		{name: "force what is", view: pair, change: force(pair.Members...), want: "2=ONLINE 4=ONLINE"},
		{name: "force no group", change: force(online(1)), refused: "no group"},
		{name: "force nobody", view: pair, change: force(), refused: "no ONLINE member"},
		{name: "force nobody ONLINE", view: pair, change: force(recovering(2)), refused: "no ONLINE member"},
		{name: "force out of order", view: pair, change: force(online(4), online(2)), refused: "out of order"},
		{name: "force twice the same", view: pair, change: force(online(2), with(online(4), func(m *Member) { m.UUID = uuid(2) })), refused: "same UUID or address"},
		{name: "force without address", view: pair, change: force(with(online(2), func(m *Member) { m.Address = "" })), refused: "lacks"},
		{name: "force an odd state", view: pair, change: force(online(1), with(online(2), func(m *Member) { m.State = 9 })), refused: "unknown state 9"},
		{name: "force too many", view: pair, change: force(append(full().Members, online(20))...), refused: "10 members"},
		{name: "force the same incarnation", view: pair, change: Change{Kind: Forced, Incarnation: uuid(200), Members: pair.Members}, refused: "incarnation of its own"},
		{name: "force no incarnation", view: pair, change: Change{Kind: Forced, Members: pair.Members}, refused: "incarnation of its own"},
		{name: "force somebody", view: pair, change: Change{Kind: Forced, Incarnation: uuid(201), Member: online(2), Members: pair.Members}, refused: "no single member"},

		{name: "the longest reason", view: pair, change: Change{Kind: Removed, Member: online(2), Reason: strings.Repeat("r", MaxReason)}, want: "4=ONLINE"},
		{name: "an endless reason", view: pair, change: Change{Kind: Removed, Member: online(2), Reason: strings.Repeat("r", MaxReason+1)}, refused: "longer than 512 bytes"},
		{name: "a reason in another tongue", view: pair, change: Change{Kind: Removed, Member: online(2), Reason: "\xff"}, refused: "not UTF-8"},
		{name: "join and replace", view: pair, change: Change{Kind: Joined, Member: recovering(5), Replaces: 4}, refused: "only a member that enters"},
		{name: "remove and list", view: pair, change: Change{Kind: Removed, Member: online(2), Members: pair.Members}, refused: "only a forced view"},

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
			incarnation := uuid(200)
			if c.change.Kind == Forced {
				incarnation = c.change.Incarnation
			}
			if next.ID != c.view.ID+1 || next.Index != 41 || next.Incarnation != incarnation {
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
		{expel(named), recovering(4)},
		{remove(named), recovering(4)},
		{join(online(5)), recovering(5)},
		{replace(4, online(5)), recovering(5)},
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
	for _, c := range []Change{promote(other), leave(other), expel(other), remove(other)} {
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
