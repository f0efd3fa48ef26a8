package services_test

import (
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

func TestABadRequestIsRejectedWithEveryReasonAndItsPointer(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	cases := map[string]struct {
		task, body string
		code       fate.Code
		pointers   []string
	}{
		"no JSON":                       {"toy", `{"input":`, fate.BadJSON, nil},
		"not an object":                 {"toy", `[1]`, fate.BadJSON, []string{""}},
		"two values":                    {"toy", `{"input":{"text":"a"}} {}`, fate.BadJSON, nil},
		"the same field twice":          {"toy", `{"input":{"text":"a"},"input":{"text":"b"}}`, fate.BadJSON, nil},
		"not UTF-8":                     {"toy", "{\"input\":{\"text\":\"\xff\"}}", fate.BadJSON, nil},
		"empty":                         {"toy", ``, fate.BadJSON, nil},
		"a number that no schema may":   {"toy", `{"input":{"text":"a","n":1E1000001}}`, fate.BadJSON, nil},
		"unknown fields":                {"toy", `{"input":{"text":"a"},"imput":1,"zzz":2}`, fate.UnknownField, []string{"/imput", "/zzz"}},
		"a field with a slash":          {"toy", `{"input":{"text":"a"},"a/b~c":1}`, fate.UnknownField, []string{"/a~1b~0c"}},
		"unknown task":                  {"nosuch", `{"input":{"text":"a"}}`, fate.UnknownTask, []string{""}},
		"no input":                      {"toy", `{}`, fate.InvalidRequest, []string{"/input"}},
		"input off schema, twice":       {"toy", `{"input":{"text":"","more":1}}`, fate.InputInvalid, []string{"/input/text", "/input/more"}},
		"input without a member":        {"toy", `{"input":{}}`, fate.InputInvalid, []string{"/input/text"}},
		"bad id":                        {"toy", `{"id":"a b","input":{"text":"a"}}`, fate.InvalidRequest, []string{"/id"}},
		"an id of 65 characters":        {"toy", `{"id":"` + strings.Repeat("a", 65) + `","input":{"text":"a"}}`, fate.InvalidRequest, []string{"/id"}},
		"deadline that is none":         {"toy", `{"input":{"text":"a"},"deadline":"soon"}`, fate.InvalidRequest, []string{"/deadline"}},
		"deadline beyond the most":      {"toy", `{"input":{"text":"a"},"deadline":"11m"}`, fate.InvalidRequest, []string{"/deadline"}},
		"fields of the wrong type":      {"toy", `{"input":{"text":"a"},"stream":"yes","tenant":7,"session":[]}`, fate.InvalidRequest, []string{"/session", "/stream", "/tenant"}},
		"another lane than the subject": {"toy", `{"input":{"text":"a"},"lane":"batch"}`, fate.InvalidRequest, []string{"/lane"}},
		"a webhook that nobody serves":  {"toy", `{"input":{"text":"a"},"webhook":{"url":"https://example.com"}}`, fate.InvalidRequest, []string{"/webhook"}},
		"cache that is none":            {"toy", `{"input":{"text":"a"},"cache":"never"}`, fate.InvalidRequest, []string{"/cache"}},
		"too large":                     {"toy", `{"input":{"text":"` + strings.Repeat("a", 300<<10) + `"}}`, fate.TooLarge, []string{""}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Told under the id of the header where the body has none that can be used.
			id := r.publish(job.Interactive, c.task, "", []byte(c.body))
			result := r.result(id, 1)
			if result.Status != job.Rejected || result.Error.Code != c.code || result.Error.Message == "" {
				t.Fatalf("ended as %s, %+v; want %s", result.Status, result.Error, c.code)
			}
			for i, pointer := range c.pointers {
				if i >= len(result.Error.Reasons) || !hasPointer(result.Error.Reasons, pointer) {
					t.Errorf("no reason at %q in %+v", pointer, result.Error.Reasons)
				}
			}
			if len(c.pointers) > 0 && len(result.Error.Reasons) != len(c.pointers) {
				t.Errorf("%d reasons, want %d: %+v", len(result.Error.Reasons), len(c.pointers), result.Error.Reasons)
			}
			if result.Usage.Calls != 0 {
				t.Errorf("%d calls", result.Usage.Calls)
			}
		})
	}
}

func hasPointer(reasons []fate.Reason, pointer string) bool {
	for _, reason := range reasons {
		if reason.Pointer == pointer {
			return true
		}
	}
	return false
}

func TestSubmitAnswersAtOnceWithTheReasonsOrTheSubject(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	brokertest.Eventually(t, 10*time.Second, "ingest answers", func() bool {
		_, err := r.client.Submit(t.Context(), "toy", []byte(`{}`))
		return err == nil
	})
	receipt, err := r.client.Submit(t.Context(), "toy", []byte(`{"input":{"text":""}}`))
	if err != nil || receipt.Error == nil || receipt.Error.Code != fate.InputInvalid || receipt.Error.Pointer != "/input/text" {
		t.Fatalf("receipt %+v, %v", receipt, err)
	}
	receipt, err = r.client.Submit(t.Context(), "toy", []byte(`{"id":"mine","input":{"text":"hello"}}`))
	if err != nil || receipt.Status != "acknowledged" || receipt.ResultSubject != "llm.result.toy.mine" {
		t.Fatalf("receipt %+v, %v", receipt, err)
	}
	check(t, "submitted", r.result("mine", 1), succeeded("strict"))
	receipt, err = r.client.Submit(t.Context(), "toy", []byte(`{"id":"mine","input":{"text":"hello"}}`))
	if err != nil || receipt.Status != "duplicate" {
		t.Fatalf("again: %+v, %v", receipt, err)
	}
	receipt, err = r.client.Submit(t.Context(), "toy", []byte(`{"id":"mine","input":{"text":"other"}}`))
	if err != nil || receipt.Error == nil || receipt.Error.Code != fate.IDConflict {
		t.Fatalf("conflict: %+v, %v", receipt, err)
	}
}
