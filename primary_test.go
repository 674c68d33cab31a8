package concordat_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
)

// single has a group founded with one primary.
func single(c *concordat.Config) { c.FoundingMode = concordat.SinglePrimary }

// prompt has a silent primary replaced soon.
func prompt(c *concordat.Config) { c.FailoverTimeout = time.Second }

func uuid(n *concordat.Node) gtid.UUID { return n.Status().Member }

// writers counts up one number, on whatever member the others name as the primary,
// and never with a transaction that was refused once it had begun.
type writers struct {
	cancel  context.CancelFunc
	clients sync.WaitGroup
	done    atomic.Int64
}

func startWriters(t testing.TB, clients int, nodes ...*concordat.Node) *writers {
	ctx, cancel := context.WithCancel(testContext(t))
	w := &writers{cancel: cancel}
	for i := range clients {
		w.clients.Go(func() {
			at := i % len(nodes)
			for ctx.Err() == nil {
				err := writeOnce(ctx, nodes[at])
				refused, readOnly := errors.AsType[*concordat.ReadOnlyError](err)
				switch {
				case err == nil:
					w.done.Add(1)
				case readOnly:
					if next := slices.IndexFunc(nodes, func(n *concordat.Node) bool { return uuid(n) == refused.Primary }); next >= 0 {
						at = next
					}
				case !concordat.Retryable(err) && ctx.Err() == nil:
					t.Errorf("client %d at member %d: %v", i, at, err)
					return
				}
			}
		})
	}
	t.Cleanup(w.stop)
	return w
}

func (w *writers) stop() {
	w.cancel()
	w.clients.Wait()
}

func (w *writers) more(t testing.TB, n int64) {
	t.Helper()
	want := w.done.Load() + n
	eventually(t, "clients go on", func() bool { return w.done.Load() >= want || t.Failed() })
}

// errLate says that a transaction was refused that had begun by right.
var errLate = errors.New("a transaction that had begun was refused for lack of the right to write")

func writeOnce(ctx context.Context, n *concordat.Node) error {
	tx, err := n.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	v, err := number(tx, "load")
	if err != nil {
		return err
	}
	if err := tx.Put(accounts, []byte("load"), []byte{byte('0' + v%10)}); err != nil {
		return err
	}
	if _, err = tx.Commit(ctx); errors.Is(err, concordat.ErrReadOnly) {
		return errors.Join(errLate, errors.New(err.Error()))
	}
	return err
}

