package concordat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/certifier"
)

// programEngine applies payloads of a program's own: each is a line of text,
// "id e-mail", that it keeps. Its keys and its position are those of the engine
// below.
type programEngine struct {
	applier.Engine
	mu    sync.Mutex
	lines []string
}

func (e *programEngine) Apply(b applier.Batch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range b.Transactions {
		e.lines = append(e.lines, string(b.Transactions[i].Payload))
		b.Transactions[i].Payload = nil
	}
	return e.Engine.Apply(b)
}

func (e *programEngine) found() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lines)
}

// programGroup is a group whose members each have such an engine.
func programGroup(t testing.TB, n int) (*group, []*programEngine) {
	t.Helper()
	var engines []*programEngine
	g := openGroup(t, n, func(c *concordat.Config) {
		below, err := pebblekv.Open(filepath.Join(c.Dir, "data"), pebblekv.Options{})
		if err != nil {
			t.Fatal(err)
		}
		e := &programEngine{Engine: below}
		engines = append(engines, e)
		c.Engine = e
	})
	return g, engines
}

var (
	primary = certifier.Index{Name: certifier.PrimaryIndex, Schema: "app", Table: "users"}
	mail    = certifier.Index{Name: "mail", Schema: "app", Table: "users"}
)

// user is a transaction that inserts a row with a primary key and a unique one.
func user(t testing.TB, n *concordat.Node, id int64, address string) *concordat.Tx {
	t.Helper()
	tx := begin(t, n)
	rows, err := tx.Rows()
	mustWrite(t, err)
	rows.Write(primary, certifier.Int(id, 8))
	rows.Write(mail, certifier.Text([]byte(address)))
	payload := []byte(fmt.Sprint(id, " ", address))
	mustWrite(t, tx.SetPayload(payload))
	clear(payload) // it was copied
	return tx
}

// Rows that a program certifies itself conflict by any of their unique keys.
func TestRowsOfAProgram(t *testing.T) {
	t.Parallel()
	g, engines := programGroup(t, 2)
	one, two, three := user(t, g.nodes[0], 1, "a@b"), user(t, g.nodes[1], 2, "a@b"), user(t, g.nodes[1], 3, "c@d")
	won := mustCommit(t, one)
	_, err := two.Commit(testContext(t))
	c := mustLose(t, err, concordat.RefusedByGroup)
	if c.Table != (concordat.Table{}) || c.Key != nil || c.Range || c.Winner != won || c.Member != g.nodes[0].Status().Member {
		t.Errorf("lost by %+v, want to %s on a row of the program's own", c, won)
	}
	if !strings.Contains(err.Error(), "a row of the program's own") {
		t.Errorf("the error says %v", err)
	}
	mustCommit(t, three)
	mustAgree(t, g.nodes...)
	for at, e := range engines {
		if got, want := fmt.Sprint(e.found()), "[1 a@b 3 c@d]"; got != want {
			t.Errorf("member %d has applied %s, want %s", at, got, want)
		}
	}
}

// Rows beside keys of the library's: the error names the key if that is what
// clashed, and does not if it is a row.
func TestRowsBesideKeys(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	mixed := func(n *concordat.Node, id int64, key string) *concordat.Tx {
		tx := serializable(t, n)
		rows, err := tx.Rows()
		mustWrite(t, err)
		rows.Write(primary, certifier.Int(id, 8))
		rows.Range(primary, []certifier.Part{certifier.Int(100*id, 8)}, []certifier.Part{certifier.Int(100*id+10, 8)})
		pairs(tx.Scan(duty, []byte(key), []byte(key+"z")))
		mustWrite(t, tx.Put(accounts, []byte(key), nil))
		concordat.JudgedByGroup(tx)
		return tx
	}
	for i, c := range []struct {
		id1, id2   int64
		key1, key2 string
		table      concordat.Table
		ranged     bool
	}{
		{1, 1, "a", "b", concordat.Table{}, false},
		{2, 3, "c", "c", accounts, false},
		{400, 4, "d", "e", concordat.Table{}, true},
		{5, 6, "f", "g", duty, true},
	} {
		one, two := mixed(g.nodes[0], c.id1, c.key1), mixed(g.nodes[1], c.id2, c.key2)
		if c.table == duty {
			mustWrite(t, one.Put(duty, []byte(c.key2+"y"), nil))
		}
		mustCommit(t, one)
		_, err := two.Commit(testContext(t))
		got := mustLose(t, err, concordat.RefusedByGroup)
		if got.Table != c.table || got.Range != c.ranged {
			t.Errorf("case %d: lost by %+v", i, got)
		}
		if c.table == accounts && !bytes.Equal(got.Key, []byte(c.key2)) || c.table == duty && !bytes.Equal(got.From, []byte(c.key2)) {
			t.Errorf("case %d: lost on the key %q from %q", i, got.Key, got.From)
		}
		mustAgree(t, g.nodes...)
	}
}

