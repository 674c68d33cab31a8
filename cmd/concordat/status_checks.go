package main

import (
	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

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

// applyFaultsJSON are the transactions that engines could not apply.
type applyFaultsJSON struct {
	Refused uint64           `json:"refused"`
	Votes   []applyVoteJSON  `json:"votes,omitempty"`
	Odd     []applyFaultJSON `json:"odd,omitempty"`
}

type applyVoteJSON struct {
	GTID    string             `json:"gtid"`
	Index   uint64             `json:"index"`
	Verdict string             `json:"verdict"`
	Class   uint32             `json:"class"`
	Said    []applyOpinionJSON `json:"said"`
	Missing []string           `json:"missing,omitempty"`
	Text    string             `json:"text"`
}

type applyOpinionJSON struct {
	Member string `json:"member"`
	Class  uint32 `json:"class"` // of an error, 0 if it was applied
}

type applyFaultJSON struct {
	Index  uint64 `json:"index"`
	Member string `json:"member"`
	GTID   string `json:"gtid"`
	Class  uint32 `json:"class"`
	Others uint32 `json:"others"`
	Text   string `json:"text"`
}

func applyFaultsOf(s *adminpb.ApplyFaults) applyFaultsJSON {
	out := applyFaultsJSON{Refused: s.GetRefused()}
	for _, v := range s.GetVotes() {
		x := applyVoteJSON{
			GTID: v.GetGtid(), Index: v.GetIndex(), Verdict: v.GetVerdict(), Class: v.GetClass(), Said: []applyOpinionJSON{},
			Missing: v.GetMissing(), Text: v.GetText(),
		}
		for _, o := range v.GetSaid() {
			x.Said = append(x.Said, applyOpinionJSON{o.GetMember(), o.GetClass()})
		}
		out.Votes = append(out.Votes, x)
	}
	for _, f := range s.GetOdd() {
		out.Odd = append(out.Odd, applyFaultJSON{f.GetIndex(), f.GetMember(), f.GetGtid(), f.GetClass(), f.GetOthers(), f.GetText()})
	}
	return out
}

// findingTexts are what the members' data and engines did otherwise than each other, as
// sentences. Of a transaction that stands, those who could not apply it say more.
func findingTexts(a *adminpb.StatusResponse) (out []string) {
	for _, f := range a.GetStateCheck().GetFindings() {
		out = append(out, f.GetText())
	}
	for _, v := range a.GetApplyFaults().GetVotes() {
		if v.GetVerdict() != string(concordat.ApplyStands) {
			out = append(out, v.GetText())
		}
	}
	for _, f := range a.GetApplyFaults().GetOdd() {
		out = append(out, f.GetText())
	}
	return out
}
