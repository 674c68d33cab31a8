package house

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// files is a tree in the making: path to contents.
type files map[string]string

// standard is what the trees made here may import, compiled.
var standard = sync.OnceValues(func() (map[string]string, error) {
	return compiled(".", "maps", "slices", "time")
})

func (f files) tree(t *testing.T) *tree {
	t.Helper()
	fsys := fstest.MapFS{}
	for p, text := range f {
		fsys[p] = &fstest.MapFile{Data: []byte(text)}
	}
	made, err := load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	made.exports = func([]string) (map[string]string, error) { return standard() }
	return made
}

// broken holds, for each rule, trees that break it and what it must say, as
// beginnings of findings.
var broken = []struct {
	rule string
	tree files
	want []string
}{
	{
		"import law",
		files{"gtid/a.go": "package gtid\n\nimport \"sync/atomic\"\n"},
		[]string{"gtid/a.go:3: gtid imports sync/atomic: a deterministic package may not"},
	},
	{
		"import law",
		files{"gcs/a.go": "package gcs\n\nimport (\n\t\"context\"\n\t\"net/netip\"\n)\n"},
		[]string{"gcs/a.go:4: gcs imports context", "gcs/a.go:5: gcs imports net/netip"},
	},
	{
		"import law",
		files{"certifier/a.go": "package certifier\n\nimport \"" + module + "/gcs\"\n"},
		[]string{"certifier/a.go:3: certifier imports " + module + "/gcs: no arrow"},
	},
	{
		"import law",
		files{"gcs/a.go": "package gcs\n\nimport \"" + module + "/gcs/raftlog\"\n"},
		[]string{"gcs/a.go:3: gcs imports " + module + "/gcs/raftlog: no arrow"},
	},
	{
		"import law",
		files{"a.go": "package concordat\n\nimport (\n\t\"github.com/spf13/cobra\"\n\t\"" + module + "/sim\"\n)\n"},
		[]string{"a.go:4: concordat imports github.com/spf13/cobra: this room", "a.go:5: concordat imports " + module + "/sim"},
	},
	{
		"import law",
		files{"internal/replica/a.go": "package replica\n\nimport \"" + module + "/internal/replicatest\"\n"},
		[]string{"internal/replica/a.go:3: internal/replica imports " + module + "/internal/replicatest: it helps tests"},
	},
	{
		"import law",
		files{"applier/pebblekv/a.go": "package pebblekv\n\nimport \"" + module + "\"\n"},
		[]string{"applier/pebblekv/a.go:3: applier/pebblekv imports " + module + ": no arrow"},
	},
	{
		"import law",
		files{"attic/a.go": "package attic\n"},
		[]string{"attic/a.go:1: directory attic is no room"},
	},

	{
		"purity",
		files{"election/a.go": "package election\n\nimport clock \"time\"\n\nvar start = clock.Now()\n"},
		[]string{"election/a.go:5: deterministic code uses time.Now"},
	},
	{
		"purity",
		files{"election/a.go": "package election\n\nimport . \"time\"\n\nvar t Timer\n"},
		[]string{"election/a.go:1: deterministic code imports all"},
	},
	{
		"purity",
		files{"gcs/a.go": "package gcs\n\nfunc f(c chan int) {\n\tgo f(nil)\n\tselect {}\n}\n"},
		[]string{"gcs/a.go:3: deterministic code uses a channel", "gcs/a.go:4: deterministic code uses a goroutine", "gcs/a.go:5: deterministic code uses select"},
	},

	{
		"plain tests",
		files{"gcs/a_test.go": "package gcs\n\nfunc f(t *testing.T) {\n\tt.Parallel()\n\tgo f(nil)\n}\n"},
		[]string{"gcs/a_test.go:4: a test of a pure package starts a goroutine", "gcs/a_test.go:5: a test of a pure package starts a goroutine"},
	},

	{
		"map order",
		files{"sim/world/a.go": "package world\n\nfunc f(m map[int]int) {\n\tfor range m {\n\t}\n}\n"},
		[]string{"sim/world/a.go:4: a loop over the map m"},
	},
	{
		"map order",
		files{"flowcontrol/a.go": "package flowcontrol\n\ntype quotas map[string]int\n\nfunc f(q quotas) {\n\tfor range q {\n\t}\n}\n"},
		[]string{"flowcontrol/a.go:6: a loop over the map q"},
	},
	{
		"map order",
		files{"gtid/a.go": "package gtid\n\nfunc f[M ~map[K]V, K comparable, V any](m M) {\n\t// order-free:\n\tfor range m {\n\t}\n}\n"},
		[]string{"gtid/a.go:5: a loop over the map m"},
	},
	{
		"map order",
		files{"gtid/a.go": "package gtid\n\nimport \"maps\"\n\nfunc f(m map[int]int) {\n\tfor range maps.Keys(m) {\n\t}\n}\n"},
		[]string{"gtid/a.go:6: maps.Keys in no order"},
	},
	{
		"map order",
		files{"gtid/a.go": "package gtid\n\nvar x int = \"\"\n"},
		[]string{"gtid/a.go:3: the order of loops cannot be checked"},
	},

	{
		"formatted",
		files{"gtid/a.go": "package gtid\n\nvar  x int\n"},
		[]string{"gtid/a.go:3: not formatted"},
	},
	{
		"formatted",
		files{"gtid/a.go": "package gtid\n\nvar x int"},
		[]string{"gtid/a.go:3: not formatted"},
	},

	{
		"leftovers",
		files{"gtid/a.go": "package gtid\n\n// TO" + "DO: more\n"},
		[]string{"gtid/a.go:3: leftover TO" + "DO"},
	},
	{
		"leftovers",
		files{"README.md": "# Name\nXX" + "X\n", ".ci/run": "# FIX" + "ME\n"},
		[]string{".ci/run:1: leftover FIX" + "ME", "README.md:2: leftover XX" + "X"},
	},

	{
		"sizes",
		files{"gtid/a.go": "package gtid\n\nfunc (s *Set[T]) Grow() {\n" + strings.Repeat("\t_ = 0\n", 69) + "}\n"},
		[]string{"gtid/a.go:3: Set.Grow has 71 lines"},
	},
	{
		"sizes",
		files{"gtid/a_test.go": "package gtid\n\nfunc f() {\n" + strings.Repeat("\t_ = 0\n", 99) + "}\n"},
		[]string{"gtid/a_test.go:3: f has 101 lines"},
	},
	{
		"sizes",
		files{"gtid/a.go": "package gtid\n" + strings.Repeat("\n", 600)},
		[]string{"gtid/a.go:1: 601 lines"},
	},

	{
		"package comments",
		files{"gtid/a.go": "package gtid\n", "gtid/a_test.go": "// Package gtid is tested.\npackage gtid\n"},
		[]string{"gtid/a.go:1: package gtid has no package comment"},
	},
	{
		"package comments",
		files{"gtid/a.go": "// Package gtid a.\npackage gtid\n", "gtid/b.go": "// Package gtid b.\npackage gtid\n"},
		[]string{"gtid/b.go:2: second package comment: gtid/a.go has one"},
	},
	{
		"package comments",
		files{"gtid/a.go": "// Copyright.\npackage gtid\n"},
		[]string{"gtid/a.go:1: package comment does not begin with"},
	},

	{
		"doc comments",
		files{"gtid/a.go": "package gtid\n\ntype Set struct{}\n\nfunc (s *Set) Len() int { return 0 }\n\nfunc New() {}\n\nconst (\n\tA = 1\n)\n\nvar B, c int\n"},
		[]string{"gtid/a.go:3: exported Set", "gtid/a.go:5: exported Len", "gtid/a.go:7: exported New", "gtid/a.go:10: exported A", "gtid/a.go:13: exported B"},
	},
	{
		"doc comments",
		files{"gtid/a.go": "package gtid\n\n// Types of sets.\ntype (\n\tSet struct{}\n)\n"},
		[]string{"gtid/a.go:5: exported Set"},
	},

	{
		"no exit",
		files{"gcs/a.go": "package gcs\n\nimport \"os\"\n\nfunc f() {\n\tdefer func() { panic(1) }()\n\tos.Exit(1)\n}\n"},
		[]string{"gcs/a.go:6: f calls panic", "gcs/a.go:7: f calls os.Exit"},
	},
	{
		"no exit",
		files{"a.go": "package concordat\n\nimport \"log\"\n\nfunc (n *Node) f() { log.Fatalf(\"\") }\n"},
		[]string{"a.go:5: Node.f calls log.Fatalf"},
	},

	{
		"no sleep",
		files{"gcs/a_test.go": "package gcs\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"},
		[]string{"gcs/a_test.go:5: time.Sleep"},
	},
	{
		"no sleep",
		files{"cmd/concordat/a_test.go": "package main\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"},
		[]string{"cmd/concordat/a_test.go:5: time.Sleep"},
	},

	{
		"no skip",
		files{"gcs/a_test.go": "package gcs\n\nimport \"testing\"\n\nfunc TestA(tt *testing.T) { tt.Skipf(\"\") }\n\nfunc f(b testing.TB) { b.SkipNow() }\n"},
		[]string{"gcs/a_test.go:5: tt.Skipf", "gcs/a_test.go:7: b.SkipNow"},
	},

	{
		"leak checked",
		files{"a.go": "package concordat\n\nfunc f() {\n\tgo f()\n}\n", "a_test.go": "package concordat\n"},
		[]string{"a.go:4: . starts goroutines"},
	},
	{
		"leak checked",
		files{"a.go": "package concordat\n\nfunc f() {\n\twg.Go(f)\n}\n"},
		[]string{"a.go:4: . starts goroutines"},
	},
}

