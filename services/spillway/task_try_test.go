package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/pkg/bundle"
	"spillway/pkg/fakellm"
)

const (
	smallID = "gpt-4o-mini-2024-07-18"
	largeID = "gpt-4o-2024-08-06"
	happy   = `{"sentiment":"positive","confidence":0.9,"summary":"The author likes it.","topics":["release"]}`
	angry   = `{"sentiment":"negative","confidence":0.90,"summary":"The author likes it.","topics":["release","docs"]}`
)

// side is what --json says of one of the sides.
func side(t *testing.T, row map[string]any, n int) map[string]any {
	t.Helper()
	sides := row["sides"].([]any)
	if n >= len(sides) {
		t.Fatalf("%d sides: %v", len(sides), row)
	}
	return sides[n].(map[string]any)
}

// places are the pointers of differences.
func places(list any) string {
	var all []string
	for _, d := range list.([]any) {
		all = append(all, d.(map[string]any)["pointer"].(string))
	}
	return strings.Join(all, " ")
}

func TestATriedInputShowsAnswerVerdictCostAndLatency(t *testing.T) {
	provider := realProvider(t, fakellm.Options{Latency: fakellm.Latency{FirstToken: 30 * time.Millisecond, PerToken: 100 * time.Microsecond}})
	provider.SetAnswer(smallID, happy)
	provider.SetUsage(smallID, fakellm.Usage{Input: 1000, Output: 200})
	row := at(t, provider, "task", "try", "analyze", `{"text": "I like the new release."}`, "--json").with(exitOK).without("sk-very-secret").one()
	a := side(t, row, 0)
	for name, want := range map[string]any{
		"side": "small", "model": "small", "answered_by": smallID, "answered_by_another": false, "raw": happy, "verdict": "valid", "recovery": "strict",
		"calls": 1.0, "input_tokens": 1000.0, "output_tokens": 200.0,
	} {
		if a[name] != want {
			t.Errorf("%s is %v, want %v", name, a[name], want)
		}
	}
	if cost := a["cost_usd"].(float64); math.Abs(cost-(1000*0.15+200*0.60)/1e6) > 1e-12 {
		t.Errorf("it cost %v", cost)
	}
	first, took := a["first_token_ms"].(float64), a["took_ms"].(float64)
	if first < 30 || took < first || row["differences"] != nil {
		t.Errorf("times %v, %v: %v", first, took, row)
	}
	requests := provider.Requests(smallID)
	if c := provider.Counts(); c.Calls != 1 || !strings.Contains(requests[0].Body, "I like the new release.") || !strings.Contains(requests[0].Body, "json_schema") {
		t.Errorf("the provider counts %d calls: %+v", c.Calls, requests)
	}
	at(t, provider, "task", "try", "analyze", `{"text": "I like the new release."}`).
		with(exitOK, "accepted, as it came", "answered by", "first token after", "(1 call, 1000 tokens in, 200 out)", `"summary":"The author likes it."`)
}

// Each row answers in another way, and says what becomes of it.
func TestTheVerdictOfATriedAnswerSaysEveryFaultAndWhatWouldBeDone(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		fault  fakellm.Fault
		code   int
		says   []string
	}{
		"in prose":  {"Here is the JSON:\n```json\n" + happy + "\n```", fakellm.Fault{Kind: "ok"}, exitOK, []string{"accepted, extracted", "output\n"}},
		"repaired":  {strings.Replace(happy, `"]}`, `",]}`, 1), fakellm.Fault{Kind: "ok"}, exitOK, []string{"accepted, repaired"}},
		"two wrong": {`{"sentiment":"glad","confidence":7,"summary":"The author likes it.","topics":["release"]}`, fakellm.Fault{Kind: "ok"}, exitNotAnswered, []string{"invalid: a correction (1 of 2) would tell the model", "/sentiment: ", "/confidence: "}},
		"refused":   {"", fakellm.Fault{Kind: "refusal", Message: "I can not help with that."}, exitNotAnswered, []string{"refusal: the ladder would answer: refused", "I can not help with that."}},
		"cut":       {"", fakellm.Fault{Kind: "length", Tokens: 5}, exitNotAnswered, []string{"truncated: asked again, with room for 800 tokens"}},
		"no answer": {"", fakellm.Fault{Kind: "400"}, exitFailed, []string{"provider_refused_request", "small: there is no answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			provider := realProvider(t, fakellm.Options{Faults: []fakellm.Fault{c.fault}})
			if c.answer != "" {
				provider.SetAnswer(smallID, c.answer)
			}
			at(t, provider, "task", "try", "analyze", `{"text": "I like it."}`).with(c.code, c.says...)
			if n := provider.Counts().Calls; n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
		})
	}
}

