package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// variable selects a mutation in a binary that holds many.
const variable = "CLAIMCHECK"

var (
	// errNotInBody: the mutation changes more than the body of one function.
	errNotInBody = errors.New("not in one function's body")
	// errResult: the body assigns a named result by := and would declare another one
	// inside of a case.
	errResult = errors.New("the body assigns a result by :=")
)

// schemata are files, by path, in which some functions hold, beside their own
// body, one for each mutation of it:
//
//	switch claimcheck {
//	case "17": { mutated body }
//	default: { own body }
//	}
//
// The compiler asks of each case what it asks of a body. Only an import that
// the mutation leaves without use goes unnoticed.
type schemata map[string]*schema

type schema struct {
	text   string
	file   *ast.File
	bodies map[int]map[string]string // by declaration, then by mutation
}

func (m *mutation) id() string { return strconv.Itoa(m.line) }

// add puts a mutation in its file, or says why it must be built alone.
func (s schemata) add(m *mutation) error {
	original := s[m.file]
	if original == nil {
		text, err := os.ReadFile(m.file)
		if err != nil {
			return err
		}
		file, err := parseFile(string(text))
		if err != nil {
			return err
		}
		original = &schema{string(text), file, map[int]map[string]string{}}
	}
	text, err := m.apply(original.text)
	if err != nil {
		return err
	}
	file, err := parseFile(text)
	if err != nil {
		return err
	}
	if len(file.Decls) != len(original.file.Decls) {
		return errNotInBody
	}
	changed := -1
	for i := range file.Decls {
		headA, bodyA := split(original.text, original.file.Decls[i])
		headB, bodyB := split(text, file.Decls[i])
		switch {
		case headA != headB, bodyA != bodyB && changed >= 0:
			return errNotInBody
		case bodyA != bodyB:
			changed = i
		}
	}
	if changed < 0 {
		return errNotInBody
	}
	if definesResult(original.file.Decls[changed]) || definesResult(file.Decls[changed]) {
		return errResult
	}
	if original.bodies[changed] == nil {
		original.bodies[changed] = map[string]string{}
	}
	_, original.bodies[changed][m.id()] = split(text, file.Decls[changed])
	s[m.file] = original
	return nil
}

// definesResult reports whether a statement of a function's own block names one of its
// results before a :=, which assigns there and declares in a block within.
func definesResult(decl ast.Decl) bool {
	f, ok := decl.(*ast.FuncDecl)
	if !ok || f.Body == nil || f.Type.Results == nil {
		return false
	}
	results := map[string]bool{}
	for _, field := range f.Type.Results.List {
		for _, name := range field.Names {
			results[name.Name] = name.Name != "_"
		}
	}
	for _, statement := range f.Body.List {
		define, ok := statement.(*ast.AssignStmt)
		if !ok || define.Tok != token.DEFINE {
			continue
		}
		for _, left := range define.Lhs {
			if name, ok := left.(*ast.Ident); ok && results[name.Name] {
				return true
			}
		}
	}
	return false
}

// overlay returns the texts of the files, by path, and those that define the switch.
func (s schemata) overlay() map[string]string {
	out := map[string]string{}
	for path, f := range s {
		var b strings.Builder
		end := 0
		for i, decl := range f.file.Decls {
			if f.bodies[i] == nil {
				continue
			}
			_, own := split(f.text, decl)
			start := int(decl.(*ast.FuncDecl).Body.Pos()) - 1
			fmt.Fprintf(&b, "%s{ switch claimcheck {\n", f.text[end:start])
			for _, id := range slices.Sorted(maps.Keys(f.bodies[i])) {
				fmt.Fprintf(&b, "case %q: %s\n", id, f.bodies[i][id])
			}
			fmt.Fprintf(&b, "default: %s\n} }", own)
			end = start + len(own)
		}
		b.WriteString(f.text[end:])
		out[path] = b.String()
		out[filepath.Join(filepath.Dir(path), "claimcheck_switch.go")] = fmt.Sprintf(
			"package %s\nimport \"os\"\nvar claimcheck = os.Getenv(%q)\n", f.file.Name.Name, variable)
	}
	return out
}

// parseFile parses a file so that a position is an offset, plus one.
func parseFile(text string) (*ast.File, error) {
	return parser.ParseFile(token.NewFileSet(), "", text, parser.SkipObjectResolution)
}

// split returns a declaration up to a function's body, and the body with its braces.
func split(text string, decl ast.Decl) (head, body string) {
	f, ok := decl.(*ast.FuncDecl)
	if !ok || f.Body == nil {
		return text[decl.Pos()-1 : decl.End()-1], ""
	}
	return text[f.Pos()-1 : f.Body.Pos()-1], text[f.Body.Pos()-1 : f.Body.End()-1]
}
