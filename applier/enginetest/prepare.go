package enginetest

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

func isPreparer(e applier.Engine) bool { _, ok := e.(applier.Preparer); return ok }

// upcoming is a transaction that is being got ready.
type upcoming struct {
	applier.Preparation
	at   int    // its batch
	rest []byte // of its payload
}

// prepare gets ready for transactions while it applies what comes before them. Now
// and then it gives one up, or comes to its turn before all of it is there.
func (w *walker) prepare(batches []applier.Batch) error {
	var next *upcoming
	for i, b := range batches {
		var err error
		if at := i + w.rng.IntN(3); next == nil && at < len(batches) && len(batches[at].Transactions) == 1 {
			if next, err = w.upcoming(at, batches[at].Transactions[0].Payload); err != nil {
				return err
			}
		}
		switch {
		case next == nil || next.at > i:
			err = w.beside(next, b)
		case w.rng.IntN(8) == 0:
			w.discard()
			next = nil
			err = w.call(func() error { return w.engine.Apply(b) })
		default:
			err = w.turn(next, b)
			next = nil
		}
		if err == nil {
			err = w.sometimesFlush()
		}
		if err != nil {
			return err
		}
	}
	w.discard()
	return nil
}

// upcoming begins a transaction, unless the engine would rather not.
func (w *walker) upcoming(at int, payload []byte) (next *upcoming, err error) {
	e, _ := w.engine.(applier.Preparer)
	err = w.call(func() error {
		p, err := e.Prepare()
		if err != nil {
			return ordinary(err)
		}
		w.prepared = append(w.prepared, p)
		next = &upcoming{p, at, payload}
		return nil
	})
	return next, err
}

// ordinary is an error that is one.
func ordinary(err error) error {
	if errors.Is(err, applier.ErrUnprepared) {
		return nil
	}
	return err
}

// add adds some of what is left, or all.
func (w *walker) add(u *upcoming, n int) error {
	part := append([]byte{}, u.rest[:n]...)
	u.rest = u.rest[n:]
	err := u.Add(part)
	clear(part) // nobody may keep it
	return ordinary(err)
}

// beside applies a batch while something is added, if anything is to be.
func (w *walker) beside(u *upcoming, b applier.Batch) error {
	if u == nil {
		return w.call(func() error { return w.engine.Apply(b) })
	}
	n := w.rng.IntN(len(u.rest) + 1)
	if !w.concurrent {
		if err := w.call(func() error { return w.add(u, n) }); err != nil {
			return err
		}
		return w.call(func() error { return w.engine.Apply(b) })
	}
	return w.call(func() error {
		added := make(chan error)
		go func() { added <- w.add(u, n) }()
		err := w.engine.Apply(b)
		return errors.Join(err, <-added)
	})
}

// turn has a transaction made visible that was got ready, or applies it if the engine
// says so.
func (w *walker) turn(u *upcoming, b applier.Batch) error {
	for len(u.rest) > 0 {
		if err := w.call(func() error { return w.add(u, 1+w.rng.IntN(len(u.rest))) }); err != nil {
			return err
		}
	}
	if w.rng.IntN(2) == 0 {
		if err := w.call(func() error { return ordinary(u.Complete()) }); err != nil {
			return err
		}
	}
	without := b
	without.Transactions = []applier.Transaction{b.Transactions[0]}
	without.Transactions[0].Payload = nil
	unprepared := false
	err := w.call(func() error {
		err := u.Apply(without)
		unprepared = errors.Is(err, applier.ErrUnprepared)
		return ordinary(err)
	})
	if err == nil && unprepared {
		err = w.call(func() error { return w.engine.Apply(b) })
	}
	if err == nil {
		w.discard()
	}
	return err
}

// discard discards everything that was prepared, some of it again.
func (w *walker) discard() {
	for _, p := range w.prepared {
		p.Discard()
		p.Discard()
	}
	w.prepared = nil
}

