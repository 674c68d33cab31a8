package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// stage is a group of three processes with one primary, proxies in front of them,
// and a client that knows nothing but those.
type stage struct {
	o       *FailoverOptions
	dir     string
	network *network
	actors  []*actor
	client  *client.Client
}

// actor is a member on a stage. Its client passes by the proxies, and so reaches one
// that is cut off.
type actor struct {
	member

	number  int
	place   Place
	stopped bool
}

// stage founds a group.
func (o *FailoverOptions) stage(ctx context.Context, dir string) (_ *stage, err error) {
	s := &stage{o: o, dir: dir}
	var uuids []gtid.UUID
	for range Members {
		uuid, err := gtid.NewUUID(rand.Reader)
		if err != nil {
			return nil, err
		}
		uuids = append(uuids, uuid)
	}
	s.network = newNetwork(ctx, uuids)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var addresses []string
	for i, uuid := range uuids {
		a := &actor{number: i, member: member{dir: filepath.Join(dir, memberName(i))}}
		if err := a.settle(ctx, s.network, uuid); err != nil {
			return nil, err
		}
		s.actors = append(s.actors, a)
		if err := s.run(ctx, a); err != nil {
			return nil, err
		}
		addresses = append(addresses, a.place.ClientAddress)
	}
	s.client, err = client.Open(ctx, client.Config{Addresses: addresses, Table: client.Table{Schema: table.Schema, Name: table.Name}})
	return s, err
}

// settle gives a member its place, which it keeps through restarts.
func (a *actor) settle(ctx context.Context, n *network, uuid gtid.UUID) error {
	a.place.Member = uuid.String()
	for _, of := range []struct{ behind, front *string }{
		{&a.place.Listen, &a.place.Advertise}, {&a.place.ClientListen, &a.place.ClientAddress},
	} {
		var err error
		if *of.behind, err = unusedAddress(ctx); err != nil {
			return err
		}
		if *of.front, err = n.front(a.number, *of.behind); err != nil {
			return err
		}
	}
	return nil
}

// unusedAddress returns one on which nobody listens now. The system may give its
// port away until it is used, which is so unlikely in a moment that the start of
// the member then just fails.
func unusedAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", loopback)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// run starts a member's process, for the first time or again.
func (s *stage) run(ctx context.Context, a *actor) error {
	o := MemberOptions{Dir: a.dir, Mode: concordat.SinglePrimary, Earlier: a.process, Place: &a.place}
	if a.number > 0 {
		o.Seed = s.actors[0].place.Advertise
	}
	return a.start(ctx, s.o.Start, o)
}

func (s *stage) close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	for _, a := range s.actors {
		errs = append(errs, a.close())
	}
	s.network.close()
	return errors.Join(errs...)
}

// What is waited on both sides of an event.
const (
	// stillness is how long nothing is done before, so that what the machine does
	// by itself is known, and aftermath how long the event is looked at after it.
	stillness, aftermath = 3 * time.Second, time.Second
	// asleep is how long a stopped primary sleeps on once another one is primary:
	// not so long that it is expelled.
	asleep = time.Second
)

// act has one event happen, and returns the longest time that a writer was without
// a commit by it, and before.
func (s *stage) act(ctx context.Context, e Event, repetition int, row *FailoverRow) (gap, quiet time.Duration, err error) {
	primary, err := s.ready(ctx)
	if err != nil {
		return 0, 0, err
	}
	w := s.write(ctx, repetition)
	defer w.stop() // it may be stopped already
	began := time.Now()
	err = pause(ctx, stillness)
	struck := time.Now()
	if err == nil {
		err = s.strike(ctx, e, primary, w)
	}
	if err == nil {
		err = pause(ctx, aftermath)
	}
	over := time.Now()
	if err == nil {
		err = s.restore(ctx, primary)
	}
	w.stop()
	if err != nil {
		return 0, 0, err
	}
	if gap, quiet, err = stilled(w.pulses(), began, struck, over, aftermath); err != nil {
		return gap, quiet, err
	}
	w.count(row)
	if _, err := s.ready(ctx); err != nil {
		return gap, quiet, err
	}
	return gap, quiet, s.verify(ctx, w)
}

// strike does it, and returns when what it leads to has happened.
func (s *stage) strike(ctx context.Context, e Event, primary *actor, w *troop) error {
	switch epoch := s.client.View().Epoch; e {
	case PrimaryKilled:
		if err := primary.kill(); err != nil {
			return err
		}
		return s.gone(ctx, primary)
	case PrimaryStopped:
		if err := primary.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		primary.stopped = true
		// The signal is under way for a moment, in which the primary still serves: a
		// write of that moment rightly commits.
		if err := until(ctx, func() (bool, error) { return !primary.serves(ctx), nil }); err != nil {
			return err
		}
		w.sendStale(ctx, primary)
		if err := s.epochAfter(ctx, epoch); err != nil {
			return err
		}
		return pause(ctx, asleep)
	case PrimaryCut:
		s.network.cut(primary.number)
		return s.gone(ctx, primary)
	case PrimarySwitched:
		next := s.actors[(primary.number+1)%Members]
		_, err := primary.client.SetPrimary(ctx, &adminpb.SetPrimaryRequest{Member: next.uuid})
		return err
	}
	return fmt.Errorf("unknown event %q", e)
}

// restore undoes what was done to a member.
func (s *stage) restore(ctx context.Context, a *actor) error {
	s.network.cut(nobody)
	if a.stopped {
		a.stopped = false
		return a.signal(syscall.SIGCONT)
	}
	if a.ended {
		return s.run(ctx, a)
	}
	return nil
}

func (a *actor) signal(n syscall.Signal) error { return syscall.Kill(a.process.PID(), n) }

// epochAfter waits until the client knows of another epoch.
func (s *stage) epochAfter(ctx context.Context, epoch uint64) error {
	return until(ctx, func() (bool, error) { return s.client.View().Epoch > epoch, nil })
}

// ready waits until all members are ONLINE and agree with the client on the
// primary, which is returned.
func (s *stage) ready(ctx context.Context) (primary *actor, err error) {
	err = until(ctx, func() (bool, error) {
		seen := s.client.View()
		for _, a := range s.actors {
			st := a.status(ctx)
			if st.GetState() != adminpb.MemberState_MEMBER_STATE_ONLINE || st.GetEpoch() != seen.Epoch || !whole(st.GetView()) {
				return false, nil
			}
			if st.GetPrimary() == a.uuid {
				primary = a
			}
		}
		return primary != nil && primary.uuid == seen.Primary.String(), nil
	})
	return primary, err
}

// serves reports whether a member answers at once.
func (a *actor) serves(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	return a.status(ctx) != nil
}

// status is nil of a member that does not answer.
func (a *actor) status(ctx context.Context) *adminpb.StatusResponse {
	ctx, cancel := context.WithTimeout(ctx, aftermath)
	defer cancel()
	st, err := a.client.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		return nil
	}
	return st
}

// whole reports whether all members are in a view, and ONLINE.
func whole(v *adminpb.View) bool {
	for _, m := range v.GetMembers() {
		if m.GetState() != adminpb.MemberState_MEMBER_STATE_ONLINE {
			return false
		}
	}
	return len(v.GetMembers()) == Members
}

// gone waits until the others have expelled a member.
func (s *stage) gone(ctx context.Context, a *actor) error {
	other := s.actors[(a.number+1)%Members]
	return other.dropped(ctx, &a.member)
}
