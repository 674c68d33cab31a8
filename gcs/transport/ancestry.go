package transport

import (
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// ErrAncestry marks an ancestry that makes no sense.
var ErrAncestry = errors.New("transport: malformed ancestry")

// maxForks bounds the forks in an ancestry.
const maxForks = 64

// Ancestry says of which incarnation a member is, and of which ones that came.
// A member of an incarnation among the forks was left out when the membership
// was forced; one whose own incarnation came of the present one of another
// member left that one out.
type Ancestry struct {
	Incarnation gtid.UUID
	Forks       []Fork // oldest first
}

// Fork is an incarnation that ended when the membership was forced.
type Fork struct {
	Incarnation gtid.UUID
	Index       uint64 // the last log index of it that the next one took over
}

// proto returns the form of a that travels. Of more than maxForks it has the
// last ones.
func (a Ancestry) proto() *peerpb.LineageResponse {
	return &peerpb.LineageResponse{Incarnation: a.Incarnation[:], Forks: forksProto(a.Forks)}
}

func forksProto(forks []Fork) (ps []*peerpb.Fork) {
	for _, f := range forks[max(0, len(forks)-maxForks):] {
		ps = append(ps, &peerpb.Fork{Incarnation: f.Incarnation[:], Index: f.Index})
	}
	return ps
}

// parseAncestry reads what another member answered. The error wraps
// [ErrAncestry].
func parseAncestry(p *peerpb.LineageResponse) (a Ancestry, err error) {
	if a.Incarnation, err = incarnationOf(p.GetIncarnation()); err != nil {
		return Ancestry{}, err
	}
	if a.Forks, err = parseForks(p.GetForks()); err != nil {
		return Ancestry{}, err
	}
	return a, nil
}

func parseForks(ps []*peerpb.Fork) (forks []Fork, err error) {
	if len(ps) > maxForks {
		return nil, fmt.Errorf("%w: %d forks, at most %d are told", ErrAncestry, len(ps), maxForks)
	}
	var last uint64
	for _, fork := range ps {
		f := Fork{Index: fork.GetIndex()}
		if f.Incarnation, err = incarnationOf(fork.GetIncarnation()); err != nil {
			return nil, err
		}
		if f.Index < last {
			return nil, fmt.Errorf("%w: a fork at index %d follows one at %d", ErrAncestry, f.Index, last)
		}
		forks = append(forks, f)
		last = f.Index
	}
	return forks, nil
}

func incarnationOf(b []byte) (u gtid.UUID, err error) {
	if copy(u[:], b) != len(u) || len(b) != len(u) || u.IsZero() {
		return gtid.UUID{}, fmt.Errorf("%w: %x is no incarnation", ErrAncestry, b)
	}
	return u, nil
}
