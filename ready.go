package concordat

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// readying gets an engine ready for a giant while its fragments come, beside what is
// applied meanwhile. It belongs to the goroutine that feeds the engine.
type readying struct {
	engine applier.Preparer // nil: it does not get ready
	log    gcs.LogReader
	logger *slog.Logger
	follow replica.Ready
	now    *preparing // nil for none
}

func newReadying(n *Node) readying {
	return readying{engine: preparer(n.engine), log: n.log, logger: n.logger}
}

// preparing is the giant that the engine gets ready for. One goroutine gives it what
// comes, as fast as it takes it: only places in the log wait for that.
type preparing struct {
	preparation applier.Preparation
	parts       *mailbox[*replica.Ahead]
	stop        atomic.Bool // nobody wants it any more
	worker      sync.WaitGroup
	payload     *replica.PayloadReader // the worker's, until that has ended
	err         error                  // likewise; why nothing will come of it
}

// ahead has the engine get ready for what is told of.
func (f *feeding) ahead(a *replica.Ahead) error {
	r := &f.ready
	switch {
	case r.engine == nil:
		return nil
	case a.Gone:
		if r.follow.Gone(a.Part.Giant) {
			r.discard()
		}
		return nil
	case a.Whole:
		if r.follow.Whole(a.Part.Giant) {
			r.now.parts.put(a)
		}
		return nil
	}
	switch r.follow.Fragment(a.Part.Giant, a.Part.Number) {
	case replica.Begin:
		// What is visible then is what the giant follows on, but for what it would be
		// refused for.
		if err := f.drain(); err != nil {
			return err
		}
		return r.begin(a)
	case replica.Take:
		r.now.parts.put(a)
	case replica.PassOver:
	}
	return nil
}

// begin begins a giant with its first fragment, if the engine wants to.
func (r *readying) begin(first *replica.Ahead) error {
	preparation, err := r.engine.Prepare()
	if err != nil {
		r.follow.GaveUp()
		if errors.Is(err, applier.ErrUnprepared) {
			r.logger.Debug("engine does not get ready for a giant", "err", err)
			return nil
		}
		return err
	}
	p := &preparing{preparation: preparation, parts: newMailbox[*replica.Ahead](), payload: replica.NewPayloadReader(r.log)}
	p.parts.put(first)
	p.worker.Go(p.work)
	r.now = p
	return nil
}

// work gives the engine what comes until there will be no more.
func (p *preparing) work() {
	var parts []*replica.Ahead
	for ok := true; ok; {
		parts, ok = p.parts.take(parts)
		for _, part := range parts {
			if part.Whole {
				p.complete()
				continue
			}
			p.add(func() ([]byte, error) { return p.payload.Next(part) })
		}
	}
	p.add(p.payload.Rest)
}

// complete has the engine do what it can before the giant is judged.
func (p *preparing) complete() {
	if p.add(p.payload.Rest); p.err == nil && !p.stop.Load() {
		p.err = p.preparation.Complete()
	}
}

// add gives the engine more of the payload.
func (p *preparing) add(next func() ([]byte, error)) {
	if p.err != nil || p.stop.Load() {
		return
	}
	payload, err := next()
	if err == nil && len(payload) > 0 {
		err = p.preparation.Add(payload)
	}
	p.err = err
}

// finish waits until the engine has all that came.
func (p *preparing) finish() error {
	p.parts.close()
	p.worker.Wait()
	return p.err
}

// discard gives up what is being prepared, if anything is.
func (r *readying) discard() {
	p := r.now
	if p == nil {
		return
	}
	r.now = nil
	p.stop.Store(true)
	_ = p.finish() // nothing comes of it anyway
	p.preparation.Discard()
}

// turn makes a batch visible if the engine has got ready for it, and reports whether
// it is.
func (f *feeding) turn(t *replica.Task) (visible bool, err error) {
	r := &f.ready
	var bulk *replica.Bulk
	whole := false
	for i := range t.Bulks {
		if this, all := r.follow.Turn(t.Bulks[i].Bulk.Giant()); this {
			bulk, whole = t.Bulks[i].Bulk, all
		}
	}
	if bulk == nil {
		return false, nil
	}
	defer r.discard()
	if err := r.now.finish(); err != nil || !whole || !r.now.payload.Of(bulk) {
		r.logger.Debug("engine is not ready for a giant", "err", err, "whole", whole)
		return false, nil
	}
	switch err := r.now.preparation.Apply(*t.Apply); {
	case errors.Is(err, applier.ErrUnprepared):
		r.logger.Debug("engine is not ready for a giant", "err", err)
		return false, nil
	case err != nil:
		return false, err
	}
	f.shown(t.Apply.To, len(t.Apply.Transactions))
	return true, nil
}
