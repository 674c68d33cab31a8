package election

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestVersion(t *testing.T) {
	if v := version("8.0.17"); v != 8<<16|17 || v.String() != "8.0.17" {
		t.Errorf("8.0.17 is %#x, %s", uint32(v), v)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := Version(rapid.Uint32().Draw(t, "version"))
		if again, err := ParseVersion(v.String()); err != nil || again != v {
			t.Fatalf("%s comes back as %s, error %v", v, again, err)
		}
	})
	// The texts that Group Replication refuses as protocols are among these.
	for _, text := range []string{
		"", " ", "5", "5.7", "5.7.14a", "5.7.", "5..7", ".5.7", "1.2.3.4", "0.0", "0.0.x", "x.0.0", "05.7.14", "5.7.014", "+1.2.3",
		"1.2.-3", "1.256.0", "1.0.256", "65536.0.0", " 1.2.3", "1.2.3 ", "1_0.2.3", "0x1.2.3",
	} {
		if v, err := ParseVersion(text); err == nil || !strings.Contains(err.Error(), "write three numbers") {
			t.Errorf("%q is %s, error %v", text, v, err)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("8.0.17")
	f.Add("65535.255.255")
	f.Add("1.2.")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := ParseVersion(text); err == nil && v.String() != text {
			t.Fatalf("%q is %s", text, v)
		}
	})
}

// TestProtocolOf has the table of Group Replication's releases.
func TestProtocolOf(t *testing.T) {
	table := []speaks{{version("5.7.14"), 1, 1}, {version("8.0.16"), 1, 2}, {version("8.0.27"), 1, 3}}
	for _, c := range []struct {
		version        string
		oldest, newest Protocol
	}{
		{"5.7.13", 0, 0},
		{"5.7.14", 1, 1},
		{"8.0.15", 1, 1},
		{"8.0.16", 1, 2},
		{"8.0.26", 1, 2},
		{"8.0.27", 1, 3},
		{"9.7.0", 1, 3},
	} {
		if oldest, newest := protocolOf(table, version(c.version)); oldest != c.oldest || newest != c.newest {
			t.Errorf("%s speaks %d to %d, want %d to %d", c.version, oldest, newest, c.oldest, c.newest)
		}
	}
	for i, line := range protocols {
		if line.oldest < FirstProtocol || line.newest < line.oldest || i > 0 && line.from <= protocols[i-1].from {
			t.Errorf("line %d of the protocols is %+v", i, line)
		}
	}
	for _, v := range []Version{0, 1 << 8, 1<<32 - 1} {
		oldest, newest := ProtocolOf(v)
		if d := (Description{Version: v, Oldest: oldest, Newest: newest}); d.Check() != nil || !d.Speaks(FirstProtocol) {
			t.Errorf("%s speaks %d to %d: %v", v, oldest, newest, d.Check())
		}
	}
}

func TestDescriptionCheck(t *testing.T) {
	good := Description{Version: version("1.0.0"), Weight: 100, Oldest: 1, Newest: 2, ClientAddress: strings.Repeat("ä", 130)}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if good.Speaks(0) || !good.Speaks(1) || !good.Speaks(2) || good.Speaks(3) {
		t.Errorf("1 to 2 speaks 0 to 3: %t, %t, %t, %t", good.Speaks(0), good.Speaks(1), good.Speaks(2), good.Speaks(3))
	}
	for _, c := range []struct {
		change func(*Description)
		want   string
	}{
		{func(d *Description) { d.Weight = 101 }, "weight 101 exceeds 100"},
		{func(d *Description) { d.Oldest = 0 }, "protocols 0 to 2"},
		{func(d *Description) { d.Newest = 0 }, "protocols 1 to 0"},
		{func(d *Description) { d.ClientAddress += "x:" }, "at most 261 bytes"},
		{func(d *Description) { d.ClientAddress = "\xff" }, "is not text"},
		{func(d *Description) { d.ClientAddress = "a\nb" }, "is not text"},
	} {
		d := good
		if c.change(&d); d.Check() == nil || !strings.Contains(d.Check().Error(), c.want) {
			t.Errorf("%+v: %v, want %q", d, d.Check(), c.want)
		}
	}
}

// TestAdmission has the rules of Group Replication for members that join, but
// for the long-term-support one and the forced one: here nobody joins that is
// older than all.
func TestAdmission(t *testing.T) {
	for _, c := range []struct {
		members        []string // one is RECOVERING if it begins with -
		protocol       Protocol
		joiner         string
		oldest, newest Protocol
		want           string
	}{
		{nil, 1, "0.0.1", 1, 1, ""},
		{[]string{"8.0.35"}, 1, "8.0.35", 1, 1, ""},
		{[]string{"8.0.35"}, 1, "8.0.41", 1, 3, ""},
		{[]string{"8.0.41"}, 1, "8.0.35", 1, 3, "this build is 8.0.35, the group's oldest member runs 8.0.41; start it with 8.0.41 or newer"},
		{[]string{"8.0.41", "8.4.0"}, 1, "8.3.0", 1, 3, ""},
		{[]string{"8.0.41", "-8.0.35"}, 1, "8.0.36", 1, 3, ""}, // all states count
		{[]string{"8.1.0"}, 1, "8.0.255", 1, 3, "this build is 8.0.255, the group's oldest member runs 8.1.0; start it with 8.1.0 or newer"},
		{[]string{"9.0.0"}, 1, "8.255.255", 1, 3, "this build is 8.255.255, the group's oldest member runs 9.0.0; start it with 9.0.0 or newer"},
		{[]string{"8.0.35"}, 2, "8.0.35", 1, 1, "this build speaks protocols 1 to 1, the group speaks 2; start it with a newer build"},
		{[]string{"8.0.35"}, 2, "9.7.0", 3, 4, "this build speaks protocols 3 to 4, the group speaks 2; raise the group's protocol first, or start an older build"},
		{[]string{"8.0.35"}, 2, "8.0.35", 1, 2, ""},
		{[]string{"8.0.35"}, 2, "9.7.0", 2, 4, ""},
	} {
		s := Snapshot{Protocol: c.protocol}
		for i, text := range c.members {
			m := online(uint64(i+1), strings.TrimPrefix(text, "-"), 50)
			m.Online = text[0] != '-'
			s.Members = append(s.Members, m)
		}
		err := s.Admission(Description{Version: version(c.joiner), Oldest: c.oldest, Newest: c.newest})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s joins %v: %v", c.joiner, c.members, err)
			}
			continue
		}
		e, ok := errors.AsType[*IncompatibleError](err)
		if !ok || e.Reason != c.want || err.Error() != "election: cannot join: "+c.want || e.Version != version(c.joiner) || e.Protocol != c.protocol {
			t.Errorf("%s joins %v of protocol %d: %v\nwant %s", c.joiner, c.members, c.protocol, err, c.want)
		}
	}
}
