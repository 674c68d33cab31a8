package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/server"
)

func key(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }

// mustGet reads a key.
func mustGet(t testing.TB, c *client.Client, k string, want string, opts ...client.Option) {
	t.Helper()
	v, found, err := c.Get(testContext(t), []byte(k), opts...)
	if err != nil || !found || string(v) != want {
		t.Errorf("%s: %q, %v, %v; want %q", k, v, found, err, want)
	}
}

func mustPut(t testing.TB, c *client.Client, k, v string, opts ...client.Option) client.Commit {
	t.Helper()
	commit, err := c.Put(testContext(t), []byte(k), []byte(v), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return commit
}

// Writes go to the primary and reads where the client wants them, whatever member it
// has asked first.
func TestRoutes(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	c := g.dial(func(cfg *client.Config) { cfg.Addresses = g.addresses[2:] })
	contact(t, c, 3)
	commit := mustPut(t, c, "a", "1", client.At(client.After))
	if commit.Member != g.uuid(0) || commit.Epoch != 1 || !g.nodes[0].Status().Executed.Contains(commit.GTID) {
		t.Errorf("committed as %+v", commit)
	}
	for name, opts := range map[string][]client.Option{
		"primary":   {client.From(client.Primary())},
		"secondary": {client.From(client.Secondary())},
		"nearest":   {client.From(client.Nearest())},
		"before":    {client.From(client.Secondary()), client.At(client.Before)},
		"fresh":     {client.From(client.FreshWithin(time.Minute))},
		"very":      {client.From(client.FreshWithin(0))},
		"at most":   {client.From(client.Secondary()), client.AtMost(0)},
	} {
		t.Run(name, func(t *testing.T) { mustGet(t, c, "a", "1", opts...) })
	}
	if _, err := c.Delete(ctx, []byte("a")); err != nil {
		t.Error(err)
	}
	if _, found, err := c.Get(ctx, []byte("a"), client.From(client.Secondary()), client.At(client.Before)); err != nil || found {
		t.Errorf("after it was deleted: found %v, %v", found, err)
	}
	other := client.Table{Schema: "other", Name: "table"}
	mustPut(t, c, "b", "2", client.On(other))
	mustGet(t, c, "b", "2", client.On(other))
	if _, found, _ := c.Get(ctx, []byte("b")); found {
		t.Error("what another table has is found here")
	}
}

func TestScans(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 1)
	c := g.dial()
	var ops []client.Op
	for i := range 2100 { // more than one message holds
		ops = append(ops, client.OpPut(key("k%04d", i), key("%d", i)))
	}
	if _, err := c.Txn(ctx, ops); err != nil {
		t.Fatal(err)
	}
	scan := func(low, high string, limit int, opts ...client.Option) (keys []string) {
		t.Helper()
		pairs, err := c.Scan(ctx, []byte(low), []byte(high), limit, opts...)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pairs {
			keys = append(keys, string(p.Key))
		}
		return keys
	}
	if all := scan("", "", 0); len(all) != 2100 || all[2099] != "k2099" {
		t.Errorf("%d keys", len(all))
	}
	if some := scan("k0010", "k0020", 3); fmt.Sprint(some) != "[k0010 k0011 k0012]" {
		t.Errorf("%v", some)
	}
	if last := scan("", "k0020", 2, client.Reverse()); fmt.Sprint(last) != "[k0019 k0018]" {
		t.Errorf("%v", last)
	}
	if _, err := c.Scan(ctx, nil, nil, -1); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("a limit that is none: %v", err)
	}
	// Part after part, from one snapshot.
	tx, err := c.Begin(ctx, client.ReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := c.Delete(ctx, []byte("k1500")); err != nil {
		t.Fatal(err)
	}
	found, low := 0, []byte(nil)
	for {
		pairs, err := tx.Scan(ctx, low, nil, 1000)
		if err != nil {
			t.Fatal(err)
		}
		found += len(pairs)
		if len(pairs) < 1000 {
			break
		}
		low = append(pairs[999].Key, 0)
	}
	if found != 2100 {
		t.Errorf("%d pairs in parts", found)
	}
}