// Rows without a payload are certified like any others.
func TestRowsAlone(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	lock := func(n *concordat.Node) *concordat.Tx {
		tx := begin(t, n)
		rows, err := tx.Rows()
		mustWrite(t, err)
		rows.Write(primary, certifier.Int(1, 8))
		return tx
	}
	one, two := lock(g.nodes[0]), lock(g.nodes[1])
	won := mustCommit(t, one)
	_, err := two.Commit(testContext(t))
	if c := mustLose(t, err, concordat.RefusedByGroup); c.Winner != won {
		t.Errorf("lost to %s, want %s", c.Winner, won)
	}
}

// A payload without rows may change anything: it is refused nothing, and
// whoever has read and not seen it is.
func TestPayloadWithoutRows(t *testing.T) {
	t.Parallel()
	g, engines := programGroup(t, 2)
	reader := serializable(t, g.nodes[1])
	mustRead(t, reader, "k", "")
	mustWrite(t, reader.SetPayload([]byte("reader")))
	writer := user(t, g.nodes[1], 1, "a@b")
	barrier := begin(t, g.nodes[0])
	mustWrite(t, barrier.SetPayload([]byte("anything")))
	won := mustCommit(t, barrier)
	_, err := reader.Commit(testContext(t))
	c := mustLose(t, err, concordat.RefusedByGroup)
	if c.Winner != won || c.Incoming != certifier.Read || c.Range || c.Key != nil || c.Table != (concordat.Table{}) {
		t.Errorf("lost by %+v, want to %s", c, won)
	}
	if !strings.Contains(err.Error(), "the winner does not say what it changed") {
		t.Errorf("the error says %v", err)
	}
	mustCommit(t, writer)
	mustAgree(t, g.nodes...)
	if got, want := fmt.Sprint(engines[1].found()), "[anything 1 a@b]"; got != want {
		t.Errorf("applied %s, want %s", got, want)
	}
}

// Keys and a payload exclude each other, in either order, and what was refused
// is not in the way.
func TestPayloadExcludesKeys(t *testing.T) {
	t.Parallel()
	g, engines := programGroup(t, 1)
	n := g.nodes[0]
	tx := begin(t, n)
	mustWrite(t, tx.Put(accounts, []byte("k"), nil))
	if err := tx.SetPayload(nil); !errors.Is(err, concordat.ErrInvalid) {
		t.Errorf("payload after a key: %v, want ErrInvalid", err)
	}
	tx = begin(t, n)
	mustWrite(t, tx.SetPayload([]byte("payload")))
	for what, err := range map[string]error{
		"put": tx.Put(accounts, []byte("k"), nil), "delete": tx.Delete(accounts, []byte("k")), "add": tx.Add(accounts, []byte("k"), 1),
	} {
		if !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("%s after a payload: %v, want ErrInvalid", what, err)
		}
	}
	if err := tx.SetPayload(make([]byte, concordat.DefaultTransactionSizeLimit+1)); !errors.Is(err, concordat.ErrTooLarge) {
		t.Errorf("a payload that is too large: %v", err)
	}
	mustCommit(t, tx)
	err := n.View(context.Background(), func(tx *concordat.Tx) error {
		_, err := tx.Rows()
		return errors.Join(err, tx.SetPayload(nil))
	})
	if !errors.Is(err, concordat.ErrTxReadOnly) {
		t.Errorf("in a view: %v, want ErrTxReadOnly", err)
	}
	if got := engines[0].found(); len(got) != 1 || got[0] != "payload" {
		t.Errorf("applied %q, want the payload alone", got)
	}
}

// Rows that cannot be are an error of Commit, and nothing happens.
func TestRowsThatCannotBe(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	for name, note := range map[string]func(*certifier.WriteSet){
		"number": func(rows *certifier.WriteSet) { rows.Write(primary, certifier.Int(1000, 1)) },
		"parts":  func(rows *certifier.WriteSet) { rows.Write(primary, certifier.Int(1, 8), certifier.Int(2, 8)) },
	} {
		tx := begin(t, n)
		rows, err := tx.Rows()
		mustWrite(t, err)
		note(rows)
		mustWrite(t, tx.Put(accounts, []byte("k"), nil))
		if _, err := tx.Commit(testContext(t)); !errors.Is(err, concordat.ErrInvalid) || !errors.Is(err, certifier.ErrWriteSet) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if got := contents(t, n); !maps.Equal(got, map[string]string{}) {
		t.Errorf("in the end there is %v", got)
	}
}

// A value that does not fit its column is said at the commit, also when there is
// nothing else to commit.
func TestRowsThatDoNotFit(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	tx := begin(t, g.nodes[0])
	rows, err := tx.Rows()
	if err != nil {
		t.Fatal(err)
	}
	rows.Write(certifier.Index{Name: certifier.PrimaryIndex, Schema: "s", Table: "t"}, certifier.Uint(300, 1))
	if _, err := tx.Commit(testContext(t)); !errors.Is(err, concordat.ErrInvalid) || !errors.Is(err, certifier.ErrWriteSet) {
		t.Errorf("commit: %v", err)
	}
}