// prepared checks what an engine does with preparations that must not come to
// anything.
func (s *suite) prepared(t *testing.T) {
	puts := func(m *model, value string) applier.Batch {
		return m.batch(tx{put(accounts, "a", value), put(accounts, "b", value)})
	}
	for _, c := range []struct {
		name string
		// meanwhile happens behind the first Add, before the rest of the payload. Nil
		// writes a key when all was added and completed.
		meanwhile func(t *testing.T, h Harness, m *model)
		all       bool // of the payload is added
	}{
		{"Written beside", func(t *testing.T, h Harness, m *model) { m.apply(t, h.Engine(), tx{del(accounts, "b")}) }, true},
		{"Written since", nil, true},
		{"Counted beside", func(t *testing.T, h Harness, m *model) { m.apply(t, h.Engine(), tx{add(accounts, "b", 1)}) }, true},
		{"Cut off", func(*testing.T, Harness, *model) {}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, m := s.open(t), newModel()
			m.apply(t, h.Engine(), tx{put(accounts, "a", "old")})
			e, _ := h.Engine().(applier.Preparer)
			p, err := e.Prepare()
			if err != nil {
				t.Fatal(err)
			}
			defer p.Discard()
			payload := puts(m.clone(), "new").Transactions[0].Payload
			// What it has of the second key depends on when that was written.
			for _, cut := range []int{len(payload) / 2, len(payload)} {
				if cut < len(payload) {
					mustAdd(t, p, payload[:cut])
					if c.meanwhile != nil {
						c.meanwhile(t, h, m)
					}
				} else if c.all {
					mustAdd(t, p, payload[len(payload)/2:])
				} else {
					mustAdd(t, p, payload[len(payload)/2:len(payload)-1])
				}
			}
			if c.meanwhile == nil {
				if err := ordinary(p.Complete()); err != nil {
					t.Fatal(err)
				}
				if err := p.Add(payload); !errors.Is(err, applier.ErrUnprepared) {
					t.Fatalf("more is added than all: %v", err)
				}
				m.apply(t, h.Engine(), tx{put(accounts, "b", "between")})
			}
			b := puts(m, "new")
			whole := b.Transactions[0].Payload
			b.Transactions[0].Payload = nil
			if err := p.Apply(b); err != nil {
				if !errors.Is(err, applier.ErrUnprepared) {
					t.Fatal(err)
				}
				b.Transactions[0].Payload = whole
				if err := h.Engine().Apply(b); err != nil {
					t.Fatal(err)
				}
			}
			m.check(t, h.Engine())
		})
	}
	t.Run("Moved on", func(t *testing.T) { s.preparedMovedOn(t) })
}

func mustAdd(t *testing.T, p applier.Preparation, payload []byte) {
	t.Helper()
	if err := ordinary(p.Add(payload)); err != nil {
		t.Fatal(err)
	}
}

// preparedMovedOn gives a batch to a preparation that does not follow on what is
// visible, and prepares the same transaction for several turns.
func (s *suite) preparedMovedOn(t *testing.T) {
	h, m := s.open(t), newModel()
	e, _ := h.Engine().(applier.Preparer)
	rng := rand.New(rand.NewPCG(1, 12))
	for range 8 {
		p, err := e.Prepare()
		if err != nil {
			t.Fatal(err)
		}
		b := m.clone().batch(sortedTx(rng)[:0], tx{put(accounts, "k", "v")})
		mustAdd(t, p, b.Transactions[1].Payload)
		late := b
		late.To.Index = m.position.Index
		late.Transactions = late.Transactions[1:]
		if err := p.Apply(late); !errors.Is(err, applier.ErrOrder) && !errors.Is(err, applier.ErrUnprepared) {
			t.Fatalf("a batch that the engine has already: %v", err)
		}
		if err := p.Apply(b); !errors.Is(err, applier.ErrUnprepared) {
			t.Fatalf("two transactions at once: %v", err)
		}
		p.Discard()
		if err := p.Apply(m.clone().batch(tx{put(accounts, "k", "v")})); !errors.Is(err, applier.ErrUnprepared) {
			t.Fatalf("what was discarded: %v", err)
		}
		m.check(t, h.Engine())
		m.apply(t, h.Engine(), tx{put(accounts, "k", "v")})
	}
	m.check(t, h.Engine())
}