func TestTxn(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := openGroup(t, 1).dial()
	r, err := c.Txn(ctx, []client.Op{
		client.OpGet([]byte("a")), client.OpPut([]byte("a"), []byte("1")), client.OpGet([]byte("a")),
		client.OpExpectAbsent([]byte("b")), client.OpAdd([]byte("n"), 4), client.OpReference([]byte("a"), true),
	}, client.Serializable())
	if err != nil || r.GTID.IsZero() || len(r.Values) != 6 || r.Values[0].Found || string(r.Values[2].Value) != "1" || !r.Values[5].Found {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = c.Txn(ctx, []client.Op{client.OpExpect([]byte("a"), []byte("2")), client.OpDelete([]byte("a"))})
	if e, ok := errors.AsType[*client.ConflictError](err); !ok || e.Table != accounts || string(e.Key) != "a" || !e.Winner.IsZero() || !client.Retryable(err) {
		t.Errorf("an expectation that does not hold: %v", err)
	}
	r, err = c.Txn(ctx, []client.Op{client.OpGet([]byte("a"))})
	if err != nil || !r.GTID.IsZero() || string(r.Values[0].Value) != "1" {
		t.Errorf("one that only reads: %+v, %v", r, err)
	}
	if _, err := c.Txn(ctx, []client.Op{{}}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("an operation that is none: %v", err)
	}
	id := gtid.UUID{0: 9}
	first := mustPut(t, c, "a", "2", client.WithID(id))
	again := mustPut(t, c, "a", "3", client.WithID(id))
	if first.GTID != again.GTID || first.ID != id {
		t.Errorf("one id has %v and %v", first, again)
	}
	mustGet(t, c, "a", "2")
	if o, err := c.Outcome(ctx, id); err != nil || o.State != client.OutcomeCommitted || o.GTID != first.GTID || o.Index == 0 {
		t.Errorf("its outcome: %+v, %v", o, err)
	}
	if o, err := c.Outcome(ctx, gtid.UUID{0: 10}); err != nil || o.State != client.OutcomeUnknown || o.Until == 0 {
		t.Errorf("of one that never was: %+v, %v", o, err)
	}
	wish := fmt.Sprintf("%s:77", gtid.UUID{0: 1, 15: 1})
	if tagged := mustPut(t, c, "a", "4", client.WithGTID(wish)); tagged.GTID.String() != wish {
		t.Errorf("wished for %s, has %v", wish, tagged.GTID)
	}
	if _, err := c.Put(ctx, []byte("a"), nil, client.WithGTID(wish)); !errors.Is(err, client.ErrGTIDTaken) {
		t.Errorf("wished for again: %v", err)
	}
}

func TestTx(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tx.Put(ctx, []byte("a"), []byte("1")), tx.Add(ctx, []byte("n"), 2), tx.Delete(ctx, []byte("none"))); err != nil {
		t.Fatal(err)
	}
	if v, found, err := tx.Get(ctx, []byte("a")); err != nil || !found || string(v) != "1" {
		t.Errorf("it sees %q, %v, %v", v, found, err)
	}
	if pairs, err := tx.Scan(ctx, nil, nil, 0, client.Reverse()); err != nil || len(pairs) != 2 || string(pairs[0].Key) != "n" {
		t.Errorf("it scans %v, %v", pairs, err)
	}
	commit, err := tx.Commit(ctx)
	if err != nil || commit.GTID.IsZero() || commit.ID != tx.ID() || commit.Member != g.uuid(0) {
		t.Errorf("%+v, %v", commit, err)
	}
	if _, err := tx.Commit(ctx); !errors.Is(err, client.ErrTxDone) {
		t.Errorf("after the commit: %v", err)
	}
	if _, _, err := tx.Get(ctx, []byte("a")); !errors.Is(err, client.ErrTxDone) {
		t.Errorf("after the commit: %v", err)
	}
	rolled, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(rolled.Put(ctx, []byte("a"), []byte("2")), rolled.Rollback()); err != nil {
		t.Error(err)
	}
	mustGet(t, c, "a", "1")
	reader, err := c.Begin(ctx, client.ReadOnly(), client.From(client.Secondary()), client.At(client.Before))
	if err != nil {
		t.Fatal(err)
	}
	if v, _, err := reader.Get(ctx, []byte("a")); err != nil || string(v) != "1" {
		t.Errorf("on a secondary %q, %v", v, err)
	}
	if err := reader.Put(ctx, []byte("a"), nil); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("one that only reads writes: %v", err)
	}
}

