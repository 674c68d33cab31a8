package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

const (
	openingBalance = 1000
	mostTransfer   = 10
	// callPatience is above what a failover takes: what waits for a new primary
	// is not given up.
	callPatience = 10 * time.Second
)

var (
	accounts = client.Table{Schema: "bank", Name: "accounts"}
	receipts = client.Table{Schema: "bank", Name: "receipts"}
	// The same as one member is asked for them.
	accountsTable = &kvpb.Table{Schema: accounts.Schema, Name: accounts.Name}
	receiptsTable = &kvpb.Table{Schema: receipts.Schema, Name: receipts.Name}
)

// transfer moves money between two accounts. Its receipt is written in the
// same transaction, so that it can be found again.
type transfer struct{ from, to, amount int }

// bank is the load of a demo, and its books: what clients were told.
type bank struct {
	accounts int
	fail     context.CancelCauseFunc
	client   *client.Client // of all workers; it finds who writes by itself
	stopping chan struct{}
	stop     func()
	workers  sync.WaitGroup

	mu           sync.Mutex
	acknowledged map[string]transfer
	unknown      map[string]transfer
	ids          map[string]string // of the transactions of those in unknown
	repeated     int
	last         time.Time // when a worker was last told of a commit
	pause        time.Duration
}

// tally counts what workers were told, and how often a transfer had to be run
// again.
type tally struct{ acknowledged, unknown, repeated int }

func newBank(accounts int, fail context.CancelCauseFunc) *bank {
	b := &bank{
		accounts: accounts, fail: fail, stopping: make(chan struct{}),
		acknowledged: map[string]transfer{}, unknown: map[string]transfer{}, ids: map[string]string{},
	}
	b.stop = sync.OnceFunc(func() { close(b.stopping) })
	return b
}

// open makes the client, and writes the accounts, in one transaction.
func (b *bank) open(ctx context.Context, members []*demoMember) (err error) {
	var addresses []string
	for _, m := range members {
		addresses = append(addresses, m.ready.ClientAddress)
	}
	if b.client, err = client.Open(ctx, client.Config{Addresses: addresses}); err != nil {
		return err
	}
	var ops []client.Op
	for i := range b.accounts {
		ops = append(ops, client.OpPut(accountKey(i), digits(openingBalance)).On(accounts))
	}
	_, err = b.client.Txn(ctx, ops)
	return err
}

// begin starts n workers.
func (b *bank) begin(ctx context.Context, n int) {
	for i := range n {
		b.workers.Go(func() {
			if err := b.work(ctx, i); err != nil && ctx.Err() == nil {
				b.fail(fmt.Errorf("client %d: %w", i, err))
			}
		})
	}
}

// end stops the workers, each after its transfer.
func (b *bank) end() {
	b.stop()
	b.workers.Wait()
}

// close is end, and the end of the client.
func (b *bank) close() {
	b.end()
	if b.client != nil {
		_ = b.client.Close() // nobody waits for anything
	}
}

// work runs one transfer after the other.
func (b *bank) work(ctx context.Context, worker int) error {
	for sequence := 0; ; sequence++ {
		select {
		case <-b.stopping:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		t := b.draw()
		id := fmt.Sprintf("%04d-%08d", worker, sequence)
		if err := b.note(id, t, b.attempt(ctx, id, t)); err != nil {
			return err
		}
	}
}

// draw draws two accounts and an amount.
func (b *bank) draw() transfer {
	from := rand.N(b.accounts)
	to := (from + 1 + rand.N(b.accounts-1)) % b.accounts
	return transfer{from: from, to: to, amount: 1 + rand.N(mostTransfer)}
}

// attempt makes a transfer. The client runs it again as long as that is safe: when
// it has lost to another one, and when the member went that ran it.
func (b *bank) attempt(ctx context.Context, id string, t transfer) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	first := true
	_, err := b.client.Run(ctx, func(tx *client.Tx) error {
		if !first {
			b.noteRepeated()
		}
		first = false
		from, to := accountKey(t.from), accountKey(t.to)
		read, err := tx.Run(ctx, client.OpGet(from).On(accounts), client.OpGet(to).On(accounts))
		if err != nil {
			return err
		}
		has, err := balance(read[0])
		if err != nil {
			return err
		}
		gets, err := balance(read[1])
		if err != nil {
			return err
		}
		_, err = tx.Run(ctx,
			client.OpPut(from, digits(has-t.amount)).On(accounts), client.OpPut(to, digits(gets+t.amount)).On(accounts),
			client.OpPut([]byte(id), t.receipt()).On(receipts))
		return err
	})
	return err
}

// balance reads what an account holds.
func balance(v client.Value) (int, error) {
	n, err := strconv.Atoi(string(v.Value))
	if err != nil {
		return 0, fmt.Errorf("%w: an account: %w", errBroken, err)
	}
	return n, nil
}

func digits(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }

func (b *bank) noteRepeated() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.repeated++
}

// note enters what a worker was told in the books. What it should never be told is
// returned.
func (b *bank) note(id string, t transfer, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.acknowledged[id] = t
		now := time.Now()
		if !b.last.IsZero() {
			b.pause = max(b.pause, now.Sub(b.last))
		}
		b.last = now
		return nil
	}
	if open, ok := errors.AsType[*client.OutcomeUnknownError](err); ok {
		b.unknown[id], b.ids[id] = t, open.ID.String()
		return nil
	}
	if errors.Is(err, client.ErrConflict) {
		b.repeated++ // too often: nothing has happened
		return nil
	}
	return err
}

// goesOn waits until a transfer is acknowledged that was not when it was called.
func (b *bank) goesOn(ctx context.Context) error {
	before := b.tally()
	return poll(ctx, "the bank does not go on", func() bool { return b.tally().acknowledged > before.acknowledged })
}

func (b *bank) tally() tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	return tally{len(b.acknowledged), len(b.unknown), b.repeated}
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
