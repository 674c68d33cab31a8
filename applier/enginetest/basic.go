package enginetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// accounts is the table of tests that need one.
var accounts = tables[0]

func (s *suite) empty(t *testing.T) {
	newModel().check(t, s.open(t).Engine())
}

func (s *suite) apply(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.apply(t, e)
	m.check(t, e) // a batch that changes no data moves the position
	m.apply(t, e, tx{put(accounts, "a", "1"), put(accounts, "b", "")})
	m.check(t, e)
	m.apply(t, e,
		tx{put(accounts, "a", "2"), put(accounts, "a", "3")},
		tx{del(accounts, "a"), put(accounts, "c", "4")},
		tx{put(accounts, "a", "5"), del(accounts, "b"), del(accounts, "c"), del(accounts, "never")},
		tx{},
	)
	m.check(t, e)
	m.apply(t, e, tx{put(accounts, "d", "6"), del(accounts, "d"), del(accounts, "d"), put(accounts, "a", "5")})
	m.check(t, e)
	m.apply(t, e, tx{put(accounts, "big", strings.Repeat("x", 1<<20))})
	m.check(t, e)
}

// applyRefuses checks that what cannot be applied changes nothing.
func (s *suite) applyRefuses(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.fill(t, e, "v")
	good := applier.AppendMutation(nil, put(accounts, "a", "new"))
	cut := good[:len(good)-1]
	for name, payload := range map[string][]byte{
		"cut off":      cut,
		"unknown op":   {99},
		"good then":    append(slices.Clone(good), 99),
		"empty schema": applier.AppendMutation(nil, put(applier.Table{Name: "t"}, "a", "x")),
		"NUL in name":  applier.AppendMutation(nil, put(applier.Table{Schema: "s", Name: "t\x00"}, "a", "x")),
	} {
		b := m.clone().batch(tx{put(accounts, "a", "lost")}, tx{put(accounts, "b", "lost")})
		b.Transactions[1].Payload = payload
		if err := e.Apply(b); !errors.Is(err, applier.ErrPayload) {
			t.Errorf("%s: got %v, want %v", name, err, applier.ErrPayload)
		}
		m.check(t, e)
	}
	for _, index := range []uint64{m.position.Index, m.position.Index - 1, 0} {
		b := m.clone().batch(tx{put(accounts, "a", "lost")})
		b.To.Index = index
		if err := e.Apply(b); !errors.Is(err, applier.ErrOrder) {
			t.Errorf("batch to %d: got %v, want %v", index, err, applier.ErrOrder)
		}
		m.check(t, e)
	}
	m.apply(t, e, tx{put(accounts, "a", "after all that")})
	m.check(t, e)
}

func (s *suite) payloadNotKept(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	for i := range 20 {
		b := m.batch(tx{put(accounts, "a", fmt.Sprint(i)), put(accounts, fmt.Sprint(i), "x")})
		before := slices.Clone(b.Transactions[0].Payload)
		if err := e.Apply(b); err != nil {
			t.Fatal(err)
		}
		if payload := b.Transactions[0].Payload; !slices.Equal(payload, before) {
			t.Fatalf("payload was changed from %q to %q", before, payload)
		}
		clear(b.Transactions[0].Payload)
	}
	m.check(t, e)
}

func (s *suite) keys(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.fill(t, e, "v")
	m.check(t, e)
	for _, table := range tables {
		var gone tx
		for i, k := range keys {
			if i%2 == 0 {
				gone = append(gone, del(table, k))
			}
		}
		m.apply(t, e, gone)
		m.check(t, e)
	}
	snap := begin(t, e)
	for _, bad := range []applier.Table{{}, {Schema: "s"}, {Name: "n"}, {Schema: "bank\x00a", Name: "x"}} {
		if _, _, err := snap.Get(bad, nil); !errors.Is(err, applier.ErrTableName) {
			t.Errorf("get from table %q: got %v, want %v", bad, err, applier.ErrTableName)
		}
		if rows, err := scan(snap, bad, nil, nil, false); !errors.Is(err, applier.ErrTableName) || rows != nil {
			t.Errorf("scan of table %q: got %q, %v, want %v", bad, rows, err, applier.ErrTableName)
		}
	}
	closeIt(t, snap)
}

func (s *suite) bounds(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.fill(t, e, "v")
	snap := begin(t, e)
	bounds := [][]byte{nil}
	for _, k := range append(slices.Clone(keys), "0", "a\x00a", "\xff\xff\xff\xff") {
		bounds = append(bounds, []byte(k))
	}
	for _, from := range bounds {
		for _, to := range bounds {
			for _, reverse := range []bool{false, true} {
				got, err := scan(snap, accounts, from, to, reverse)
				want := m.rows(accounts, from, to, reverse)
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("scan from %q to %q, reverse %v: got %q, %v, want %q", from, to, reverse, got, err, want)
				}
			}
		}
	}
	closeIt(t, snap)
}

