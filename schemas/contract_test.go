package schemas_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/schemas"
)

const address = "https://llm.example.com/behind"

// documents are the two, as a door at the address serves them.
func documents(t *testing.T) (openAPI, asyncAPI map[string]any) {
	t.Helper()
	c, err := schemas.ReadContract()
	if err != nil {
		t.Fatal(err)
	}
	for into, document := range map[*map[string]any]func(string) ([]byte, error){&openAPI: c.OpenAPI, &asyncAPI: c.AsyncAPI} {
		text, err := document(address)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		*into, _ = value.(map[string]any)
	}
	return openAPI, asyncAPI
}

func member(node any, names ...string) any {
	for _, name := range names {
		members, _ := node.(map[string]any)
		node = members[name]
	}
	return node
}

func keys(node any) []string {
	members, _ := node.(map[string]any)
	return slices.Sorted(maps.Keys(members))
}

func TestTheDocumentsNameTheAddressOfTheirDoor(t *testing.T) {
	t.Parallel()
	openAPI, asyncAPI := documents(t)
	if servers, _ := openAPI["servers"].([]any); len(servers) != 1 || member(servers[0], "url") != address {
		t.Errorf("%v", servers)
	}
	for name, protocol := range map[string]string{"http": "https", "ws": "wss"} {
		server := member(asyncAPI, "servers", name)
		if member(server, "host") != "llm.example.com" || member(server, "pathname") != "/behind" || member(server, "protocol") != protocol {
			t.Errorf("%s: %v", name, server)
		}
	}
	c, err := schemas.ReadContract()
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range []func(string) ([]byte, error){c.OpenAPI, c.AsyncAPI} {
		one, _ := document("http://one.example.com")
		other, _ := document("http://other.example.com")
		if !bytes.Contains(one, []byte("one.example.com")) || bytes.Contains(other, []byte("one.example.com")) || bytes.Contains(other, []byte("behind")) {
			t.Error("the address of one is left to the other")
		}
	}
}

func TestTheDocumentsReferToNothingOutsideThem(t *testing.T) {
	t.Parallel()
	openAPI, asyncAPI := documents(t)
	for name, document := range map[string]map[string]any{"openapi": openAPI, "asyncapi": asyncAPI} {
		n := 0
		each(document, func(ref string) {
			n++
			at, inside := strings.CutPrefix(ref, "#/")
			var names []string
			for part := range strings.SplitSeq(at, "/") {
				names = append(names, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
			}
			if !inside || member(document, names...) == nil {
				t.Errorf("%s: there is no %s", name, ref)
			}
		})
		if n < 50 {
			t.Errorf("%s has %d references", name, n)
		}
	}
}

// each visits the references.
func each(node any, visit func(string)) {
	switch node := node.(type) {
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			visit(ref)
		}
		for _, member := range node {
			each(member, visit)
		}
	case []any:
		for _, member := range node {
			each(member, visit)
		}
	}
}

func TestEachMessageIsInADocument(t *testing.T) {
	t.Parallel()
	openAPI, asyncAPI := documents(t)
	entries, err := fs.ReadDir(schemas.FS(), "messages")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		var message map[string]any
		if err := json.Unmarshal(read(t, "messages/"+entry.Name()), &message); err != nil {
			t.Fatal(err)
		}
		title, _ := message["title"].(string)
		if member(openAPI, "components", "schemas", title) == nil && member(asyncAPI, "components", "schemas", title) == nil {
			t.Errorf("%s is in no document", entry.Name())
		}
	}
	if len(entries) < 8 {
		t.Errorf("%d messages", len(entries))
	}
}

// wildcards are the subjects of names.go that stand for many.
func wildcards(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../pkg/broker/names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for i, value := range spec.Values {
				literal, ok := value.(*ast.BasicLit)
				if text, err := strconv.Unquote(literal.Value); ok && err == nil && ast.IsExported(spec.Names[i].Name) && strings.ContainsAny(text, "*>") {
					all = append(all, text)
				}
			}
		}
		return true
	})
	return all
}

// What only the stages say to one another, and what is of no client: they are in design and code, not in the contract.
func inner() []string {
	return []string{broker.AllLocates, broker.AllAdmitted, broker.AllParked, broker.AllWrites, broker.AllCached, broker.AllBreakers, broker.AllContexts}
}

