package gcs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/cockroachdb/datadriven"
)

// TestConversations plays the scripts in testdata: what members do and say in
// groups small enough to read. Each line of a play is one of the verbs below;
// what follows from it stands under the play. A line of the answer is
//
//	1 2: [7] "a" "b" of 1.1     members 1 and 2 delivered these messages of
//	                            session 1 of member 1 at log index 7
//	1: [8] passed over          a frame at index 8 that was not the next one
//	2->1 frame 2.1.3 ["a"]      a message on the wire; reports and what raft
//	                            says are left out, but for snapshots
//
// Run with -rewrite to write the answers anew, and review them as text.
func TestConversations(t *testing.T) {
	datadriven.Walk(t, "testdata/conversations", func(t *testing.T, path string) {
		cryptotest.SetGlobalRandom(t, 1) // raft draws its election timeouts there
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			if d.Cmd != "play" {
				d.Fatalf(t, "unknown directive %s", d.Cmd)
			}
			for line := range strings.Lines(d.Input) {
				w.play(strings.Fields(line))
			}
			return w.story.end()
		})
	})
}

// play does one line of a script.
//
//	group N            members 1 to N form a group that 1 leads, untold
//	bootstrap N        member N founds the group
//	start N            an empty member N runs
//	join N M           N asks M to be let in
//	leave N, stay N    N asks to be let go, and takes it back
//	submit N words     N broadcasts each word
//	read N             N asks from which log index on it is up to date
//	tick N K           K ticks for N, nothing is delivered
//	deliver            messages are delivered until there are none
//	run K              K times: a tick for everybody, and deliver
//	cut A-B, heal      messages between A and B are lost, until heal
//	crash N, restart N
//	checkpoint N       N saves its state and cuts its log there
//	clone N M          N restarts from the state of M
//	say N-M what       N, who need not exist, sends M a message; see [world.say]
//	view N, status N   what N shows
//	same N M           whether the states of N and M are equal
func (w *world) play(line []string) {
	verb, args := line[0], line[1:]
	switch verb {
	case "group":
		w.form(number(args[0]))
		w.story.end()
	case "bootstrap":
		w.bootstrap(number(args[0]))
	case "start":
		w.start(w.add(number(args[0])))
	case "tick":
		for range number(args[1]) {
			w.tick(w.member(number(args[0])))
		}
	case "deliver":
		w.settle()
	case "run":
		w.run(number(args[0]))
	case "cut":
		a, b := pair(args[0])
		w.cut[[2]uint64{min(a, b), max(a, b)}] = true
	case "heal":
		clear(w.cut)
	case "say":
		from, to := pair(args[0])
		w.say(from, to, args[1:])
	default:
		w.act(verb, w.member(number(args[0])), args[1:])
	}
}

// form makes a group of n members, all ONLINE, led by the first.
func (w *world) form(n uint64) {
	w.bootstrap(1)
	w.run(20)
	for i := range n - 1 {
		w.start(w.add(i + 2))
		w.join(w.member(i+2), w.member(1))
		w.run(8)
	}
	if first := w.member(1).group; first.View().online() != int(n) || !first.Status().Leading {
		w.t.Fatalf("no group of %d was formed: %s", n, first.View())
	}
}

func (w *world) run(ticks uint64) {
	for range ticks {
		for _, m := range w.up() {
			w.tick(m)
		}
		w.settle()
	}
}

// act does what one member does.
func (w *world) act(verb string, m *member, args []string) {
	switch verb {
	case "join":
		w.join(m, w.member(number(args[0])))
	case "leave":
		if err := m.group.Leave(); err != nil {
			w.story.tell(m.n, "%v", err)
		}
		w.pump(m)
	case "stay":
		m.group.Stay()
	case "submit":
		for _, word := range args {
			w.submit(m, word)
		}
		w.pump(m)
	case "read":
		w.ask(m)
		w.pump(m)
	case "crash":
		w.crash(m)
	case "restart":
		w.start(m)
	case "checkpoint":
		w.saveCheckpoint(m)
		m.log.truncate(m.checkpoint.Index)
		w.story.tell(m.n, "log cut at %d", m.checkpoint.Index)
	case "clone":
		w.copyFrom(m, w.member(number(args[0])))
	case "view":
		w.story.tell(m.n, "view %d: %s", m.group.View().ID, standing(m.group.View()))
	case "status":
		st := m.group.Status()
		w.story.tell(m.n, "leader %d, term %d, delivered %d, %d wait, %d outstanding",
			st.Leader, st.Term, st.Delivered, m.group.Outstanding(), len(m.group.sender.outstanding))
	case "same":
		other := w.member(number(args[0]))
		w.story.tell(m.n, "at %d, same state as %d at %d: %v", m.group.Delivered(), other.n, other.group.Delivered(),
			bytes.Equal(m.group.AppendState(nil), other.group.AppendState(nil)))
	default:
		w.t.Fatalf("unknown verb %s", verb)
	}
}

// say puts a message on the wire as if its sender had sent it.
//
//	frame O.S.Q words   frame Q of session S of origin O
//	garbage             a frame that cannot be decoded
//	later               a frame of a format that is not known yet
//	leave, removed
func (w *world) say(from, to uint64, what []string) {
	m := Message{Kind: MessageFrame}
	switch what[0] {
	case "frame":
		var h frameHeader
		if _, err := fmt.Sscanf(what[1], "%d.%d.%d", &h.origin, &h.session, &h.seq); err != nil {
			w.t.Fatal(err)
		}
		var msgs [][]byte
		for _, word := range what[2:] {
			msgs = append(msgs, []byte(word))
		}
		m.Frame = appendFrame(nil, h, msgs)
	case "garbage":
		m.Frame = []byte{entryFrame, 2, 1, 1, 200}
	case "later":
		m.Frame = []byte{entryFrame + 1}
	case "leave":
		m.Kind = MessageLeave
	case "removed":
		m.Kind = MessageRemoved
	default:
		w.t.Fatalf("nobody can say %s", what[0])
	}
	w.wire = append(w.wire, envelope{from: from, to: to, msg: m})
}

// number reads a script's number. Scripts are part of the tests: one that
// does not parse ends in a member 0, which does not exist.
func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

func pair(s string) (a, b uint64) {
	from, to, _ := strings.Cut(s, "-")
	return number(from), number(to)
}
