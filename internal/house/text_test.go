package house

import (
	"bytes"
	"go/ast"
	"go/format"
	"regexp"
	"strings"
)

// How long is too long. A file or function past its limit is either two
// things under one name, or stands in exceptions_test.go with the reason.
const (
	maxFileLines     = 600
	maxFuncLines     = 70
	maxTestFuncLines = 100 // tables are long and easy to read
)

// leftover matches what is written to be done later, and then is not.
var leftover = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

// formatted checks that gofmt has nothing to say.
func formatted(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		if s.generated {
			continue
		}
		want, err := format.Source(s.bytes)
		if err != nil {
			found = append(found, findAt(s.path, 1, "%v", err))
			continue
		}
		if line := firstDifference(s.bytes, want); line > 0 {
			found = append(found, findAt(s.path, line, "not formatted: run gofumpt"))
		}
	}
	return found
}

// firstDifference returns the first line in which a and b differ, 0 if none.
func firstDifference(a, b []byte) int {
	line := 0
	for !bytes.Equal(a, b) {
		line++
		headA, restA, _ := bytes.Cut(a, []byte("\n"))
		headB, restB, _ := bytes.Cut(b, []byte("\n"))
		if !bytes.Equal(headA, headB) || len(restA) == 0 || len(restB) == 0 {
			return line
		}
		a, b = restA, restB
	}
	return 0
}

// leftovers checks the comments of Go files, and the whole of others.
func leftovers(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		if s.generated {
			continue
		}
		for _, g := range s.syntax.Comments {
			for _, c := range g.List {
				for _, m := range leftover.FindAllString(c.Text, -1) {
					found = append(found, t.find(c.Pos(), "leftover %s: do it, or describe it where work is planned", m))
				}
			}
		}
	}
	for _, x := range t.texts {
		for i, line := range strings.Split(string(x.bytes), "\n") {
			for _, m := range leftover.FindAllString(line, -1) {
				found = append(found, findAt(x.path, i+1, "leftover %s: do it, or describe it where work is planned", m))
			}
		}
	}
	return found
}

// sizes checks the length of files and functions.
func sizes(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		if s.generated {
			continue
		}
		if n := bytes.Count(s.bytes, []byte("\n")); n > maxFileLines {
			found = append(found, findAt(s.path, 1, "%d lines, more than %d", n, maxFileLines))
		}
		limit := maxFuncLines
		if s.test {
			limit = maxTestFuncLines
		}
		s.functions(func(name string, fn *ast.FuncDecl) {
			n := t.fset.Position(fn.End()).Line - t.fset.Position(fn.Pos()).Line + 1
			if n > limit {
				f := t.find(fn.Pos(), "%s has %d lines, more than %d", name, n, limit)
				f.fn = name
				found = append(found, f)
			}
		})
	}
	return found
}
