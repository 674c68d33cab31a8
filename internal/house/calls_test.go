package house

import (
	"go/ast"
	"slices"
	"strings"
)

// noExit checks that the library never ends, or crashes, the program that
// embeds it: whatever goes wrong is an error of the call or of the member.
func noExit(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		if !s.written() || s.main() {
			continue
		}
		logger := s.nameOf("log")
		s.functions(func(name string, fn *ast.FuncDecl) {
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if what := exits(call.Fun, logger); what != "" {
					f := t.find(call.Pos(), "%s calls %s: return an error", name, what)
					f.fn = name
					found = append(found, f)
				}
				return true
			})
		})
	}
	return found
}

func exits(fun ast.Expr, logger string) string {
	if id, ok := fun.(*ast.Ident); ok && id.Name == "panic" {
		return "panic"
	}
	pkg, name := selected(fun)
	switch {
	case pkg == "os" && name == "Exit", pkg == "runtime" && name == "Goexit", pkg == "syscall" && name == "Exit":
		return pkg + "." + name
	case logger != "" && pkg == logger && (strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Panic")):
		return "log." + name
	}
	return ""
}

// noSleep checks that nobody waits for time to pass: a test that does is slow
// or wrong, and code that does cannot be told to stop. In the bubble of a
// synctest.Test time is virtual and sleeping is how one moves it.
func noSleep(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		clock, bubble := s.nameOf("time"), s.nameOf("testing/synctest")
		if clock == "" || (s.main() && !s.test) {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			pkg, name := selected(call.Fun)
			if pkg == clock && name == "Sleep" {
				found = append(found, t.find(call.Pos(), "time.Sleep: wait for what should happen, under a context"))
			}
			return bubble == "" || pkg != bubble || name != "Test"
		})
	}
	return found
}

// noSkip checks that every test that exists also runs.
func noSkip(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		testing := s.nameOf("testing")
		if testing == "" {
			continue
		}
		handles := testHandles(s.syntax, testing)
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			x, name := selected(call.Fun)
			if strings.HasPrefix(name, "Skip") && slices.Contains(handles, x) {
				found = append(found, t.find(call.Pos(), "%s.%s: a test that does not run proves nothing", x, name))
			}
			return true
		})
	}
	return found
}

// testHandles returns the names under which the functions of a file receive a
// test, benchmark or fuzz target.
func testHandles(f *ast.File, testing string) []string {
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok {
			return true
		}
		typ := field.Type
		if star, ok := typ.(*ast.StarExpr); ok {
			typ = star.X
		}
		pkg, name := selected(typ)
		if pkg == testing && slices.Contains([]string{"T", "B", "F", "TB"}, name) {
			for _, id := range field.Names {
				names = append(names, id.Name)
			}
		}
		return true
	})
	return names
}

// leakChecked checks that the tests of a package that starts goroutines end
// by asking whether all of them ended. What helps tests is covered by theirs.
func leakChecked(t *tree) []finding {
	var found []finding
	for _, pkg := range t.packages() {
		if support(pkg[0].dir()) {
			continue
		}
		var starts ast.Node
		checked := false
		for _, s := range pkg {
			if s.test {
				checked = checked || s.nameOf("go.uber.org/goleak") != ""
			} else if starts == nil && s.written() && !s.main() {
				starts = firstGoroutine(s.syntax)
			}
		}
		if starts != nil && !checked {
			found = append(found, t.find(starts.Pos(),
				"%s starts goroutines, and no TestMain of its tests calls goleak.VerifyTestMain", pkg[0].dir()))
		}
	}
	return found
}

// firstGoroutine returns the first go statement or call of a method Go, as of
// sync.WaitGroup, nil when there is none.
func firstGoroutine(f *ast.File) ast.Node {
	var first ast.Node
	ast.Inspect(f, func(n ast.Node) bool {
		if first == nil && startsGoroutine(n) {
			first = n
		}
		return first == nil
	})
	return first
}

func startsGoroutine(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		return true
	case *ast.CallExpr:
		sel, ok := n.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "Go"
	}
	return false
}
