package job_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"testing"

	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/schemas"
)

// shows is what a reader of the sequence in draft.schema.json shows after each of its messages.
func shows() []string {
	return []string{
		`{"summary":"The rel"}`,
		`{"summary":"The release is fast","sentiment":"positive"}`,
		``, // retracted: output_invalid
		``, // restarted
		`{"summary":"The release","sentiment":"neutral"}`,
	}
}

// sequence reads the examples of the schema, which are the messages of one request, in order.
func sequence(t *testing.T) (messages []job.Draft, compiled *schema.Schema, raw []json.RawMessage) {
	t.Helper()
	text, err := fs.ReadFile(schemas.FS(), "messages/draft.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if compiled, err = schema.Compile(text); err != nil {
		t.Fatal(err)
	}
	var document struct{ Examples []json.RawMessage }
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for _, example := range document.Examples {
		var d job.Draft
		if err := json.Unmarshal(example, &d); err != nil {
			t.Fatal(err)
		}
		messages = append(messages, d)
	}
	return messages, compiled, document.Examples
}

func compact(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if len(text) > 0 {
		if err := json.Compact(&b, text); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestTheSequenceInTheSchemaIsWhatItSays(t *testing.T) {
	t.Parallel()
	messages, compiled, raw := sequence(t)
	if len(messages) != len(shows()) {
		t.Fatalf("%d messages", len(messages))
	}
	var s job.Shown
	for i, d := range messages {
		value, err := schema.Decode(raw[i])
		if err != nil {
			t.Fatal(err)
		}
		if violations := compiled.Validate(value); violations != nil {
			t.Errorf("message %d: %v", i, violations)
		}
		if !s.Take(d) || compact(t, s.Partial) != shows()[i] {
			t.Errorf("after message %d is shown %s, want %s", i, s.Partial, shows()[i])
		}
		if wantCode := d.Code; s.Code != wantCode {
			t.Errorf("after message %d the code is %q", i, s.Code)
		}
		if s.Take(d) {
			t.Errorf("message %d is news twice", i)
		}
	}
	s.End(1)
	for i, d := range messages {
		if s.Take(d) || s.Partial != nil {
			t.Errorf("message %d is shown beside the result", i)
		}
	}
	replayed := messages[1]
	if replayed.Run = 2; !s.Take(replayed) || s.Partial == nil {
		t.Error("the drafts of a replay are not shown")
	}
}

// In whatever order they come, each any number of times: what was the last in order is shown in the end.
func TestTheOrderOfArrivalDoesNotMatter(t *testing.T) {
	t.Parallel()
	messages, _, _ := sequence(t)
	want := shows()[len(messages)-1]
	for range 200 {
		var s job.Shown
		order := append(rand.Perm(len(messages)), rand.Perm(len(messages))...)
		for _, i := range order {
			s.Take(messages[i])
		}
		if compact(t, s.Partial) != want {
			t.Fatalf("in the order %v is shown %s", order, s.Partial)
		}
	}
}

func TestWhatAReaderShows(t *testing.T) {
	t.Parallel()
	part := func(hop, delivery int, holder string, n int, text string) job.Draft {
		return job.Draft{Event: job.DraftPart, Run: 1, Hop: hop, Delivery: delivery, Holder: holder, N: n, Text: text}
	}
	retracted := func(hop, delivery int) job.Draft {
		return job.Draft{Event: job.DraftRetracted, Run: 1, Hop: hop, Delivery: delivery, Code: "output_invalid"}
	}
	for name, row := range map[string]struct {
		told []job.Draft
		want string
		gap  bool
	}{
		"pieces":                         {[]job.Draft{part(3, 1, "a", 1, "x"), part(3, 1, "a", 2, "y")}, "xy", false},
		"a piece twice":                  {[]job.Draft{part(3, 1, "a", 1, "x"), part(3, 1, "a", 1, "x")}, "x", false},
		"a piece is missing":             {[]job.Draft{part(3, 1, "a", 1, "x"), part(3, 1, "a", 3, "z"), part(3, 1, "a", 4, "!")}, "x", true},
		"the first is missing":           {[]job.Draft{part(3, 1, "a", 2, "y")}, "", true},
		"missing, then another try":      {[]job.Draft{part(3, 1, "a", 2, "y"), part(5, 1, "a", 1, "n")}, "n", false},
		"a late one of an earlier hop":   {[]job.Draft{part(5, 1, "b", 1, "n"), part(3, 1, "a", 1, "x")}, "n", false},
		"a late one of a dead process":   {[]job.Draft{part(3, 2, "b", 1, "n"), part(3, 1, "a", 9, "x")}, "n", false},
		"retracted":                      {[]job.Draft{part(3, 1, "a", 1, "x"), retracted(4, 1)}, "", false},
		"retracted before it comes":      {[]job.Draft{retracted(4, 1), part(3, 1, "a", 1, "x")}, "", false},
		"retracted twice":                {[]job.Draft{part(3, 1, "a", 1, "x"), retracted(4, 1), retracted(4, 2)}, "", false},
		"retracted again, behind others": {[]job.Draft{part(3, 1, "a", 1, "x"), retracted(4, 1), part(5, 1, "a", 1, "n"), retracted(4, 2)}, "n", false},
		"one delivery to two processes":  {[]job.Draft{part(3, 1, "a", 1, "x"), part(3, 1, "b", 1, "n"), part(3, 1, "a", 2, "y"), part(3, 1, "b", 2, "o")}, "no", false},
	} {
		var s job.Shown
		for _, d := range row.told {
			s.Take(d)
		}
		if s.Text != row.want || s.Gap != row.gap {
			t.Errorf("%s: %q is shown (gap: %t)", name, s.Text, s.Gap)
		}
	}
}