func TestACaseIsTriedByItsNameAndComparedWithWhatItExpects(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	expected := `{"sentiment":"positive","confidence":0.970,"summary":"The author is happy about the speed of the new release.","topics":["new release","speed"]}`
	provider.SetAnswer(smallID, expected, strings.Replace(expected, `"speed"]`, `"pace"]`, 1))
	at(t, provider, "task", "try", "analyze", "valid").with(exitOK, "the outputs are the same: the case, small")
	row := at(t, provider, "task", "try", "analyze", "valid", "--json").with(exitOK).one()
	if got := places(row["expected_differences"].([]any)[0]); got != "/topics/1" {
		t.Errorf("differs at %q", got)
	}
	if body := provider.Requests(smallID)[0].Body; !strings.Contains(body, "so much faster") {
		t.Errorf("the case's input is not in the prompt: %s", body)
	}
	at(t, provider, "task", "try", "analyze", "valide").with(exitUsage, "valid")
	at(t, provider, "task", "try", "analyze", `{"txt": "x"}`).with(exitFailed, "/text")
	if n := provider.Counts().Calls; n != 2 {
		t.Errorf("%d calls: an input that would be rejected costs none", n)
	}
}

func TestACaseWithAStateIsTriedWithIt(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	at(t, provider, "task", "try", "onboarding", "unknown-intent", "--json").with(exitOK)
	if body := provider.Requests("")[0].Body; !strings.Contains(body, "exchange") || !strings.Contains(body, "My card is blocked!!") {
		t.Errorf("the prompt: %s", body)
	}
}

func TestTwoModelsAreTriedSideBySide(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	provider.SetAnswer(smallID, happy)
	provider.SetAnswer(largeID, angry)
	args := []string{"task", "try", "analyze", `{"text": "I like it."}`, "--against=large"}
	row := at(t, provider, append(args, "--json")...).with(exitOK, "2 calls of "+smallID+" and "+largeID+": at most $").one()
	if got := places(row["differences"]); got != "/sentiment /topics/1" { // 0.9 is 0.90
		t.Errorf("differs at %q", got)
	}
	if side(t, row, 0)["model"] != "small" || side(t, row, 1)["model"] != "large" || side(t, row, 1)["answered_by"] != largeID {
		t.Errorf("the sides: %v", row)
	}
	at(t, provider, args...).with(exitOK, "DIFFERS AT  SMALL       LARGE", `/sentiment  "positive"  "negative"`, `/topics/1   -           "docs"`)
	c := provider.Counts()
	if c.Models[smallID].Calls != 2 || c.Models[largeID].Calls != 2 {
		t.Errorf("calls: %+v", c.Models)
	}
	at(t, provider, "task", "try", "analyze", "valid", "--against=small").with(exitUsage, "--against small is what is tried already")
	at(t, provider, "task", "try", "analyze", "valid", "--against=smal").with(exitNotFound, "--against smal: no model of models.yaml, no folder and no version")
	at(t, provider, "task", "try", "analyze", "valid", "--model=smal").with(exitNotFound, `there is no model "smal"`)
}

