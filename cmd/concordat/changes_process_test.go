package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// changeLines reads the changes that a command has printed, and checks that none comes
// twice.
func changeLines(t *testing.T, text string) (all []changeJSON, seen gtid.Set) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	for d.More() {
		var line changeJSON
		if err := d.Decode(&line); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		id, err := gtid.Parse(line.GTID)
		if err != nil || seen.Contains(id) {
			t.Fatalf("%s comes twice, or is none: %v", line.GTID, err)
		}
		seen = seen.Add(id)
		all = append(all, line)
	}
	return all, seen
}

func TestChangesCommand(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	first := startNode(t, filepath.Join(base, "1"), "--bootstrap", "--change-retention", "1MiB", "--change-old-values")
	at := []string{"--address", first.ClientAddress}
	want(t, exitOK, append([]string{"put", "app.t", "k", "one"}, at...)...)
	want(t, exitOK, append([]string{"put", "app.t", "k", "two words"}, at...)...)
	want(t, exitOK, "add", "--address", first.ClientAddress, "--", "app.n", "n", "-3")
	want(t, exitOK, append([]string{"delete", "app.t", "k"}, at...)...)

	out := want(t, exitOK, append([]string{"changes"}, at...)...)
	for i, end := range []string{"put\tapp.t\tk\tone", "put\tapp.t\tk\t\"two words\"", "add\tapp.n\tn\t-3", "delete\tapp.t\tk\t-"} {
		line := strings.Split(out, "\n")[i]
		if !strings.HasSuffix(line, end) || !strings.HasPrefix(line, testGroup+":") {
			t.Errorf("line %d is %q, want %q at its end", i, line, end)
		}
	}
	all, seen := changeLines(t, want(t, exitOK, append([]string{"changes", "--json", "--after", testGroup + ":1"}, at...)...))
	if len(all) != 3 || seen.Count() != 3 {
		t.Fatalf("%d changes: %v", len(all), all)
	}
	row := all[0].Rows[0]
	if row.Op != "put" || row.Schema != "app" || row.Table != "t" || string(row.Key) != "k" || string(row.Value) != "two words" ||
		row.Existed == nil || !*row.Existed || string(row.Old) != "one" || all[0].Origin != first.Member || all[0].Time.IsZero() {
		t.Errorf("the first is %+v with %+v", all[0], row)
	}
	if row := all[1].Rows[0]; row.Delta != -3 || len(row.Value) != 8 || row.Existed == nil || *row.Existed {
		t.Errorf("the second is %+v", row)
	}
	if all, _ := changeLines(t, want(t, exitOK, append([]string{"changes", "--json", "--table", "app.n"}, at...)...)); len(all) != 4 || len(all[2].Rows) != 1 || len(all[0].Rows) != 0 {
		t.Errorf("of one table: %+v", all)
	}

	archive := filepath.Join(base, "archive.json")
	want(t, exitOK, append([]string{"changes", "--out", archive}, at...)...)
	want(t, exitOK, append([]string{"put", "app.t", "k", "later"}, at...)...)
	file, err := os.OpenFile(archive, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"gtid":"cut off by a cra`); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, exitOK, append([]string{"changes", "--out", archive}, at...)...)
	text, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), "\n")
	var view membersJSON
	if err := json.Unmarshal([]byte(want(t, exitOK, append([]string{"members", "--json"}, at...)...)), &view); err != nil {
		t.Fatal(err)
	}
	if _, seen := changeLines(t, rest); head != fmt.Sprintf(`{"archive":1,"after":"","incarnation":%q}`, view.Incarnation) || seen.Count() != 5 {
		t.Errorf("the archive begins with %s and has %v", head, seen)
	}
	// One of a group whose membership was forced since.
	const former = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"
	old := filepath.Join(base, "old.json")
	if err := os.WriteFile(old, bytes.ReplaceAll(text, []byte(view.Incarnation), []byte(former)), 0o600); err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(base, "begun.json")
	for _, of := range [][]string{{"--out", old}, {"--of", former}, {"--of", former, "--out", old}, {"--of", former, "--out", begun}} {
		if said := want(t, exitFailure, slices.Concat([]string{"changes"}, of, at)...); !strings.Contains(said, "membership of the group was forced") {
			t.Errorf("%v: %s", of, said)
		}
	}
	want(t, exitOK, append([]string{"changes", "--out", begun}, at...)...) // nothing was written
	want(t, exitUsage, append([]string{"changes", "--of", former, "--out", archive}, at...)...)
	want(t, exitOK, append([]string{"changes", "--of", view.Incarnation, "--out", archive}, at...)...)
	want(t, exitUsage, append([]string{"changes", "--out", archive, "--after", testGroup + ":77"}, at...)...)
	want(t, exitUsage, append([]string{"changes", "--out", archive, "--table", "app.t"}, at...)...)

	off := startNode(t, filepath.Join(base, "2"), "--bootstrap")
	if text := want(t, exitFailure, "changes", "--address", off.ClientAddress); !strings.Contains(text, "keeps no changes") {
		t.Errorf("of a node that keeps none: %s", text)
	}
}
