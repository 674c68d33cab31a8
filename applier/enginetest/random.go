package enginetest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
)

// model drives engine and model through one random sequence of calls.
func (s *suite) model(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := &driver{outer: t, harness: s.opts.Open(t), now: newModel(), past: history{}}
		defer func() {
			if err := d.harness.Close(); err != nil {
				t.Errorf("close harness: %v", err)
			}
		}()
		d.past.add(d.now)
		actions := map[string]func(*rapid.T){
			"":        func(rt *rapid.T) { d.now.checkHead(rt, d.engine()) },
			"look":    func(rt *rapid.T) { d.now.check(rt, d.engine()) },
			"apply":   d.apply,
			"add":     d.add,
			"begin":   d.begin,
			"read":    d.read,
			"refuse":  d.refuse,
			"flush":   d.flush,
			"reopen":  d.reopen,
			"export":  d.export,
			"import":  d.importBack,
			"apply 2": d.apply,
			"apply 3": d.apply,
		}
		if _, ok := d.harness.(Crasher); ok {
			actions["crash"] = d.crash
		}
		rt.Repeat(actions)
		d.now.check(rt, d.engine())
	})
}

// driver is the state of one such sequence.
type driver struct {
	outer   *testing.T
	harness Harness
	now     *model
	past    history // since the last import
	snaps   []openSnapshot
	stream  []byte // an export, with what it holds
	held    *model
}

type openSnapshot struct {
	snap applier.Snapshot
	want *model
}

func (d *driver) engine() applier.Engine { return d.harness.Engine() }

func (d *driver) apply(rt *rapid.T) {
	d.applyOf(rt, rapid.Custom(func(rt *rapid.T) applier.Mutation {
		t, k := rapid.SampledFrom(tables).Draw(rt, "table"), rapid.SampledFrom(keys).Draw(rt, "key")
		if rapid.IntRange(0, 2).Draw(rt, "delete") == 0 {
			return del(t, k)
		}
		return put(t, k, rapid.StringN(0, 8, -1).Draw(rt, "value"))
	}))
}

// add applies deltas to few keys, so that they meet, and other writes to these.
func (d *driver) add(rt *rapid.T) {
	d.applyOf(rt, rapid.Custom(func(rt *rapid.T) applier.Mutation {
		k := rapid.SampledFrom(keys[:4]).Draw(rt, "key")
		switch rapid.IntRange(0, 7).Draw(rt, "op") {
		case 0:
			return del(accounts, k)
		case 1:
			return put(accounts, k, counter(rapid.Int64().Draw(rt, "counter")))
		default:
			return add(accounts, k, rapid.Int64().Draw(rt, "delta"))
		}
	}))
}

func (d *driver) applyOf(rt *rapid.T, mutation *rapid.Generator[applier.Mutation]) {
	var txs []tx
	for range rapid.IntRange(0, 3).Draw(rt, "transactions") {
		txs = append(txs, rapid.SliceOfN(mutation, 0, 5).Draw(rt, "mutations"))
	}
	d.now.apply(rt, d.engine(), d.now.certifiable(txs...)...)
	d.past.add(d.now)
}

func (d *driver) refuse(rt *rapid.T) {
	b := d.now.clone().batch(d.now.certifiable(tx{add(accounts, "", 1)}, tx{put(accounts, "a", "lost")})...)
	cut := rapid.IntRange(1, len(b.Transactions[1].Payload)-1).Draw(rt, "cut")
	b.Transactions[1].Payload = b.Transactions[1].Payload[:cut]
	if err := d.engine().Apply(b); !errors.Is(err, applier.ErrPayload) {
		rt.Fatalf("cut payload: %v", err)
	}
}

func (d *driver) begin(rt *rapid.T) {
	if len(d.snaps) < 5 {
		d.snaps = append(d.snaps, openSnapshot{begin(rt, d.engine()), d.now.clone()})
	}
}

func (d *driver) read(rt *rapid.T) {
	if len(d.snaps) == 0 {
		return
	}
	i := rapid.IntRange(0, len(d.snaps)-1).Draw(rt, "snapshot")
	if err := d.snaps[i].want.diff(d.snaps[i].snap); err != nil {
		rt.Fatalf("%v", err)
	}
	if rapid.Bool().Draw(rt, "close") {
		closeIt(rt, d.snaps[i].snap)
		d.snaps = append(d.snaps[:i], d.snaps[i+1:]...)
	}
}

func (d *driver) flush(rt *rapid.T) {
	if err := d.engine().Flush(context.Background()); err != nil {
		rt.Fatalf("flush: %v", err)
	}
	if at, err := d.engine().Durable(); err != nil || at != d.now.position.Index {
		rt.Fatalf("durable after flush: %d, %v, want %d", at, err, d.now.position.Index)
	}
}

func (d *driver) reopen(rt *rapid.T) {
	if err := d.harness.Reopen(); err != nil {
		rt.Fatalf("reopen: %v", err)
	}
	d.endSnapshots(rt)
}

// endSnapshots checks that no snapshot outlives what it was of.
func (d *driver) endSnapshots(rt *rapid.T) {
	for _, o := range d.snaps {
		if _, _, err := o.snap.Get(accounts, nil); err == nil {
			rt.Fatalf("a snapshot outlived its engine or state")
		}
		closeIt(rt, o.snap)
	}
	d.snaps = nil
}

func (d *driver) crash(rt *rapid.T) {
	durable, err := d.engine().Durable()
	if err != nil {
		rt.Fatalf("durable: %v", err)
	}
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))
	d.snaps = nil // they died with the process
	if err := crash(d.harness, rng); err != nil {
		rt.Fatalf("crash: %v", err)
	}
	if d.now, err = d.past.after(d.engine(), durable); err != nil {
		rt.Fatalf("%v", err)
	}
	d.past = history{}
	d.past.add(d.now)
}

func (d *driver) export(rt *rapid.T) {
	d.stream, d.held = exportOf(rt.Context(), rt, d.engine()), d.now.clone()
}

func (d *driver) importBack(rt *rapid.T) {
	if d.held == nil {
		return
	}
	if _, err := d.engine().Import(rt.Context(), bytes.NewReader(d.stream)); err != nil {
		rt.Fatalf("import: %v", err)
	}
	d.endSnapshots(rt)
	d.now, d.past = d.held.clone(), history{}
	d.past.add(d.now)
}
