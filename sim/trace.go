package sim

import (
	"bufio"
	"fmt"
	"io"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// tracer writes what happens, one line for each event, fields formatted one by
// one: the text form of a protobuf message differs from build to build on
// purpose. A nil tracer is silent.
//
//	seconds member what …
type tracer struct{ to *bufio.Writer }

func newTracer(w io.Writer) *tracer {
	if w == nil {
		return nil
	}
	return &tracer{to: bufio.NewWriterSize(w, 1<<16)}
}

// failed writes out what is left and returns the first error.
func (t *tracer) failed() error {
	if t == nil {
		return nil
	}
	if err := t.to.Flush(); err != nil {
		return fmt.Errorf("sim: trace: %w", err)
	}
	return nil
}

func (t *tracer) line(w *world, who, format string, args ...any) {
	fmt.Fprintf(t.to, "%d.%06d %s ", w.now/second, w.now%second, who)
	fmt.Fprintf(t.to, format, args...)
	fmt.Fprintln(t.to)
}

func (t *tracer) world(w *world) {
	if t != nil {
		p := &w.plan
		t.line(w, "world", "seed %d: %d members, %d joiners, %d clients each, %d us of faults",
			w.seed, p.founders, p.joiners, p.clients, p.faulty)
	}
}

func (t *tracer) note(w *world, text string) {
	if t != nil {
		t.line(w, "world", "%s", text)
	}
}

func (t *tracer) start(w *world, m *member, session uint64) {
	if t != nil {
		hs := m.log.HardState()
		t.line(w, m.name, "starts session %d of %x: term %d, commit %d, engine at %d",
			session, m.raftID, hs.GetTerm(), hs.GetCommit(), m.engine.Position().Index)
	}
}

func (t *tracer) crash(w *world, m *member) {
	if t != nil {
		hs := m.log.HardState()
		t.line(w, m.name, "crashes: term %d, commit %d, engine at %d",
			hs.GetTerm(), hs.GetCommit(), m.engine.Position().Index)
	}
}

func (t *tracer) send(w *world, from, to *member, m *gcs.Message, size int) {
	if t == nil {
		return
	}
	if r := m.Raft; r != nil {
		t.line(w, from.name, "to %s raft %d term %d index %d log term %d commit %d entries %d reject %t bytes %d",
			to.name, r.GetType(), r.GetTerm(), r.GetIndex(), r.GetLogTerm(), r.GetCommit(), len(r.GetEntries()), r.GetReject(), size)
		return
	}
	t.line(w, from.name, "to %s kind %d bytes %d", to.name, m.Kind, size)
}

func (t *tracer) step(r *run, events int, e *replica.Effects) {
	if t != nil {
		t.line(r.world, r.member.name, "step %d: messages %d writes %d tasks %d checkpoints %d truncate %d answers %d state %d clone %x exit %d",
			events, len(e.Messages), len(e.Writes), len(e.Tasks), len(e.Checkpoints), e.Truncate, len(e.Answers), e.State, e.CloneFrom, e.Exit)
		for _, n := range e.Notices {
			t.line(r.world, r.member.name, "  %s: %s", n.Kind, n.Text)
		}
	}
}

func (t *tracer) delivered(w *world, m *member, e *entry) {
	if t == nil {
		return
	}
	t.line(w, m.name, "delivers %d term %d bytes %d executed %d",
		e.index, e.raw.GetTerm(), len(e.raw.GetData()), e.executed.Count())
	for _, j := range e.judged {
		t.line(w, m.name, "  %s of %x/%d %s", j.id, j.origin, j.session, verdictText(j.verdict))
	}
	if e.view != nil {
		t.line(w, m.name, "  %s", e.view)
	}
	if s := e.election; s != nil {
		t.line(w, m.name, "  epoch %d of view %d since %d, %s, primary %x, action open %t", s.Epoch, s.View, s.Began, s.Mode, s.Primary, s.Action != nil)
		for _, o := range s.Done {
			if o.Ended == e.index {
				t.line(w, m.name, "  %s %s: %s", o.Kind, o.Result, o.Text)
			}
		}
		if n := len(s.Past); n > 0 && s.Past[n-1].Index == e.index {
			t.line(w, m.name, "  %s: %s", s.Past[n-1].Cause, s.Past[n-1].Reason)
		}
	}
}

func (t *tracer) begun(c *client, b *beginning) {
	if t != nil {
		w := c.member.world
		t.line(w, c.member.name, "begins %s of client %d at %d, asked at %d.%06d: %s, write %t, bounded %t, index %d, floor %d",
			b.work.id, c.slot, b.work.snapshot.Index, b.asked/second, b.asked%second, b.level, b.write, b.bounded, b.index, b.want)
	}
}

func (t *tracer) answer(w *world, m *member, a replica.Answer) {
	if t != nil {
		t.line(w, m.name, "answers %d at %d: %s", a.Ticket, a.Index, verdictText(a.Verdict))
	}
}

func (t *tracer) end(w *world) {
	if t != nil {
		h := w.newest()
		t.line(w, "world", "ends after %d events, %d entries, %d transactions certified", w.done, len(h.entries), h.state.certified)
	}
}