// scanStops checks loops that end early or are nested.
func (s *suite) scanStops(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	m.fill(t, e, "v")
	snap := begin(t, e)
	for range snap.Scan(accounts, nil, nil, false) {
		break
	}
	if err := snap.Err(); err != nil {
		t.Errorf("after break: %v", err)
	}
	var pairs int
	for k := range snap.Scan(accounts, nil, nil, false) {
		outer := string(k)
		for range snap.Scan(tables[1], nil, nil, true) {
			pairs++
		}
		if _, ok, err := snap.Get(accounts, []byte(outer)); !ok || err != nil {
			t.Errorf("get inside a scan: %v, %v", ok, err)
		}
	}
	if want := len(keys) * len(keys); pairs != want || snap.Err() != nil {
		t.Errorf("nested scans: %d pairs, %v, want %d", pairs, snap.Err(), want)
	}
	twice := snap.Scan(accounts, nil, nil, false)
	for range 2 { // the sequence can be walked again
		n := 0
		for range twice {
			n++
		}
		if n != len(keys) {
			t.Errorf("scan of %d pairs, want %d", n, len(keys))
		}
	}
	closeIt(t, snap)
}

// snapshots checks that each keeps showing the state it began on.
func (s *suite) snapshots(t *testing.T) {
	h, m := s.open(t), newModel()
	e := h.Engine()
	var snaps []applier.Snapshot
	var models []*model
	for i := range 12 {
		snaps, models = append(snaps, begin(t, e)), append(models, m.clone())
		m.fill(t, e, fmt.Sprint(i))
		m.apply(t, e, tx{del(accounts, keys[i]), put(accounts, fmt.Sprint("k", i), "x")})
		if i%4 == 3 {
			if err := e.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, snap := range snaps {
		if err := models[i].diff(snap); err != nil {
			t.Errorf("snapshot %d: %v", i, err)
		}
		// Values and keys are the caller's to change.
		if v, _, _ := snap.Get(tables[1], []byte("a")); len(v) > 0 {
			v[0] ^= 0xff
		}
		if err := models[i].diff(snap); err != nil {
			t.Errorf("snapshot %d after scribbling on a value: %v", i, err)
		}
		closeIt(t, snap)
		closeIt(t, snap)
		if _, _, err := snap.Get(accounts, nil); !errors.Is(err, applier.ErrClosed) {
			t.Errorf("get from a closed snapshot: %v", err)
		}
		if rows, err := scan(snap, accounts, nil, nil, false); rows != nil || !errors.Is(err, applier.ErrClosed) {
			t.Errorf("scan of a closed snapshot: %q, %v", rows, err)
		}
	}
	m.check(t, e)
}

// digest checks that it is a function of the contents and of nothing else.
func (s *suite) digest(t *testing.T) {
	content := func(e applier.Engine) applier.Digest {
		d, _, err := e.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a, b := s.open(t).Engine(), s.open(t).Engine()
	ma, mb := newModel(), newModel()
	other := tables[1]
	ma.apply(t, a, tx{put(accounts, "x", "1"), put(accounts, "y", "2"), put(other, "x", "3")})

	mb.apply(t, b, tx{put(other, "x", "0"), put(accounts, "z", "gone")})
	mb.apply(t, b, tx{put(accounts, "y", "2"), del(accounts, "z"), put(accounts, "y", "2")})
	mb.apply(t, b, tx{put(other, "x", "3")}, tx{put(accounts, "x", "7"), del(accounts, "x"), put(accounts, "x", "1")})
	if content(a) != content(b) {
		t.Errorf("same contents, digests %v and %v", content(a), content(b))
	}
	seen := map[applier.Digest]string{content(a): "the start"}
	for _, step := range []tx{
		{put(accounts, "x", "")},
		{del(accounts, "x")},
		{put(accounts, "", "x1")},
		{put(other, "y", "2"), del(accounts, "y")},
		{put(accounts, "y", "3"), put(other, "x", "2"), del(other, "y")},
	} {
		ma.apply(t, a, step)
		if was, dup := seen[content(a)]; dup {
			t.Errorf("after %v the digest is that of %s", step, was)
		}
		seen[content(a)] = step.String()
	}
	var all tx
	for table, pairs := range ma.tables {
		for k := range pairs {
			all = append(all, del(table, k))
		}
	}
	ma.apply(t, a, all)
	if content(a) != (applier.Digest{}) {
		t.Errorf("digest of nothing: %v", content(a))
	}
}

func (s *suite) reopen(t *testing.T) {
	h, m := s.open(t), newModel()
	for i := range 5 {
		if i > 0 {
			m.fill(t, h.Engine(), fmt.Sprint(i))
			m.apply(t, h.Engine(), tx{del(accounts, keys[i])})
		}
		if i%2 == 0 {
			if err := h.Engine().Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d, err := h.Engine().Durable(); err != nil || d != m.position.Index {
				t.Fatalf("durable after flush: %d, %v, want %d", d, err, m.position.Index)
			}
		}
		if err := h.Reopen(); err != nil {
			t.Fatal(err)
		}
		m.check(t, h.Engine())
	}
}
