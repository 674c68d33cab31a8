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

func applyFaults(s *concordat.ApplyFaults) *adminpb.ApplyFaults {
	out := &adminpb.ApplyFaults{Refused: s.Refused}
	for i := range s.Votes {
		v := &s.Votes[i]
		x := &adminpb.ApplyVote{
			Gtid: v.GTID.String(), Index: v.Index, Missing: uuidTexts(v.Missing), Verdict: string(v.Verdict), Class: uint32(v.Class), Text: v.String(),
		}
		for _, o := range v.Said {
			x.Said = append(x.Said, &adminpb.ApplyOpinion{Member: uuidText(o.Member), Class: uint32(o.Class)})
		}
		out.Votes = append(out.Votes, x)
	}
	for i := range s.Odd {
		f := &s.Odd[i]
		out.Odd = append(out.Odd, &adminpb.ApplyFault{
			Index: f.Index, Member: uuidText(f.Member), Gtid: f.GTID.String(), Class: uint32(f.Class), Others: uint32(f.Others), Text: f.String(),
		})
	}
	return out
}