// Those that lose run again, and none of their work is lost or done twice.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	const clients, each = 4, 10
	var working sync.WaitGroup
	for range clients {
		working.Go(func() {
			for range each {
				_, err := c.Run(ctx, func(tx *client.Tx) error {
					v, _, err := tx.Get(ctx, []byte("n"))
					if err != nil {
						return err
					}
					return tx.Put(ctx, []byte("n"), append(v, 'x'))
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	working.Wait()
	if v, _, err := c.Get(ctx, []byte("n")); err != nil || len(v) != clients*each {
		t.Errorf("%d, %v; want %d", len(v), err, clients*each)
	}
	own := errors.New("the program's own")
	if _, err := c.Run(ctx, func(tx *client.Tx) error {
		return errors.Join(tx.Put(ctx, []byte("n"), nil), own)
	}); !errors.Is(err, own) {
		t.Errorf("%v", err)
	}
	if v, _, err := c.Get(ctx, []byte("n")); err != nil || len(v) != clients*each {
		t.Errorf("after one that gave up: %d, %v", len(v), err)
	}
}

// A session reads what it wrote, and goes on from what it read, on any member.
func TestSession(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	var s client.Session
	for i := range 30 {
		want := fmt.Sprint(i)
		mustPut(t, c, "a", want, client.In(&s))
		mustGet(t, c, "a", want, client.In(&s), client.From(client.Secondary()))
	}
	other := client.NewSession(s.GTIDs())
	if _, err := c.Run(ctx, func(tx *client.Tx) error { return tx.Put(ctx, []byte("a"), []byte("last")) }, client.In(other)); err != nil {
		t.Fatal(err)
	}
	if !s.GTIDs().SubsetOf(other.GTIDs()) || s.GTIDs().Equal(other.GTIDs()) {
		t.Errorf("%v after %v", other.GTIDs(), s.GTIDs())
	}
	if pairs, err := c.Scan(ctx, nil, nil, 0, client.In(other), client.From(client.Secondary())); err != nil || len(pairs) != 1 || string(pairs[0].Value) != "last" {
		t.Errorf("%v, %v", pairs, err)
	}
	ahead := client.NewSession(gtid.Set{}.Add(gtid.GTID{UUID: gtid.UUID{0: 7}, Number: 1}))
	inTheEnd(t, "a session that the group does not have is named", func(ctx context.Context) bool {
		_, _, err := c.Get(ctx, []byte("a"), client.In(ahead))
		e, ok := errors.AsType[*client.WaitError](err)
		return ok && e.Session.Equal(ahead.GTIDs()) && errors.Is(err, client.ErrWait) && errors.Is(err, context.DeadlineExceeded)
	})
}

// A view says what the group is, and each change of that comes once.
func TestChanges(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	v := c.View()
	if v.Mode != client.SinglePrimary || v.Primary != g.uuid(0) || v.Epoch != 1 || !v.Quorum || len(v.Nodes) != 3 || v.Group != g.nodes[0].Status().Group {
		t.Errorf("%+v", v)
	}
	for _, n := range v.Nodes {
		i := slices.Index(g.network.members, n.UUID)
		if i < 0 || n.Address != g.addresses[i] || n.Writes != (i == 0) {
			t.Errorf("node %+v", n)
		}
	}
	eventually(t, "round trips are measured", func() bool {
		for _, n := range c.View().Nodes {
			if n.RoundTrip == 0 {
				return false
			}
		}
		return true
	})
	switched := false
	for v := range c.Views(ctx) {
		if !switched {
			switched = true
			if _, err := g.nodes[1].SetPrimary(ctx, g.uuid(1)); err != nil {
				t.Fatal(err)
			}
		}
		if v.Epoch == 2 {
			if v.Primary != g.uuid(1) || v.Index == 0 {
				t.Errorf("%+v", v)
			}
			break
		}
	}
}

// A transaction that runs where the right to write is taken away hears of it, and
// can be run again.
func TestTxOfADemotedMember(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Put(ctx, []byte("a"), nil); err != nil {
		t.Fatal(err)
	}
	reader, err := c.Begin(ctx, client.ReadOnly(), client.From(client.Primary()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.nodes[0].SetPrimary(ctx, g.uuid(1), concordat.Grace(0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client knows the next epoch", func() bool { return c.View().Epoch == 2 })
	_, err = tx.Commit(ctx)
	if !errors.Is(err, client.ErrReadOnly) || !client.Retryable(err) {
		t.Errorf("the commit of a demoted member: %v", err)
	}
	if _, found, err := reader.Get(ctx, []byte("a")); err != nil || found {
		t.Errorf("one that reads there: %v, %v", found, err)
	}
	if err := reader.Rollback(); err != nil {
		t.Error(err)
	}
	if commit := mustPut(t, c, "b", ""); commit.Member != g.uuid(1) || commit.Epoch != 2 {
		t.Errorf("the next one: %+v", commit)
	}
}

// Members that do not tell where clients reach them are found where the client was
// told to look, also by another name than they have for themselves.
func TestAddressesThatNobodyTells(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	gone := listen(t)
	_ = gone.Close()
	for name, told := range map[string]string{"none": "", "of no use": gone.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			var addresses []string
			g := openGroup(t, 3, func(c *concordat.Config) {
				addresses = append(addresses, c.ClientAddress)
				c.ClientAddress = told
			})
			c := g.dial(func(cfg *client.Config) { cfg.Addresses = addresses })
			contact(t, c, 3)
			mustPut(t, c, "a", "1")
			g.network.cut(0, 1, 2)
			if _, err := g.nodes[1].SetPrimary(ctx, g.uuid(2)); err != nil {
				t.Fatal(err)
			}
			if commit := mustPut(t, c, "a", "2"); commit.Member != g.uuid(2) {
				t.Errorf("committed as %+v", commit)
			}
			contact(t, c, 3)
		})
	}
}

// Close ends what waits, and leaves nothing behind.
func TestClose(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	ctx := testContext(t)
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	g.network.stop(0)
	failed := make(chan error, 4)
	var working sync.WaitGroup
	working.Go(func() {
		_, err := c.Put(ctx, []byte("k"), nil)
		failed <- err
	})
	working.Go(func() {
		_, _, err := c.Get(ctx, []byte("k"))
		failed <- err
	})
	working.Go(func() {
		_, err := tx.Commit(ctx)
		failed <- err
	})
	working.Go(func() {
		for range c.Views(ctx) {
		}
		failed <- client.ErrClosed
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for range 4 {
		if err := <-failed; !errors.Is(err, client.ErrClosed) && !errors.Is(err, client.ErrOutcomeUnknown) {
			t.Errorf("a call that was under way: %v", err)
		}
	}
	working.Wait()
	for name, call := range map[string]func() error{
		"put":   func() error { _, err := c.Put(ctx, nil, nil); return err },
		"get":   func() error { _, _, err := c.Get(ctx, nil); return err },
		"begin": func() error { _, err := c.Begin(ctx); return err },
		"close": c.Close,
	} {
		if err := call(); !errors.Is(err, client.ErrClosed) {
			t.Errorf("%s of a closed client: %v", name, err)
		}
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.Config{
		"no address":       {},
		"no port":          {Addresses: []string{"host"}},
		"negative timeout": {Addresses: []string{"host:1"}, Timeout: -1},
	} {
		if _, err := client.Open(testContext(t), cfg); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := listen(t)
	starting := server.Start(server.Config{Listener: l})
	t.Cleanup(func() { starting.Stop(t.Context()) })
	gone := listen(t)
	_ = gone.Close()
	for name, address := range map[string]string{"nobody listens": gone.Addr().String(), "it has no group yet": l.Addr().String()} {
		short, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
		_, err := client.Open(short, client.Config{Addresses: []string{address}})
		cancel()
		if !errors.Is(err, client.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := openGroup(t, 1).dial()
	for name, opt := range map[string]client.Option{
		"level": client.At(99), "age": client.AtMost(-1), "freshness": client.From(client.FreshWithin(-1)),
		"negative weight": client.WithTag("x", -1), "no text": client.WithTag("\xff", 1), "long tag": client.WithTag(strings.Repeat("x", 65), 1),
		"heavy tag": client.WithTag("x", 1001), "weight alone": client.WithTag("", 2), "control": client.WithTag("a\x1b", 1),
		"no GTID": client.WithGTID("\xff"), "no table": client.On(client.Table{Schema: "app", Name: "\xff"}),
	} {
		if _, err := c.Put(ctx, []byte("k"), nil, opt); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Begin(ctx, opt); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Put(ctx, []byte("k"), nil, client.On(client.Table{})); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("a table that is none: %v", err)
	}
}