// happened returns the texts of a member's events of a kind.
func happened(n *concordat.Node, kind concordat.EventKind) (texts []string) {
	for _, e := range n.Events(0) {
		if e.Kind == kind {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

func mustBePrimary(t testing.TB, want *concordat.Node, nodes ...*concordat.Node) {
	t.Helper()
	eventually(t, "one primary", func() bool {
		for _, n := range nodes {
			p, ok := n.Primary()
			if !ok || p.Member != uuid(want) {
				return false
			}
		}
		return true
	})
	if err := want.WaitWritable(testContext(t)); err != nil {
		t.Errorf("the primary does not write: %v", err)
	}
}

// In a single-primary group the founder writes, and the others say that it does.
func TestSinglePrimary(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, single, func(c *concordat.Config) { c.ClientAddress = "db.example:7000" })
	mustBePrimary(t, g.nodes[0], g.nodes...)
	mustPut(t, g.nodes[0], "k", "v")
	_, err := g.nodes[1].Update(testContext(t), func(tx *concordat.Tx) error { return tx.Put(accounts, []byte("k"), nil) })
	e, ok := errors.AsType[*concordat.ReadOnlyError](err)
	if !ok || e.Primary != uuid(g.nodes[0]) || e.Address != g.nodes[0].Address() || e.ClientAddress != "db.example:7000" || e.Epoch != 1 {
		t.Errorf("a secondary says %v", err)
	}
	if s := g.nodes[1].Status(); s.Mode != concordat.SinglePrimary || s.Epoch != 1 || s.Primary != uuid(g.nodes[0]) || s.Writable || s.Protocol != 1 {
		t.Errorf("status of a secondary: %+v", s)
	}
	for _, m := range g.nodes[2].Status().View.Members {
		if primary := m.UUID == uuid(g.nodes[0]); m.Primary != primary || m.Writes != primary || m.ClientAddress != "db.example:7000" {
			t.Errorf("member %+v", m)
		}
	}
	if why := g.nodes[1].Why(); len(why.Lines) != 3 || why.Winner == 0 {
		t.Errorf("the election would come out as %+v", why)
	}
	if epochs := g.nodes[2].Epochs(); len(epochs) != 1 || epochs[0].Cause != election.Founded || epochs[0].Primary != uuid(g.nodes[0]) {
		t.Errorf("epochs %+v", epochs)
	}
}

// Whatever is switched, no transaction is refused that had begun, and readers on all
// members go on.
func TestSwitchUnderLoad(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	w := startWriters(t, 4, g.nodes...)
	w.more(t, 20)
	r, err := g.nodes[2].SwitchToSinglePrimary(ctx, uuid(g.nodes[0]), concordat.WithReason("a test"))
	if err != nil || r.Result != election.Done || r.Target != uuid(g.nodes[0]) || r.Epoch != 2 || r.Cut != 0 {
		t.Fatalf("switch to single-primary: %+v, %v", r, err)
	}
	mustBePrimary(t, g.nodes[0], g.nodes...)
	w.more(t, 20)
	for i := range 3 {
		next := g.nodes[(i+1)%3]
		r, err := g.nodes[i].SetPrimary(ctx, uuid(next))
		if err != nil || r.Result != election.Done || r.Cut != 0 {
			t.Fatalf("set primary: %+v, %v", r, err)
		}
		mustBePrimary(t, next, g.nodes...)
		w.more(t, 20)
		if known, ok := g.nodes[2].Action(r.ID); !ok || known.Result != election.Done {
			t.Errorf("another member knows of it %+v, %v", known, ok)
		}
	}
	if r, err := g.nodes[1].SwitchToMultiPrimary(ctx); err != nil || r.Result != election.Done || r.Epoch != 6 {
		t.Fatalf("switch to multi-primary: %+v, %v", r, err)
	}
	w.more(t, 20)
	w.stop()
	mustAgree(t, g.nodes...)
	mustPut(t, g.nodes[2], "everywhere", "1")
	if got := happened(g.nodes[1], concordat.EventPrimaryChanged); len(got) < 5 || !strings.Contains(got[len(got)-5], uuid(g.nodes[0]).String()) {
		t.Errorf("primaries: %q", got)
	}
	if got := happened(g.nodes[1], concordat.EventModeChanged); len(got) != 2 {
		t.Errorf("modes: %q", got)
	}
	if got := happened(g.nodes[0], concordat.EventActionDraining); len(got) != 1 {
		t.Errorf("drained: %q", got)
	}
	for _, n := range g.nodes {
		begun, ended := happened(n, concordat.EventActionBegun), happened(n, concordat.EventActionEnded)
		if len(begun) != 4 || len(ended) != 5 { // the switch to many waits for nobody
			t.Errorf("actions begun: %q, ended: %q", begun, ended)
		}
	}
}

// What cannot be is refused with the reason, and what is so already is no change.
func TestPlannedChangesRefused(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2)
	n := g.nodes[0]
	stranger := gtid.UUID{1}
	for _, c := range []struct {
		what string
		call func() (concordat.ActionReport, error)
		want error
		text string
	}{
		{"in multi-primary mode", func() (concordat.ActionReport, error) { return n.SetPrimary(ctx, uuid(n)) }, concordat.ErrRefused, "multi-primary mode"},
		{"a stranger", func() (concordat.ActionReport, error) { return n.SwitchToSinglePrimary(ctx, stranger) }, concordat.ErrRefused, "no member"},
		{"a protocol to come", func() (concordat.ActionReport, error) { return n.SetProtocol(ctx, 99) }, concordat.ErrRefused, "speaks protocols"},
		{"much grace", func() (concordat.ActionReport, error) {
			return n.SwitchToSinglePrimary(ctx, uuid(n), concordat.Grace(2*time.Hour))
		}, concordat.ErrInvalid, "an hour"},
		{"no grace", func() (concordat.ActionReport, error) {
			return n.SwitchToSinglePrimary(ctx, uuid(n), concordat.Grace(-1))
		}, concordat.ErrInvalid, "an hour"},
	} {
		if r, err := c.call(); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %+v, %v", c.what, r, err)
		}
	}
	if r, err := n.SwitchToMultiPrimary(ctx); err != nil || r.Result != election.NoChange {
		t.Errorf("what is so already: %+v, %v", r, err)
	}
	if err := n.CancelAction(ctx, stranger); !errors.Is(err, concordat.ErrRefused) {
		t.Errorf("cancel of nothing: %v", err)
	}
	mustClose(t, g.nodes[1])
	eventually(t, "the quorum is lost", func() bool { return !n.Status().Quorum })
	brief, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := n.SwitchToSinglePrimary(brief, uuid(n)); !errors.Is(err, concordat.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a quorum: %v", err)
	}
	if err := n.CancelAction(context.WithoutCancel(ctx), stranger); !errors.Is(err, concordat.ErrNoQuorum) {
		t.Errorf("cancel without a quorum: %v", err)
	}
}

