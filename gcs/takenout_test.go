package gcs

import "testing"

// A member that is out is told by which change, as long as that is remembered.
func TestTookOut(t *testing.T) {
	change := func(kind ChangeKind, id uint64) ViewRecord {
		return ViewRecord{Cause: Change{Kind: kind, Member: Member{RaftID: id}}}
	}
	replaced := func(old, by uint64) ViewRecord {
		return ViewRecord{Cause: Change{Kind: Replaced, Member: Member{RaftID: by}, Replaces: old}}
	}
	forced := ViewRecord{Cause: Change{Kind: Forced}}
	for name, c := range map[string]struct {
		views []ViewRecord
		want  ChangeKind
	}{
		"nothing is remembered":            {nil, 0},
		"others only":                      {[]ViewRecord{change(Joined, 2), change(Left, 2)}, 0},
		"left":                             {[]ViewRecord{change(Joined, 1), change(Left, 1)}, Left},
		"expelled":                         {[]ViewRecord{change(Expelled, 1), change(Left, 2)}, Expelled},
		"removed":                          {[]ViewRecord{change(Removed, 1), change(Expelled, 2)}, Removed},
		"replaced":                         {[]ViewRecord{replaced(1, 2), replaced(2, 3)}, Replaced},
		"came by a replacement, then went": {[]ViewRecord{replaced(2, 1), change(Left, 1)}, Left},
		"forced out":                       {[]ViewRecord{change(Promoted, 1), forced, change(Joined, 2)}, Forced},
		"out before it was forced":         {[]ViewRecord{change(Removed, 1), forced}, Removed},
		"it came, how it went is forgotten": {
			[]ViewRecord{change(Joined, 1)}, 0,
		},
		"back by force, then expelled": {[]ViewRecord{change(Removed, 1), forced, change(Expelled, 1)}, Expelled},
		"promoted since, then forced":  {[]ViewRecord{change(Left, 1), change(Promoted, 1), forced}, Forced},
	} {
		p := past{views: c.views}
		if got := p.tookOut(1); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What takes nobody out cannot be why somebody is out.
func TestDecodeRemoved(t *testing.T) {
	for kind := range 256 {
		m, err := DecodeMessage([]byte{byte(MessageRemoved), byte(kind)})
		want := kind == 0 || kind >= int(Left) && kind <= int(Forced)
		if (err == nil) != want || err == nil && m.Removed != ChangeKind(kind) {
			t.Errorf("removed by %d: %v, %v", kind, m.Removed, err)
		}
	}
	for _, body := range [][]byte{{}, {byte(Left), 0}} {
		if _, err := DecodeMessage(append([]byte{byte(MessageRemoved)}, body...)); err == nil {
			t.Errorf("removed by % x is accepted", body)
		}
	}
}
