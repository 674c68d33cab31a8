package applier

import (
	"context"
	"errors"
)

// ErrRetry marks an error of [Parallel.Execute] that may not come again: a lock
// that was held for too long, a deadlock, a conflict with what runs beside.
var ErrRetry = errors.New("applier: may succeed when tried again")

// Pipelined is an [Engine] that can build a batch while the one before it is
// being made visible.
//
// Who may call: Build by one goroutine at a time, Commit and Discard by one at a
// time, and the two beside each other. Nobody calls Apply, NewExport or Import
// while anything is built that is neither committed nor discarded, except that
// NewExport comes between two commits and shows the state there.
type Pipelined interface {
	Engine
	// Build does beforehand what it can of the work of Apply, and changes nothing
	// that anybody sees. b follows on the batch that was built before it, which
	// may not be visible yet. An error is one that Apply would have returned; it
	// leaves what was built before as it was.
	Build(b Batch) (Built, error)
}

// Built is a batch on its way to be visible. It is committed or discarded, once,
// in the order of building.
type Built interface {
	// Commit makes the batch visible, as Apply does. After an error nothing has
	// changed, and what was built behind it can only be discarded.
	Commit() error
	// Discard gives the batch up, and with it what was built behind it, which is
	// discarded, too.
	Discard()
}

// Parallel is an [Engine] that executes transactions side by side and makes them
// visible in commit order.
//
// Who may call: Execute and Discard by any number of goroutines. Commit by one
// at a time, also while others execute. NewExport comes between two commits,
// perhaps while others execute; Apply, Import and Close when nothing is executed
// that is neither committed nor discarded.
//
// What an engine can rely on: when Execute is called, everything is visible that
// the transaction depends on, that is, every one whose Sequence is not greater
// than its LastCommitted. What runs beside it touches other rows.
//
// What may be lost: a suffix of what was committed, in units of one transaction.
// After a crash the Position says what is there, with Part; the node goes on
// behind that.
type Parallel interface {
	Engine
	// Execute does the work of one transaction, up to where only its turn is
	// missing. It changes nothing that anybody sees. t stays as it is until the
	// execution is committed or discarded.
	//
	// An error that wraps [ErrRetry] has it tried again, at most a fixed number of
	// times: when everything before it is visible, and alone, so that what it met
	// is gone; what was executed behind it is discarded for that, and executed
	// again. attempt counts from 1. An engine that waits for locks gives up in
	// time: who holds one may be behind t, and wait for it. When ctx ends, nobody
	// needs the result.
	Execute(ctx context.Context, t *Transaction, attempt int) (Execution, error)
	// Commit makes a run of executed transactions visible, and the position to.
	// They follow, in commit order, on what is visible. An engine that cannot do
	// that at once does it one by one, each with the position that
	// [Position.After] gives, and with to at the end. A run may be empty: then only
	// the position changes. After an error those that the Position tells are
	// visible, and nothing is committed any more. Either way the run is the
	// engine's then: it is not discarded.
	Commit(run []Execution, to Position) error
}

// Execution is a transaction that was executed, and is committed or discarded,
// once.
type Execution interface {
	// Discard gives up all that the execution holds. It cannot fail: what it
	// leaves behind must harm nobody.
	Discard()
}

// ErrUnprepared says that a transaction was not got ready, and that nothing has
// changed: apply it with its payload, in the ordinary way.
var ErrUnprepared = errors.New("applier: the transaction is not ready")

// Preparer is an [Engine] that does most of the work of a large transaction while
// its payload comes in, which is before it is certified and comes to its turn.
//
// Who may call: Prepare like Apply, when nothing is built that is neither committed
// nor discarded. Then batches may be applied, built and committed, and exports made,
// as if nothing were being prepared. Before Import and Close a preparation is
// discarded.
//
// What an engine can rely on: nothing. What was prepared may never be certified, and
// what is applied meanwhile may write the same keys. It finds out, and says so.
type Preparer interface {
	Engine
	// Prepare begins a transaction. An error that wraps [ErrUnprepared] says that
	// this cannot be done now, and is no failure.
	Prepare() (Preparation, error)
}

// Preparation is a transaction that an engine gets ready for. It is discarded, once
// or more often, whatever became of it.
type Preparation interface {
	// Add takes the next bytes of the payload, cut anywhere, which are the caller's
	// again when it returns. It is called by one goroutine at a time, beside
	// everything else but Complete, Apply and Discard. It changes nothing that anybody sees.
	// After an error only Discard makes sense; it is no failure of the engine.
	Add(payload []byte) error
	// Complete says that the payload was added, all of it, while nobody knows yet
	// whether the transaction comes to its turn: what there is left to do, and to wait
	// for, is done now. It is called like Add, once or not at all, and nothing is added
	// after it.
	Complete() error
	// Apply makes b visible as [Engine.Apply] does, and is called as that is. Its
	// one transaction is the one whose payload was added, all of it, and does not
	// hold it again. An error that wraps [ErrUnprepared] leaves everything as it was.
	Apply(b Batch) error
	// Discard gives back all that the preparation holds. It is called like Apply,
	// and cannot fail: what it leaves behind must harm nobody.
	Discard()
}