// A change that waits for a transaction can be looked at and taken back; its grace
// ends it otherwise, and the transaction is told what became of it.
func TestCancelAndGrace(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, single)
	tx, err := g.nodes[0].Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := g.nodes[1].SetPrimary(ctx, uuid(g.nodes[1]), concordat.Grace(time.Hour))
		ended <- err
	}()
	var open *concordat.ActionReport
	eventually(t, "the change waits", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the change waits for nobody: %v", err)
		default:
		}
		open = g.nodes[2].Status().Action
		return open != nil && len(happened(g.nodes[0], concordat.EventActionDraining)) == 1
	})
	if open.Target != uuid(g.nodes[1]) || open.Asker != uuid(g.nodes[1]) || !slices.Equal(open.Pending, []gtid.UUID{uuid(g.nodes[0])}) {
		t.Errorf("under way: %+v", open)
	}
	if _, err := g.nodes[2].SetPrimary(ctx, uuid(g.nodes[2])); !errors.Is(err, concordat.ErrRefused) || !strings.Contains(err.Error(), open.ID.String()) {
		t.Errorf("a second one: %v", err)
	}
	if err := g.nodes[2].CancelAction(ctx, open.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, concordat.ErrRefused) || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("who asked hears %v", err)
	}
	mustPut(t, g.nodes[0], "goes on", "1")
	if err := g.nodes[0].CancelAction(ctx, open.ID); err != nil {
		t.Errorf("a second cancel: %v", err)
	}

	r, err := g.nodes[0].SetPrimary(ctx, uuid(g.nodes[2]), concordat.Grace(50*time.Millisecond))
	if err != nil || r.Result != election.Done || r.Cut != 1 {
		t.Errorf("with little grace: %+v, %v", r, err)
	}
	if err := g.nodes[1].CancelAction(ctx, r.ID); !errors.Is(err, concordat.ErrRefused) || !strings.Contains(err.Error(), "done") {
		t.Errorf("a cancel of what is done: %v", err)
	}
	if err := tx.Put(accounts, []byte("late"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	_, err = tx.Commit(ctx)
	if e, ok := errors.AsType[*concordat.ReadOnlyError](err); !ok || e.Primary != uuid(g.nodes[2]) || e.Epoch != 2 {
		t.Errorf("the transaction that was cut off: %v", err)
	}
	mustBePrimary(t, g.nodes[2], g.nodes...)
	if _, late := contents(t, g.nodes[2])["late"]; late {
		t.Error("it has committed")
	}
}

// A primary that leaves hands over first, unless it is told not to.
func TestPrimaryLeaves(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, single, func(c *concordat.Config) { c.MemberWeight = 50 })
	w := startWriters(t, 2, g.nodes...)
	w.more(t, 10)
	if err := g.nodes[0].Leave(testContext(t), concordat.Force()); err != nil {
		t.Fatal(err)
	}
	rest := g.nodes[1:]
	epochs := rest[0].Epochs()
	if last := epochs[len(epochs)-1]; last.Cause != election.Planned {
		t.Errorf("the primary went, and that was %+v", last)
	}
}

