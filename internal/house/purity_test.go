package house

import (
	"cmp"
	"errors"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// timeUnits is what a deterministic package may know of time.
var timeUnits = []string{
	"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour",
}

// orderFree marks a loop over a map whose order nobody can see, with the
// reason, on the line of the loop or on the one above it.
var orderFree = regexp.MustCompile(`^// order-free: \S`)

// deterministic reports whether the file's code must do the same on every run.
func (t *tree) deterministic(s *source) bool {
	if s.test || t.foreign(s.dir()) {
		return false
	}
	r, ok := roomOf(s.dir())
	return ok && (r.pure || r.seeded)
}

// purity checks that deterministic packages neither ask for the time nor
// leave the one goroutine that calls them. importLaw checks their imports.
func purity(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		if !t.deterministic(s) {
			continue
		}
		clock := s.nameOf("time")
		if clock == "." {
			found = append(found, t.find(s.syntax.Package, "deterministic code imports all of time's names"))
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if what := impurity(n, clock); what != "" {
				found = append(found, t.find(n.Pos(), "deterministic code uses %s", what))
			}
			return true
		})
	}
	return found
}

// plainTests checks that the tests of pure packages start no goroutine either:
// make test runs them without the race detector.
func plainTests(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		if r, ok := roomOf(s.dir()); !ok || !r.pure || !s.test || t.foreign(s.dir()) {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			parallel := false
			if ok {
				_, name := selected(call.Fun)
				parallel = name == "Parallel"
			}
			if startsGoroutine(n) || parallel {
				found = append(found, t.find(n.Pos(), "a test of a pure package starts a goroutine, and runs without the race detector"))
			}
			return true
		})
	}
	return found
}

func impurity(n ast.Node, clock string) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a goroutine"
	case *ast.SelectStmt:
		return "select"
	case *ast.ChanType:
		return "a channel"
	case *ast.SelectorExpr:
		pkg, name := selected(n)
		if clock != "" && pkg == clock && !slices.Contains(timeUnits, name) {
			return "time." + name
		}
	}
	return ""
}

// mapOrder checks that deterministic packages never walk a map in its own
// order, except where a comment says why nobody can see that order.
func mapOrder(t *tree) []finding {
	var dirs []string
	for _, s := range t.sources {
		if t.deterministic(s) {
			dirs = append(dirs, s.dir())
		}
	}
	dirs = slices.Compact(dirs)
	exports, err := t.exports(dirs)
	if err != nil {
		return []finding{findAt("go.mod", 1, "cannot list what the deterministic packages import: %v", err)}
	}
	imp := importer.ForCompiler(t.fset, "gc", func(p string) (io.ReadCloser, error) {
		name, ok := exports[p]
		if !ok || name == "" {
			return nil, errors.New("not compiled")
		}
		return os.Open(name)
	})
	var found []finding
	for _, pkg := range t.packages() {
		if slices.Contains(dirs, pkg[0].dir()) {
			found = append(found, t.mapOrderIn(pkg, imp)...)
		}
	}
	return found
}

func (t *tree) mapOrderIn(pkg []*source, imp types.Importer) []finding {
	var found []finding
	var files []*ast.File
	for _, s := range pkg {
		if !s.test {
			files = append(files, s.syntax)
		}
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: imp, Error: func(err error) {
		if e, ok := errors.AsType[types.Error](err); ok && len(found) == 0 {
			found = append(found, t.find(e.Pos, "the order of loops cannot be checked: %s", e.Msg))
		}
	}}
	if _, err := conf.Check(pkg[0].dir(), t.fset, files, info); err != nil {
		return found
	}
	for _, f := range files {
		excused := t.linesAfter(f, orderFree)
		sorted := map[ast.Expr]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			pos, what := unordered(n, info, sorted)
			if what != "" && !excused[t.fset.Position(pos).Line] {
				found = append(found, t.find(pos,
					"%s in no order: sort it first, or say on the line above why nobody can see it: // order-free: why", what))
			}
			return true
		})
	}
	slices.SortStableFunc(found, func(a, b finding) int { return cmp.Compare(a.pos.Offset, b.pos.Offset) })
	return found
}

// unordered tells whether n walks a map. It keeps in sorted the calls whose
// result its caller sorts.
func unordered(n ast.Node, info *types.Info, sorted map[ast.Expr]bool) (token.Pos, string) {
	switch n := n.(type) {
	case *ast.RangeStmt:
		if isMap(info.TypeOf(n.X)) {
			return n.Pos(), "a loop over the map " + types.ExprString(n.X)
		}
	case *ast.CallExpr:
		pkg, name := callee(n.Fun, info)
		if pkg == "slices" && strings.HasPrefix(name, "Sorted") && len(n.Args) > 0 {
			sorted[n.Args[0]] = true
		}
		walks := name == "Keys" || name == "Values" || name == "All"
		if pkg == "maps" && walks && !sorted[n] {
			return n.Pos(), "maps." + name
		}
	}
	return token.NoPos, ""
}

// isMap also holds for a type parameter all of whose types are maps.
func isMap(t types.Type) bool {
	if t == nil {
		return false
	}
	p, ok := types.Unalias(t).(*types.TypeParam)
	if !ok {
		_, ok = t.Underlying().(*types.Map)
		return ok
	}
	iface, ok := p.Constraint().Underlying().(*types.Interface)
	if !ok {
		return false
	}
	for e := range iface.EmbeddedTypes() {
		u, ok := e.(*types.Union)
		if ok && u.Len() > 0 && isMap(u.Term(0).Type()) {
			return true
		}
	}
	return false
}

// callee returns the package and name of a called function.
func callee(fun ast.Expr, info *types.Info) (pkg, name string) {
	sel, ok := fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	obj := info.Uses[sel.Sel]
	if obj == nil || obj.Pkg() == nil {
		return "", ""
	}
	return obj.Pkg().Path(), obj.Name()
}

// linesAfter returns the lines that a comment like re excuses: its own and
// the next one.
func (t *tree) linesAfter(f *ast.File, re *regexp.Regexp) map[int]bool {
	lines := map[int]bool{}
	for _, g := range f.Comments {
		for _, c := range g.List {
			if re.MatchString(c.Text) {
				end := t.fset.Position(g.End()).Line
				lines[t.fset.Position(c.Pos()).Line] = true
				lines[end] = true
				lines[end+1] = true
			}
		}
	}
	return lines
}
