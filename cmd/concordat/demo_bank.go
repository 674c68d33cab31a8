package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

const (
	openingBalance = 1000
	mostTransfer   = 10
	// callPatience is above what an election takes: a call that waits for a
	// new leader is not given up.
	callPatience = 10 * time.Second
)

var (
	accountsTable = &kvpb.Table{Schema: "bank", Name: "accounts"}
	receiptsTable = &kvpb.Table{Schema: "bank", Name: "receipts"}
)

// transfer moves money between two accounts. Its receipt is written in the
// same transaction, so that it can be found again.
type transfer struct{ from, to, amount int }

// bank is the load of a demo, and its books: what clients were told.
type bank struct {
	group    *demoGroup
	accounts int
	fail     context.CancelCauseFunc
	epoch    atomic.Int64 // counts changes of the members to use
	stopping chan struct{}
	stop     func()
	clients  sync.WaitGroup

	mu           sync.Mutex
	acknowledged map[string]transfer
	unknown      map[string]transfer
	ids          map[string]string // of the transactions of those in unknown
	conflicts    int
	last         time.Time // when a client was last told of a commit
	pause        time.Duration
}

// tally counts what clients were told.
type tally struct{ acknowledged, unknown, conflicts int }

func newBank(group *demoGroup, accounts int, fail context.CancelCauseFunc) *bank {
	b := &bank{
		group: group, accounts: accounts, fail: fail, stopping: make(chan struct{}),
		acknowledged: map[string]transfer{}, unknown: map[string]transfer{}, ids: map[string]string{},
	}
	b.stop = sync.OnceFunc(func() { close(b.stopping) })
	return b
}

// open writes the accounts, in one transaction.
func (b *bank) open(ctx context.Context, m *demoMember) error {
	r := &kvpb.TxnRequest{}
	for i := range b.accounts {
		r.Ops = append(r.Ops, putOp(accountsTable, accountKey(i), openingBalance))
	}
	_, err := m.use().Txn(ctx, r)
	return err
}

// begin starts n clients, spread over the members.
func (b *bank) begin(ctx context.Context, n int) {
	for i := range n {
		b.clients.Go(func() {
			if err := b.work(ctx, i); err != nil && ctx.Err() == nil {
				b.fail(fmt.Errorf("client %d: %w", i, err))
			}
		})
	}
}

// end stops the clients, each after its call.
func (b *bank) end() {
	b.stop()
	b.clients.Wait()
}

// spread has the clients use all members that there are now.
func (b *bank) spread() { b.epoch.Add(1) }

// work runs one transfer after the other on one member, and goes to the next
// member when that one does not serve.
func (b *bank) work(ctx context.Context, number int) error {
	at, epoch := number, b.epoch.Load()
	for sequence := 0; ; sequence++ {
		id := fmt.Sprintf("%04d-%08d", number, sequence)
		t := b.draw()
		named, err := gtid.NewUUID(crand.Reader)
		if err != nil {
			return err
		}
		for settled := false; !settled; {
			select {
			case <-b.stopping:
				return nil
			case <-ctx.Done():
				return nil
			default:
			}
			if now := b.epoch.Load(); now != epoch {
				at, epoch = number, now
			}
			err := b.attempt(ctx, at, id, named.String(), t)
			if settled = b.note(id, named.String(), t, err); settled || errors.Is(err, concordat.ErrConflict) {
				continue
			}
			if !elsewhere(err) {
				return err
			}
			at++
			breathe(ctx)
		}
	}
}

// draw draws two accounts and an amount.
func (b *bank) draw() transfer {
	from := rand.N(b.accounts)
	to := (from + 1 + rand.N(b.accounts-1)) % b.accounts
	return transfer{from: from, to: to, amount: 1 + rand.N(mostTransfer)}
}

// attempt runs a transfer once: it reads both accounts, and writes them on the
// condition that they still are what it read.
func (b *bank) attempt(ctx context.Context, at int, id, transaction string, t transfer) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	members := b.group.all()
	c := members[at%len(members)].use()
	if c == nil {
		return concordat.ErrNotOnline
	}
	from, to := accountKey(t.from), accountKey(t.to)
	read, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{getOp(accountsTable, from), getOp(accountsTable, to)}})
	if err != nil {
		return err
	}
	has, err := strconv.Atoi(string(read.GetResults()[0].GetValue()))
	if err != nil {
		return fmt.Errorf("%w: account %s: %w", errBroken, from, err)
	}
	gets, err := strconv.Atoi(string(read.GetResults()[1].GetValue()))
	if err != nil {
		return fmt.Errorf("%w: account %s: %w", errBroken, to, err)
	}
	_, err = c.Txn(ctx, &kvpb.TxnRequest{TransactionId: transaction, Ops: []*kvpb.Op{
		expectOp(accountsTable, from, has), expectOp(accountsTable, to, gets),
		putOp(accountsTable, from, has-t.amount), putOp(accountsTable, to, gets+t.amount),
		{Op: &kvpb.Op_Put{Put: &kvpb.PutRequest{Table: receiptsTable, Key: []byte(id), Value: t.receipt()}}},
	}})
	return err
}

// note enters what a client was told in the books, and reports whether it is
// done with the transfer.
func (b *bank) note(id, transaction string, t transfer, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.acknowledged[id] = t
		now := time.Now()
		if !b.last.IsZero() {
			b.pause = max(b.pause, now.Sub(b.last))
		}
		b.last = now
		return true
	case errors.Is(err, concordat.ErrOutcomeUnknown):
		b.unknown[id], b.ids[id] = t, transaction
		return true
	case errors.Is(err, concordat.ErrConflict):
		b.conflicts++
	}
	return false
}

