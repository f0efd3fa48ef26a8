package services_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"spillway/pkg/fate"
)

// Each code that can end a run, or be told to an operator, is expected by a test somewhere.
func TestEachCodeIsExpectedByATest(t *testing.T) {
	t.Parallel()
	names := codeNames(t)
	if len(names) != len(fate.Codes()) {
		t.Fatalf("%d constants, %d rows", len(names), len(fate.Codes()))
	}
	var tests strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || strings.Contains(path, "pkg/fate/") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for constant := range names {
		if !regexp.MustCompile(`fate\.` + constant + `\b`).MatchString(tests.String()) {
			t.Errorf("no test expects fate.%s (%s)", constant, names[constant])
		}
	}
}

// codeNames are the constants of type Code, from the source.
func codeNames(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../pkg/fate/code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" && len(spec.Values) == 1 {
			names[spec.Names[0].Name] = spec.Values[0].(*ast.BasicLit).Value
		}
		return true
	})
	return names
}
