package main

import (
	"encoding/json"
	"strings"
	"testing"

	"spillway/pkg/job"
)

func TestDraftsAreShownToThoseWhoAskForThem(t *testing.T) {
	r := pipeline(t)

	t.Run("json is the drafts and then the result", func(t *testing.T) {
		out := r.spillway(t, "submit", "analyze", `{"text":"drafts"}`, "--stream", "--json").with(exitOK).out
		lines := strings.Split(strings.TrimSpace(out), "\n")
		var last job.Draft
		var result job.Result
		for _, line := range lines {
			if strings.Contains(line, `"event":"draft"`) {
				if err := json.Unmarshal([]byte(line), &last); err != nil {
					t.Fatal(err)
				}
			} else if err := json.Unmarshal([]byte(line), &result); err != nil {
				t.Fatal(err)
			}
		}
		draft, output := map[string]any{}, map[string]any{}
		if json.Unmarshal(last.Partial, &draft) != nil || json.Unmarshal(result.Output, &output) != nil || len(draft) == 0 {
			t.Fatalf("the last draft is %s, the output %s", last.Partial, result.Output)
		}
		for name := range draft {
			if _, ok := output[name]; !ok {
				t.Errorf("the last draft is %s, the output %s", last.Partial, result.Output)
			}
		}
	})
	t.Run("a person sees them on standard error", func(t *testing.T) {
		o := r.spillway(t, "submit", "analyze", `{"text":"drafts"}`, "--stream").with(exitOK)
		if !strings.Contains(o.err, "spillway: draft: {") || strings.Contains(o.out, "draft") || strings.Contains(o.err, "draft: {}") {
			t.Errorf("out %s\nerr %s", o.out, o.err)
		}
	})
	t.Run("watch shows those of others", func(t *testing.T) {
		c := r.start(t, "watch", "--drafts")
		c.says("llm.delta.*.*")
		r.spillway(t, "submit", "analyze", `{"text":"watched"}`, "--stream", "--id=watched").with(exitOK)
		c.says("draft  analyze  watched  {")
		c.cancel()
		c.wait().with(exitOK)
	})
	t.Run("they are of one input that is waited for", func(t *testing.T) {
		r.spillway(t, "submit", "analyze", `{"text":"x"}`, "--stream", "--no-wait").with(exitUsage, "--stream is for a single input", "llm.delta.analyze.<id>")
	})
}

func TestALongTextShowsItsEnd(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"short": "short", "abcdefgh": "…efgh", "abcéfgh": "…éfgh", "abc漢字gh": "…字gh", "abc👩‍👩‍👧gh": "…👩‍👩‍👧gh", "": ""} {
		if got := tail(text, 5); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// What a person is told of a request while it goes on: what grows, what is taken back, and nothing that is late.
func TestASketchTellsWhatIsNews(t *testing.T) {
	t.Parallel()
	var screen strings.Builder
	s := &sketch{g: &globals{cli: &cli{}, stderr: &screen}}
	for _, text := range []string{
		`{"event":"draft","run":1,"hop":2,"delivery":1,"holder":"a","n":1,"partial":{}}`,
		`{"event":"draft","run":1,"hop":2,"delivery":1,"holder":"a","n":2,"partial":{"a":"one\u001b[2J"}}`,
		`{"event":"retracted","run":1,"hop":3,"delivery":1,"n":0,"code":"output_invalid"}`,
		`{"event":"retracted","run":1,"hop":3,"delivery":1,"n":0,"code":"output_invalid"}`,
		`{"event":"draft","run":1,"hop":2,"delivery":1,"holder":"a","n":3,"partial":{"a":"late"}}`,
		`{"event":"restarted","run":1,"hop":4,"delivery":1,"holder":"a","n":1}`,
		`{"event":"draft","run":1,"hop":4,"delivery":1,"holder":"a","n":2,"text":"two"}`,
		`{"event":"draft","run":1,"hop":4,"delivery":1,"holder":"a","n":3,"text":" and\nthree"}`,
		`{"event":"retracted","run":1,"hop":4,"delivery":1,"holder":"a","n":4}`,
	} {
		if err := s.take([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	const want = `spillway: draft: {"a":"one\u001b[2J"}
spillway: retracted: output_invalid
spillway: another try begins
spillway: draft: two
spillway: draft: two and three
spillway: retracted
`
	if screen.String() != want {
		t.Errorf("it says\n%s", screen.String())
	}
}
