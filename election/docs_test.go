package election_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/election"
)

// explained returns the first cells of the rows of the table in docs/primaries.md
// that has the given header.
func explained(t *testing.T, header string) (cells []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/primaries.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n"+header+"\n")
	if !found {
		t.Fatalf("there is no table with the header %s", header)
	}
	for line := range strings.Lines(table) {
		parts := strings.Split(line, "|")
		if len(parts) < 3 {
			break
		}
		cells = append(cells, strings.TrimSpace(parts[1]))
	}
	return cells[1:] // behind the rule under the header
}

// Why an epoch begins is explained for each cause, in its words and order.
func TestExplainedCauses(t *testing.T) {
	var want []string
	for c := election.Founded; c <= election.ForcedView; c++ {
		want = append(want, c.String())
	}
	if got := explained(t, "| cause | when |"); !slices.Equal(got, want) {
		t.Errorf("causes %q are explained, there are %q", got, want)
	}
}

// What becomes of a planned change is explained for each result, in its words and
// order.
func TestExplainedResults(t *testing.T) {
	var want []string
	for r := election.Done; r <= election.NoChange; r++ {
		want = append(want, r.String())
	}
	if got := explained(t, "| result | meaning |"); !slices.Equal(got, want) {
		t.Errorf("results %q are explained, there are %q", got, want)
	}
}
