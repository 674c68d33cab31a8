package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// What a node knows of transactions that engines could not apply goes over the network.
func TestApplyFaultsTravel(t *testing.T) {
	a, b := gtid.UUID{15: 1}, gtid.UUID{15: 2}
	first, second := gtid.GTID{UUID: a, Number: 4}, gtid.GTID{UUID: a, Number: 5}
	known := concordat.ApplyFaults{
		Refused: 3,
		Votes: []concordat.ApplyVote{
			{GTID: first, Index: 7, Said: []concordat.ApplyOpinion{{Member: a, Class: applier.ClassPayload}}, Missing: []gtid.UUID{b}, Verdict: concordat.ApplyOpen},
			{GTID: second, Index: 8, Verdict: concordat.ApplyRefused, Class: 1000},
		},
		Odd: []concordat.ApplyFault{{Index: 9, Member: b, GTID: second, Others: 1000}},
	}
	want := &adminpb.ApplyFaults{
		Refused: 3,
		Votes: []*adminpb.ApplyVote{
			{
				Gtid: first.String(), Index: 7, Said: []*adminpb.ApplyOpinion{{Member: a.String(), Class: uint32(applier.ClassPayload)}},
				Missing: []string{b.String()}, Verdict: "OPEN",
				Text: "transaction " + first.String() + ", log index 7: an engine cannot apply it, and waits for the other members' word: " +
					a.String() + " cannot apply it (malformed payload), [" + b.String() + "] have not said what they did",
			},
			{Gtid: second.String(), Index: 8, Verdict: "REFUSED", Class: 1000, Text: "transaction " + second.String() + ", log index 8: it is applied nowhere: "},
		},
		Odd: []*adminpb.ApplyFault{{
			Index: 9, Member: b.String(), Gtid: second.String(), Others: 1000,
			Text: "transaction " + second.String() + ": " + b.String() + " has applied it, and more than half: cannot apply it (class 1000)",
		}},
	}
	if diff := cmp.Diff(want, applyFaults(&known), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}
