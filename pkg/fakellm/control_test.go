package fakellm_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

func (b *bundle) control(t *testing.T, method, path, body string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(b.ctx, method, b.Root()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return b.do(t, r)
}

func TestAnotherProcessSteersTheServerOverHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	for _, order := range []struct{ method, path, body string }{
		{"PUT", "/fake/faults", `[{"kind":"429","model":"m","retry_after":"1.5s","form":"ms"},"503"]`},
		{"POST", "/fake/script", `{"model":"m","faults":["ok",{"kind":"length","tokens":2}]}`},
		{"PUT", "/fake/answers", `{"model":"m","answers":["a literal answer"]}`},
		{"PUT", "/fake/latency", `{"first_token":"1ms","per_token":"10us","sigma":0.5}`},
	} {
		r := b.control(t, order.method, order.path, order.body)
		equal(t, order.path+" "+r.body, r.status, http.StatusNoContent)
	}
	equal(t, "script and literal", b.content(t, ask("x", nil)), "a literal answer")
	equal(t, "script", b.content(t, ask("x", nil)), "a litera")
	equal(t, "fault", b.chat(t, ask("x", nil)).header.Get("Retry-After-Ms"), "1500")
	equal(t, "fault by its kind alone", b.statusOf(t, "x", "other"), 503)

	var c fakellm.Counts
	if err := json.Unmarshal([]byte(b.control(t, "GET", "/fake/counts", "").body), &c); err != nil {
		t.Fatal(err)
	}
	equal(t, "calls", c.Calls, 4)
	equal(t, "by model", c.Models["m"].Outcomes["429"], 1)
	equal(t, "by input", c.Nonces[fakellm.Nonce("x")], 4)
	var requests []fakellm.Request
	if err := json.Unmarshal([]byte(b.control(t, "GET", "/fake/requests?model=other", "").body), &requests); err != nil {
		t.Fatal(err)
	}
	equal(t, "requests", len(requests), 1)
	equal(t, "kind", requests[0].Kind, "503")

	equal(t, "reset", b.control(t, "POST", "/fake/reset", "").status, http.StatusNoContent)
	equal(t, "calls after the reset", b.Counts().Calls, 0)
	equal(t, "no fault after the reset", b.statusOf(t, "x", "m"), 200)
}

func TestAnOrderThatIsWrongChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "503"}}})
	for body, want := range map[string]string{
		`[{"kind":"430"}]`:               `no such kind of fault: \"430\"`,
		`[{"kind":"429","retry":"2s"}]`:  `unknown field \"retry\"`,
		`[{"kind":"drip","every":"2"}]`:  `missing unit`,
		`[{"kind":"429","rate":2}]`:      `is not in 0 to 1`,
		`{"kind":"429"}`:                 `cannot unmarshal object`,
		`[{"kind":"429"},{"kind":"nix"}`: `unexpected EOF`,
	} {
		r := b.control(t, "PUT", "/fake/faults", body)
		equal(t, body, r.status, http.StatusBadRequest)
		contains(t, body, r.body, want)
	}
	equal(t, "the fault of before", b.statusOf(t, "x", "m"), 503)
}

func TestAFaultSurvivesItsJSON(t *testing.T) {
	t.Parallel()
	want := fakellm.Fault{
		Model: "m", Key: "k", Match: "x", Kind: "429", Rate: 0.5, First: 2, RetryAfter: 1500 * time.Millisecond, Form: "ms",
		After: 3, Every: time.Second, Count: 4, Tokens: 5, Bytes: 6, Message: "no",
		Header: map[string]string{"X-Should-Retry": "false"},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got fakellm.Fault
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", data, got, want)
	}
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{want}})
	equal(t, "faults", b.control(t, "GET", "/fake/faults", "").body, "["+string(data)+"]")
}

func TestALifeOfServersLeavesNothingBehind(t *testing.T) {
	for range 20 {
		s, err := fakellm.Start(fakellm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if errors.Join(s.Close(), s.Close()) != nil {
			t.Error("Close failed")
		}
	}
}

func TestLimitsAndUsageAreSteeredOverHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	const all = `[{"model":"m","requests":9,"tokens":1000,"concurrency":2,"window":"1h0m0s","headers":true},{"requests":3,"window":"1m0s"}]`
	r := b.control(t, "PUT", "/fake/limits", strings.Replace(all, `,"window":"1m0s"`, "", 1))
	equal(t, r.body, r.status, http.StatusNoContent)
	equal(t, "limits", b.control(t, "GET", "/fake/limits", "").body, all)
	for body, want := range map[string]string{`[{"model":"m"}]`: "none of requests", `[{"request":1}]`: `unknown field \"request\"`, `{}`: "cannot unmarshal"} {
		r = b.control(t, "PUT", "/fake/limits", body)
		equal(t, body, r.status, http.StatusBadRequest)
		contains(t, body, r.body, want)
	}
	equal(t, "limits of before", b.control(t, "GET", "/fake/limits", "").body, all)
	equal(t, "usage", b.control(t, "PUT", "/fake/usage", `{"model":"m","input":600,"output":300}`).status, http.StatusNoContent)
	equal(t, "negative usage", b.control(t, "PUT", "/fake/usage", `{"model":"m","input":-1}`).status, http.StatusBadRequest)

	before := time.Now().UnixMilli()
	equal(t, "first", b.statusOf(t, "x", "m"), 200)
	equal(t, "another model", b.statusOf(t, "x", "n"), 200)
	equal(t, "second", b.statusOf(t, "x", "m"), 429)
	after := time.Now().UnixMilli()
	for path, want := range map[string]int{"": 3, "?model=m": 2, "?model=n": 1, "?model=none": 0} {
		var arrivals []int64
		if err := json.Unmarshal([]byte(b.control(t, "GET", "/fake/arrivals"+path, "").body), &arrivals); err != nil || arrivals == nil {
			t.Fatal(arrivals, err)
		}
		equal(t, path, len(arrivals), want)
		for _, at := range arrivals {
			if at < before || at > after {
				t.Errorf("%s: %d is not in %d to %d", path, at, before, after)
			}
		}
	}
}

func TestAModelAnswersUnderTheNameThatItIsGiven(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	says := func(what, name string) {
		t.Helper()
		for _, streams := range []bool{true, false} {
			contains(t, what, b.chat(t, ask("x", object{"stream": streams})).body, `"model":"`+name+`"`)
		}
	}
	says("at first", "m")
	equal(t, "the order", b.control(t, "PUT", "/fake/name", `{"model":"m","name":"m-2026-11-01"}`).status, http.StatusNoContent)
	says("under another name", "m-2026-11-01")
	equal(t, "counted as the model that was asked for", b.Counts().Models["m"].Calls, 4)
	b.Reset()
	says("after the reset", "m")
}
