package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// troop is the writers of one client during one repetition, and what they were
// told.
type troop struct {
	prefix  string
	writers []*scribe
	stop    func()

	stale   []error // what became of writes that waited at a stopped primary
	waiting sync.WaitGroup
}

// scribe is one writer. Each of its writes is to a key of its own.
type scribe struct {
	pulse

	fates []fate
}

// fate is what a client said of a write.
type fate byte

const (
	refused      fate = iota // nothing happened
	acknowledged             // it is committed
	unknown
)

// write begins to write.
func (s *stage) write(ctx context.Context, repetition int) *troop {
	w := &troop{prefix: fmt.Sprintf("r%03d-", repetition)}
	writing, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	for i := range s.o.Writers {
		one := &scribe{}
		w.writers = append(w.writers, one)
		working.Go(func() { one.work(writing, s.client, func(n int) []byte { return w.key(i, n) }) })
	}
	w.stop = func() {
		cancel()
		working.Wait()
		w.waiting.Wait()
	}
	return w
}

func (w *troop) key(writer, n int) []byte {
	return fmt.Appendf(nil, "%s%02d-%07d", w.prefix, writer, n)
}

func (w *troop) staleKey(n int) []byte { return fmt.Appendf(nil, "%sstale-%d", w.prefix, n) }

// work writes one row after the other. The last write is not broken off: what the
// client says of it counts.
func (s *scribe) work(ctx context.Context, c *client.Client, key func(n int) []byte) {
	for n := 0; ctx.Err() == nil; n++ {
		trying, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		_, err := c.Put(trying, key(n), key(n))
		cancel()
		told := refused
		switch _, open := errors.AsType[*client.OutcomeUnknownError](err); {
		case err == nil:
			told = acknowledged
			s.beats = append(s.beats, time.Now())
		case open:
			told = unknown
		}
		s.fates = append(s.fates, told)
		if told == refused && pause(ctx, time.Millisecond) != nil {
			return // it does not spin
		}
	}
}

// staleWrites is how many writes wait at a stopped primary.
const staleWrites = 8

// sendStale sends writes to a stopped primary, past the client, which would not.
// They reach its socket, and it when it goes on.
func (w *troop) sendStale(ctx context.Context, to *actor) {
	w.stale = make([]error, staleWrites)
	for i := range w.stale {
		w.waiting.Go(func() {
			trying, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			_, w.stale[i] = to.client.Put(trying, &kvpb.PutRequest{Table: wireTable, Key: w.staleKey(i), Value: w.staleKey(i)})
		})
	}
}

func (w *troop) pulses() (all []*pulse) {
	for _, one := range w.writers {
		all = append(all, &one.pulse)
	}
	return all
}

// count adds to a row what the writers were told.
func (w *troop) count(row *FailoverRow) {
	for _, one := range w.writers {
		for _, f := range one.fates {
			switch f {
			case acknowledged:
				row.Acknowledged++
			case unknown:
				row.Unknown++
			case refused:
				row.Refused++
			}
		}
	}
	row.Stale += len(w.stale)
}

// verify checks on each member that all acknowledged writes are there, and none
// that was refused.
func (s *stage) verify(ctx context.Context, w *troop) error {
	errs := []error{w.checkStale()}
	for _, a := range s.actors {
		found, err := w.find(ctx, a)
		if err != nil {
			return fmt.Errorf("member %d: %w", a.number+1, err)
		}
		if err := w.check(found); err != nil {
			errs = append(errs, fmt.Errorf("member %d: %w", a.number+1, err))
		}
	}
	return errors.Join(errs...)
}

// checkStale checks what those were told that wrote at a stopped primary.
func (w *troop) checkStale() error {
	for i, err := range w.stale {
		if !errors.Is(err, concordat.ErrReadOnly) {
			return fmt.Errorf("write %d that waited at the stopped primary was not refused for another one: %w", i, orCommitted(err))
		}
	}
	return nil
}

var errCommitted = errors.New("it has committed")

func orCommitted(err error) error {
	if err == nil {
		return errCommitted
	}
	return err
}

// find reads what there is of a repetition's writes, with all that was ever
// acknowledged.
func (w *troop) find(ctx context.Context, a *actor) (map[string]bool, error) {
	to := []byte(w.prefix)
	to[len(to)-1]++
	stream, err := a.client.Scan(ctx, &kvpb.ScanRequest{
		Table: wireTable, From: []byte(w.prefix), To: to,
		Freshness: &kvpb.Freshness{Consistency: kvpb.Consistency_CONSISTENCY_BEFORE},
	})
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for {
		run, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		for _, p := range run.GetPairs() {
			if !bytes.Equal(p.GetKey(), p.GetValue()) {
				return nil, fmt.Errorf("key %q has %q, which nobody wrote", p.GetKey(), p.GetValue())
			}
			found[string(p.GetKey())] = true
		}
	}
}

// check compares what there is with what the writers were told.
func (w *troop) check(found map[string]bool) error {
	known := 0
	for i, one := range w.writers {
		for n, f := range one.fates {
			key := w.key(i, n)
			switch is := found[string(key)]; {
			case f == acknowledged && !is:
				return fmt.Errorf("%s was acknowledged and is lost", key)
			case f == refused && is:
				return fmt.Errorf("%s is there, and its writer was told that it is not", key)
			case is:
				known++
			}
		}
	}
	if known != len(found) {
		return fmt.Errorf("%d rows are there, and the writers know of %d", len(found), known)
	}
	return nil
}
