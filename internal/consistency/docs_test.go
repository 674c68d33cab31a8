package consistency_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/internal/consistency"
)

// The table of levels in docs/consistency.md has each of them once, in their order.
func TestExplainedLevels(t *testing.T) {
	text, err := os.ReadFile("../../docs/consistency.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n| level | before it begins, the member shows |")
	if !found {
		t.Fatal("there is no table of levels")
	}
	_, table, _ = strings.Cut(table, "\n| --- |")
	_, table, _ = strings.Cut(table, "\n")
	var got, want []string
	for line := range strings.Lines(table) {
		name, _, cell := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		if !cell {
			break
		}
		got = append(got, name)
	}
	for l := consistency.Eventual; l.Valid(); l++ {
		want = append(want, l.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("levels %q are explained, there are %q", got, want)
	}
}
