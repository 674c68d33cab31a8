package replica

import (
	"testing"

	"github.com/concordatdb/concordat/certifier"
)

// BenchmarkCommit hands transactions at EVENTUAL to a member that is the whole
// group, 64 at a time, and does at once what it wants done.
func BenchmarkCommit(b *testing.B) {
	const run = 64
	m := newFounder(b, settings{})
	m.tick(40)
	executed := m.position.Executed
	events := make([]Event, run)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		for i := range events {
			events[i] = m.transaction(uint64(i), executed, "some payload", certifier.Item(n*run+i))
		}
		b.StartTimer()
		for next := events; len(next) > 0; {
			effects := m.replica.Step(next...)
			next = nil
			for _, w := range effects.Writes {
				m.log.write(w.LogWrite)
				next = append(next, Written{w.Responses})
			}
			for _, task := range effects.Tasks {
				if task.Apply != nil {
					next = append(next, Applied{task.Apply.To.Index})
					executed = task.Apply.To.Executed
				}
			}
		}
	}
}
