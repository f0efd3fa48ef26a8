package door

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"spillway/services/ingest/door/doortest"
)

// routes are the patterns with a method that a package's code gives to a mux.
func routes(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no code in %s: %v", folder, err)
	}
	var all []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || method.Sel.Name != "Handle" && method.Sel.Name != "HandleFunc" {
				return true
			}
			if first, ok := call.Args[0].(*ast.Ident); ok && first.Name == "ctx" {
				return true // a stage handles a job
			}
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: a route that is not spelled out cannot be described", name)
				return true
			}
			if pattern, err := strconv.Unquote(literal.Value); err == nil && pattern != "/" {
				all = append(all, pattern)
			}
			return true
		})
	}
	return all
}

func TestTheDocumentDescribesTheRoutesAndNoOthers(t *testing.T) {
	t.Parallel()
	c, err := doortest.Read()
	if err != nil {
		t.Fatal(err)
	}
	served := append(routes(t, "."), routes(t, "../../spillway")...)
	slices.Sort(served)
	if described := c.Routes(); !slices.Equal(served, described) || len(served) < 12 {
		t.Errorf("served are\n%q, described\n%q", served, described)
	}
}

func TestADoorServesItsDocumentsWithItsAddress(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, plain := w.open(w.conn)
	_, public := w.open(w.conn, func(d *Door) { d.o.PublicURL = "https://llm.example.com/" })
	for served, want := range map[string]string{plain.URL: plain.URL, public.URL: "https://llm.example.com"} {
		var openAPI struct {
			Openapi string
			Servers []struct{ URL string }
		}
		document(t, served+"/openapi.json", &openAPI)
		if len(openAPI.Servers) != 1 || openAPI.Servers[0].URL != want || !strings.HasPrefix(openAPI.Openapi, "3.1.") {
			t.Errorf("%+v, want %s", openAPI, want)
		}
		var asyncAPI struct {
			Asyncapi string
			Servers  map[string]struct{ Host, Protocol string }
		}
		document(t, served+"/asyncapi.json", &asyncAPI)
		s := asyncAPI.Servers["http"]
		if s.Protocol+"://"+s.Host != want || asyncAPI.Servers["ws"].Host != s.Host || asyncAPI.Asyncapi != "3.0.0" {
			t.Errorf("%+v, want %s", asyncAPI, want)
		}
	}
}

func document(t *testing.T, url string, into any) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s: %d %v", url, answer.StatusCode, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}

// described is the document as it is served, as far as the tests below look at it.
type described struct {
	Components struct{ Headers map[string]any }
	Paths      map[string]struct {
		Get struct{ Responses map[string]any }
	}
}

func TestAPageMayReadEveryHeaderThatIsDescribed(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn, func(d *Door) { d.o.Origins = []string{"http://localhost:8000"} })
	var doc described
	document(t, served.URL+"/openapi.json", &doc)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, served.URL+"/v1/jobs/nobody", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "http://localhost:8000")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	exposed := strings.Split(answer.Header.Get("Access-Control-Expose-Headers"), ", ")
	for name := range doc.Components.Headers {
		if !slices.ContainsFunc(exposed, func(e string) bool { return strings.EqualFold(e, name) }) {
			t.Errorf("a page cannot read %s, only %q", name, exposed)
		}
	}
	if len(doc.Components.Headers) < 7 {
		t.Errorf("described are %v", doc.Components.Headers)
	}
}

// An EventSource gives up at any status but 200: what is 503 elsewhere is told in the stream, see isSentAway.
func TestTheDocumentSaysThatStreamsOfEventsAreNever503(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn)
	var doc described
	document(t, served.URL+"/openapi.json", &doc)
	for path, want := range map[string]bool{
		"/v1/jobs/{id}": true, "/v1/jobs/{id}/ws": true, "/v1/sessions/{session}/ws": true,
		"/v1/jobs/{id}/events": false, "/v1/sessions/{session}/events": false,
	} {
		responses := doc.Paths[path].Get.Responses
		if _, is := responses["503"]; is != want || responses["401"] == nil {
			t.Errorf("%s: 503 is described: %v", path, is)
		}
	}
}
