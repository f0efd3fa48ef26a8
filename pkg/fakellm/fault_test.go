package fakellm_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

// symptom is what a kind of fault looks like from outside, plain and streamed.
type symptom struct {
	fault  fakellm.Fault
	plain  func(*testing.T, reply)
	stream func(*testing.T, reply)
}

// status is the symptom of a fault that answers with an error, however it is asked.
func status(code int, errorCode any, f fakellm.Fault) symptom {
	check := func(t *testing.T, r reply) {
		equal(t, "status", r.status, code)
		equal(t, "content type", r.header.Get("Content-Type"), "application/json")
		equal(t, "code", r.errorCode(t), errorCode)
	}
	return symptom{f, check, check}
}

func wantPlainOK(t *testing.T, r reply) {
	t.Helper()
	equal(t, "finish reason", r.completion(t).Choices[0].FinishReason, "stop")
}

// wantContent is the symptom of a fault that changes what is said.
func wantContent(f fakellm.Fault, finish string, check func(t *testing.T, content string)) symptom {
	return symptom{
		f,
		func(t *testing.T, r reply) {
			equal(t, "finish reason", r.completion(t).Choices[0].FinishReason, finish)
			check(t, r.content(t))
		},
		func(t *testing.T, r reply) {
			e := r.events(t)
			equal(t, "finish reason", e.finish, finish)
			equal(t, "done", e.done, true)
			check(t, e.content)
		},
	}
}

func both(f fakellm.Fault, check func(*testing.T, reply)) symptom { return symptom{f, check, check} }

func statusSymptoms() map[string]symptom {
	html := func(code int) func(*testing.T, reply) {
		return func(t *testing.T, r reply) {
			equal(t, "status", r.status, code)
			contains(t, "content type", r.header.Get("Content-Type"), "text/html")
			contains(t, "body", r.body, "<html>")
		}
	}
	return map[string]symptom{
		"429": both(fakellm.Fault{RetryAfter: 3 * time.Second}, func(t *testing.T, r reply) {
			equal(t, "status", r.status, 429)
			equal(t, "code", r.errorCode(t), any("rate_limit_exceeded"))
			equal(t, "Retry-After", r.header.Get("Retry-After"), "3")
			equal(t, "remaining", r.header.Get("X-Ratelimit-Remaining-Requests"), "0")
			equal(t, "reset", r.header.Get("X-Ratelimit-Reset-Requests"), "3s")
		}),
		"429_quota":          status(429, "insufficient_quota", fakellm.Fault{}),
		"401":                status(401, "invalid_api_key", fakellm.Fault{}),
		"403":                status(403, "unsupported_country_region_territory", fakellm.Fault{}),
		"404":                status(404, "model_not_found", fakellm.Fault{}),
		"400":                status(400, "invalid_value", fakellm.Fault{}),
		"400_content_filter": status(400, "content_filter", fakellm.Fault{}),
		"context_length":     status(400, "context_length_exceeded", fakellm.Fault{}),
		"500":                status(500, nil, fakellm.Fault{}),
		"502":                both(fakellm.Fault{}, html(502)),
		"503":                status(503, "service_unavailable", fakellm.Fault{}),
		"529": both(fakellm.Fault{}, func(t *testing.T, r reply) {
			equal(t, "status", r.status, 529)
			contains(t, "body", r.body, `"overloaded_error"`)
		}),
		"html":       both(fakellm.Fault{}, html(200)),
		"error_body": both(fakellm.Fault{}, wantErrorBody),
	}
}

func wantErrorBody(t *testing.T, r reply) {
	t.Helper()
	equal(t, "status", r.status, 200)
	equal(t, "content type", r.header.Get("Content-Type"), "application/json")
	contains(t, "body", r.body, `{"error":{"message":`)
	contains(t, "body", r.body, `"code":502`)
}

