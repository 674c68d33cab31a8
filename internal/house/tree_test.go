package house

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the path under which the tree's own packages are imported.
const module = "github.com/concordatdb/concordat"

// tree is the repository as the rules see it.
type tree struct {
	fset    *token.FileSet
	sources []*source // in path order
	texts   []text    // everything else that people write, in path order
	nested  []string  // directories of modules of their own

	// exports returns the compiled form of the packages in dirs and of all
	// that they import: import path to file name.
	exports func(dirs []string) (map[string]string, error)
}

// source is one Go file.
type source struct {
	path      string // slash-separated, from the root of the tree
	bytes     []byte
	syntax    *ast.File
	test      bool
	generated bool
}

// text is one file that is not Go.
type text struct {
	path  string
	bytes []byte
}

func (s *source) dir() string { return path.Dir(s.path) }

// main reports whether the file belongs to a command.
func (s *source) main() bool { return s.syntax.Name.Name == "main" }

// written reports whether people wrote the file and callers run it.
func (s *source) written() bool { return !s.test && !s.generated }

// nameOf returns the identifier by which the file knows an imported package,
// "" when it does not import it.
func (s *source) nameOf(importPath string) string {
	for _, spec := range s.syntax.Imports {
		if p, _ := strconv.Unquote(spec.Path.Value); p != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// finding is one place that breaks a rule.
type finding struct {
	pos  token.Position
	fn   string // the function around it, "" outside of any
	text string
}

func (f finding) String() string {
	return fmt.Sprintf("%s:%d: %s", f.pos.Filename, f.pos.Line, f.text)
}

func (t *tree) find(pos token.Pos, format string, args ...any) finding {
	return finding{pos: t.fset.Position(pos), text: fmt.Sprintf(format, args...)}
}

func findAt(path string, line int, format string, args ...any) finding {
	return finding{
		pos:  token.Position{Filename: path, Line: line},
		text: fmt.Sprintf(format, args...),
	}
}

// load reads and parses the tree. Files that do not parse are an error: no
// rule can be trusted on half a tree.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipped(p)
		}
		if path.Base(p) == "go.mod" && path.Dir(p) != "." {
			t.nested = append(t.nested, path.Dir(p))
		}
		if !d.Type().IsRegular() || path.Ext(p) == ".sum" {
			return nil
		}
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		return t.add(p, b)
	})
	return t, err
}

func (t *tree) add(p string, b []byte) error {
	if path.Ext(p) != ".go" {
		if !bytes.ContainsRune(b, 0) {
			t.texts = append(t.texts, text{path: p, bytes: b})
		}
		return nil
	}
	f, err := parser.ParseFile(t.fset, p, b, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.sources = append(t.sources, &source{
		path: p, bytes: b, syntax: f,
		test:      strings.HasSuffix(p, "_test.go"),
		generated: ast.IsGenerated(f),
	})
	return nil
}

// skipped returns fs.SkipDir for directories that hold nothing people wrote
// for the repository: build output, test data, tools' own state.
func skipped(dir string) error {
	base := path.Base(dir)
	hidden := base != "." && base[0] == '.' && base != ".ci" && base != ".github"
	if hidden || base[0] == '_' || base == "testdata" || dir == "bin" {
		return fs.SkipDir
	}
	return nil
}

// foreign reports whether a directory belongs to a module of its own, to
// which the import law does not apply.
func (t *tree) foreign(dir string) bool {
	return slices.ContainsFunc(t.nested, func(n string) bool { return within(dir, n) })
}

// within reports whether dir is parent or lies below it.
func within(dir, parent string) bool {
	return dir == parent || strings.HasPrefix(dir, parent+"/")
}

// packages groups the sources by directory, in path order.
func (t *tree) packages() [][]*source {
	byDir := slices.Clone(t.sources)
	slices.SortStableFunc(byDir, func(a, b *source) int { return cmp.Compare(a.dir(), b.dir()) })
	var pkgs [][]*source
	for i, s := range byDir {
		if i == 0 || s.dir() != byDir[i-1].dir() {
			pkgs = append(pkgs, nil)
		}
		pkgs[len(pkgs)-1] = append(pkgs[len(pkgs)-1], s)
	}
	return pkgs
}

// functions calls visit for every declared function with a body, under the
// name by which the exceptions know it: Func or Type.Method.
func (s *source) functions(visit func(name string, fn *ast.FuncDecl)) {
	for _, d := range s.syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			visit(funcName(fn), fn)
		}
	}
}

func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	return receiver(fn) + "." + fn.Name.Name
}

// receiver returns the name of a method's type.
func receiver(fn *ast.FuncDecl) string {
	e := fn.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// selected returns X.Name when e selects a name of the package that the file
// knows as X.
func selected(e ast.Expr) (pkg, name string) {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	return x.Name, sel.Sel.Name
}
