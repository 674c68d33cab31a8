package consistency

import (
	"strings"
	"testing"
)

// levels has one line for each level, by its number. The columns are those of
// Group Replication, but for the last: there only BEFORE_ON_PRIMARY_FAILOVER and
// AFTER are held on a failover, and what the BEFORE levels wait for covers it.
var levels = []struct {
	level                Level
	text                 string
	before, after, holds bool
}{
	{Default, "DEFAULT", false, false, false},
	{Eventual, "EVENTUAL", false, false, false},
	{BeforeOnPrimaryFailover, "BEFORE_ON_PRIMARY_FAILOVER", false, false, true},
	{Before, "BEFORE", true, false, true},
	{After, "AFTER", false, true, true},
	{BeforeAndAfter, "BEFORE_AND_AFTER", true, true, true},
}

func TestLevels(t *testing.T) {
	for i, c := range levels {
		if int(c.level) != i || !c.level.Valid() {
			t.Errorf("%s is %d, valid %t, want %d", c.text, c.level, c.level.Valid(), i)
		}
		if c.level.String() != c.text || c.level.WaitsBefore() != c.before || c.level.WaitsAfter() != c.after || c.level.HoldsOnFailover() != c.holds {
			t.Errorf("%d is %s: before %t, after %t, held %t, want %+v",
				i, c.level, c.level.WaitsBefore(), c.level.WaitsAfter(), c.level.HoldsOnFailover(), c)
		}
		for _, text := range []string{c.text, strings.ToLower(c.text), c.text[:1] + strings.ToLower(c.text[1:])} {
			if l, err := Parse(text); err != nil || l != c.level {
				t.Errorf("%q is %s, error %v, want %s", text, l, err, c.level)
			}
		}
	}
	beyond := Level(len(levels))
	if beyond.Valid() || beyond.String() != "Level(6)" {
		t.Errorf("%d is valid: %t, and is called %q", byte(beyond), beyond.Valid(), beyond)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", " BEFORE", "BEFORE ", "BEFORE_ON", "BEFOREAFTER", "1", "Level(1)", "EVENTUAL,AFTER"} {
		l, err := Parse(text)
		if err == nil || l != Default || !strings.Contains(err.Error(), "EVENTUAL, BEFORE_ON_PRIMARY_FAILOVER, BEFORE, AFTER") {
			t.Errorf("%q is %s, error %v", text, l, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range levels {
		f.Add(c.text)
	}
	f.Add("before_and_after")
	f.Add("BEFORE_\xff")
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := Parse(text); err == nil && (!l.Valid() || !strings.EqualFold(l.String(), text)) {
			t.Fatalf("%q is %s", text, l)
		}
	})
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		levels []Level
		want   Level
	}{
		{nil, Eventual},
		{[]Level{Default, Default, Default}, Eventual},
		{[]Level{Default, Default, After}, After},
		{[]Level{Default, Before, After}, Before},
		{[]Level{Eventual, Before, After}, Eventual},
	} {
		if got := Resolve(c.levels...); got != c.want {
			t.Errorf("%v is resolved to %s, want %s", c.levels, got, c.want)
		}
	}
}

// TestFloor checks that a gate holds everybody, and a change of the primary
// everybody who asked for it.
func TestFloor(t *testing.T) {
	for _, f := range []Floor{{}, {Gate: 5}, {Change: 5}, {Gate: 5, Change: 9}, {Gate: 9, Change: 5}} {
		for _, c := range levels {
			want := f.Gate
			if c.holds && f.Change > want {
				want = f.Change
			}
			if got := f.For(c.level); got != want {
				t.Errorf("%+v at %s: %d must be visible, want %d", f, c.level, got, want)
			}
		}
	}
}
