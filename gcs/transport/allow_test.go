package transport

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func TestAllowList(t *testing.T) {
	for _, test := range []struct {
		allow []netip.Prefix
		yes   []string
		no    []string
	}{
		{nil, []string{"10.1.2.3:5", "[2001:db8::1]:5", "@"}, nil},
		{
			prefixes("10.1.0.0/16", "192.0.2.7/32"),
			[]string{"10.1.255.3:5", "192.0.2.7:1", "[::ffff:10.1.2.3]:5"},
			[]string{"10.2.0.1:5", "192.0.2.8:1", "127.0.0.1:5", "[::1]:5", "[::ffff:10.2.0.1]:5", "[::a01:203]:5", "@", ""},
		},
		{prefixes("::ffff:10.1.0.0/112"), []string{"10.1.2.3:5", "[::ffff:10.1.2.3]:5"}, []string{"10.2.0.1:5"}},
		{prefixes("10.1.2.3/8"), []string{"10.9.9.9:5"}, []string{"11.1.2.3:5"}},
		{prefixes("fe80::/10"), []string{"[fe80::1%eth0]:5", "[fe80::1]:5"}, []string{"[2001:db8::1]:5"}},
		{prefixes("0.0.0.0/0"), []string{"1.2.3.4:5", "[::ffff:1.2.3.4]:5"}, []string{"[::1]:5"}},
		{prefixes("::/0"), []string{"[::1]:5"}, []string{"1.2.3.4:5", "[::ffff:1.2.3.4]:5"}},
	} {
		a := newAllowList(nil, test.allow, nil)
		for _, from := range test.yes {
			if !a.allows(textAddr(from)) {
				t.Errorf("%v does not allow %q", test.allow, from)
			}
		}
		for _, from := range test.no {
			if a.allows(textAddr(from)) {
				t.Errorf("%v allows %q", test.allow, from)
			}
		}
	}
}

// textAddr is an address as somebody prints it.
type textAddr string

func (textAddr) Network() string  { return "test" }
func (a textAddr) String() string { return string(a) }

func TestAllowIsValidated(t *testing.T) {
	for _, test := range []struct {
		prefix netip.Prefix
		want   string
	}{
		{netip.Prefix{}, "invalid prefix"},
		{netip.MustParsePrefix("::ffff:0.0.0.0/90"), "mixes IPv4 with IPv6"},
	} {
		err := Config{Allow: []netip.Prefix{test.prefix}}.Validate()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v", test.prefix, err)
		}
	}
	if err := (Config{Allow: prefixes("::ffff:10.0.0.0/104", "fe80::/10")}).Validate(); strings.Contains(err.Error(), "Allow") {
		t.Errorf("sound prefixes give %v", err)
	}
}

// Who comes from elsewhere hears nothing, not even the beginning of HTTP/2, and
// loopback is elsewhere unless it is listed.
func TestElsewhereIsClosed(t *testing.T) {
	b := start(t, 2, func(c *Config) { c.Allow = prefixes("192.0.2.0/24") })
	conn, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if heard, _ := io.ReadAll(conn); len(heard) > 0 {
		t.Errorf("a connection from elsewhere was told %q", heard)
	}
	b.logged(t, "connection closed", "allow list", conn.LocalAddr().String())
	a := start(t, 1)
	if _, err := Join(t.Context(), b.address, &peerpb.JoinRequest{Identity: a.Identity()}, nil); status.Code(err) != codes.Unavailable {
		t.Errorf("a join from elsewhere gives %v", err)
	}
	near := start(t, 3, func(c *Config) { c.Allow = prefixes("192.0.2.0/24", "127.0.0.1/32") })
	a.dials(near)
	a.untilUp(t, 3, 1)
}

// However many connect, a line is written once in refusedLogPause.
func TestElsewhereDoesNotFillTheLog(t *testing.T) {
	r := newRecorder()
	a := newAllowList(nil, prefixes("192.0.2.0/24"), slog.New(r))
	now := time.Unix(1_000_000, 0)
	a.now = func() time.Time { return now }
	for _, step := range []time.Duration{0, 1, refusedLogPause - 2, 1, 1, refusedLogPause} {
		now = now.Add(step)
		a.refused(textAddr("10.0.0.1:5"))
	}
	var counts []string
	for _, line := range r.log {
		_, count, _ := strings.Cut(line, "unreported=")
		counts = append(counts, count)
	}
	if want := []string{"0", "2", "1"}; !slices.Equal(counts, want) {
		t.Errorf("lines with %v unreported, want %v: %q", counts, want, r.log)
	}
}
