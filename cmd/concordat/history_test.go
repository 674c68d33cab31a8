package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func testHistory() []*adminpb.HistoryResponse {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	return []*adminpb.HistoryResponse{
		{
			Views: []*adminpb.ViewRecord{
				{Id: "1", Index: 1, Incarnation: testIncarnation, Cause: "bootstrapped"},
				{Id: "2", Index: 30, Incarnation: testIncarnation, Cause: "expelled " + memberC, Reason: "nobody has heard it for 7s"},
			},
			Epochs: []*adminpb.EpochRecord{
				{Number: 1, Index: 2, Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Primary: memberC, Cause: "founded"},
				{Number: 2, Index: 25, Mode: adminpb.Mode_MODE_SINGLE_PRIMARY, Primary: memberA, Cause: "primary silent", Reason: "not heard for 20 ticks"},
				{Number: 3, Index: 31, Mode: adminpb.Mode_MODE_MULTI_PRIMARY, Cause: "switched to multi-primary", Reason: "asked for at a"},
			},
			Events: []*adminpb.Event{{Seq: 3, UnixNanos: at.UnixNano(), Kind: "SUSPECTED", Member: memberC, View: "1", Text: "not heard for 2s"}},
		},
		{Events: []*adminpb.Event{{Seq: 4, UnixNanos: at.Add(5 * time.Second).UnixNano(), Kind: "QUORUM_LOST", Text: "1 of 3"}}},
	}
}

func TestHistoryCommand(t *testing.T) {
	node := &fakeAdmin{history: testHistory()}
	address := node.serve(t)
	out, _ := here(t, exitOK, "history", "--address", address)
	const want = `    3  2026-01-02T03:04:05.006Z  view 1     SUSPECTED          ` + memberC + `  not heard for 2s
    4  2026-01-02T03:04:10.006Z  view -     QUORUM_LOST        -                                     1 of 3
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	out, _ = here(t, exitOK, "history", "--json", "--address", address)
	const wantJSON = `{"seq":3,"time":"2026-01-02T03:04:05.006Z","kind":"SUSPECTED","member":"` + memberC + `","view":"1","text":"not heard for 2s"}
{"seq":4,"time":"2026-01-02T03:04:10.006Z","kind":"QUORUM_LOST","text":"1 of 3"}
`
	if diff := cmp.Diff(wantJSON, out); diff != "" {
		t.Error(diff)
	}
	if out, _ = here(t, exitOK, "history", "--after", "4", "--address", address); out != "" {
		t.Errorf("nothing happened, and it printed\n%s", out)
	}
}

func TestHistoryViews(t *testing.T) {
	address := (&fakeAdmin{history: testHistory()}).serve(t)
	out, _ := here(t, exitOK, "history", "--views", "--address", address)
	const want = `VIEW  INDEX  INCARNATION                           CAUSE                                          REASON
1     1      ` + testIncarnation + `  bootstrapped                                   -
2     30     ` + testIncarnation + `  expelled ` + memberC + `  nobody has heard it for 7s
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	out, _ = here(t, exitOK, "history", "--views", "--json", "--address", address)
	var got viewRecordJSON
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&got); err != nil || got != (viewRecordJSON{"1", 1, testIncarnation, "bootstrapped", ""}) {
		t.Errorf("%v, %+v", err, got)
	}
	if _, errOut := here(t, exitUsage, "history", "--views", "--follow", "--address", address); !strings.Contains(errOut, "do not go together") {
		t.Error(errOut)
	}
}

func TestHistoryEpochs(t *testing.T) {
	address := (&fakeAdmin{history: testHistory()}).serve(t)
	out, _ := here(t, exitOK, "history", "--epochs", "--address", address)
	const want = `EPOCH  INDEX  MODE            PRIMARY                               CAUSE                      REASON
1      2      single-primary  ` + memberC + `  founded                    -
2      25     single-primary  ` + memberA + `  primary silent             not heard for 20 ticks
3      31     multi-primary   -                                     switched to multi-primary  asked for at a
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	out, _ = here(t, exitOK, "history", "--epochs", "--json", "--address", address)
	var got epochJSON
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&got); err != nil || got != (epochJSON{1, 2, "single-primary", memberC, "founded", ""}) {
		t.Errorf("%v, %+v", err, got)
	}
	for _, other := range []string{"--views", "--follow"} {
		if _, errOut := here(t, exitUsage, "history", "--epochs", other, "--address", address); !strings.Contains(errOut, "do not go together") {
			t.Error(errOut)
		}
	}
}

// Following goes on beyond the timeout, prints what happens as it happens, and
// ends in order by a signal.
func TestHistoryFollow(t *testing.T) {
	node := &fakeAdmin{history: testHistory(), steps: []*adminpb.Event{{Seq: 5, Kind: "VIEW", Text: "it came"}}}
	cmd := command(testContext(t), t, "history", "--follow", "--timeout", "1ms", "--address", node.serve(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text []byte
	read := func(until string) {
		for buffer := make([]byte, 1024); !bytes.Contains(text, []byte(until)); {
			n, err := out.Read(buffer)
			text = append(text, buffer[:n]...)
			if err != nil {
				t.Fatalf("%v after\n%s", err, text)
			}
		}
	}
	read("1 of 3\n")
	close(node.forced)
	read("it came\n")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, &errOut)
	}
}
