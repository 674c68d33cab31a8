package server

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/contention"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// overTheNetwork is err as a client has it.
func overTheNetwork(t *testing.T, err error) *concordat.ConflictError {
	t.Helper()
	got, ok := errors.AsType[*concordat.ConflictError](fromStatus(toStatus(errors.Join(context.Canceled, err)), lostWrite))
	if !ok {
		t.Fatalf("%v is no conflict any more", err)
	}
	return got
}

// Each field of a conflict arrives, and nil is not empty.
func TestConflictTravels(t *testing.T) {
	winner, err := gtid.Parse("5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:tag:7")
	if err != nil {
		t.Fatal(err)
	}
	full := concordat.ConflictError{
		Table: accounts, Key: []byte{0, 0xff}, Range: true, From: []byte{0xfe}, To: []byte("to"),
		Incoming: certifier.Read, Earlier: certifier.Delta,
		Winner: winner, Member: uuid(t, "00000000-0000-4000-8000-000000000009"), Age: 1234567 * time.Nanosecond,
		Where: concordat.HeldBack,
	}
	for field, value := range reflect.ValueOf(full).Fields() {
		if value.IsZero() {
			t.Fatalf("%s is not tried", field.Name)
		}
	}
	form := &kvpb.Conflict{
		Range: true, From: []byte{0xfe}, To: []byte("to"), Incoming: kvpb.Kind_KIND_READ, Earlier: kvpb.Kind_KIND_DELTA,
		Member: full.Member.String(), AgeNanos: 1234567, Where: kvpb.Where_WHERE_HELD,
	}
	if diff := cmp.Diff(form, conflict(&full), protocmp.Transform()); diff != "" {
		t.Errorf("on the network: %s", diff)
	}
	for _, c := range []struct {
		name   string
		change func(*concordat.ConflictError)
	}{
		{"everything", func(*concordat.ConflictError) {}},
		{"no key", func(e *concordat.ConflictError) { e.Key = nil }},
		{"empty key", func(e *concordat.ConflictError) { e.Key = []byte{} }},
		{"no bounds", func(e *concordat.ConflictError) { e.From, e.To = nil, nil }},
		{"empty bounds", func(e *concordat.ConflictError) { e.From, e.To = []byte{}, []byte{} }},
		{"a row of the program's own", func(e *concordat.ConflictError) { e.Table, e.Key, e.Range = concordat.Table{}, nil, false }},
		{"no member", func(e *concordat.ConflictError) { e.Member = gtid.UUID{} }},
		{"just now", func(e *concordat.ConflictError) { e.Age = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := full
			c.change(&sent)
			if diff := cmp.Diff(&sent, overTheNetwork(t, &sent)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The enums of the network have the words of the library, one for each kind
// and place and no others.
func TestKindsAndPlaces(t *testing.T) {
	winner := gtid.GTID{UUID: uuid(t, "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"), Number: 1}
	for k := range certifier.Kind(certifier.Kinds) {
		if got, want := toEnum[kvpb.Kind](k).String(), "KIND_"+strings.ToUpper(k.String()); got != want {
			t.Errorf("%v is %s, want %s", k, got, want)
		}
		sent := &concordat.ConflictError{Incoming: k, Earlier: certifier.Kinds - 1 - k, Winner: winner}
		if diff := cmp.Diff(sent, overTheNetwork(t, sent)); diff != "" {
			t.Error(diff)
		}
	}
	for w := range concordat.Where(contention.Wheres) {
		if got, want := toEnum[kvpb.Where](w).String(), "WHERE_"+strings.ToUpper(w.String()); got != want {
			t.Errorf("%v is %s, want %s", w, got, want)
		}
		if got := overTheNetwork(t, &concordat.ConflictError{Where: w, Winner: winner}); got.Where != w {
			t.Errorf("%v arrives as %v", w, got.Where)
		}
	}
	if k, w := len(kvpb.Kind_name)-1, len(kvpb.Where_name)-1; k != certifier.Kinds || w != contention.Wheres {
		t.Errorf("%d kinds and %d places, want %d and %d", k, w, certifier.Kinds, contention.Wheres)
	}
}

// What cannot be understood of a conflict leaves it one.
func TestConflictInParts(t *testing.T) {
	sound := kvpb.ErrorInfo{
		Code: kvpb.ErrorInfo_CODE_CONFLICT, Text: "the text", Winner: "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:7",
		Conflict: &kvpb.Conflict{Incoming: kvpb.Kind_KIND_READ, Earlier: kvpb.Kind_KIND_WRITE, Where: kvpb.Where_WHERE_REFUSED},
	}
	if _, ok := errors.AsType[*concordat.ConflictError](fromInfo(&sound)); !ok {
		t.Fatal("a sound one is no *ConflictError")
	}
	for _, c := range []struct {
		name   string
		change func(*kvpb.ErrorInfo)
	}{
		{"no kind", func(i *kvpb.ErrorInfo) { i.Conflict.Incoming = 0 }},
		{"a new kind", func(i *kvpb.ErrorInfo) { i.Conflict.Earlier = certifier.Kinds + 1 }},
		{"a negative kind", func(i *kvpb.ErrorInfo) { i.Conflict.Earlier = -1 }},
		{"a kind beyond a byte", func(i *kvpb.ErrorInfo) { i.Conflict.Earlier = 257 }},
		{"a new place", func(i *kvpb.ErrorInfo) { i.Conflict.Where = contention.Wheres + 1 }},
		{"no winner", func(i *kvpb.ErrorInfo) { i.Winner = "" }},
		{"no UUID", func(i *kvpb.ErrorInfo) { i.Conflict.Member = "somebody" }},
	} {
		i := &kvpb.ErrorInfo{
			Code: sound.Code, Text: sound.Text, Winner: sound.Winner,
			Conflict: &kvpb.Conflict{Incoming: sound.Conflict.Incoming, Earlier: sound.Conflict.Earlier, Where: sound.Conflict.Where},
		}
		c.change(i)
		err := fromInfo(i)
		if _, ok := errors.AsType[*concordat.ConflictError](err); ok || !errors.Is(err, concordat.ErrConflict) || err.Error() != "the text" {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A report arrives whole: each number is in its place.
func TestReportTravels(t *testing.T) {
	loser, winner := uuid(t, "00000000-0000-4000-8000-000000000001"), uuid(t, "00000000-0000-4000-8000-000000000002")
	sent := &concordat.ConflictReport{
		Covered: 90 * time.Second, Total: 18, Rate: 0.2, Where: [...]uint64{9, 0, 9},
		Tables:      []contention.Table{{Name: "bank.accounts", Count: 7, Rate: 0.7}, {Count: 6, Rate: 0.6}},
		OtherTables: 5,
		Keys:        []contention.Key{{Table: "bank.accounts", Key: "\x00\xff", Cut: true, Count: 4, Overcount: 2, Rate: 0.4}},
		Pairs:       []contention.Pair{{Loser: loser, Winner: winner, Count: 3, Rate: 0.3}},
		OtherPairs:  15,
	}
	sent.Kinds[certifier.Write][certifier.Delta] = 10
	sent.Kinds[certifier.Read][certifier.Write] = 8
	want := &adminpb.ConflictsResponse{
		CoveredNanos: 90e9, Total: 18, Rate: 0.2,
		Places: []*adminpb.ConflictPlace{{Where: kvpb.Where_WHERE_REFUSED, Count: 9}, {Where: kvpb.Where_WHERE_HELD, Count: 9}},
		Kinds: []*adminpb.ConflictKinds{
			{Incoming: kvpb.Kind_KIND_WRITE, Earlier: kvpb.Kind_KIND_DELTA, Count: 10},
			{Incoming: kvpb.Kind_KIND_READ, Earlier: kvpb.Kind_KIND_WRITE, Count: 8},
		},
		Tables:      []*adminpb.ConflictTable{{Table: "bank.accounts", Count: 7, Rate: 0.7}, {Count: 6, Rate: 0.6}},
		OtherTables: 5,
		Keys:        []*adminpb.ConflictKey{{Table: "bank.accounts", Key: []byte{0, 0xff}, Cut: true, Count: 4, Overcount: 2, Rate: 0.4}},
		Pairs:       []*adminpb.ConflictPair{{Loser: loser.String(), Winner: winner.String(), Count: 3, Rate: 0.3}},
		OtherPairs:  15,
	}
	if diff := cmp.Diff(want, conflictReport(sent), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// lose makes a transaction lose to another one: what it read was written.
func lose(t *testing.T, n *concordat.Node, key string) {
	t.Helper()
	ctx := testContext(t)
	tx, err := n.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := n.Update(ctx, func(tx *concordat.Tx) error { return tx.Put(accounts, []byte(key), []byte("first")) }); err != nil {
		t.Fatal(err)
	}
	err = tx.Put(accounts, []byte(key), []byte("second"))
	if err == nil {
		_, err = tx.Commit(ctx)
	}
	if !errors.Is(err, concordat.ErrConflict) {
		t.Fatalf("the second of two that wrote %q: %v", key, err)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	r, err := c.Conflicts(ctx, &adminpb.ConflictsRequest{})
	if err != nil || r.GetTotal() != 0 || r.GetMember() != n.Status().Member.String() {
		t.Fatalf("before any: %v, %v", r, err)
	}
	lose(t, n, "\x00\xff")
	lose(t, n, "\x00\xff")
	lose(t, n, "k")
	member := n.Status().Member.String()
	for _, limit := range []uint32{0, 1, 1<<32 - 1} {
		r, err = c.Conflicts(ctx, &adminpb.ConflictsRequest{Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		keys := 2
		if limit == 1 {
			keys = 1
		}
		if r.GetTotal() != 3 || len(r.GetTables()) != 1 || len(r.GetKeys()) != keys || len(r.GetPairs()) != 1 {
			t.Fatalf("limit %d: %v", limit, r)
		}
		if k := r.GetKeys()[0]; string(k.GetKey()) != "\x00\xff" || k.GetCount() != 2 || k.GetTable() != "bank.accounts" {
			t.Errorf("limit %d: the hottest key is %v", limit, k)
		}
		if p := r.GetPairs()[0]; p.GetLoser() != member || p.GetWinner() != member {
			t.Errorf("limit %d: %v", limit, p)
		}
	}
}
