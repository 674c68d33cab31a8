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