// elsewhere reports whether another member can do what failed with err.
func elsewhere(err error) bool {
	for _, e := range []error{
		concordat.ErrNotOnline, concordat.ErrClosed, concordat.ErrFailed, concordat.ErrSnapshotTooOld,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// breathe waits a moment, so that a client without a member does not spin.
func breathe(ctx context.Context) {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (b *bank) tally() tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	return tally{len(b.acknowledged), len(b.unknown), b.conflicts}
}

// watchPause begins to measure the longest time between two commits.
func (b *bank) watchPause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last, b.pause = time.Now(), 0
}

// longestPause returns the longest time between two commits since watchPause,
// the one that still lasts included.
func (b *bank) longestPause() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.pause, time.Since(b.last))
}

// audit reads the books of a random member and compares them with what clients
// were told. That the members have the same books is known, and that others
// transactions were not the bank's. The clients must have ended.
func (b *bank) audit(ctx context.Context, members []*demoMember, executed string, others int) (findings, error) {
	c := members[rand.N(len(members))].use()
	balances := make([]int, b.accounts)
	err := scanPairs(ctx, c, &kvpb.ScanRequest{Table: accountsTable}, func(p *kvpb.Pair) error {
		account, keyErr := strconv.Atoi(string(p.GetKey()))
		balance, valueErr := strconv.Atoi(string(p.GetValue()))
		if keyErr != nil || valueErr != nil || account >= b.accounts {
			return fmt.Errorf("%w: there is an account %q with %q", errBroken, p.GetKey(), p.GetValue())
		}
		balances[account] = balance
		return nil
	})
	if err != nil {
		return findings{}, err
	}
	receipts := map[string]transfer{}
	err = scanPairs(ctx, c, &kvpb.ScanRequest{Table: receiptsTable}, func(p *kvpb.Pair) error {
		t, err := parseReceipt(string(p.GetValue()))
		receipts[string(p.GetKey())] = t
		return err
	})
	if err != nil {
		return findings{}, err
	}
	fates := map[string]*kvpb.OutcomeResponse{}
	for id, transaction := range b.ids {
		if fates[id], err = c.Outcome(ctx, &kvpb.OutcomeRequest{TransactionId: transaction}); err != nil {
			return findings{}, err
		}
	}
	set, err := gtid.ParseSet(executed)
	if err != nil {
		return findings{}, err
	}
	f, compared := b.compare(balances, receipts, set.Count()-uint64(others))
	return f, errors.Join(compared, checkFates(fates, receipts))
}

// findings is what an audit found, when nothing is wrong.
type findings struct{ sum, unknownHappened int }

// compare finds every difference between the books and what clients were told.
func (b *bank) compare(balances []int, receipts map[string]transfer, transactions uint64) (findings, error) {
	var f findings
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{errBroken}, args...)...))
	}
	for id, t := range b.acknowledged {
		if got, ok := receipts[id]; !ok {
			wrong("transfer %s was acknowledged and is missing", id)
		} else if got != t {
			wrong("transfer %s is %v, its client had asked for %v", id, got, t)
		}
	}
	want := slices.Repeat([]int{openingBalance}, len(balances))
	for id, t := range receipts {
		want[t.from] -= t.amount
		want[t.to] += t.amount
		if _, ok := b.unknown[id]; ok {
			f.unknownHappened++
		} else if _, ok := b.acknowledged[id]; !ok {
			wrong("transfer %s happened, and its client was told that it did not", id)
		}
	}
	for i, balance := range balances {
		f.sum += balance
		if balance != want[i] {
			wrong("account %d holds %d, its receipts make %d", i, balance, want[i])
		}
	}
	if total := openingBalance * len(balances); f.sum != total {
		wrong("the accounts hold %d together, it was %d in the beginning", f.sum, total)
	}
	if opened := uint64(len(receipts)) + 1; transactions != opened {
		wrong("the GTID set has %d transactions, the books have %d", transactions, opened)
	}
	const most = 10
	return f, errors.Join(errs[:min(len(errs), most)]...)
}

// checkFates checks what the group answers, by the ids of their transactions,
// about transfers whose clients were told nothing.
func checkFates(fates map[string]*kvpb.OutcomeResponse, receipts map[string]transfer) (err error) {
	for id, fate := range fates {
		_, happened := receipts[id]
		committed := fate.GetState() == kvpb.OutcomeResponse_STATE_COMMITTED
		forgotten := fate.GetState() == kvpb.OutcomeResponse_STATE_UNKNOWN && fate.GetFrom() > 0
		if committed != happened && !forgotten {
			err = errors.Join(err, fmt.Errorf("%w: the group says of transfer %s that it is %v, and its receipt: %t", errBroken, id, fate.GetState(), happened))
		}
	}
	return err
}

func accountKey(i int) []byte { return fmt.Appendf(nil, "%05d", i) }

func (t transfer) receipt() []byte { return fmt.Appendf(nil, "%d %d %d", t.from, t.to, t.amount) }

func parseReceipt(text string) (t transfer, err error) {
	if _, err := fmt.Sscanf(text, "%d %d %d", &t.from, &t.to, &t.amount); err != nil {
		return t, fmt.Errorf("%w: there is a receipt %q: %w", errBroken, text, err)
	}
	return t, nil
}

func getOp(t *kvpb.Table, key []byte) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Get{Get: &kvpb.GetRequest{Table: t, Key: key}}}
}

func putOp(t *kvpb.Table, key []byte, value int) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Put{Put: &kvpb.PutRequest{Table: t, Key: key, Value: strconv.AppendInt(nil, int64(value), 10)}}}
}

func expectOp(t *kvpb.Table, key []byte, value int) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Expect{Expect: &kvpb.Expectation{Table: t, Key: key, Value: strconv.AppendInt(nil, int64(value), 10)}}}
}
