package server

import (
	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func stateCheck(s *concordat.StateCheck) *adminpb.StateCheck {
	out := &adminpb.StateCheck{
		Checks: s.Checks, Passes: s.Passes, Index: s.Index, Agreed: uint32(s.Agreed), Parties: uint32(s.Parties),
	}
	for _, f := range s.Findings {
		x := &adminpb.StateFinding{
			Check: f.Check, Index: f.Index, Member: uuidText(f.Member), Reference: uuidText(f.Reference),
			Split: f.Split, Text: f.String(), Named: f.Named, More: f.More,
		}
		for _, k := range f.Keys {
			x.Keys = append(x.Keys, &adminpb.StateKey{Schema: k.Table.Schema, Table: k.Table.Name, Key: k.Key, How: k.How})
		}
		out.Findings = append(out.Findings, x)
	}
	return out
}
