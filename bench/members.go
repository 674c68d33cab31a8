package bench

import (
	"context"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// member is one that is a process of its own, which may end and be started again.
type member struct {
	uuid    string
	dir     string
	process NodeProcess    // the last one, which may have ended; nil before the first
	client  *server.Client // of that process, whatever is in front of it
	ended   bool
}

// start starts a process, for the first time or again.
func (m *member) start(ctx context.Context, start StartMember, o MemberOptions) error {
	p, err := start(ctx, o)
	if err != nil {
		return err
	}
	if m.client != nil {
		_ = m.client.Close() // of the process before
	}
	m.process, m.ended = p, false
	address := p.ClientAddress()
	if o.Place != nil {
		address = o.Place.ClientListen
	}
	if m.client, err = server.Dial(address, nil); err != nil {
		return err
	}
	if o.Place != nil {
		m.uuid = o.Place.Member
		return nil
	}
	s, err := m.client.Status(ctx, &adminpb.StatusRequest{})
	m.uuid = s.GetMember()
	return err
}

// kill ends the process with SIGKILL, which ends a stopped one too.
func (m *member) kill() error {
	m.ended = true
	return m.process.Stop()
}

func (m *member) close() (err error) {
	if m.process != nil && !m.ended {
		err = m.kill()
	}
	if m.client != nil {
		_ = m.client.Close() // its process is gone
	}
	return err
}

// dropped waits until another member is not in the view of this one any more.
func (m *member) dropped(ctx context.Context, other *member) error {
	return until(ctx, func() (bool, error) {
		s, err := m.client.Status(ctx, &adminpb.StatusRequest{})
		for _, in := range s.GetView().GetMembers() {
			if in.GetUuid() == other.uuid {
				return false, err
			}
		}
		return err == nil, err
	})
}
