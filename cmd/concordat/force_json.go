package main

import (
	"time"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

type forcePlanJSON struct {
	ID           string              `json:"id"`
	View         string              `json:"view"`
	Incarnation  string              `json:"incarnation"`
	Seed         string              `json:"seed"`
	Survivors    []forceSurvivorJSON `json:"survivors"`
	Excluded     []forceExcludedJSON `json:"excluded"`
	AtRisk       []forceRiskJSON     `json:"at_risk"`
	Warnings     []string            `json:"warnings"`
	Refused      string              `json:"refused,omitempty"`
	OutlookAfter outlookJSON         `json:"outlook_after"`
	// What survives, and unless that is complete perhaps more.
	Executed         string `json:"executed,omitempty"`
	ExecutedComplete bool   `json:"executed_complete"`
}

type forceReportJSON struct {
	Plan        string              `json:"plan"`
	View        string              `json:"view"`
	Incarnation string              `json:"incarnation"`
	Seed        string              `json:"seed"`
	Survivors   []forceSurvivorJSON `json:"survivors"`
	Excluded    []forceExcludedJSON `json:"excluded"`
	AtRisk      []forceRiskJSON     `json:"at_risk"`
	Warnings    []string            `json:"warnings"`
}

type forceSurvivorJSON struct {
	Member    string `json:"member"`
	Address   string `json:"address"`
	Term      uint64 `json:"term"`
	Last      uint64 `json:"last"`
	Delivered uint64 `json:"delivered"`
	Fetch     uint64 `json:"fetch"`
	Cut       uint64 `json:"cut"`
	Frozen    string `json:"frozen,omitempty"`
	// State is that of when the command ended, in a report; UNKNOWN if the node
	// that was asked knew nothing of the member in the new incarnation.
	State string `json:"state,omitempty"`
}

type forceExcludedJSON struct {
	Member       string  `json:"member"`
	Address      string  `json:"address"`
	State        string  `json:"state"`
	Answers      bool    `json:"answers"`
	HeardSeconds float64 `json:"heard_seconds"` // 0 for one that answers, or was never heard
	Delivered    uint64  `json:"delivered"`
}

type forceRiskJSON struct {
	Transactions string `json:"transactions,omitempty"`
	First        uint64 `json:"first,omitempty"`
	Last         uint64 `json:"last,omitempty"`
	Member       string `json:"member,omitempty"`
	Address      string `json:"address,omitempty"`
}

func planOfForce(p *adminpb.ForcePlan) *forcePlanJSON {
	return &forcePlanJSON{
		ID: p.GetId(), View: p.GetView().GetId(), Incarnation: p.GetView().GetIncarnation(), Seed: p.GetSeed(),
		Survivors: survivorsOf(p.GetSurvivors()), Excluded: excludedOf(p.GetExcluded()), AtRisk: risksOf(p.GetAtRisk()),
		Warnings: append([]string{}, p.GetWarnings()...), Refused: p.GetRefused(), OutlookAfter: outlookOf(p.GetOutlookAfter()),
		Executed: oneLine(p.GetExecuted()), ExecutedComplete: p.GetExecutedComplete(),
	}
}

func reportOfForce(r *adminpb.ForceReport, states []string) *forceReportJSON {
	out := &forceReportJSON{
		Plan: r.GetPlan(), View: r.GetView().GetId(), Incarnation: r.GetView().GetIncarnation(), Seed: r.GetSeed(),
		Survivors: survivorsOf(r.GetSurvivors()), Excluded: excludedOf(r.GetExcluded()), AtRisk: risksOf(r.GetAtRisk()),
		Warnings: append([]string{}, r.GetWarnings()...),
	}
	for i := range out.Survivors {
		out.Survivors[i].State = states[i]
	}
	return out
}

func survivorsOf(all []*adminpb.ForceSurvivor) []forceSurvivorJSON {
	out := []forceSurvivorJSON{}
	for _, s := range all {
		out = append(out, forceSurvivorJSON{
			Member: s.GetMember(), Address: s.GetAddress(), Term: s.GetTerm(), Last: s.GetLast(), Delivered: s.GetDelivered(),
			Fetch: s.GetFetch(), Cut: s.GetCut(), Frozen: s.GetFrozen(),
		})
	}
	return out
}

func excludedOf(all []*adminpb.ForceExcluded) []forceExcludedJSON {
	out := []forceExcludedJSON{}
	for _, x := range all {
		out = append(out, forceExcludedJSON{
			x.GetMember(), x.GetAddress(), stateName(x.GetState()), x.GetAnswers(), time.Duration(x.GetHeardNanos()).Seconds(),
			x.GetDelivered(),
		})
	}
	return out
}

func risksOf(all []*adminpb.ForceRisk) []forceRiskJSON {
	out := []forceRiskJSON{}
	for _, r := range all {
		out = append(out, forceRiskJSON{oneLine(r.GetTransactions()), r.GetFirst(), r.GetLast(), r.GetMember(), r.GetAddress()})
	}
	return out
}