func streamSymptoms() map[string]symptom {
	return map[string]symptom{
		"ok": {fakellm.Fault{}, wantPlainOK, func(t *testing.T, r reply) {
			e := r.events(t)
			equal(t, "finish reason", e.finish, "stop")
			equal(t, "done", e.done, true)
			equal(t, "the end", r.err, nil)
		}},
		"cut": {
			fakellm.Fault{After: 2},
			func(t *testing.T, r reply) {
				equal(t, "the end", r.err, nil)
				equal(t, "JSON", json.Valid([]byte(r.body)), false)
			},
			func(t *testing.T, r reply) {
				e := r.events(t)
				equal(t, "the end", r.err, nil)
				equal(t, "finish reason", e.finish, "")
				equal(t, "done", e.done, false)
				equal(t, "content", len(e.content), 8)
			},
		},
		"no_done": {fakellm.Fault{}, wantPlainOK, func(t *testing.T, r reply) {
			e := r.events(t)
			equal(t, "finish reason", e.finish, "stop")
			equal(t, "done", e.done, false)
		}},
		"empty_choices": {
			fakellm.Fault{},
			func(t *testing.T, r reply) { contains(t, "body", r.body, `"choices":[]`) },
			func(t *testing.T, r reply) {
				e := r.events(t)
				equal(t, "content and finish reason", e.content+e.finish, "")
				equal(t, "done", e.done, true)
			},
		},
		"error_chunk": {fakellm.Fault{After: 3}, wantErrorBody, func(t *testing.T, r reply) {
			e := r.events(t)
			equal(t, "errors", e.errors, 1)
			equal(t, "content", len(e.content), 12)
			equal(t, "finish reason", e.finish, "")
		}},
		"malformed_chunk": {fakellm.Fault{}, wantPlainOK, func(t *testing.T, r reply) {
			e := r.events(t)
			equal(t, "malformed lines", e.malformed, 1)
			equal(t, "finish reason", e.finish, "stop")
			equal(t, "content is whole", json.Valid([]byte(e.content)), true)
		}},
		"comments": {fakellm.Fault{Count: 350}, wantPlainOK, func(t *testing.T, r reply) {
			e := r.events(t)
			equal(t, "comments", e.comments, 350)
			equal(t, "content is whole", json.Valid([]byte(e.content)), true)
			equal(t, "finish reason", e.finish, "stop")
			equal(t, "they come first", strings.HasPrefix(r.body, ": PROCESSING\n\n"), true)
		}},
	}
}

func refusalAndDripSymptoms() map[string]symptom {
	return map[string]symptom{
		"refusal": {
			fakellm.Fault{Message: "No."},
			func(t *testing.T, r reply) {
				c := r.completion(t)
				equal(t, "content", c.Choices[0].Message.Content, "")
				equal(t, "refusal", *c.Choices[0].Message.Refusal, "No.")
			},
			func(t *testing.T, r reply) {
				e := r.events(t)
				equal(t, "content", e.content, "")
				equal(t, "refusal", e.refusal, "No.")
				equal(t, "finish reason", e.finish, "stop")
			},
		},
		"drip": {fakellm.Fault{Every: time.Millisecond}, wantPlainOK, func(t *testing.T, r reply) {
			equal(t, "finish reason", r.events(t).finish, "stop")
		}},
	}
}

func contentSymptoms() map[string]symptom {
	inside := func(before, after string) func(*testing.T, string) {
		return func(t *testing.T, content string) {
			body, ok := strings.CutPrefix(content, before)
			body, ok2 := strings.CutSuffix(body, after)
			if !ok || !ok2 || !json.Valid([]byte(body)) {
				t.Errorf("content: %q", content)
			}
		}
	}
	half := func(t *testing.T, content string) {
		if content == "" || json.Valid([]byte(content)) {
			t.Errorf("content is not cut: %q", content)
		}
	}
	onlyJSON := func(t *testing.T, content string) { equal(t, "JSON", json.Valid([]byte(content)), true) }
	return map[string]symptom{
		"empty_content":        wantContent(fakellm.Fault{}, "stop", func(t *testing.T, c string) { equal(t, "content", c, "") }),
		"fenced":               wantContent(fakellm.Fault{}, "stop", inside("```json\n", "\n```")),
		"prose":                wantContent(fakellm.Fault{}, "stop", inside("Sure! Here is the result you asked for:\n\n", "\n\nLet me know if you need anything else.")),
		"off_schema":           wantContent(fakellm.Fault{}, "stop", onlyJSON),
		"off_schema_once_told": wantContent(fakellm.Fault{}, "stop", onlyJSON),
		"length":               wantContent(fakellm.Fault{Tokens: 5}, "length", half),
		"length_until":         wantContent(fakellm.Fault{}, "length", half),
		"content_filter":       wantContent(fakellm.Fault{}, "content_filter", half),
		"trailing_comma": wantContent(fakellm.Fault{}, "stop", func(t *testing.T, c string) {
			equal(t, "end", strings.HasSuffix(c, ",}"), true)
			equal(t, "without the comma", json.Valid([]byte(strings.TrimSuffix(c, ",}")+"}")), true)
		}),
		"huge": wantContent(fakellm.Fault{}, "stop", func(t *testing.T, c string) {
			equal(t, "above a mebibyte", len(c) > 1<<20, true)
		}),
	}
}

// connectionKinds are tested on their own, below.
func connectionKinds() []string { return []string{"reset", "hang", "hang_headers", "silence"} }

func TestEveryKindOfFaultShowsItsSymptomPlainAndStreamed(t *testing.T) {
	t.Parallel()
	tested := connectionKinds()
	for _, table := range []map[string]symptom{statusSymptoms(), streamSymptoms(), refusalAndDripSymptoms(), contentSymptoms()} {
		for kind, want := range table {
			tested = append(tested, kind)
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				b := setup(t, fakellm.Options{})
				f := want.fault
				f.Kind = kind
				b.SetFaults(f)
				body := ask("hello", object{"response_format": formatOf(routing())})
				want.plain(t, b.chat(t, body))
				body["stream"] = true
				want.stream(t, b.chat(t, body))
				equal(t, "calls counted under the kind", b.Counts().Outcomes[kind], 2)
			})
		}
	}
	for _, kind := range fakellm.Kinds() {
		if !slices.Contains(tested, kind) {
			t.Errorf("no test for the kind %q", kind)
		}
	}
}

