package main

import (
	"strings"
	"testing"

	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func TestPrintOutcome(t *testing.T) {
	for _, c := range []struct {
		outcome    *kvpb.OutcomeResponse
		text, json string
	}{
		{
			&kvpb.OutcomeResponse{State: kvpb.OutcomeResponse_STATE_COMMITTED, Gtid: testGroup + ":7", Index: 12, From: 3, Until: 20},
			"committed as " + testGroup + ":7 at log index 12",
			`{"id":"` + testID + `","state":"committed","gtid":"` + testGroup + `:7","index":12,"from":3,"until":20}`,
		},
		{
			&kvpb.OutcomeResponse{
				State: kvpb.OutcomeResponse_STATE_REFUSED, Reason: kvpb.ErrorInfo_CODE_CONFLICT, Winner: testGroup + ":6",
				Index: 12, From: 3, Until: 20,
			},
			"refused at log index 12: conflict with " + testGroup + ":6",
			`{"id":"` + testID + `","state":"refused","reason":"conflict","winner":"` + testGroup + `:6","index":12,"from":3,"until":20}`,
		},
		{
			&kvpb.OutcomeResponse{State: kvpb.OutcomeResponse_STATE_REFUSED, Reason: kvpb.ErrorInfo_CODE_SNAPSHOT_TOO_OLD, Index: 12, From: 3, Until: 20},
			"refused at log index 12: snapshot too old",
			`{"id":"` + testID + `","state":"refused","reason":"snapshot_too_old","index":12,"from":3,"until":20}`,
		},
		{
			&kvpb.OutcomeResponse{State: kvpb.OutcomeResponse_STATE_UNKNOWN, Until: 20},
			"unknown: nothing with this id after log index 0 and up to 20",
			`{"id":"` + testID + `","state":"unknown","from":0,"until":20}`,
		},
	} {
		for _, f := range []clientFlags{{}, {json: true}} {
			var out strings.Builder
			err := f.printOutcome(&out, testID, c.outcome)
			want := c.text
			if f.json {
				want = c.json
			}
			if err != nil || out.String() != want+"\n" {
				t.Errorf("printed\n%swant\n%s\n%v", out.String(), want, err)
			}
		}
	}
}