func TestATaskIsTriedAgainstAnotherFoldersVersion(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	mine, other := folder(t), folder(t)
	prompt := filepath.Join(other, "tasks", "bare", "prompt.tmpl")
	write(t, prompt, `{{define "user"}}Shout: {{.Input.text}}{{end}}`)
	row := at(t, provider, "task", "try", "bare", `{"text": "hello"}`, "--schemas="+mine, "--against="+other, "--json").with(exitOK).one()
	first, second := side(t, row, 0), side(t, row, 1)
	if first["version"] == second["version"] || first["side"] != first["version"] || second["side"] != second["version"] || second["model"] != "small" {
		t.Errorf("the sides: %v, %v", first, second)
	}
	requests := provider.Requests(smallID)
	if len(requests) != 2 || strings.Contains(requests[0].Body, "Shout") || !strings.Contains(requests[1].Body, "Shout: hello") {
		t.Errorf("the requests: %+v", requests)
	}
	at(t, provider, "task", "try", "bare", `{"text": "hello"}`, "--schemas="+mine, "--against="+mine).with(exitUsage, "is what is tried already")
}

// inputs writes n lines, each an input of its own.
func inputs(t *testing.T, n int, more ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "inputs.jsonl")
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf(`{"text": "input %d"}`, i))
	}
	write(t, path, strings.Join(append(lines, more...), "\n")+"\n")
	return path
}

// summed is the last line of --json, the sums, and the others.
func summed(t *testing.T, s said) (sum map[string]any, rows []map[string]any) {
	t.Helper()
	rows = s.lines()
	sum = rows[len(rows)-1]
	if sum["event"] != "summary" {
		t.Fatalf("the last line is %v", sum)
	}
	return sum, rows[:len(rows)-1]
}

func TestManyInputsAreSummedUpBySide(t *testing.T) {
	provider := realProvider(t, fakellm.Options{Latency: fakellm.Latency{FirstToken: 5 * time.Millisecond}})
	provider.SetUsage("", fakellm.Usage{Input: 100, Output: 10})
	// Of the small model's answers every one to an input with a 7 in it is off the schema, and every one with a 3 is in prose.
	provider.SetFaults(
		fakellm.Fault{Kind: "off_schema", Model: smallID, Match: "7"}, fakellm.Fault{Kind: "prose", Model: smallID, Match: "3"},
		fakellm.Fault{Kind: "400", Model: largeID, Match: "input 5"},
	)
	path := inputs(t, 10, `{"txt": "no input"}`, `no JSON`)
	s := at(t, provider, "task", "try", "analyze", "--inputs="+path, "--against=large", "--json").with(exitOK, "20 calls of "+smallID+" and "+largeID)
	sum, rows := summed(t, s)
	if len(rows) != 12 || sum["inputs"] != 10.0 || sum["rejected"] != 2.0 || sum["compared"] != 8.0 || sum["different"] != 0.0 {
		t.Errorf("%d rows, %v", len(rows), sum)
	}
	small, large := side(t, sum, 0), side(t, sum, 1)
	for name, want := range map[string]string{
		"answers": "10", "accepted": "9", "valid_share": "0.9", "recoveries": "map[extracted:1 strict:8]", "not_accepted": "map[invalid:1]", "errors": "map[]",
		"calls": "10", "input_tokens": "1000", "output_tokens": "100",
	} {
		if got := fmt.Sprint(small[name]); got != want {
			t.Errorf("small: %s is %s, want %s", name, got, want)
		}
	}
	if got := fmt.Sprint(large["answers"], large["errors"], large["accepted"]); got != "9 map[provider_refused_request:1] 9" {
		t.Errorf("large: %s", got)
	}
	if cost := small["cost_usd"].(float64); math.Abs(cost-10*(100*0.15+10*0.60)/1e6) > 1e-12 {
		t.Errorf("small cost %v", cost)
	}
	if p50, p95 := small["p50_ms"].(float64), small["p95_ms"].(float64); p50 < 5 || p95 < p50 || small["first_token_p50_ms"].(float64) < 5 {
		t.Errorf("small: %v", small)
	}
	if c := provider.Counts(); c.Calls != 20 || c.MaxInFlight > 4 {
		t.Errorf("%d calls, %d at once", c.Calls, c.MaxInFlight)
	}
	at(t, provider, "task", "try", "analyze", "--inputs="+path, "--against=large").with(exitOK,
		"line 8, small: invalid: ", "line 6, large: no answer: provider_refused_request", "line 11: ", "line 12: ", "90.0 %", "0 of 8 inputs that both sides answered differ")
}

