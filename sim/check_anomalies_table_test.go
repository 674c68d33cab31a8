package sim

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is generated into the documents")

// The document that has the table, and what stands around it there.
const (
	tableDocument = "../docs/consistency.md"
	tableBegins   = "<!-- generated: sim anomalies -->\n"
	tableEnds     = "<!-- end of sim anomalies -->\n"
)

// markdown is the table as the document has it.
func markdown() string {
	var b strings.Builder
	b.WriteString("\n| |")
	for _, l := range columns {
		fmt.Fprintf(&b, " %s |", l)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(columns)) + "\n")
	for _, row := range anomalyTable {
		fmt.Fprintf(&b, "| %s |", row.name)
		for _, p := range row.cells {
			fmt.Fprintf(&b, " %s |", p)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for _, row := range anomalyTable {
		fmt.Fprintf(&b, "- *%s*: %s.\n", row.name, row.meaning)
	}
	b.WriteString("\n")
	return b.String()
}

// String is the cell in words.
func (p promise) String() string {
	switch {
	case p.snapshots:
		return "possible, never under SERIALIZABLE"
	case p.possible:
		return "possible"
	}
	return "never"
}

// TestAnomalyTable checks that the document has the table that the checkers hold
// the group to; with -update, it writes it there.
func TestAnomalyTable(t *testing.T) {
	b, err := os.ReadFile(tableDocument)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(b), tableBegins)
	table, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		t.Fatalf("%s has no place for the table: %q and %q are missing", tableDocument, tableBegins, tableEnds)
	}
	if table == markdown() {
		return
	}
	if !*update {
		t.Fatalf("%s has another table than the checkers; go test ./sim -run TestAnomalyTable -update writes this one:\n%s", tableDocument, markdown())
	}
	if err := os.WriteFile(tableDocument, []byte(before+tableBegins+markdown()+tableEnds+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTableMarks checks that each cell has a mark of its own if and only if it
// allows something.
func TestTableMarks(t *testing.T) {
	used := map[mark]bool{}
	for _, row := range anomalyTable {
		for i, p := range row.cells {
			if p.possible != (p.mark != 0) || p.possible && used[p.mark] {
				t.Errorf("%s at %s is %s and has mark %d", row.name, columns[i], p, p.mark)
			}
			used[p.mark] = true
		}
	}
}
