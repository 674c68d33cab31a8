package concordat_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// hung is a process that has stopped: it takes connections and says nothing.
type hung struct {
	listener net.Listener
	called   chan struct{} // closed by the first connection
	taking   sync.WaitGroup
}

// hangAt puts one where a member has listened that is closed.
func hangAt(t *testing.T, address string) *hung {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	h := &hung{listener: l, called: make(chan struct{})}
	h.taking.Go(func() {
		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			if conns = append(conns, c); len(conns) == 1 {
				close(h.called)
			}
		}
		for _, c := range conns {
			_ = c.Close()
		}
	})
	t.Cleanup(h.end)
	return h
}

func (h *hung) end() {
	_ = h.listener.Close()
	h.taking.Wait()
}

// asker is somebody of a member's group who asks it from outside.
func asker(n *concordat.Node) *peerpb.Identity {
	s := n.Status()
	return transport.IdentityOf(gcs.Identity{
		Group: s.Group, Member: s.Member, RaftID: 77, Session: 1, Incarnation: s.Incarnation,
	}, n.Address())
}

// survey asks the member that listens at an address.
func survey(ctx context.Context, t *testing.T, address string, id *peerpb.Identity) forced.Survey {
	t.Helper()
	b, err := transport.Survey(ctx, address, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := forced.DecodeSurvey(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// step has the member that listens at an address take a step.
func step(ctx context.Context, address string, id *peerpb.Identity, r forced.Request) (forced.Answer, error) {
	b, err := transport.Order(ctx, address, id, r.Append(nil), nil)
	if err != nil {
		return forced.Answer{}, err
	}
	return forced.DecodeAnswer(b)
}

// A survivor that hangs does not hold up who carries the plan out for longer than
// that one waits, nor for longer than its caller does. Nobody is thawed by it, and
// the plan can be gone on with.
func TestForceWithHungSurvivor(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g, plan := frozenOfFour(t, neverExpel)
	coordinator, other := g.nodes[1], g.nodes[0]
	mustClose(t, other)
	h := hangAt(t, other.Address())

	ending, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := coordinator.ForceMembers(ending, plan.Plan, nil)
		ended <- err
	}()
	<-h.called
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || errors.Is(err, concordat.ErrRefused) {
		t.Errorf("the caller has gone: %v", err)
	}
	concordat.SetPatience(coordinator, 50*time.Millisecond)
	report, err := coordinator.ForceMembers(ctx, plan.Plan, nil)
	if !errors.Is(err, concordat.ErrRefused) || report.Complete || ctx.Err() != nil {
		t.Errorf("nobody answers: %v", err)
	}
	if s := coordinator.Status(); s.Frozen != plan.Plan {
		t.Errorf("it is frozen for %v", s.Frozen)
	}
	h.end()
	concordat.SetPatience(coordinator, 10*time.Second)
	g.nodes[0] = mustStart(t, again(other, g.cfgs[0]))
	if report, err := resumed(ctx, t, coordinator, plan.Plan, nil); !report.Complete {
		t.Errorf("gone on with: %v", err)
	}
	mustHaveForced(t, plan.Begins, g.nodes[:2]...)
	mustAgree(t, g.nodes[:2]...)
}

// A survivor that fetches the seed's log says what it had when it froze, takes no
// other order meanwhile, and can be closed: also when the seed hangs.
func TestSurveyWhileAligning(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 4, neverExpel)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	behind, seed := g.nodes[0], g.nodes[1]
	at := []string{g.cfgs[0].Listen, g.cfgs[1].Listen}
	g.isolate(0, true)
	eventually(t, "the others to go on", func() bool { return submitted(t, seed, "more") })
	mustClose(t, g.nodes[2])
	mustClose(t, g.nodes[3])
	noQuorum(t, behind, seed)

	id := asker(behind)
	own, its := survey(ctx, t, at[0], id), survey(ctx, t, at[1], id)
	plan, err := forced.New(gtid.UUID{15: 1}, own, uuids(behind, seed), []forced.Survey{its}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var facts []forced.Facts
	for _, address := range at {
		a, err := step(ctx, address, id, forced.Request{Step: forced.StepFreeze, Order: plan.Order})
		if err != nil || a.Refused != nil {
			t.Fatalf("asked to freeze: %v, %v", a.Refused, err)
		}
		facts = append(facts, a.Record.Facts)
	}
	decision, err := forced.Decide(plan.Order, facts)
	if err != nil || decision.Last <= facts[0].Last {
		t.Fatalf("the log goes up to %d, that of the one behind to %d: %v", decision.Last, facts[0].Last, err)
	}
	mustClose(t, seed)
	h := hangAt(t, at[1])
	g.isolate(0, false)
	aligned := make(chan error, 1)
	align := forced.Request{Step: forced.StepAlign, Decision: decision}
	go func() {
		_, err := step(ctx, at[0], id, align)
		aligned <- err
	}()
	<-h.called
	s := survey(ctx, t, at[0], id)
	if s.Record.Phase != forced.Frozen || !s.Record.In(plan.Plan) || s.Last != facts[0].Last || s.Commit != facts[0].Commit {
		t.Errorf("it is %v with a log up to %d, it froze with %d", s.Record.Phase, s.Last, facts[0].Last)
	}
	if a, err := step(ctx, at[0], id, align); err == nil {
		t.Errorf("asked twice at a time: %v", a.Record.Phase)
	}
	mustClose(t, behind)
	if err := <-aligned; err == nil {
		t.Error("it has the seed's log, and the seed hangs")
	}
	h.end()
	g.restart(t, 0)
	g.restart(t, 1)
	if report, err := resumed(ctx, t, g.nodes[0], plan.Plan, nil); !report.Complete {
		t.Errorf("gone on with: %v", err)
	}
	mustHaveForced(t, plan.Begins, g.nodes[:2]...)
	if got := contents(t, g.nodes[0]); got["before"] != "1" || got["more"] != "1" {
		t.Errorf("there is %v", got)
	}
	mustAgree(t, g.nodes[:2]...)
}

// submitted reports whether a transaction commits.
func submitted(t *testing.T, n *concordat.Node, key string) bool {
	t.Helper()
	_, err := n.Update(testContext(t), func(tx *concordat.Tx) error { return tx.Put(accounts, []byte(key), []byte("1")) })
	return err == nil
}
