package concordat

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/concordatdb/concordat/applier"
)

// guardedEngine keeps a panic of an embedder's engine from ending the program:
// it becomes an error of the call, and that takes the member to ERROR. Reads
// of a snapshot are left alone, they panic in the caller's own goroutine.
type guardedEngine struct{ applier.Engine }

// guard guards an engine, and keeps the roads into it that it has.
func guard(e applier.Engine) applier.Engine {
	guarded := guardedEngine{e}
	switch e := e.(type) {
	case applier.Parallel:
		return guardedParallel{guarded, e}
	case applier.Pipelined:
		return guardedPipelined{guarded, e}
	}
	return guarded
}

// guardedParallel is one whose transactions are executed side by side. What it
// returns is used, and guarded, by the feeder.
type guardedParallel struct {
	guardedEngine
	parallel applier.Parallel
}

func (e guardedParallel) Execute(ctx context.Context, t *applier.Transaction, attempt int) (x applier.Execution, err error) {
	defer panicked("Execute", &err)
	return e.parallel.Execute(ctx, t, attempt)
}

func (e guardedParallel) Commit(run []applier.Execution, to applier.Position) (err error) {
	defer panicked("Commit", &err)
	return e.parallel.Commit(run, to)
}

// guardedPipelined is one that builds ahead, likewise.
type guardedPipelined struct {
	guardedEngine
	pipelined applier.Pipelined
}

func (e guardedPipelined) Build(b applier.Batch) (x applier.Built, err error) {
	defer panicked("Build", &err)
	return e.pipelined.Build(b)
}

// preparer returns how an engine gets ready for giants, nil if it does not. One that
// is driven side by side is not asked: its feeder alone makes transactions visible.
func preparer(e applier.Engine) applier.Preparer {
	own, ok := e.(interface{ unguarded() applier.Engine })
	if !ok {
		p, _ := e.(applier.Preparer)
		return p
	}
	if _, side := own.unguarded().(applier.Parallel); side {
		return nil
	}
	if p, ok := own.unguarded().(applier.Preparer); ok {
		return guardedPreparer{p}
	}
	return nil
}

func (e guardedEngine) unguarded() applier.Engine { return e.Engine }

// guardedPreparer is an engine that gets ready.
type guardedPreparer struct{ applier.Preparer }

func (e guardedPreparer) Prepare() (p applier.Preparation, err error) {
	defer panicked("Prepare", &err)
	if p, err = e.Preparer.Prepare(); err != nil {
		return nil, err
	}
	return guardedPreparation{p}, nil
}

type guardedPreparation struct{ applier.Preparation }

func (p guardedPreparation) Add(payload []byte) (err error) {
	defer panicked("Add", &err)
	return p.Preparation.Add(payload)
}

func (p guardedPreparation) Complete() (err error) {
	defer panicked("Complete", &err)
	return p.Preparation.Complete()
}

func (p guardedPreparation) Apply(b applier.Batch) (err error) {
	defer panicked("Apply", &err)
	return p.Preparation.Apply(b)
}

// Discard has no way to report an error, and what it leaves behind harms nobody.
func (p guardedPreparation) Discard() {
	var err error
	defer panicked("Discard", &err)
	p.Preparation.Discard()
}

// panicked makes err out of a panic, if there is one.
func panicked(call string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s panicked: %v\n%s", call, p, debug.Stack())
	}
}

func (e guardedEngine) Digest() (d applier.Digest, at applier.Position, err error) {
	defer panicked("Digest", &err)
	return e.Engine.Digest()
}

func (e guardedEngine) Begin() (s applier.Snapshot, err error) {
	defer panicked("Begin", &err)
	return e.Engine.Begin()
}

func (e guardedEngine) Apply(b applier.Batch) (err error) {
	defer panicked("Apply", &err)
	return e.Engine.Apply(b)
}

func (e guardedEngine) Durable() (index uint64, err error) {
	defer panicked("Durable", &err)
	return e.Engine.Durable()
}

func (e guardedEngine) Flush(ctx context.Context) (err error) {
	defer panicked("Flush", &err)
	return e.Engine.Flush(ctx)
}

func (e guardedEngine) NewExport() (x applier.Export, err error) {
	defer panicked("NewExport", &err)
	if x, err = e.Engine.NewExport(); err != nil {
		return nil, err
	}
	return guardedExport{Export: x, size: x.Size()}, nil
}

func (e guardedEngine) Import(ctx context.Context, r io.Reader) (at applier.Position, err error) {
	defer panicked("Import", &err)
	return e.Engine.Import(ctx, r)
}

func (e guardedEngine) Close() (err error) {
	defer panicked("Close", &err)
	return e.Engine.Close()
}

// guardedExport does the same for the copying, which goes on in a goroutine of
// the transport. Size has no way to report an error, so it was asked before.
type guardedExport struct {
	applier.Export
	size int64
}

func (x guardedExport) Size() int64 { return x.size }

func (x guardedExport) WriteTo(ctx context.Context, w io.Writer, from int64) (err error) {
	defer panicked("WriteTo", &err)
	return x.Export.WriteTo(ctx, w, from)
}

func (x guardedExport) Close() (err error) {
	defer panicked("Close", &err)
	return x.Export.Close()
}