// TestRules shows each rule sources that break it.
func TestRules(t *testing.T) {
	for _, rule := range rules {
		t.Run(strings.ReplaceAll(rule.name, " ", "-"), func(t *testing.T) {
			tried := false
			for _, b := range broken {
				if b.rule == rule.name {
					tried = true
					wantFindings(t, rule.check(b.tree.tree(t)), b.want)
				}
			}
			if !tried {
				t.Error("no broken source for this rule")
			}
		})
	}
}

func wantFindings(t *testing.T, got []finding, want []string) {
	t.Helper()
	ok := slices.EqualFunc(got, want, func(f finding, w string) bool {
		return strings.HasPrefix(f.String(), w)
	})
	if !ok {
		t.Errorf("found\n%v\nwant\n%q", got, want)
	}
}

// TestSoundTree shows every rule what it must leave alone.
func TestSoundTree(t *testing.T) {
	sound := files{
		"gtid/a.go": `// Package gtid is sound.
package gtid

import (
	"maps"
	"slices"
	"time"
)

// Timeout is a unit, not a clock.
const Timeout = 3 * time.Second

// Limits of a set.
const (
	MaxTag = 1
	MaxUUIDs
)

// Set is a set.
type Set struct{ m map[string]int }

// Len returns the length.
func (s Set) Len() int {
	n := 0
	for range s.m { // order-free: a sum
		n++
	}
	// order-free: a sum, told in
	// two lines
	for range s.m {
		n++
	}
	return n + len(slices.Sorted(maps.Keys(s.m)))
}

type plain struct{}

func (plain) Exported() {}
`,
		"gtid/a_test.go": `package gtid

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestA(t *testing.T) {
	var d struct{ Skip func() }
	d.Skip()
	synctest.Test(t, func(t *testing.T) { time.Sleep(time.Hour) })
	panic("in a test")
}
`,
		"gtid/gtidtest/a.go": "// Package gtidtest helps.\npackage gtidtest\n\nimport (\n\t\"testing\"\n\n\t\"" + module + "/gtid\"\n)\n\nfunc f() { go f() }\n",
		"a.go":               "// Package concordat is sound.\npackage concordat\n\nimport \"" + raft + "/raftpb\"\n\nfunc f() { go f() }\n",
		"a_test.go":          "package concordat\n\nimport \"go.uber.org/goleak\"\n",
		"cmd/c/main.go":      "// Command c is sound.\npackage main\n\nimport (\n\t\"os\"\n\n\t\"github.com/spf13/cobra\"\n)\n\nfunc main() { os.Exit(1) }\n",
		"bench/peers/go.mod": "module peers\n",
		"bench/peers/a.go":   "// Package peers is another module's.\npackage peers\n\nimport \"" + module + "/sim\"\n",
		"bin/tool.go":        "not Go",
		"mktemp.sh":          "mktemp /tmp/a.XXXXXX\n",
	}
	made := sound.tree(t)
	for _, rule := range rules {
		wantFindings(t, rule.check(made), nil)
	}
}

