package main

import "github.com/concordatdb/concordat/proto/concordat/admin/v1"

// stateCheckJSON is how the members' data compare.
type stateCheckJSON struct {
	Checks   uint64             `json:"checks"`
	Passes   uint64             `json:"passes"`
	Index    uint64             `json:"index"`
	Agreed   uint32             `json:"agreed"`
	Parties  uint32             `json:"parties"`
	Findings []stateFindingJSON `json:"findings,omitempty"`
}

type stateFindingJSON struct {
	Check     uint64         `json:"check"`
	Index     uint64         `json:"index"`
	Member    string         `json:"member"`
	Reference string         `json:"reference"`
	Split     bool           `json:"split"`
	Text      string         `json:"text"`
	Named     bool           `json:"named"`
	More      bool           `json:"more"`
	Keys      []stateKeyJSON `json:"keys,omitempty"`
}

type stateKeyJSON struct {
	Table string `json:"table"`
	Key   []byte `json:"key_base64"`
	How   string `json:"how"`
}

func stateCheckOf(s *adminpb.StateCheck) stateCheckJSON {
	out := stateCheckJSON{
		Checks: s.GetChecks(), Passes: s.GetPasses(), Index: s.GetIndex(), Agreed: s.GetAgreed(), Parties: s.GetParties(),
	}
	for _, f := range s.GetFindings() {
		x := stateFindingJSON{
			Check: f.GetCheck(), Index: f.GetIndex(), Member: f.GetMember(), Reference: f.GetReference(), Split: f.GetSplit(),
			Text: f.GetText(), Named: f.GetNamed(), More: f.GetMore(),
		}
		for _, k := range f.GetKeys() {
			x.Keys = append(x.Keys, stateKeyJSON{Table: k.GetSchema() + "." + k.GetTable(), Key: k.GetKey(), How: k.GetHow()})
		}
		out.Findings = append(out.Findings, x)
	}
	return out
}