func TestEveryKindStandsInThePackageDocumentation(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range fakellm.Kinds() {
		if !strings.Contains(string(doc), "//\t"+kind+" ") {
			t.Errorf("doc.go does not list %q", kind)
		}
	}
}

func TestRetryAfterIsSaidInItsForm(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	for _, c := range []struct {
		after        time.Duration
		form         string
		header, want string
	}{
		{2 * time.Second, "", "Retry-After", "2"},
		{250 * time.Millisecond, "seconds", "Retry-After", "0.25"},
		{1500 * time.Millisecond, "ms", "Retry-After-Ms", "1500"},
		{0, "", "Retry-After", ""},
		{2 * time.Second, "ms", "Retry-After", ""},
	} {
		for _, kind := range []string{"429", "500", "502", "503", "529"} {
			b.SetFaults(fakellm.Fault{Kind: kind, RetryAfter: c.after, Form: c.form})
			equal(t, kind+" "+c.form, b.chat(t, ask("x", nil)).header.Get(c.header), c.want)
		}
	}
	b.SetFaults(fakellm.Fault{Kind: "429", RetryAfter: time.Hour, Form: "date"})
	before := time.Now().Add(time.Hour)
	at, err := http.ParseTime(b.chat(t, ask("x", nil)).header.Get("Retry-After"))
	if err != nil || at.Before(before.Truncate(time.Second)) || at.After(before.Add(31*time.Second)) {
		t.Errorf("date %v (%v), in an hour is %v", at, err, before)
	}
}

func TestACutWithoutANumberOfChunksComesAtHalf(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "cut"}}})
	b.SetAnswer("m", strings.Repeat("four", 10))
	equal(t, "content", b.chat(t, ask("x", object{"stream": true})).events(t).content, strings.Repeat("four", 5))
}

func TestLengthUntilEndsWithMoreTokens(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	finish := func(input string, maxTokens int) string {
		return b.chat(t, ask(input, object{"max_tokens": maxTokens})).completion(t).Choices[0].FinishReason
	}
	b.SetFaults(fakellm.Fault{Kind: "length_until"})
	equal(t, "first call", finish("x", 300), "length")
	equal(t, "first call of another input", finish("y", 600), "length")
	equal(t, "as many tokens", finish("x", 300), "length")
	equal(t, "more tokens", finish("x", 600), "stop")
	b.SetFaults(fakellm.Fault{Kind: "length_until", Tokens: 500})
	equal(t, "at the limit", finish("z", 500), "length")
	equal(t, "above the limit", finish("z", 501), "stop")
	equal(t, "no bound at all", b.chat(t, ask("z", nil)).completion(t).Choices[0].FinishReason, "length")
}

func TestAMisspeltFaultPanicsInsteadOfBeingNone(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	for name, set := range map[string]func(){
		"SetFaults": func() { b.SetFaults(fakellm.Fault{Kind: "hangs"}) },
		"Script":    func() { b.Script("m", fakellm.Fault{Kind: "ok"}, fakellm.Fault{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s takes it", name)
				}
			}()
			set()
		}()
	}
}

func TestAFaultThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fakellm.Fault{
		"kind":     {Kind: "429_quote"},
		"rate":     {Kind: "429", Rate: 1.5},
		"form":     {Kind: "429", Form: "minutes"},
		"negative": {Kind: "drip", Every: -time.Second},
	} {
		if f.Validate() == nil {
			t.Errorf("%s: Validate takes %+v", name, f)
		}
		if s, err := fakellm.Start(fakellm.Options{Faults: []fakellm.Fault{f}}); err == nil {
			t.Errorf("%s: Start takes %+v", name, f)
			_ = s.Close()
		}
	}
}

func TestAFaultSendsItsHeadersWhateverItsStatus(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	header := map[string]string{"x-should-retry": "false", "X-RateLimit-Reset-Requests": "1s", "anthropic-ratelimit-requests-remaining": "0", "Retry-After": "17", "openai-version": ""}
	for _, kind := range []string{"ok", "429", "401", "502", "html", "error_body", "off_schema", "no_done", "cut"} {
		b.SetFaults(fakellm.Fault{Kind: kind, Header: header, RetryAfter: 3 * time.Second})
		for _, stream := range []bool{false, true} {
			h := b.chat(t, ask("x", object{"stream": stream})).header
			for name, want := range header {
				equal(t, kind+" "+name, h.Get(name), want)
			}
		}
	}
	for name, value := range map[string]string{"x retry": "1", "": "1", "x-é": "1", "x-retry": "1\r\nx-other: 2"} {
		mustPanic(t, name, func() { b.SetFaults(fakellm.Fault{Kind: "429", Header: map[string]string{name: value}}) })
	}
}
