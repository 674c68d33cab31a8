package enginetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// group is the UUID that numbers the transactions of the suite.
var group = gtid.UUID{0x5f, 0x0c, 15: 1}

// tables are chosen so that one name is the beginning of another and that their
// plain concatenations collide.
var tables = []applier.Table{
	{Schema: "bank", Name: "accounts"},
	{Schema: "bank", Name: "accounts2"},
	{Schema: "bank", Name: "a"},
	{Schema: "bankac", Name: "counts"},
	{Schema: "bank", Name: "accounts\x01"},
	{Schema: "b", Name: "ank.accounts"},
	{Schema: "bänk", Name: "\U0001F4B0"},
}

// keys are chosen for the bytes that delimiters and bounds are made of.
var keys = []string{
	"", "\x00", "\x00\x00", "\x00\xff", "\x01", "a", "a\x00", "a\x00b", "a\xff", "ab", "b",
	"\xfe", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff",
}

// model is what an engine should hold: plain maps.
type model struct {
	position applier.Position
	tables   map[applier.Table]map[string]string
}

func newModel() *model { return &model{tables: make(map[applier.Table]map[string]string)} }

func (m *model) clone() *model {
	c := &model{position: m.position, tables: make(map[applier.Table]map[string]string)}
	for t, pairs := range m.tables {
		c.tables[t] = maps.Clone(pairs)
	}
	return c
}

// tx is the mutations of one transaction.
type tx []applier.Mutation

// String names what t does, for messages.
func (t tx) String() string {
	var b strings.Builder
	for _, m := range t {
		fmt.Fprintf(&b, "[op %d of %v %q: value %q, delta %d]", m.Op, m.Table, m.Key, m.Value, m.Delta)
	}
	return b.String()
}

func put(t applier.Table, key, value string) applier.Mutation {
	return applier.Mutation{Op: applier.OpPut, Table: t, Key: []byte(key), Value: []byte(value)}
}

func del(t applier.Table, key string) applier.Mutation {
	return applier.Mutation{Op: applier.OpDelete, Table: t, Key: []byte(key)}
}

func add(t applier.Table, key string, n int64) applier.Mutation {
	return applier.Mutation{Op: applier.OpAdd, Table: t, Key: []byte(key), Delta: n}
}

// counter is the value of a counter at n.
func counter(n int64) string { return string(binary.BigEndian.AppendUint64(nil, uint64(n))) }

// batch makes the batch of txs that follows the model's position, and moves the
// model to it.
func (m *model) batch(txs ...tx) applier.Batch {
	b := applier.Batch{To: m.position}
	b.To.Index++
	for _, muts := range txs {
		b.To.Index++
		id := gtid.GTID{UUID: group, Number: b.To.Index}
		b.To.Executed = b.To.Executed.Add(id)
		t := applier.Transaction{
			GTID: id, LastCommitted: b.To.Index - 1, Sequence: b.To.Index,
			Index: b.To.Index, Origin: gtid.UUID{byte(b.To.Index)}, Time: int64(b.To.Index) * 1000,
		}
		for _, mu := range muts {
			t.Payload = applier.AppendMutation(t.Payload, mu)
			m.mutate(mu)
		}
		b.Transactions = append(b.Transactions, t)
	}
	m.position = b.To
	return b
}

func (m *model) mutate(mu applier.Mutation) {
	pairs := m.tables[mu.Table]
	if mu.Op == applier.OpDelete {
		delete(pairs, string(mu.Key))
		return
	}
	if pairs == nil {
		pairs = make(map[string]string)
		m.tables[mu.Table] = pairs
	}
	if mu.Op == applier.OpAdd {
		old, ok := pairs[string(mu.Key)]
		if !ok {
			old = counter(0)
		}
		// Unsigned, so that it wraps whatever a signed sum may do.
		sum := binary.BigEndian.Uint64([]byte(old)) + uint64(mu.Delta)
		pairs[string(mu.Key)] = counter(int64(sum))
		return
	}
	pairs[string(mu.Key)] = string(mu.Value)
}

// addable reports whether an add to the key can be applied.
func (m *model) addable(t applier.Table, key string) bool {
	old, ok := m.tables[t][key]
	return !ok || len(old) == 8
}

