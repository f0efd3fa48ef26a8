package partial_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"spillway/pkg/partial"
)

func valueOf(text string) string {
	var r partial.Reader
	r.Add([]byte(text))
	return string(r.Value())
}

func TestABeginningShowsWhatItCanNotTakeBack(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               "",
		"Sure, here it is:":              "",
		"Sure: {":                        "",
		"Sources [1]: {\"a\":1}":         "",
		"<think>{\"a\":1}</think>{}":     "",
		"\ufeff {":                       "{}",
		"``":                             "",
		"```":                            "",
		"```json\n\n [":                  "[]",
		"```json {":                      "",
		"`{":                             "",
		"```json\n{\"a\": 1, \"b\":":     `{"a": 1}`,
		`{"a`:                            `{}`,
		`{"a"`:                           `{}`,
		`{"a":`:                          `{}`,
		`{"a": 12`:                       `{}`,
		`{"a": 12,`:                      `{"a": 12}`,
		`{"a": 12 `:                      `{"a": 12}`,
		`{"a": tru`:                      `{}`,
		`{"a": true}`:                    `{"a": true}`,
		`{"a": "`:                        `{"a": ""}`,
		`{"a": "so far`:                  `{"a": "so far"}`,
		`{"a": "so far\`:                 `{"a": "so far"}`,
		`{"a": "so far\n`:                `{"a": "so far\n"}`,
		`{"a": "x\u00`:                   `{"a": "x"}`,
		`{"a": "x\u00e9`:                 `{"a": "x\u00e9"}`,
		`{"a": "x\ud83d`:                 `{"a": "x"}`,
		`{"a": "x\ud83d\u`:               `{"a": "x"}`,
		`{"a": "x\ud83d\ude0`:            `{"a": "x"}`,
		`{"a": "x\ud83d\ude00`:           `{"a": "x\ud83d\ude00"}`,
		"{\"a\": \"x\xf0\x9f\x98":        `{"a": "x"}`,
		"{\"a\": \"x\xf0\x9f\x98\x80":    `{"a": "x😀"}`,
		`{"a": [1, 2`:                    `{"a": [1]}`,
		`{"a": [`:                        `{"a": []}`,
		`{"a": [{"b": "c`:                `{"a": [{"b": "c"}]}`,
		`[{"a":1},{"a":2`:                `[{"a":1},{}]`,
		`{"a":1} and {"a":2}`:            `{"a":1}`,
		`{"a": "}{\"" , "b": [{}`:        `{"a": "}{\"" , "b": [{}]}`,
		`{"a": 1 "b"`:                    `{"a": 1}`,
		`{"a": "x` + "\n" + `", "b": 2}`: `{"a": "x"}`,
		`{"a" 1}`:                        `{}`,
		`{,`:                             `{}`,
		`[1,]`:                           `[1]`,
		`00`:                             "",
		`{"a":1]`:                        `{"a":1}`,
		`{'a':1}`:                        `{}`,
		strings.Repeat("[", 300):         strings.Repeat("[", partial.MaxDepth) + strings.Repeat("]", partial.MaxDepth),
	} {
		if got := valueOf(text); got != want {
			t.Errorf("%q shows %s, want %s", text, got, want)
		}
	}
}

func TestWhatFollowsATextThatIsNoneShowsNothing(t *testing.T) {
	t.Parallel()
	var r partial.Reader
	for _, piece := range []string{"So", `{"a":1}`} {
		if r.Add([]byte(piece)) || r.Value() != nil {
			t.Errorf("after %q: %s", piece, r.Value())
		}
	}
}

// grew reports whether later can be what became of earlier: values stay, open ones grow.
func grew(earlier, later any) bool {
	switch e := earlier.(type) {
	case map[string]any:
		l, ok := later.(map[string]any)
		for key := range e {
			if !ok || !grew(e[key], l[key]) {
				return false
			}
		}
		return ok
	case []any:
		l, ok := later.([]any)
		if !ok || len(l) < len(e) {
			return false
		}
		for i := range e {
			if !grew(e[i], l[i]) {
				return false
			}
		}
		return true
	case string:
		l, ok := later.(string)
		return ok && strings.HasPrefix(l, e)
	}
	return reflect.DeepEqual(earlier, later)
}

func decode(text []byte) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return value, d.Decode(&value)
}

// Whatever text is cut wherever, each draft is JSON, and what it shows stays. encoding/json reads the drafts, and
// says of the whole whether it is JSON.
func FuzzADraftIsJSONAndWhatItShowsStays(f *testing.F) {
	for _, seed := range []string{
		`{"a": [1, 2.5e3, true, null, "x\u00e9\ud83d\ude00\\"], "b": {"c": {}}}`, "```json\n[{\"a\":\"😀\"}]\n```", `{"a":"\ud83d\ud83d\ude00"}`, `[[[[`, `{"a":"\ud83d x"}`, `[1}`, `{"a":tru"b"}`,
	} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		if !utf8.ValidString(text) || len(text) > 4<<10 {
			return
		}
		size = max(1, size%17)
		var r partial.Reader
		var last any
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			grown := r.Add(rest[:n])
			rest = rest[n:]
			draft := r.Value()
			if draft == nil {
				continue
			}
			value, err := decode(draft)
			if err != nil {
				t.Fatalf("%q shows %q: %v", text, draft, err)
			}
			if !jsontext.Value(draft).IsValid() {
				return // a name twice: the second takes the first one's place
			}
			if last != nil && !grew(last, value) {
				t.Fatalf("%q: %v became %v", text, last, value)
			}
			if last != nil && !grown && !reflect.DeepEqual(last, value) {
				t.Fatalf("%q: %v became %v unsaid", text, last, value)
			}
			last = value
		}
		whole := bytes.Trim([]byte(text), " \t\r\n") // what JSON calls white space
		if len(whole) > 0 && (whole[0] == '{' || whole[0] == '[') && json.Valid(whole) {
			want, err := decode(whole)
			if err != nil && !strings.Contains(err.Error(), "depth") {
				t.Fatal(err)
			}
			if err == nil && !reflect.DeepEqual(last, want) {
				t.Fatalf("the whole %q shows %v", text, last)
			}
		}
	})
}
