package gcs

import (
	"fmt"
	"runtime"
	"testing"
)

// table is a world for measuring: members that do nothing but the work.
type table struct {
	members   []*seat
	wire      []envelope
	delivered int // messages, over all members
}

type seat struct {
	log      memlog
	group    *Group
	outgoing []Outgoing
	writes   []Write
}

// tableOf takes a group out of its world and runs it on, until it has a leader
// again.
func tableOf(b *testing.B, n uint64) *table {
	b.Helper()
	w := newWorld(b)
	w.form(n)
	t := &table{}
	for _, m := range w.members {
		m.session++
		s := &seat{log: m.log}
		var err error
		s.group, err = New(Config{
			Identity: m.identity(), Log: &s.log, HardState: m.log.hard,
			ElectionTicks: 10, Limits: DefaultLimits(),
		})
		if err != nil {
			b.Fatal(err)
		}
		t.members = append(t.members, s)
	}
	for range 40 {
		for _, s := range t.members {
			s.group.Tick()
			t.pump(s)
		}
		t.settle()
	}
	return t
}

func (t *table) pump(s *seat) {
	for busy := true; busy; {
		s.group.Flush()
		s.writes = s.group.Writes(s.writes)
		busy = len(s.writes) > 0
		for _, write := range s.writes {
			s.log.write(write.LogWrite)
			s.group.Written(write.Responses)
		}
		for d, ok := s.group.NextDelivery(); ok; d, ok = s.group.NextDelivery() {
			t.delivered += len(d.Messages)
			busy = true
		}
	}
	s.outgoing = s.group.Messages(s.outgoing)
	for _, o := range s.outgoing {
		t.wire = append(t.wire, envelope{from: s.group.id.RaftID, to: o.To, msg: o.Message})
	}
}

func (t *table) settle() {
	for next := 0; next < len(t.wire); next++ { //nolint:intrange // the wire grows meanwhile
		e := t.wire[next]
		to := t.members[e.to-1]
		to.group.Receive(e.from, e.msg)
		t.pump(to)
	}
	clear(t.wire)
	t.wire = t.wire[:0]
}

// forget keeps the logs from growing with the length of the measurement.
func (t *table) forget() {
	for _, s := range t.members {
		if end := s.group.Delivered(); end > s.log.cut+4096 {
			s.log.truncate(end - 64)
		}
	}
}

// seat returns a member that leads, or one that does not.
func (t *table) seat(b *testing.B, leading bool) *seat {
	b.Helper()
	for _, s := range t.members {
		if s.group.Status().Leading == leading {
			return s
		}
	}
	b.Fatalf("nobody has Leading %v", leading)
	return nil
}

// BenchmarkBroadcast takes messages of 100 bytes, 32 to a frame, from Submit on
// one member to NextDelivery on all three. It is the price of the state
// machines alone: disks and network are slices in memory.
func BenchmarkBroadcast(b *testing.B) {
	const perFrame, size = 32, 100
	for _, origin := range []string{"leader", "follower"} {
		for _, frames := range []int{1, 8} {
			b.Run(fmt.Sprintf("origin=%s/frames=%d", origin, frames), func(b *testing.B) {
				t := tableOf(b, 3)
				from := t.seat(b, origin == "leader")
				msg := make([]byte, size)
				t.delivered = 0
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for b.Loop() {
					for range frames {
						for range perFrame {
							from.group.Submit(msg)
						}
						t.pump(from)
					}
					t.settle()
					t.forget()
				}
				runtime.ReadMemStats(&after)
				messages := b.N * frames * perFrame
				if want := messages * len(t.members); t.delivered != want {
					b.Fatalf("%d messages were delivered, want %d", t.delivered, want)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(messages), "ns/message")
				b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(messages), "allocs/message")
				b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(messages), "B/message")
			})
		}
	}
}

// BenchmarkRead takes a batch of reads from the first Read to its answer, under a
// leader that has nothing else to do.
func BenchmarkRead(b *testing.B) {
	for _, asker := range []string{"leader", "follower"} {
		b.Run("asker="+asker, func(b *testing.B) {
			t := tableOf(b, 3)
			from := t.seat(b, asker == "leader")
			var answers []ReadAnswer
			b.ReportAllocs()
			for b.Loop() {
				batch := from.group.Read()
				t.pump(from)
				t.settle()
				if answers = from.group.Reads(answers); len(answers) != 1 || answers[0].Batch != batch {
					b.Fatalf("batch %d is answered with %+v", batch, answers)
				}
			}
		})
	}
}