// certifiable makes txs such as certification lets through if they follow on the
// model: an add to what is no counter becomes a put of one.
func (m *model) certifiable(txs ...tx) []tx {
	m = m.clone()
	for _, muts := range txs {
		for i, mu := range muts {
			if mu.Op == applier.OpAdd && !m.addable(mu.Table, string(mu.Key)) {
				muts[i] = put(mu.Table, string(mu.Key), counter(mu.Delta))
			}
			m.mutate(muts[i])
		}
	}
	return txs
}

// digest computes the digest from the contents alone.
func (m *model) digest() applier.Digest {
	var d applier.Digester
	for t, pairs := range m.tables {
		for k, v := range pairs {
			d.Add(t, []byte(k), []byte(v))
		}
	}
	return d.Digest()
}

// row is a pair as text.
type row struct{ key, value string }

// rows returns the pairs of t in a range, in order.
func (m *model) rows(t applier.Table, from, to []byte, reverse bool) (rows []row) {
	for _, k := range slices.Sorted(maps.Keys(m.tables[t])) {
		if k >= string(from) && (to == nil || k < string(to)) {
			rows = append(rows, row{k, m.tables[t][k]})
		}
	}
	if reverse {
		slices.Reverse(rows)
	}
	return rows
}

// scan reads a range of a snapshot.
func scan(s applier.Snapshot, t applier.Table, from, to []byte, reverse bool) (rows []row, err error) {
	for k, v := range s.Scan(t, from, to, reverse) {
		rows = append(rows, row{string(k), string(v)})
	}
	return rows, s.Err()
}

// diff reports how a snapshot differs from the model, or nil.
func (m *model) diff(s applier.Snapshot) error {
	if err := samePosition(s.Position(), m.position); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	for i, t := range tables {
		want := m.rows(t, nil, nil, i%2 == 1)
		got, err := scan(s, t, nil, nil, i%2 == 1)
		if err != nil {
			return fmt.Errorf("scan %v: %w", t, err)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("scan %v: got %q, want %q", t, got, want)
		}
		for j, k := range keys {
			if (uint64(i+j)+m.position.Index)%4 != 0 {
				continue // the scan has seen it; other positions have others
			}
			want, wantOK := m.tables[t][k]
			got, ok, err := s.Get(t, []byte(k))
			if err != nil || ok != wantOK || !bytes.Equal(got, []byte(want)) {
				return fmt.Errorf("get %v %q: got %q, %v, %v, want %q, %v", t, k, got, ok, err, want, wantOK)
			}
		}
	}
	return nil
}

func samePosition(got, want applier.Position) error {
	if got.Index != want.Index || got.Part != want.Part || !got.Executed.Equal(want.Executed) {
		return fmt.Errorf("position %d+%d %v, want %d+%d %v", got.Index, got.Part, got.Executed, want.Index, want.Part, want.Executed)
	}
	return nil
}

// check compares everything that an engine shows with the model.
func (m *model) check(t rapid.TB, e applier.Engine) {
	t.Helper()
	m.checkHead(t, e)
	s := begin(t, e)
	if err := m.diff(s); err != nil {
		t.Fatalf("%v", err)
	}
	closeIt(t, s)
}

// checkHead compares all but the contents, which the digest stands for.
func (m *model) checkHead(t rapid.TB, e applier.Engine) {
	t.Helper()
	if err := samePosition(e.Position(), m.position); err != nil {
		t.Fatalf("engine: %v", err)
	}
	digest, at, err := e.Digest()
	if err != nil {
		t.Fatalf("digest: %v", err)
	}
	if err := samePosition(at, m.position); err != nil {
		t.Fatalf("digest: %v", err)
	}
	if want := m.digest(); digest != want {
		t.Fatalf("digest %v, want %v", digest, want)
	}
	if d, err := e.Durable(); err != nil || d > m.position.Index {
		t.Fatalf("durable: %d, %v, at position %d", d, err, m.position.Index)
	}
}

func begin(t rapid.TB, e applier.Engine) applier.Snapshot {
	t.Helper()
	s, err := e.Begin()
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	return s
}

func closeIt(t rapid.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatalf("close %T: %v", c, err)
	}
}

// apply applies txs to model and engine.
func (m *model) apply(t rapid.TB, e applier.Engine, txs ...tx) {
	t.Helper()
	if err := e.Apply(m.batch(txs...)); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// fill puts every key into every table.
func (m *model) fill(t rapid.TB, e applier.Engine, value string) {
	t.Helper()
	var all tx
	for i, table := range tables {
		for j, k := range keys {
			all = append(all, put(table, k, fmt.Sprint(value, i, j)))
		}
	}
	m.apply(t, e, all)
}