func TestWhereOutputsDifferIsCountedByPlace(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	provider.SetAnswer(smallID, happy)
	provider.SetAnswer(largeID, angry)
	sum, _ := summed(t, at(t, provider, "task", "try", "analyze", "--inputs="+inputs(t, 6), "--against=large", "--json").with(exitOK))
	if got := fmt.Sprint(sum["compared"], sum["different"], sum["places"]); got != "6 6 map[/sentiment:6 /topics/*:6]" {
		t.Errorf("the sums: %s", got)
	}
	at(t, provider, "task", "try", "analyze", "--inputs="+inputs(t, 6), "--against=large").with(exitOK, "6 of 6 inputs that both sides answered differ", "     6  /topics/*")
}

func TestTriesNeverCostMoreThanTheyMay(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	// A call costs half of what it may at most, with its 400 tokens of an answer.
	provider.SetUsage(smallID, fakellm.Usage{Input: 380, Output: 150})
	const perCall, most = (380*0.15 + 150*0.60) / 1e6, 0.0045
	s := at(t, provider, "task", "try", "analyze", "--inputs="+inputs(t, 40), "--max-usd="+fmt.Sprint(most), "--json").
		with(exitFailed, "another call might have made it more than --max-usd 0.0045", "no call is made that may make it more than --max-usd 0.0045")
	sum, _ := summed(t, s)
	calls := provider.Counts().Calls
	if spent := float64(calls) * perCall; spent > most || spent < most/2 {
		t.Errorf("%d calls for $%.5f", calls, spent)
	}
	if got := side(t, sum, 0)["cost_usd"].(float64); math.Abs(got-float64(calls)*perCall) > 1e-9 {
		t.Errorf("the sums say $%v for %d calls", got, calls)
	}
	// A provider that counts twenty times as many tokens is found out with the first calls.
	provider.Reset()
	provider.SetUsage(smallID, fakellm.Usage{Input: 8000, Output: 400})
	at(t, provider, "task", "try", "analyze", "--inputs="+inputs(t, 40), "--max-usd=0.01", "--parallel=1").with(exitFailed)
	if spent := float64(provider.Counts().Calls) * (8000*0.15 + 400*0.60) / 1e6; spent > 0.01 || spent < 0.005 {
		t.Errorf("$%.5f are spent", spent)
	}
	provider.Reset()
	at(t, provider, "task", "try", "analyze", "valid", "--max-usd=0.00001").with(exitFailed, "the call may cost more than --max-usd 1e-05: raise it")
	if n := provider.Counts().Calls; n != 0 {
		t.Errorf("%d calls", n)
	}
}

func TestARateLimitedTryWaitsAndIsMadeAgain(t *testing.T) {
	provider := realProvider(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "429", First: 1, RetryAfter: 50 * time.Millisecond}}})
	row := at(t, provider, "task", "try", "analyze", "valid", "--json").with(exitOK).one()
	if a := side(t, row, 0); a["calls"] != 2.0 || a["verdict"] != "valid" || provider.Counts().Calls != 2 {
		t.Errorf("%v", a)
	}
}

