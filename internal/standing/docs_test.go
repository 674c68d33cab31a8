package standing_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/internal/standing"
)

// explained returns the lines of the table in docs/membership.md that has the
// given header.
func explained(t *testing.T, header string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/membership.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n"+header+"\n")
	if !found {
		t.Fatalf("there is no table with the header %s", header)
	}
	table, _, _ = strings.Cut(table, "\n\n")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	return lines[1:] // behind the rule under the header
}

func wantLines(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("explained is\n%s\n\nand it is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
}

// The transitions that are explained are those that there are.
func TestExplainedTransitions(t *testing.T) {
	var want []string
	for _, line := range standing.Transitions() {
		from := make([]string, len(line.From))
		for i, s := range line.From {
			from[i] = string(s)
		}
		want = append(want, "| "+strings.Join([]string{
			strings.Join(from, ", "), string(line.To), line.Trigger.String(), line.SeenBy.String(),
		}, " | ")+" |")
	}
	wantLines(t, explained(t, "| from | to | when it | seen by |"), want)
}

// So are the exits.
func TestExplainedExits(t *testing.T) {
	word := map[bool]string{true: "yes", false: "no"}
	var want []string
	for _, e := range standing.Exits() {
		want = append(want, "| "+strings.Join([]string{e.Cause.String(), word[e.Rejoins], word[e.Acts]}, " | ")+" |")
	}
	wantLines(t, explained(t, "| it | rejoins by itself | exit action |"), want)
}