func TestTheChannelsAreTheSubjectsOfTheBrokerAndTheStreamsOfTheDoor(t *testing.T) {
	t.Parallel()
	openAPI, asyncAPI := documents(t)
	want := []string{
		broker.RequestSubject("interactive", "{task}"), broker.RequestSubject("batch", "{task}"), broker.SubmitSubject("{task}"), broker.CancelSubject("{id}"),
		broker.ResultSubject("{task}", "{id}"), broker.ProgressSubject("{task}", "{id}"), broker.DeltaSubject("{task}", "{id}"), broker.ReplaySubject("{id}"),
		broker.DeadSubject("{stage}", "{task}", "{id}"),
	}
	unnamed := wildcards(t)
	unnamed = slices.DeleteFunc(unnamed, func(s string) bool { return slices.Contains(inner(), s) })
	for _, subject := range want {
		before := len(unnamed)
		unnamed = slices.DeleteFunc(unnamed, func(s string) bool { return covers(s, subject) })
		if len(unnamed) == before {
			t.Errorf("no subject of names.go stands for %s", subject)
		}
	}
	if len(unnamed) > 0 {
		t.Errorf("of names.go no channel, and nothing inner, are %v", unnamed)
	}
	for path := range openAPI["paths"].(map[string]any) {
		if tags, _ := member(openAPI, "paths", path, "get", "tags").([]any); slices.Contains(tags, any("streams")) {
			want = append(want, path)
		}
	}
	var got []string
	for name := range asyncAPI["channels"].(map[string]any) {
		if at, ok := member(asyncAPI, "channels", name, "address").(string); ok {
			got = append(got, at)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the channels are\n%q, want\n%q", got, want)
	}
}

// covers reports whether a subject with wildcards stands for one with parameters.
func covers(wild, subject string) bool {
	parts, of := strings.Split(wild, "."), strings.Split(subject, ".")
	for i, part := range parts {
		switch {
		case part == ">":
			return len(of) > i
		case i >= len(of) || part != "*" && part != of[i]:
			return false
		}
	}
	return len(parts) == len(of)
}

func TestEachChannelHasAnOperation(t *testing.T) {
	t.Parallel()
	_, asyncAPI := documents(t)
	used := map[string]bool{}
	for _, name := range keys(asyncAPI["operations"]) {
		for _, at := range [][]string{{"channel", "$ref"}, {"reply", "channel", "$ref"}} {
			if ref, ok := member(asyncAPI["operations"], append([]string{name}, at...)...).(string); ok {
				used[strings.TrimPrefix(ref, "#/channels/")] = true
			}
		}
	}
	if got, want := slices.Sorted(maps.Keys(used)), keys(asyncAPI["channels"]); !slices.Equal(got, want) {
		t.Errorf("%q are used of %q", got, want)
	}
}

func TestTheExamplesOfMessagesAreSome(t *testing.T) {
	t.Parallel()
	_, asyncAPI := documents(t)
	const at = "https://spillway.invalid/asyncapi.json"
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(at, asyncAPI); err != nil {
		t.Fatal(err)
	}
	n := 0
	validate := func(where, schemaAt string, value any) {
		compiled, err := compiler.Compile(at + schemaAt)
		if err != nil {
			t.Fatal(err)
		}
		if n++; compiled.Validate(value) != nil {
			t.Errorf("an example of %s: %v", where, compiled.Validate(value))
		}
	}
	for _, name := range keys(member(asyncAPI, "components", "messages")) {
		examples, _ := member(asyncAPI, "components", "messages", name, "examples").([]any)
		for _, example := range examples {
			if payload := member(example, "payload"); payload != nil {
				validate(name, "#/components/messages/"+name+"/payload", payload)
			}
		}
	}
	for _, name := range keys(member(asyncAPI, "components", "schemas")) {
		examples, _ := member(asyncAPI, "components", "schemas", name, "examples").([]any)
		for _, example := range examples {
			validate(name, "#/components/schemas/"+name, example)
		}
	}
	if n < 20 {
		t.Errorf("only %d examples", n)
	}
}

func TestTheCodesOfProblemsAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	var problem any
	if err := json.Unmarshal(read(t, "messages/problem.schema.json"), &problem); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, d := range fate.Codes() {
		known[string(d.Code)] = true
	}
	codes, _ := member(problem, "properties", "code", "enum").([]any)
	for _, code := range codes {
		if name, _ := code.(string); !known[name] {
			t.Errorf("%v is not in the table of codes", code)
		}
	}
	// What a client is told before anything is stored, all but the codes of operators' commands.
	for _, code := range []fate.Code{
		fate.BadJSON, fate.UnknownField, fate.InvalidRequest, fate.UnknownTask, fate.InputInvalid, fate.TooLarge, fate.IDConflict, fate.NotFound,
		fate.Unauthorized, fate.Forbidden, fate.RateLimited, fate.Gone, fate.DoorFull, fate.Unavailable, fate.Draining, fate.UnsupportedMedia,
		fate.NoSuchRoute, fate.MethodNotAllowed, fate.Internal,
	} {
		if !slices.Contains(codes, any(string(code))) {
			t.Errorf("%s is no code of a problem", code)
		}
	}
}
