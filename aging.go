package concordat

import (
	"time"

	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/internal/replica"
)

// agingSteps is into how many parts the time is divided for which changes are kept:
// the store forgets in such steps.
const agingSteps = 64

// aging decides when a store that is given nothing is to forget the changes that have
// grown too old. One that applies batches does so with them, and is not held up.
type aging struct {
	every uint64 // ticks between two looks; 0: nothing grows old
	next  uint64 // tick of the next one
	index uint64 // log index that was visible at the last one
}

func newAging(age, tick time.Duration) aging {
	if age <= 0 {
		return aging{}
	}
	return aging{every: max(1, uint64(age/agingSteps/tick))}
}

// due reports, some ticks after the beginning, whether nothing has become visible since
// the last look.
func (a *aging) due(tick, visible uint64) bool {
	if a.every == 0 || tick < a.next {
		return false
	}
	idle := a.next > 0 && visible == a.index
	a.next, a.index = tick+a.every, visible
	return idle
}

// trim has the feeder of the engine look at the age of the changes, if it does not wait
// to do so already.
func (l *life) trim() {
	if !l.trims.Swap(true) {
		l.engine.put(replica.Task{}) // one that is none has it noticed
	}
}

// trimChanges is what comes of that, between two batches.
func (l *life) trimChanges() error {
	if !l.trims.Swap(false) {
		return nil
	}
	if e, ok := l.node.engine.(*pebblekv.Engine); ok {
		return e.TrimChanges()
	}
	return nil
}