func TestCtrlCPrintsWhatIsThere(t *testing.T) {
	provider := realProvider(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "hang", Match: "input 7"}}})
	env := map[string]string{"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": provider.URL()}
	ctx, interrupt := context.WithCancel(t.Context())
	var out, err buffer
	ended := make(chan int)
	args := []string{"task", "try", "analyze", "--inputs=" + inputs(t, 10), "--parallel=1", "--json"}
	go func() { ended <- run(ctx, args, func(name string) string { return env[name] }, &out, &err) }()
	if e := provider.Await(t.Context(), func(c fakellm.Counts) bool { return c.Calls == 8 }); e != nil {
		t.Fatal(e)
	}
	interrupt()
	code := <-ended
	sum, rows := summed(t, said{t, args, code, out.String(), err.String()}.with(exitInterrupted, "stopped; 3 inputs not tried to the end"))
	if len(rows) != 7 || sum["inputs"] != 7.0 || side(t, sum, 0)["accepted"] != 7.0 {
		t.Errorf("%d rows, %v", len(rows), sum)
	}
}

func TestWithoutAKeyATrySaysWhatToSet(t *testing.T) {
	spillway(t, "task", "try", "analyze", "valid").with(exitFailed, "no API key: set OPENAI_API_KEY", "--simulate")
	s := spillway(t, "task", "try", "analyze", "valid", "--simulate", "--against=large").with(exitOK, "the answers are simulated", "simulated-small", "simulated-large")
	if strings.Contains(s.out+s.err, "at most $") {
		t.Errorf("it says a price that nobody pays: %s", s.err)
	}
}

func TestATryOfAnotherModelThanExpectedSaysSo(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	provider.SetName(smallID, "gpt-4o-mini-2026-10-01")
	at(t, provider, "task", "try", "analyze", "valid").with(exitOK, "gpt-4o-mini-2026-10-01, not "+smallID+", which models.yaml names (answers_as)")
}

func TestWhatIsToBeTriedMustBeSaid(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"analyze"}, "what is to be tried?"},
		{[]string{"analyze", "valid", "--inputs=x"}, "give one input or --inputs, not both"},
		{[]string{"analyze", "--inputs=/nowhere/at/all"}, "--inputs: "},
		{[]string{"analyze", "--inputs=" + os.DevNull}, "has no line"},
		{[]string{"analyze", "valid", "--parallel=0"}, "--parallel is at least 1"},
		{[]string{"analyze", "valid", "--max-usd=-1"}, "--max-usd is not negative"},
	} {
		spillway(t, append([]string{"task", "try"}, c.args...)...).with(exitUsage, c.says)
	}
	spillway(t, "task", "try", "nothing", "valid").with(exitNotFound, `there is no task "nothing"`)
}

func TestATaskIsTriedAgainstAStoredVersion(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	r := serve(t)
	mine, before := folder(t), folder(t)
	write(t, filepath.Join(before, "tasks", "bare", "prompt.tmpl"), `{{define "user"}}As it was: {{.Input.text}}{{end}}`)
	// The version's own entry of the model: another id than the folder's.
	change(t, before, "models.yaml", smallID, "gpt-4o-mini-before")
	set, err := loadTasks(before, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	was := set.Tasks["bare"]
	if err := bundle.NewStore(r.conn).Put(t.Context(), bundle.Of(was)); err != nil {
		t.Fatal(err)
	}
	args := []string{"task", "try", "bare", `{"text": "hello"}`, "--schemas=" + mine, "--nats=" + r.url}
	row := at(t, provider, append(args, "--against="+was.Version, "--json")...).with(exitOK).one()
	if a := side(t, row, 1); a["version"] != was.Version || a["side"] != was.Version || a["answered_by"] != "gpt-4o-mini-before" || a["version"] == side(t, row, 0)["version"] {
		t.Errorf("the stored version: %v", a)
	}
	if requests := provider.Requests("gpt-4o-mini-before"); len(requests) != 1 || !strings.Contains(requests[0].Body, "As it was: hello") {
		t.Errorf("the requests: %+v", requests)
	}
	at(t, provider, append(args, "--against=00000000")...).with(exitNotFound, "this version of bare is not stored")
	if n := provider.Counts().Calls; n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}
