package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// readme returns the blocks of README.md in a language.
func readme(t *testing.T, language string) []string {
	t.Helper()
	return document(t, "README.md", language)
}

// document returns the blocks of a file in a language.
func document(t *testing.T, file, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for {
		_, from, ok := strings.Cut(rest, "\n```"+language+"\n")
		if !ok {
			break
		}
		block, after, _ := strings.Cut(from, "\n```\n")
		blocks, rest = append(blocks, block+"\n"), after
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no block of %s", file, language)
	}
	return blocks
}

// The first program of README.md runs, and prints what README.md says.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(readme(t, "go")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(testContext(t), "go", "run", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := readme(t, "text")[0]; string(out) != want {
		t.Errorf("it prints\n%s\nand README.md says\n%s", out, want)
	}
}

// The commands of the documents and of the examples in help texts exist, with
// their flags.
func TestExampleCommands(t *testing.T) {
	root := newRootCommand()
	texts := slices.Concat(readme(t, "sh"), document(t, "docs/operations.md", "sh"), []string{root.Example})
	lines := strings.Split(strings.ReplaceAll(strings.Join(texts, "\n"), "\\\n", ""), "\n")
	commands := root.Commands()
	for _, c := range root.Commands() {
		commands = append(commands, c.Commands()...)
	}
	for _, c := range commands {
		if c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		lines = append(lines, strings.Split(c.Example, "\n")...)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing", c.CommandPath(), f.Name)
			}
		})
	}
	found := 0
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " > ") // redirections
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "concordat" {
			continue
		}
		found++
		c, rest, err := newRootCommand().Find(words[1:])
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if err == nil && c.Args != nil {
			err = c.Args(c, c.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if found < 20 {
		t.Errorf("only %d commands were found", found)
	}
}