// What a primary that leaves still runs does not keep it for longer than whoever asks
// for that waits.
func TestPrimaryLeavesInTime(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, single)
	tx, err := g.nodes[0].Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	brief, cancel := context.WithTimeout(testContext(t), 16*time.Second)
	defer cancel()
	if err := g.nodes[0].Leave(brief, concordat.Force()); err != nil {
		t.Fatal(err)
	}
	epochs := g.nodes[1].Epochs()
	if last := epochs[len(epochs)-1]; last.Cause != election.Planned {
		t.Errorf("the primary went, and that was %+v", last)
	}
}

// A new primary is elected when the old one is gone, and transactions that ask for it
// see all that the old one has answered.
func TestFailover(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, single, prompt)
	mustPut(t, g.nodes[0], "k", "v")
	mustClose(t, g.nodes[0])
	rest := g.nodes[1:]
	eventually(t, "a new primary", func() bool {
		p, ok := rest[0].Primary()
		return ok && (p.Member == uuid(rest[0]) || p.Member == uuid(rest[1]))
	})
	p, _ := rest[0].Primary()
	at := slices.IndexFunc(rest, func(n *concordat.Node) bool { return uuid(n) == p.Member })
	if err := rest[at].WaitWritable(ctx); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, rest[at])["k"]; got != "v" {
		t.Errorf("the new primary holds %q", got)
	}
	mustPut(t, rest[at], "k", "w")
	epochs := rest[1-at].Epochs()
	if last := epochs[len(epochs)-1]; last.Cause != election.PrimarySilent && last.Cause != election.PrimaryGone {
		t.Errorf("elected for %+v", last)
	}
}

// A primary whom nobody hears says so, begins nothing that writes, and serves readers.
func TestPrimaryAlone(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, single, prompt)
	mustPut(t, g.nodes[0], "k", "v")
	mustAgree(t, g.nodes...)
	mustClose(t, g.nodes[1])
	mustClose(t, g.nodes[2])
	eventually(t, "the primary knows that it is alone", func() bool { return g.nodes[0].Status().Alone })
	if s := g.nodes[0].Status(); s.Writable || len(happened(g.nodes[0], concordat.EventPrimaryAlone)) == 0 {
		t.Errorf("status %+v", s)
	}
	if _, err := g.nodes[0].Begin(context.WithoutCancel(ctx)); !errors.Is(err, concordat.ErrNoQuorum) {
		t.Errorf("begin: %v", err)
	}
	brief, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := g.nodes[0].Begin(brief); !errors.Is(err, concordat.ErrWait) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("begin with a deadline: %v", err)
	}
	if got := contents(t, g.nodes[0])["k"]; got != "v" {
		t.Errorf("it reads %q", got)
	}
	reopen(t, g.nodes[1], g.cfgs[1])
	eventually(t, "it is heard again", func() bool { return !g.nodes[0].Status().Alone })
	if len(happened(g.nodes[0], concordat.EventPrimaryBack)) == 0 {
		t.Error("nothing tells that it came back")
	}
	mustPut(t, g.nodes[0], "k", "w")
}
