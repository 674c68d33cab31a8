package house

import (
	"go/ast"
	"go/token"
	"strings"
)

// packageComments checks that every package says, in one place, what it is.
// A package that is generated whole is described where it is generated from.
func packageComments(t *tree) []finding {
	var found []finding
	for _, pkg := range t.packages() {
		var doc, first *source
		for _, s := range pkg {
			if s.test {
				continue
			}
			if first == nil && !s.generated {
				first = s
			}
			if s.syntax.Doc == nil {
				continue
			}
			if doc != nil {
				found = append(found, t.find(s.syntax.Package, "second package comment: %s has one", doc.path))
			}
			doc = s
		}
		switch {
		case first == nil:
		case doc == nil:
			found = append(found, t.find(first.syntax.Package, "package %s has no package comment", first.syntax.Name.Name))
		case !doc.main() && !strings.HasPrefix(doc.syntax.Doc.Text(), "Package "+doc.syntax.Name.Name+" "):
			found = append(found, t.find(doc.syntax.Doc.Pos(), "package comment does not begin with %q",
				"Package "+doc.syntax.Name.Name))
		}
	}
	return found
}

// docComments checks that everything a program can name is explained.
func docComments(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		if !s.written() || s.main() {
			continue
		}
		for _, d := range s.syntax.Decls {
			for _, id := range undocumented(d) {
				found = append(found, t.find(id.Pos(), "exported %s has no doc comment", id.Name))
			}
		}
	}
	return found
}

// undocumented returns the exported names of a declaration that no comment
// explains. One comment may explain a whole group of constants or variables.
func undocumented(d ast.Decl) []*ast.Ident {
	switch d := d.(type) {
	case *ast.FuncDecl:
		reachable := d.Recv == nil || ast.IsExported(receiver(d))
		if d.Name.IsExported() && reachable && d.Doc == nil && !ofErrors(d) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		group := d.Lparen.IsValid() && d.Tok == token.TYPE
		if d.Tok == token.IMPORT || (d.Doc != nil && !group) {
			return nil
		}
		var ids []*ast.Ident
		for _, spec := range d.Specs {
			ids = append(ids, undocumentedSpec(spec)...)
		}
		return ids
	}
	return nil
}

// ofErrors reports whether fn is a method whose whole meaning the errors
// package gives.
func ofErrors(fn *ast.FuncDecl) bool {
	return fn.Recv != nil && (fn.Name.Name == "Error" || fn.Name.Name == "Unwrap")
}

func undocumentedSpec(spec ast.Spec) []*ast.Ident {
	var ids []*ast.Ident
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil {
			ids = append(ids, spec.Name)
		}
	case *ast.ValueSpec:
		for _, id := range spec.Names {
			if id.IsExported() && spec.Doc == nil && spec.Comment == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
