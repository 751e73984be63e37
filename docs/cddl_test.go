package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write protocol.cddl anew")

// structures are the sources of protocol.cddl, in its order.
var structures = []string{
	"envelope.go", "request.go", "errors.go", "commands.go", "account.go", "frame.go", "measured.go",
}

// others finds the names that package wire has for something else.
var others = regexp.MustCompile(`(?m)(^|\[\* |: )(Append|Status)( =|\]|,)`)

// endorsements are the sources of what goes between enclaves, hosts and endorsers.
var endorsements = []string{
	"endorsement/view.go", "endorsement/ask.go", "endorsement/change.go", "endorser/endorser.go", "endorser/release.go", "endorser/serve.go",
}

// protocol.cddl has every structure that crosses the wire, with its comments, as the
// code has it.
func TestCDDL(t *testing.T) {
	t.Parallel()
	got := "; Made from package wire by `go test ./docs -run TestCDDL -update`. CDDL: RFC 8610.\n" + names
	for _, file := range structures {
		got += cddl(t, "../wire/"+file)
	}
	got += "\n; Packages ledger/endorsement and ledger/endorser.\n\nSignerID = bstr .size 8\nGroup = [* Member]\n"
	for _, file := range endorsements {
		got += others.ReplaceAllString(cddl(t, "../ledger/"+file), "${1}Endorsed$2$3")
	}
	const path = "protocol.cddl"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("docs/%s is not what package wire says: `go test ./docs -run TestCDDL -update`", path)
	}
}

// names are the types that are no structures.
const names = `
AccountID = bstr .size 32
StreamID = bstr .size 32
Digest = bstr .size 32   ; SHA-256
DeviceID = bstr .size 16
Handle = bstr .size 16
VersionID = bstr .size 16
RequestID = bstr .size 16
KeyID = bstr .size 8
CommandName = tstr
Code = tstr
`

// cddl returns the structures of a file that have numbered members.
func cddl(t *testing.T, path string) string {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, s := range g.Specs {
			spec := s.(*ast.TypeSpec)
			structure, ok := spec.Type.(*ast.StructType)
			members := ""
			if ok {
				members = membersOf(t, structure)
			}
			switch {
			case members != "":
			case ok && len(structure.Fields.List) == 0: // a command without arguments
			case isMap(spec.Type):
				members = "" // another name for one of above
			default:
				continue
			}
			b.WriteString("\n" + comment(g.Doc.Text()))
			if other, ok := spec.Type.(*ast.Ident); ok {
				fmt.Fprintf(&b, "%s = %s\n", exported(spec.Name.Name), other.Name)
				continue
			}
			fmt.Fprintf(&b, "%s = {\n%s}\n", exported(spec.Name.Name), members)
		}
	}
	return b.String()
}

// isMap reports whether a type is another name of a structure: type Join Enrol.
func isMap(e ast.Expr) bool {
	i, ok := e.(*ast.Ident)
	return ok && i.IsExported()
}

func exported(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

func comment(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimRight("; "+line, " \n") + "\n")
	}
	return b.String()
}

func membersOf(t *testing.T, s *ast.StructType) string {
	t.Helper()
	var b strings.Builder
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			continue
		}
		raw, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			t.Fatal(err)
		}
		tag := strings.Split(reflect.StructTag(raw).Get("cbor"), ",")
		if len(tag) < 2 || tag[1] != "keyasint" {
			continue
		}
		optional := ""
		if len(tag) > 2 && tag[2] == "omitempty" {
			optional = "? "
		}
		fmt.Fprintf(&b, "  %s%s: %s,   ; %s", optional, tag[0], typeOf(t, f.Type), f.Names[0].Name)
		if text := strings.Join(strings.Fields(f.Comment.Text()), " "); text != "" {
			b.WriteString(": " + text)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func typeOf(t *testing.T, e ast.Expr) string {
	t.Helper()
	switch e := e.(type) {
	case *ast.Ident:
		switch e.Name {
		case "uint64", "uint32", "uint8":
			return "uint"
		case "string":
			return "tstr"
		case "Base64", "Encoded":
			return "bstr"
		}
		return e.Name
	case *ast.StarExpr:
		return typeOf(t, e.X)
	case *ast.SelectorExpr:
		return typeOf(t, e.Sel)
	case *ast.ArrayType:
		if i, ok := e.Elt.(*ast.Ident); ok && i.Name == "byte" {
			return "bstr"
		}
		return "[* " + typeOf(t, e.Elt) + "]"
	}
	t.Fatalf("no CDDL for %T", e)
	return ""
}
