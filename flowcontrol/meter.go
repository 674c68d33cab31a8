package flowcontrol

import (
	"time"

	"github.com/concordatdb/concordat/internal/queue"
)

// Work is what an engine was given as one.
type Work struct {
	Index        uint64 // log index up to which it goes
	Transactions int    // judged, committed or not
	Remote       int    // of those, of other members
	Bytes        int    // of the transactions
}

// Cost is what the work costs.
func (w *Work) Cost() uint64 {
	return uint64(w.Transactions)*TransactionCost + uint64(w.Bytes)
}

type given struct {
	Work
	at time.Duration
}

// Meter counts what a member's engine does. The zero value counts from nothing.
// Its queue is as long as that of the engine, which whoever gives the work bounds.
type Meter struct {
	queue queue.Queue[given]
	now   time.Duration
	s     Sample
}

// Judged notes a transaction that was delivered.
func (m *Meter) Judged() { m.s.Certified++ }

// Given notes work that the engine has from now on.
func (m *Meter) Given(w Work) {
	m.queue.Push(given{w, m.now})
	m.s.Backlog += w.Cost()
	m.s.WaitingApply += uint64(w.Transactions)
	m.s.WaitingRemote += uint64(w.Remote)
}

// Shown notes that everything up to a log index is visible.
func (m *Meter) Shown(index uint64) {
	for m.queue.Len() > 0 && m.queue.At(0).Index <= index {
		w := m.queue.Pop()
		cost := w.Cost()
		m.s.Backlog -= cost
		m.s.Served += cost
		m.s.WaitingApply -= uint64(w.Transactions)
		m.s.WaitingRemote -= uint64(w.Remote)
		m.s.Applied += uint64(w.Transactions)
		m.s.Remote += uint64(w.Remote)
	}
}

// Tick notes that time has passed. An engine that has work at a tick is taken for
// busy since the one before: over many ticks that is the share of time for which it
// is, and exact for one that is always busy, which is when it counts.
func (m *Meter) Tick(elapsed time.Duration) {
	m.now += elapsed
	if m.queue.Len() > 0 {
		m.s.Busy += uint64(elapsed / time.Microsecond)
	}
}

// Sample returns what was counted. What does not concern the engine is zero in it.
func (m *Meter) Sample() Sample {
	s := m.s
	if m.queue.Len() > 0 {
		s.Lag = uint64((m.now - m.queue.At(0).at) / time.Microsecond)
	}
	return s
}