// TestGenerated checks that generated code is held to the import law only.
func TestGenerated(t *testing.T) {
	made := files{
		"proto/a.pb.go": "// Code generated by hand. DO NOT EDIT.\n\npackage proto\n\n// XX" + "X\nvar  X int\n\nfunc F() {\n" +
			strings.Repeat("\tpanic(0)\n", 700) + "}\n",
	}.tree(t)
	for _, rule := range rules {
		wantFindings(t, rule.check(made), nil)
	}
}

// TestExcuse checks that an exception covers its own place only, and does not
// outlive its cause.
func TestExcuse(t *testing.T) {
	found := sizes(files{
		"a.go": "package a\n\nfunc f() {\n" + strings.Repeat("\n", 80) + "}\n\nfunc g() {\n" + strings.Repeat("\n", 80) + "}\n",
	}.tree(t))
	if len(found) != 2 {
		t.Fatalf("found %v, want two functions", found)
	}
	all := []exception{
		{rule: "sizes", path: "a.go", fn: "f"},
		{rule: "sizes", path: "a.go", fn: "h"},
		{rule: "no exit", path: "a.go"},
	}
	left, idle := excuse("sizes", found, all)
	wantFindings(t, left, []string{"a.go:86: g has 82 lines"})
	if len(idle) != 1 || idle[0] != all[1] {
		t.Errorf("idle %v, want %v", idle, all[1:2])
	}
}

// TestLoadReportsSyntax checks that a file that does not parse is no silence.
func TestLoadReportsSyntax(t *testing.T) {
	_, err := load(fstest.MapFS{"a.go": {Data: []byte("package a\nfunc {\n")}})
	if err == nil || !strings.HasPrefix(err.Error(), "a.go:2:") {
		t.Errorf("error %v, want one at a.go:2", err)
	}
}
