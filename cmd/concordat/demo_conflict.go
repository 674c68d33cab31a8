package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

var (
	pricesTable = &kvpb.Table{Schema: "shop", Name: "prices"}
	hotKey      = []byte("widget")
	hitsTable   = &kvpb.Table{Schema: "shop", Name: "hits"}
	counterKey  = []byte("today")
)

const (
	rivalCount = 4
	adderCount = 64
	// A long transaction reads so many keys at first, and twice as many after
	// each time that it was fast enough.
	fewReads, mostReads = 1 << 12, 1 << 15
)

// crowd is what many workers do until they are told to stop, each after its
// call.
type crowd struct {
	stopping chan struct{}
	stop     func()
	workers  sync.WaitGroup

	mu        sync.Mutex
	committed map[string]int64 // what each GTID stands for
	err       error
}

// gather starts n workers that run one call after the other. A call returns the
// GTID under which it has committed.
func gather(n int, call func(worker int) (id string, value int64, err error)) *crowd {
	c := &crowd{stopping: make(chan struct{}), committed: map[string]int64{}}
	c.stop = sync.OnceFunc(func() { close(c.stopping) })
	for i := range n {
		c.workers.Go(func() {
			for c.goesOn() {
				id, value, err := call(i)
				c.note(id, value, err)
			}
		})
	}
	return c
}

func (c *crowd) goesOn() bool {
	select {
	case <-c.stopping:
		return false
	default:
		return true
	}
}

// note enters the end of a call. The first error ends the work of all.
func (c *crowd) note(id string, value int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.committed[id] = value
	} else if c.err == nil {
		c.err = err
		c.stop()
	}
}

// end stops the workers, and returns what they have committed.
func (c *crowd) end() (map[string]int64, error) {
	c.stop()
	c.workers.Wait()
	return c.committed, c.err
}

// contend has a long transaction on one member lose to short ones on another
// that change the same key, and shows what its client is told.
func (d *demo) contend(ctx context.Context) error {
	members := d.group.all()
	short, long := members[0], members[1]
	d.tell.heading(fmt.Sprintf("A long transaction on %s meets short ones on %s", long.name, short.name))
	d.tell.line("%d clients of %s change %s key %q again and again; a transaction on %s", rivalCount, short.name, tableName(pricesTable), hotKey, long.name)
	d.tell.line("changes it too, and then reads thousands of keys before it commits")
	rivals := gather(rivalCount, func(worker int) (string, int64, error) {
		r, err := short.use().Put(ctx, &kvpb.PutRequest{Table: pricesTable, Key: hotKey, Value: strconv.AppendInt(nil, int64(worker), 10)})
		return r.GetGtid(), 0, err
	})
	lost, err := d.lose(ctx, long)
	won, rivalErr := rivals.end()
	d.others += len(won)
	if err := errors.Join(err, rivalErr); err != nil {
		return err
	}
	if err := checkConflict(lost, short, won); err != nil {
		return err
	}
	d.tell.line("%s has run it a few times, and then told its client why it cannot commit:", long.name)
	d.tell.facts(conflictFacts(lost, short, long))
	again, err := long.use().Txn(ctx, longTransaction(fewReads))
	if err != nil {
		return fmt.Errorf("%w: the long transaction is alone, and does not commit: %w", errBroken, err)
	}
	d.others++
	d.tell.line("run again without them, it has committed as %s", again.GetGtid())
	return d.tellHotKey(ctx, short, long)
}

// lose runs a long transaction until it loses.
func (d *demo) lose(ctx context.Context, m *demoMember) (*concordat.ConflictError, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callPatience, fmt.Errorf("%w: no conflict within %v", errBroken, callPatience))
	defer cancel()
	for reads := fewReads; ; reads = min(2*reads, mostReads) {
		_, err := m.use().Txn(ctx, longTransaction(reads))
		lost, ok := errors.AsType[*concordat.ConflictError](err)
		switch {
		case ok:
			return lost, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, err
		}
		d.others++
	}
}

// longTransaction writes the hot key, and then takes its time.
func longTransaction(reads int) *kvpb.TxnRequest {
	r := &kvpb.TxnRequest{Ops: []*kvpb.Op{putOp(pricesTable, hotKey, reads)}}
	for i := range reads {
		r.Ops = append(r.Ops, getOp(accountsTable, accountKey(i)))
	}
	return r
}

// checkConflict checks what a loser was told against what the others did.
func checkConflict(c *concordat.ConflictError, winner *demoMember, won map[string]int64) error {
	_, known := won[c.Winner.String()]
	switch {
	case c.Table.String() != tableName(pricesTable) || !bytes.Equal(c.Key, hotKey):
		return fmt.Errorf("%w: it has lost for %s key %q", errBroken, c.Table, c.Key)
	case !known || c.Member.String() != winner.ready.Member:
		return fmt.Errorf("%w: it has lost to %s of %s, which no client of %s has written", errBroken, c.Winner, c.Member, winner.name)
	}
	return nil
}

