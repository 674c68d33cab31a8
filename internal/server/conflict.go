package server

import (
	"context"
	"fmt"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Conflicts implements adminpb.AdminServer.
func (a *admin) Conflicts(_ context.Context, r *adminpb.ConflictsRequest) (*adminpb.ConflictsResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	const most = 1 << 30 // more than there can be, and an int everywhere
	report := n.Conflicts(int(min(r.GetLimit(), most)))
	out := conflictReport(&report)
	out.Member = n.Status().Member.String()
	return out, nil
}

func conflictReport(r *concordat.ConflictReport) *adminpb.ConflictsResponse {
	out := &adminpb.ConflictsResponse{
		CoveredNanos: int64(r.Covered), Total: r.Total, Rate: r.Rate,
		OtherTables: r.OtherTables, OtherPairs: r.OtherPairs,
	}
	for where, count := range r.Where {
		if count > 0 {
			out.Places = append(out.Places, &adminpb.ConflictPlace{Where: toEnum[kvpb.Where](where), Count: count})
		}
	}
	for incoming := range r.Kinds {
		for earlier, count := range r.Kinds[incoming] {
			if count > 0 {
				out.Kinds = append(out.Kinds, &adminpb.ConflictKinds{
					Incoming: toEnum[kvpb.Kind](incoming), Earlier: toEnum[kvpb.Kind](earlier), Count: count,
				})
			}
		}
	}
	for _, t := range r.Tables {
		out.Tables = append(out.Tables, &adminpb.ConflictTable{Table: t.Name, Count: t.Count, Rate: t.Rate})
	}
	for _, k := range r.Keys {
		out.Keys = append(out.Keys, &adminpb.ConflictKey{
			Table: k.Table, Key: []byte(k.Key), Cut: k.Cut, Count: k.Count, Overcount: k.Overcount, Rate: k.Rate,
		})
	}
	for _, p := range r.Pairs {
		out.Pairs = append(out.Pairs, &adminpb.ConflictPair{
			Loser: uuidText(p.Loser), Winner: uuidText(p.Winner), Count: p.Count, Rate: p.Rate,
		})
	}
	return out
}

// toEnum returns the form on the network of a kind or a place. Those of the
// library are stable and count from 0, and a protobuf enum has 0 for none.
func toEnum[E ~int32, T ~byte | ~int](v T) E { return E(v) + 1 }

// fromEnum is the reverse of toEnum; count is how many there are.
func fromEnum[T ~byte, E interface {
	~int32
	fmt.Stringer
}](to *T, e E, count int) error {
	if e < 1 || int(e) > count {
		return fmt.Errorf("%T %v is not known here", e, e)
	}
	*to = T(e - 1)
	return nil
}

func conflict(c *concordat.ConflictError) *kvpb.Conflict {
	return &kvpb.Conflict{
		Range: c.Range, From: c.From, To: c.To,
		Incoming: toEnum[kvpb.Kind](c.Incoming), Earlier: toEnum[kvpb.Kind](c.Earlier),
		Member: uuidText(c.Member), AgeNanos: int64(c.Age), Where: toEnum[kvpb.Where](c.Where),
	}
}

// conflictError is the reverse of conflict and what info says beside it.
func conflictError(i *kvpb.ErrorInfo) (*concordat.ConflictError, error) {
	c := i.GetConflict()
	e := &concordat.ConflictError{
		Table: table(i.GetTable()), Key: i.Key,
		Range: c.GetRange(), From: c.From, To: c.To,
		Age: time.Duration(c.GetAgeNanos()),
	}
	// How many kinds and places there are is known by the reports that count
	// them.
	var counted concordat.ConflictReport
	for _, err := range []error{
		fromEnum(&e.Incoming, c.GetIncoming(), len(counted.Kinds)),
		fromEnum(&e.Earlier, c.GetEarlier(), len(counted.Kinds)),
		fromEnum(&e.Where, c.GetWhere(), len(counted.Where)),
	} {
		if err != nil {
			return nil, err
		}
	}
	var err error
	if e.Winner, err = gtid.Parse(i.GetWinner()); err != nil {
		return nil, err
	}
	if text := c.GetMember(); text != "" {
		if e.Member, err = gtid.ParseUUID(text); err != nil {
			return nil, err
		}
	}
	return e, nil
}
