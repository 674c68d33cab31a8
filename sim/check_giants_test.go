package sim

import (
	"encoding/binary"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// Messages as members write them.
var (
	opens    = []byte{openKind, 1, 50, 1, 1}
	givesUp  = []byte{giveUpKind}
	fragment = func(n byte, text string) []byte { return append([]byte{fragmentKind, n, fragmentPlain}, text...) }
	packed   = func(n, size byte) []byte { return []byte{fragmentKind, n, fragmentPacked, size, 1, 2} }
)

func endOf(fragments, size byte) []byte {
	b := append(append([]byte{endKind}, make([]byte, 16)...), make([]byte, 1+1+8+1)...) // no epoch, flags, time or wish
	b, err := gtid.Set{}.AppendBinary(b)
	if err != nil {
		panic(err)
	}
	return append(b, fragments, size, 0, 1, 2, 3, 4)
}

func limitOf(version, bytes byte) []byte {
	return append([]byte{settingsKind, version, 10, 10, 1, 1, 1, 1, 0, 0, 0, bytes}, make([]byte, flowcontrol.NumFields)...)
}

// told is one entry: the messages of an origin, and the verdict on the last, 0 for
// none.
type told struct {
	origin, session, seq byte
	messages             [][]byte
	verdict              certifier.Outcome
	gone                 uint64 // raft id of who leaves there
}

// TestAssembly tells the checker what members made of giants, rightly and wrongly.
func TestAssembly(t *testing.T) {
	from := func(origin, seq byte, verdict certifier.Outcome, messages ...[]byte) told {
		return told{origin: origin, session: 1, seq: seq, messages: messages, verdict: verdict}
	}
	const certified, givenUp, tooLarge = certifier.Certified, certifier.GivenUp, certifier.TooLarge
	small := append([]byte{transactionKind}, make([]byte, 60)...)
	for name, c := range map[string]struct {
		entries []told
		right   certifier.Outcome // of the last transaction
	}{
		"whole":              {[]told{from(1, 1, certified, fragment(0, "abc"), packed(1, 9), endOf(2, 12))}, certified},
		"in pieces":          {[]told{from(1, 1, 0, fragment(0, "abc")), from(2, 1, 0, fragment(0, "x")), from(1, 2, certified, fragment(1, "d"), endOf(2, 4))}, certified},
		"nothing came":       {[]told{from(1, 1, givenUp, endOf(1, 3))}, givenUp},
		"one missing":        {[]told{from(1, 1, givenUp, fragment(0, "abc"), fragment(2, "d"), endOf(3, 5))}, givenUp},
		"another size":       {[]told{from(1, 1, givenUp, fragment(0, "abc"), endOf(1, 4))}, givenUp},
		"of another":         {[]told{from(1, 1, 0, fragment(0, "abc")), from(2, 1, givenUp, endOf(1, 3))}, givenUp},
		"taken back":         {[]told{from(1, 1, givenUp, fragment(0, "abc"), givesUp, endOf(1, 3))}, givenUp},
		"begun again":        {[]told{from(1, 1, certified, fragment(0, "abc"), fragment(0, "de"), endOf(1, 2))}, certified},
		"another session":    {[]told{from(1, 1, 0, fragment(0, "abc")), {origin: 1, session: 2, seq: 1, messages: [][]byte{opens, endOf(1, 3)}, verdict: givenUp}}, givenUp},
		"gone and back":      {[]told{from(1, 1, 0, fragment(0, "abc")), {gone: 1}, {gone: 9}, from(1, 2, givenUp, endOf(1, 3))}, givenUp},
		"silent":             {[]told{from(1, 1, 0, limitOf(1, 20), fragment(0, "abc")), from(2, 1, 0, opens), from(2, 2, 0, opens), from(1, 2, givenUp, endOf(1, 3))}, givenUp},
		"beyond the limit":   {[]told{from(1, 1, tooLarge, limitOf(1, 3), fragment(0, "abc"), fragment(1, "d"), endOf(2, 4))}, tooLarge},
		"small, and too big": {[]told{from(1, 1, tooLarge, limitOf(1, 50), small)}, tooLarge},
		"an older limit":     {[]told{from(1, 1, certified, limitOf(2, 3), small)}, certified},
		"not the next frame": {[]told{from(1, 2, 0, fragment(0, "abc")), from(1, 1, givenUp, endOf(1, 3))}, givenUp},
	} {
		for _, verdict := range []certifier.Outcome{certified, givenUp, tooLarge, certifier.Fenced, certifier.Duplicate, certifier.Conflict} {
			text := tellAssembly(c.entries, verdict)
			wrong := verdict != c.right && verdict != certifier.Fenced && verdict != certifier.Duplicate && (c.right != certified || verdict != certifier.Conflict)
			if (text != "") != wrong {
				t.Errorf("%s, and it is %v: %q", name, verdict, text)
			}
			if wrong && !strings.Contains(text, "by the log") {
				t.Errorf("%s: %q", name, text)
			}
		}
	}
}

// tellAssembly tells a checker of entries, the last of which has that verdict, and
// returns what it says.
func tellAssembly(entries []told, last certifier.Outcome) string {
	c := newAssembly(newHistory(gtid.UUID{1}, &marked{}, func(string, string, ...any) {}))
	c.intake.view = gcs.View{Members: []gcs.Member{{RaftID: 1}, {RaftID: 2}, {RaftID: 9}}}
	for i, x := range entries {
		b := []byte{frameFormat, x.origin, x.session, x.seq, byte(len(x.messages))}
		for _, m := range x.messages {
			b = append(binary.AppendUvarint(b, uint64(len(m))), m...)
		}
		e := &entry{index: uint64(i + 1), raw: &raftpb.Entry{Data: b, Type: raftpb.EntryNormal.Enum()}}
		if x.gone != 0 {
			e.raw.Data = nil
			e.view = &gcs.View{Members: []gcs.Member{{RaftID: 1}, {RaftID: 2}, {RaftID: 9}}}
			if x.gone == 1 {
				e.view.Members = e.view.Members[1:]
			}
		}
		if x.verdict != 0 {
			e.judged = []judged{{origin: uint64(x.origin), session: uint64(x.session), id: replica.TransactionID{byte(i)}, verdict: certifier.Verdict{Outcome: last}}}
		}
		if text := c.delivered("m", e, nil); text != "" {
			return text
		}
	}
	return ""
}

// TestOrderOfGiants checks that those in fragments and the others are in order each
// by themselves.
func TestOrderOfGiants(t *testing.T) {
	r := newRecord(t)
	c := &order{history: r.history, sessions: map[uint64]*session{}}
	deliver := func(giant bool, place int) string {
		s := r.submits(0)
		s.giant, s.place = giant, place
		return c.delivered("m", r.entry(1, 0, judged{origin: 1, session: 1, id: s.id}), nil)
	}
	for i, x := range []struct {
		giant bool
		place int
		right bool
	}{
		{false, 1, true}, {true, 1, true}, {false, 2, true}, {true, 3, true}, {true, 2, false}, {true, 3, false}, {false, 4, false},
	} {
		if text := deliver(x.giant, x.place); (text == "") != x.right {
			t.Errorf("delivery %d: %q", i, text)
		}
	}
}
