package election

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Version is that of a member's build: major<<16 | minor<<8 | patch. Group
// Replication writes two decimal digits into each byte; these are numbers.
type Version uint32

// String returns the version as three numbers, such as 8.0.17.
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v.major(), v>>8&0xff, v&0xff)
}

func (v Version) major() Version { return v >> 16 }

// ParseVersion reads what [Version.String] writes, and nothing else: three
// numbers without leading zeros, of which the last two are at most 255.
func ParseVersion(text string) (Version, error) {
	parts := strings.Split(text, ".")
	if len(parts) == 3 {
		var v Version
		for i, bits := range []int{16, 8, 8} {
			n, err := strconv.ParseUint(parts[i], 10, bits)
			if err != nil {
				break
			}
			v = v<<bits | Version(n)
		}
		if v.String() == text {
			return v, nil
		}
	}
	return 0, fmt.Errorf("election: version %q is none; write three numbers such as 8.0.17", text)
}

// Protocol is the version of what members broadcast and send. The group has one,
// which every member speaks; it rises only by [SetProtocol].
type Protocol uint32

// FirstProtocol is that of the first group that had one, and what a group has
// that was founded without saying.
const FirstProtocol Protocol = 1

// speaks is one line of what builds speak: from a version on, protocols up to
// newest.
type speaks struct {
	from           Version
	oldest, newest Protocol
}

// protocols ascends by version. A build that speaks another protocol gets a line.
var protocols = []speaks{{0, FirstProtocol, FirstProtocol}}

// ProtocolOf returns the protocols that a build of this version or an older one
// speaks. Of newer ones nobody but themselves knows: members say what they speak
// in their openings, and nothing is concluded from their versions.
func ProtocolOf(v Version) (oldest, newest Protocol) { return protocolOf(protocols, v) }

func protocolOf(table []speaks, v Version) (oldest, newest Protocol) {
	for _, line := range table {
		if line.from <= v {
			oldest, newest = line.oldest, line.newest
		}
	}
	return oldest, newest
}

// Description is what a member says of itself in its opening.
type Description struct {
	Version        Version
	Weight         uint32   // 0 to MaxWeight
	Oldest, Newest Protocol // that it speaks
	ClientAddress  string   // where clients reach it; may be empty
}

// The bounds of what a member says of itself.
const (
	MaxWeight        = 100
	MaxClientAddress = 261 // bytes: a DNS name, a colon and a port
)

// Check reports what in d no member can say of itself.
func (d Description) Check() error {
	switch {
	case d.Weight > MaxWeight:
		return fmt.Errorf("election: weight %d exceeds %d", d.Weight, MaxWeight)
	case d.Oldest < FirstProtocol || d.Newest < d.Oldest:
		return fmt.Errorf("election: protocols %d to %d are no range from %d on", d.Oldest, d.Newest, FirstProtocol)
	case len(d.ClientAddress) > MaxClientAddress || !isText(d.ClientAddress):
		return fmt.Errorf("election: client address %q is not text of at most %d bytes", d.ClientAddress, MaxClientAddress)
	}
	return nil
}

// Speaks reports whether the member can be in a group of protocol p.
func (d Description) Speaks(p Protocol) bool { return d.Oldest <= p && p <= d.Newest }

// IncompatibleError says why a build cannot join a group.
type IncompatibleError struct {
	Version  Version
	Lowest   Version  // of the group's members
	Protocol Protocol // of the group
	Reason   string
}

// Error says what to start instead.
func (e *IncompatibleError) Error() string { return "election: cannot join: " + e.Reason }

// Admission reports why a member that describes itself so may not join the
// group: it is older than all members, or does not speak the group's protocol. A
// newer one may; it is elected once the older ones are gone. The error is an
// *IncompatibleError.
func (s Snapshot) Admission(d Description) error {
	lowest := Version(math.MaxUint32)
	for _, m := range s.Members {
		lowest = min(lowest, m.Version)
	}
	e := &IncompatibleError{Version: d.Version, Lowest: lowest, Protocol: s.Protocol}
	switch {
	case len(s.Members) > 0 && d.Version < lowest:
		e.Reason = fmt.Sprintf("this build is %s, the group's oldest member runs %s; start it with %s or newer", d.Version, lowest, lowest)
	case s.Protocol > d.Newest:
		e.Reason = fmt.Sprintf("this build speaks protocols %d to %d, the group speaks %d; start it with a newer build", d.Oldest, d.Newest, s.Protocol)
	case s.Protocol < d.Oldest:
		e.Reason = fmt.Sprintf("this build speaks protocols %d to %d, the group speaks %d; raise the group's protocol first, or start an older build",
			d.Oldest, d.Newest, s.Protocol)
	default:
		return nil
	}
	return e
}
