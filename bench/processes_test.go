package bench

import (
	"testing"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// Where one member writes, it is that to which the load goes, whoever leads.
func TestLeading(t *testing.T) {
	for name, c := range map[string]struct { // order-free: each is a test of its own
		primary, leader string
		want            bool
	}{
		"leads where all write":        {"", "a", true},
		"another one leads":            {"", "b", false},
		"primary that does not lead":   {"a", "b", true},
		"leads and is not the primary": {"b", "a", false},
		"nobody does":                  {"", "", false},
	} {
		if got := leading(&adminpb.StatusResponse{Member: "a", Primary: c.primary, Leader: c.leader}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