func conflictFacts(c *concordat.ConflictError, winner, loser *demoMember) [][2]string {
	text := c.Error()
	return [][2]string{
		{"table and key", fmt.Sprintf("%s, %q", c.Table, c.Key)},
		{"clash", fmt.Sprintf("its %s, and before it a %s that it had not seen", c.Incoming, c.Earlier)},
		{"winner", c.Winner.String()},
		{"from", fmt.Sprintf("%s, %s", winner.name, c.Member)},
		{"age", fmt.Sprintf("%s had learnt of it %v before", loser.name, c.Age.Round(time.Microsecond))},
		{"how far it got", places[c.Where]},
		{"what to do", text[strings.LastIndex(text, "; ")+2:]},
	}
}

// places says how far a transaction got.
var places = map[concordat.Where]string{
	concordat.RefusedByGroup: "to the group, which refused it",
	concordat.DoomedRunning:  "it was still running; nothing was sent to the group",
	concordat.HeldBack:       "it was held back for another one of its member",
}

// tellHotKey shows what the loser's member has counted.
func (d *demo) tellHotKey(ctx context.Context, winner, loser *demoMember) error {
	r, err := loser.use().Conflicts(ctx, &adminpb.ConflictsRequest{})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(r.GetKeys(), func(k *adminpb.ConflictKey) bool {
		return k.GetTable() == tableName(pricesTable) && bytes.Equal(k.GetKey(), hotKey)
	})
	lost := slices.ContainsFunc(r.GetPairs(), func(p *adminpb.ConflictPair) bool {
		return p.GetLoser() == loser.ready.Member && p.GetWinner() == winner.ready.Member
	})
	if i < 0 || !lost {
		return fmt.Errorf("%w: %s has not counted that it lost %s to %s", errBroken, loser.name, hotKey, winner.name)
	}
	d.tell.line("concordat conflicts, asked of %s: %d lost for that key, to %s", loser.name, r.GetKeys()[i].GetCount(), winner.name)
	return nil
}

// countUp has workers on all members add to one counter, and checks that the sum
// is exact and that nobody had to give way.
func (d *demo) countUp(ctx context.Context) error {
	members := d.group.all()
	d.tell.heading(fmt.Sprintf("%d workers on all members add to one counter", adderCount))
	before, err := conflictTotals(ctx, members)
	if err != nil {
		return err
	}
	began := time.Now()
	adders := gather(adderCount, func(worker int) (string, int64, error) {
		n := 1 + rand.Int64N(9)
		r, err := members[worker%len(members)].use().Add(ctx, &kvpb.AddRequest{Table: hitsTable, Key: counterKey, Delta: n})
		return r.GetGtid(), n, err
	})
	waited := d.wait(ctx, time.Duration(d.options.phase)/2)
	added, err := adders.end()
	if err := errors.Join(waited, err); err != nil {
		return err
	}
	took := time.Since(began)
	d.others += len(added)
	for _, n := range added {
		d.counted += n
	}
	d.tell.line("%s additions of 1 to 9, %s a second", count(len(added)), count(int(float64(len(added))/took.Seconds())))
	if _, err := d.group.agree(ctx); err != nil {
		return err
	}
	if err := d.checkCounter(ctx); err != nil {
		return err
	}
	after, err := conflictTotals(ctx, members)
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		return fmt.Errorf("%w: additions conflict: the members had counted %d, and now %d", errBroken, before, after)
	}
	d.tell.check("each of the %d members shows %s, the sum of all additions", len(members), count(int(d.counted)))
	d.tell.check("not one conflict: additions do not exclude each other")
	return nil
}

// checkCounter checks that each member shows the sum of all additions.
func (d *demo) checkCounter(ctx context.Context) error {
	for _, m := range d.group.all() {
		r, err := m.use().Get(ctx, &kvpb.GetRequest{Table: hitsTable, Key: counterKey})
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if n, ok := concordat.DecodeCounter(r.GetValue()); !ok || n != d.counted {
			return fmt.Errorf("%w: %s shows %d (%x), the additions make %d", errBroken, m.name, n, r.GetValue(), d.counted)
		}
	}
	return nil
}

// conflictTotals returns how many conflicts each member has counted.
func conflictTotals(ctx context.Context, members []*demoMember) (totals []uint64, err error) {
	for _, m := range members {
		r, err := m.use().Conflicts(ctx, &adminpb.ConflictsRequest{Limit: 1})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		totals = append(totals, r.GetTotal())
	}
	return totals, nil
}

func tableName(t *kvpb.Table) string { return t.GetSchema() + "." + t.GetName() }
