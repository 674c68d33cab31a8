package certifier_test

import (
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/certifier"
)

// explained returns docs/certification.md, which explains this package.
func explained(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/certification.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The conflict matrix that is explained is the one that decides.
func TestExplainedMatrix(t *testing.T) {
	header := "| incoming |"
	for column := range certifier.Kind(certifier.Kinds) {
		header += " " + column.String() + " |"
	}
	_, table, found := strings.Cut(explained(t), "\n"+header+"\n")
	if !found {
		t.Fatalf("there is no table with the columns %s", header)
	}
	lines := strings.Split(table, "\n")
	for row := range certifier.Kind(certifier.Kinds) {
		cells := strings.Split(lines[1+row], "|") // behind the rule under the header
		if len(cells) != 3+certifier.Kinds || strings.TrimSpace(cells[1]) != row.String() {
			t.Fatalf("row of %s: %s", row, lines[1+row])
		}
		for column := range certifier.Kind(certifier.Kinds) {
			want := "-"
			if row.ConflictsWith(column) {
				want = "x"
			}
			if got := strings.TrimSpace(cells[2+column]); got != want {
				t.Errorf("%s after %s is explained as %q, and is %q", row, column, got, want)
			}
		}
	}
	if lines[1+certifier.Kinds] != "" {
		t.Errorf("behind the last kind there is %q", lines[1+certifier.Kinds])
	}
}

// The example that is worked out byte by byte is what the package makes of it.
func TestExplainedBytes(t *testing.T) {
	x := certifier.Index{Name: certifier.PrimaryIndex, Schema: "bank", Table: "accounts"}
	key := []byte("alice")
	text := certifier.AppendItemText(nil, x.Name, x.Schema, x.Table, key)
	var ws certifier.WriteSet
	ws.Write(x, certifier.Bytes(key))
	encoded, err := ws.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	item := make([]byte, 8)
	for i := range item {
		item[i] = byte(certifier.HashItem(text) >> (56 - 8*i))
	}
	var runs []string // of hexadecimal in the code blocks, in their order
	for i, block := range strings.Split(explained(t), "```") {
		if i%2 == 0 {
			continue
		}
		if strings.Contains(block, "item  ") || strings.Contains(block, "its place: ") {
			runs = append(runs, hexOf(block))
		}
	}
	want := []string{hex.EncodeToString(text) + hex.EncodeToString(item), hex.EncodeToString(encoded)}
	if !slices.Equal(runs, want) {
		t.Errorf("explained are %q, they are %q", runs, want)
	}
	if !strings.Contains(explained(t), "text  "+string(text)+"\n") {
		t.Errorf("the text %q is not explained", text)
	}
}

// hexOf returns the bytes in a block: words of whole bytes in hexadecimal.
func hexOf(block string) (digits string) {
	for line := range strings.Lines(block) {
		line, _ = strings.CutPrefix(line, "item")
		for word := range strings.FieldsSeq(line) {
			b, err := hex.DecodeString(word)
			if err != nil || len(b) == 0 {
				break // what follows are words
			}
			digits += hex.EncodeToString(b)
		}
	}
	return digits
}
