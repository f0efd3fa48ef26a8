package schemas_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/goccy/go-yaml"

	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/schemas"
	"spillway/services/ingest/door"
)

func shipped(t *testing.T) *task.Set {
	t.Helper()
	set, err := task.Load(schemas.FS(), nil)
	if err != nil {
		t.Fatalf("the shipped tasks have faults:\n%v", err)
	}
	return set
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := fs.ReadFile(schemas.FS(), name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func compile(t *testing.T, name string) *schema.Schema {
	t.Helper()
	compiled, err := schema.Compile(read(t, name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return compiled
}

func decode(t *testing.T, text []byte) any {
	t.Helper()
	value, err := schema.Decode(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

func TestTheShippedTasksLoad(t *testing.T) {
	t.Parallel()
	set := shipped(t)
	if len(set.Tasks) != 3 || set.Models["small"].ID != "gpt-4o-mini-2024-07-18" || set.Models["large"].ID != "gpt-4o-2024-08-06" {
		t.Errorf("got %+v", set)
	}
	for name, shippedTask := range set.Tasks {
		if shippedTask.Input.Validate(decode(t, set.Sample(name))) != nil {
			t.Errorf("the sample of %s is not valid: %s", name, set.Sample(name))
		}
		if name == "summarize" { // nobody waits for it
			if len(shippedTask.Ladder) != 0 || shippedTask.Lane != job.Batch || len(shippedTask.Cases) < 3 {
				t.Errorf("%s is %+v", name, shippedTask)
			}
			continue
		}
		want := []task.Rung{{Kind: "cache", MaxAge: shippedTask.Ladder[0].MaxAge}, {Kind: "model", Model: "large"}, {Kind: "canned"}}
		if !reflect.DeepEqual(shippedTask.Ladder, want) || shippedTask.Retry.InteractiveAttempts != 2 || len(shippedTask.Cases) < 3 {
			t.Errorf("%s is %+v", name, shippedTask)
		}
	}
	if got := set.NeedsKeys(func(string) string { return "" }); !slices.Equal(got, []string{"OPENAI_API_KEY (provider openai)"}) {
		t.Errorf("it needs the keys %v", got)
	}
}

// The rules are those of the two zod schemas that the tasks come from, read off them by hand.
func TestTheShippedOutputsAreCheckedAsTheirSourcesDo(t *testing.T) {
	t.Parallel()
	long, many := strings.Repeat("a", 501), `["a`+strings.Repeat(`","a`, 10)+`"]`
	for name, answers := range map[string]map[string]string{
		"analyze": {
			`{"sentiment":"positive","confidence":0,"summary":"0123456789","topics":["a"]}`:              "",
			`{"sentiment":"happy","confidence":0,"summary":"0123456789","topics":["a"]}`:                 "/sentiment",
			`{"sentiment":"neutral","confidence":1.01,"summary":"0123456789","topics":["a"]}`:            "/confidence",
			`{"sentiment":"neutral","confidence":"0.5","summary":"0123456789","topics":["a"]}`:           "/confidence",
			`{"sentiment":"negative","confidence":1,"summary":"012345678","topics":["a"]}`:               "/summary",
			`{"sentiment":"negative","confidence":1,"summary":"` + long + `","topics":["a"]}`:            "/summary",
			`{"sentiment":"negative","confidence":1,"summary":"0123456789","topics":[]}`:                 "/topics",
			`{"sentiment":"negative","confidence":1,"summary":"0123456789","topics":` + many + `}`:       "/topics",
			`{"sentiment":"negative","confidence":1,"summary":"0123456789","topics":[1]}`:                "/topics/0",
			`{"sentiment":"negative","confidence":1,"summary":"0123456789"}`:                             "/topics",
			`{"sentiment":"negative","confidence":1,"summary":"0123456789","topics":["a"],"mood":"bad"}`: "/mood",
		},
		"onboarding": {
			`{"intent":"exchange","urgency":0}`:                               "",
			`{"intent":"support","urgency":1,"suggestedRoute":"/support"}`:    "",
			`{"intent":"supp","urgency":0.9}`:                                 "/intent",
			`{"intent":"inquiry","urgency":-0.1}`:                             "/urgency",
			`{"intent":"inquiry","urgency":null}`:                             "/urgency",
			`{"intent":"inquiry"}`:                                            "/urgency",
			`{"intent":"inquiry","urgency":0.1,"suggestedRoute":null}`:        "/suggestedRoute",
			`{"intent":"inquiry","urgency":0.1,"suggested_route":"/support"}`: "/suggested_route",
		},
	} {
		compiled := shipped(t).Tasks[name].OutputSchema
		for answer, want := range answers {
			var pointers []string
			for _, v := range compiled.Validate(decode(t, []byte(answer))) {
				pointers = append(pointers, v.Pointer)
			}
			if got := strings.Join(pointers, " "); got != want {
				t.Errorf("%s: %s: violations at %q, want %q", name, answer, got, want)
			}
		}
	}
}

func TestNothingButTheFolderIsEmbedded(t *testing.T) {
	t.Parallel()
	err := fs.WalkDir(schemas.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !slices.Contains([]string{".yaml", ".json", ".tmpl"}, path.Ext(name)) {
			t.Errorf("%s is embedded", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEditorSchemasAcceptTheShippedAndTheReferenceFiles(t *testing.T) {
	t.Parallel()
	reference := os.DirFS("../pkg/task/testdata/reference")
	for _, file := range []struct {
		folder       fs.FS
		name, schema string
	}{
		{schemas.FS(), "models.yaml", "models.schema.json"},
		{reference, "models.yaml", "models.schema.json"},
		{schemas.FS(), "tasks/analyze/task.yaml", "task.schema.json"},
		{schemas.FS(), "tasks/onboarding/task.yaml", "task.schema.json"},
		{reference, "tasks/onboarding/task.yaml", "task.schema.json"},
		{reference, "tasks/summarize/task.yaml", "task.schema.json"},
	} {
		text, err := fs.ReadFile(file.folder, file.name)
		if err != nil {
			t.Fatal(err)
		}
		asJSON, err := yaml.YAMLToJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if violations := compile(t, file.schema).Validate(decode(t, asJSON)); violations != nil {
			t.Errorf("%s: %v", file.name, violations)
		}
	}
}

func TestEditorSchemasRefuseWhatTheLoaderRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{}`:                                  "/model",
		`{"model":"small","modell":1}`:        "/modell",
		`{"model":"GPT"}`:                     "/model",
		`{"model":"a","deadline":{"max":60}}`: "/deadline/max",
		`{"model":"a","input":{"max_bytes":"64KB"}}`: "/input/max_bytes",
		`{"model":"a","retry":{"attempts":0}}`:       "/retry/attempts",
		`{"model":"a","ladder":[{"rung":"model"}]}`:  "/ladder/0",
		`{"model":"a","lane":"fast"}`:                "/lane",
		`{"model":"a","cache":{"key":["text"]}}`:     "/cache/key/0",
	} {
		violations := compile(t, "task.schema.json").Validate(decode(t, []byte(text)))
		if len(violations) == 0 || !slices.ContainsFunc(violations, func(v schema.Violation) bool { return v.Pointer == want }) {
			t.Errorf("%s: got %v, want one at %s", text, violations, want)
		}
	}
}

// The loader lists the keys that it knows when it meets an unknown one, unlike any: for each mapping of a
// file they must be those of the editor's schema.
func TestEditorSchemasAndLoaderKnowTheSameKeys(t *testing.T) {
	t.Parallel()
	const odd = "qqqqqqqqqqqqqqqq"
	models := `{"providers":{"p":{"kind":"simulated"}},"models":{"small":{"provider":"p","id":"x","context_window":9,"prices":{"input":0,"output":0}}}}`
	for file, name := range map[string]string{"tasks/demo/task.yaml": "task.schema.json", "models.yaml": "models.schema.json"} {
		checked := 0
		root, _ := decode(t, read(t, name)).(map[string]any)
		eachMapping(root, nil, func(at []string, properties map[string]any) {
			var document any = map[string]any{odd: json.Number("1")}
			for _, key := range slices.Backward(at) {
				document = map[string]any{key: document}
			}
			text, _ := json.Marshal(document)
			files := fstest.MapFS{"models.yaml": {Data: []byte(models)}, "tasks/demo/prompt.tmpl": {Data: []byte("x")}}
			files[file] = &fstest.MapFile{Data: text}
			_, err := task.Load(files, nil)
			want := slices.Sorted(maps.Keys(properties))
			if known := `unknown key "` + odd + `": known here are ` + strings.Join(want, ", ") + "\n"; err == nil || !strings.Contains(err.Error()+"\n", known) {
				t.Errorf("%s: %v: the editor knows %v, the loader says\n%v", file, at, want, err)
			}
			checked++
		})
		if checked < 10 {
			t.Errorf("%s: only %d mappings were compared", file, checked)
		}
	}
}

// eachMapping visits the mappings of a schema that has properties, with the keys that lead to it. Names that
// are free are called "x". Items of lists are left out.
func eachMapping(node map[string]any, at []string, visit func([]string, map[string]any)) {
	properties, _ := node["properties"].(map[string]any)
	if len(properties) > 0 {
		visit(slices.Clone(at), properties)
	}
	for key, value := range properties {
		if member, ok := value.(map[string]any); ok {
			eachMapping(member, append(at, key), visit)
			if forms, ok := member["anyOf"].([]any); ok {
				for _, form := range forms {
					eachMapping(form.(map[string]any), append(at, key), visit)
				}
			}
		}
	}
	if free, ok := node["additionalProperties"].(map[string]any); ok && free["properties"] != nil {
		eachMapping(free, append(at, "x"), visit)
	}
}

func TestMessageSchemasHaveTheFieldsOfTheGoTypes(t *testing.T) {
	t.Parallel()
	for name, from := range map[string]any{
		"messages/request.schema.json": job.Request{}, "messages/result.schema.json": job.Result{}, "messages/draft.schema.json": job.Draft{},
		"messages/progress.schema.json": stage.Progress{}, "messages/receipt.schema.json": job.Receipt{}, "messages/letter.schema.json": job.Letter{},
		"messages/state.schema.json": door.State{}, "messages/ended.schema.json": door.Ended{}, "messages/problem.schema.json": door.Problem{},
	} {
		document := decode(t, read(t, name))
		compile(t, name)
		agrees(t, name, document, document, reflect.TypeOf(from))
	}
}

// agrees compares the properties of a schema with the fields of a struct, and goes down into both.
func agrees(t *testing.T, where string, root, node any, from reflect.Type) {
	t.Helper()
	members := follow(root, node)
	switch from.Kind() {
	case reflect.Pointer, reflect.Slice:
		if from == reflect.TypeFor[json.RawMessage]() {
			return
		}
		if items, ok := members["items"]; ok {
			node = items
		}
		agrees(t, where, root, node, from.Elem())
		return
	case reflect.Struct:
	default:
		return
	}
	properties, ok := members["properties"].(map[string]any)
	if !ok {
		return // a time, say, which is a text in JSON
	}
	known := map[string]bool{}
	required, _ := members["required"].([]any)
	for _, field := range reflect.VisibleFields(from) {
		if field.Anonymous || !field.IsExported() {
			continue // its own fields come too; it is no part of the body
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue // it is no part of the body
		}
		known[name] = true
		property, ok := properties[name]
		if !ok {
			t.Errorf("%s has no %s, the field %s of %s", where, name, field.Name, from)
			continue
		}
		always := !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero")
		if slices.Contains(required, any(name)) != always {
			t.Errorf("%s: %s is required: %v, and always written: %v", where, name, !always, always)
		}
		agrees(t, where+"/"+name, root, property, field.Type)
	}
	for name := range properties {
		if !known[name] {
			t.Errorf("%s has %s, which is no field of %s", where, name, from)
		}
	}
}

// follow resolves references, and takes of alternatives the one that is not null.
func follow(root, node any) map[string]any {
	members, _ := node.(map[string]any)
	if ref, ok := members["$ref"].(string); ok {
		target, _ := schema.Lookup(root, strings.TrimPrefix(ref, "#"))
		return follow(root, target)
	}
	forms, _ := members["anyOf"].([]any)
	for _, form := range forms {
		if inner := follow(root, form); inner["type"] != "null" {
			return inner
		}
	}
	return members
}

func TestMessagesOfTheGoTypesSatisfyTheirSchemas(t *testing.T) {
	t.Parallel()
	sequence, parent := uint64(7), "p"
	result := job.Result{V: job.Version, ID: "a", Run: 1, Status: job.Succeeded, Source: job.FromModel}
	full := result
	full.Supersedes, full.Parent, full.Session = &sequence, &parent, "s"
	full.Degraded = &job.Degradation{Reason: "deadline", Rung: "cache", AgeMS: 5}
	full.Error = &job.Failure{Code: "deadline", Message: "late"}
	full.History = []job.Event{{Kind: job.KindHop, Stage: "ingest"}, {Kind: job.KindCall, N: 1, CountedTokens: 9, InputTokens: 10, CostUSD: 0.1}}
	full.History = append(full.History, job.Event{Kind: job.KindContext, Sections: []job.Section{{Name: job.SectionTurns, Tokens: 5, Kept: 2, Dropped: 1}}})
	full.Metadata, full.Output = json.RawMessage(`{"any":"thing"}`), json.RawMessage(`"text"`)
	for name, messages := range map[string][]any{
		"messages/result.schema.json": {result, full},
		"messages/draft.schema.json": {
			job.Draft{V: job.Version, ID: "a", Task: "t", Event: job.DraftPart, Run: 1, Delivery: 1, Call: 1, Holder: "h", N: 1, Partial: json.RawMessage(`{"a":[]}`)},
			job.Draft{V: job.Version, ID: "a", Task: "t", Event: job.DraftPart, Run: 1, Delivery: 1, Call: 1, Holder: "h", N: 2, Text: "more"},
			job.Draft{V: job.Version, ID: "a", Task: "t", Event: job.DraftRetracted, Run: 1, Delivery: 1, Call: 1, Code: "output_invalid"},
		},
		"messages/request.schema.json": {
			job.Request{Input: json.RawMessage(`{}`)},
			job.Request{ID: "a", Input: json.RawMessage(`1`), Session: "user-42", Deadline: "1m30s", Lane: job.Batch, Tenant: "acme", Stream: true, Cache: "bypass", Webhook: &job.Webhook{URL: "https://example.com/hook"}, Parent: "b", Metadata: json.RawMessage(`null`)},
		},
	} {
		for _, message := range messages {
			text, err := json.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			if violations := compile(t, name).Validate(decode(t, text)); violations != nil {
				t.Errorf("%s: %s: %v", name, text, violations)
			}
		}
	}
	for _, bad := range []string{`{}`, `{"input":1,"id":"a b"}`, `{"input":1,"deadline":"30"}`, `{"input":1,"lane":"fast"}`, `{"input":1,"inputs":1}`, `{"input":1,"webhook":{}}`} {
		if compile(t, "messages/request.schema.json").Validate(decode(t, []byte(bad))) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// What the contract takes for a duration is what Go's parser does, in its microseconds too: U+00B5 and U+03BC.
func TestADeadlineIsWrittenAsGoReadsDurations(t *testing.T) {
	t.Parallel()
	request := compile(t, "messages/request.schema.json")
	for _, text := range []string{
		"30s", "1m30s", "1.5h", ".5s", "5.s", "+1s", "1ns", "2us", "3\u00b5s", "4\u03bcs", "5ms",
		"30", "s", "", " 1s", "1s ", "1 s", "1d", "1S", "1m30", "-", "+", ".s", "1.2.3s", "\u00b5s", "3\u00b5", "1e3s",
	} {
		_, err := time.ParseDuration(text)
		body, jsonErr := json.Marshal(map[string]any{"input": 1, "deadline": text})
		if jsonErr != nil {
			t.Fatal(jsonErr)
		}
		if taken := request.Validate(decode(t, body)) == nil; taken != (err == nil) {
			t.Errorf("%q: the contract takes it: %v; Go says %v", text, taken, err)
		}
	}
}
