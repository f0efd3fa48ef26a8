package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"spillway/pkg/bench"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/services/validator"
	"spillway/services/validator/corpus"
)

var update = flag.Bool("update", false, "write the README's table of answers anew")

// validityReport is what --json prints.
type validityReport struct {
	bench.ValidityReport
	Hostile []hostileAnswer `json:"hostile"`
}

func (s said) validity() *validityReport {
	s.t.Helper()
	r := &validityReport{}
	if err := json.Unmarshal([]byte(s.out), r); err != nil {
		s.t.Fatalf("%v: %s", err, s.out)
	}
	return r
}

// recordedLines are the lines of the corpus that can travel in a provider's JSON, by name.
func recordedLines(t *testing.T) map[string]corpus.Line {
	t.Helper()
	all, err := corpus.Lines()
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]corpus.Line{}
	for _, l := range all {
		if !l.Base64 {
			lines[l.Name] = l
		}
	}
	return lines
}

func TestBenchPlaysTheRecordedAnswersThroughAPipeline(t *testing.T) {
	out, errs := &buffer{}, &buffer{}
	args := []string{"bench", "validity", "--json"}
	code := run(t.Context(), args, noEnv, out, errs) // however long a busy machine takes
	report := said{t, args, code, out.String(), errs.String()}.with(exitOK).validity()
	t.Run("each answer is counted once", func(t *testing.T) { countsEachAnswer(t, report) })
	t.Run("what is wrong is named", func(t *testing.T) { namesWhatIsWrong(t, report) })
	t.Run("hostile answers are refused in a time that is told", func(t *testing.T) { judgesHostileAnswers(t, report) })
	t.Run("the README's table says the same", func(t *testing.T) { isInTheREADME(t, report) })
}

func countsEachAnswer(t *testing.T, report *validityReport) {
	lines, left := recordedLines(t), map[string]int{}
	for _, l := range lines {
		left[l.Class]++
	}
	for _, c := range report.Classes {
		if c.Answers != left[c.Class] || c.Calls < c.Answers+c.Steps[job.RecoveryCorrected] || c.OutputTokens <= c.Calls {
			t.Errorf("%+v, want %d answers", c, left[c.Class])
		}
		if accepted := c.Answers - c.Steps[job.RecoveryCorrected] - c.Steps[bench.StepNone]; c.Class == "trap" && accepted > 0 {
			t.Errorf("%d traps are accepted", accepted)
		}
		if c.Class == "trap" && c.Steps[job.RecoveryCorrected] < c.Answers/2 {
			t.Errorf("%d traps are corrected by a model that is right when it is told", c.Steps[job.RecoveryCorrected])
		}
		delete(left, c.Class)
	}
	if len(left) > 0 || report.Cut || report.Asked != len(lines) || report.All.Answers != len(lines) {
		t.Errorf("left %v, %+v, want %d answers", left, report.All, len(lines))
	}
	codes := 0
	for _, n := range report.All.Codes {
		codes += n
	}
	if codes != report.All.Steps[bench.StepNone] {
		t.Errorf("%v are the codes of %d", report.All.Codes, report.All.Steps[bench.StepNone])
	}
}

func namesWhatIsWrong(t *testing.T, report *validityReport) {
	if report.All.Wrong == nil || *report.All.Wrong != len(report.Wrong) || !slices.IsSorted(report.Wrong) {
		t.Errorf("wrong %v: %q", report.All.Wrong, report.Wrong)
	}
	lines := recordedLines(t)
	for _, name := range report.Wrong {
		if lines[name].Output != nil {
			t.Errorf("%s stands for a value, and another one came of it", name)
		}
	}
}

func judgesHostileAnswers(t *testing.T, report *validityReport) {
	bytes := map[string]int{"a number with an exponent of a million": 19, "100,000 arrays, one in the other": 200_000, "1 MB of prose": 1<<20 - 23}
	for _, a := range report.Hostile {
		if a.Verdict != validator.Invalid && a.Verdict != validator.Ambiguous || a.TookMS <= 0 {
			t.Errorf("%+v", a)
		}
		if bytes[a.Name] == a.Bytes {
			delete(bytes, a.Name)
		}
	}
	if len(bytes) > 0 {
		t.Errorf("%v are not among %+v", bytes, report.Hostile)
	}
}

func TestAPersonIsShownTheShareOfEachStepAndWhatItCost(t *testing.T) {
	t.Parallel()
	of := func(name string, wrong int) *bench.ValidityClass {
		return &bench.ValidityClass{
			Class: name, Answers: 8, Steps: map[string]int{"strict": 2, "repaired": 1, "corrected": 4, "none": 1},
			Codes: map[fate.Code]int{fate.Refused: 1}, Calls: 1250, InputTokens: 20_000, OutputTokens: 3000, Wrong: &wrong,
		}
	}
	out := &buffer{}
	g := &globals{cli: newCLI(), stdout: out}
	err := errors.Join(
		g.printValidity(&bench.ValidityReport{Asked: 8, Classes: []*bench.ValidityClass{of("some", 1)}, All: of("all", 1), Wrong: []string{"this one"}}, false),
		g.printHostile([]hostileAnswer{{"1 MB of prose", 1048553, "invalid", 9.137}}),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`8 recorded answers, .*`, `some +8 +2 \(25%\) +- +1 \(12%\) +4 \(50%\) +1 \(12%\) +1 +1,250 +20,000 +3,000`,
		`all +8 .*`, `none: no output \(1 refused\)`, `wrong: this one`, `1 MB of prose +1,048,553 +invalid +9\.14`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(out.String()) {
			t.Errorf("no line %s in\n%s", line, out)
		}
	}
}

func TestBenchRefusesWhatHasNoEffectOnRecordedAnswers(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--task=x", "--requests=20", "--schemas=."} {
		spillway(t, "bench", "validity", flag).with(exitUsage, "are for --live")
	}
	spillway(t, "bench", "validity", "--live", "--requests=0").with(exitUsage, "--requests is 1 to")
	spillway(t, "bench", "validity", "--live").with(exitUsage, "there is no key", "OPENAI_API_KEY")
}

// liveProvider is a provider that stands for a real one, and the folder of a task that asks it.
func liveProvider(t *testing.T) (p *fakellm.Server, folder string) {
	t.Helper()
	p, err := fakellm.Start(fakellm.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	folder = t.TempDir()
	for name, text := range map[string]string{
		"models.yaml": fmt.Sprintf(`defaults: {timeouts: {connect: 1m, first_token: 1m, silence: 1m, call: 1m}, breaker: {consecutive_failures: 1000}}
providers: {here: {kind: openai, base_url: %q, api_key: none}}
models: {only: {provider: here, id: only-1, context_window: 8000, structured_output: json_schema, prices: {input: 1000, output: 2000}}}
`, p.URL()),
		"tasks/toy/task.yaml":          "model: only\ndeadline: {default: 5m}\nladder: []\nno_ladder: what does not become an output is to be seen\n",
		"tasks/toy/prompt.tmpl":        `{{define "user"}}{{.Input}}{{end}}`,
		"tasks/toy/output.schema.json": `{"type":"object","properties":{"says":{"type":"string"}},"required":["says"],"additionalProperties":false}`,
	} {
		write(t, folder+"/"+name, text)
	}
	return p, folder
}

func TestBenchAsksRealModelsAndSaysWhatBecameOfTheirAnswers(t *testing.T) {
	t.Parallel()
	provider, folder := liveProvider(t)
	provider.Script("only-1", fakellm.Fault{Kind: fakellm.KindFenced}, fakellm.Fault{Kind: fakellm.KindTrailingComma}, fakellm.Fault{Kind: fakellm.KindRefusal})
	live := []string{"bench", "validity", "--live", "--schemas=" + folder, "--requests=10"}
	report := spillway(t, append(live, "--json")...).with(exitOK, "this costs money").validity()
	want := map[string]int{job.RecoveryStrict: 7, validator.Extracted: 1, validator.Repaired: 1, bench.StepNone: 1}
	if got := report.All; fmt.Sprint(got.Steps) != fmt.Sprint(want) || got.Calls != provider.Counts().Calls || got.CostUSD <= 0 || got.Codes[fate.Refused] != 1 {
		t.Errorf("%+v, want %v", got, want)
	}
	if report.Wrong != nil || report.All.Wrong != nil {
		t.Errorf("%v is wrong, which nobody can know", report.Wrong)
	}
	spillway(t, live...).with(exitOK, "USD", "toy").without("WRONG", "MADE TO HURT")
}

func TestABenchOfRealModelsThatIsInterruptedSaysWhatItFoundSoFar(t *testing.T) {
	t.Parallel()
	provider, folder := liveProvider(t)
	provider.Script("only-1", fakellm.Fault{Kind: fakellm.KindOK}, fakellm.Fault{Kind: fakellm.KindOK})
	provider.SetFaults(fakellm.Fault{Kind: fakellm.KindHang})
	c := start(t, "bench", "validity", "--live", "--schemas="+folder, "--requests=200", "--json")
	if err := provider.Await(t.Context(), func(n fakellm.Counts) bool { return n.Outcomes[fakellm.KindOK] == 2 && n.InFlight > 0 }); err != nil {
		t.Fatal(err)
	}
	c.cancel()
	report := c.wait().with(exitInterrupted, "stopped: the figures are those of", "of 200 answers").validity()
	if !report.Cut || report.Asked != 200 || report.All.Answers > 2 {
		t.Errorf("%+v", report.All)
	}
	if n := provider.Counts().Calls; n > 50 {
		t.Errorf("%d calls of 200 were under way when it was stopped", n)
	}
}

// tableHead begins the README's table of answers. A row begins with its class; what follows a colon is a person's.
const tableHead = "| answers | number | no call needed | corrected, once told | no output | wrongly accepted |\n|---|--:|--:|--:|--:|--:|\n"

func isInTheREADME(t *testing.T, report *validityReport) {
	const readme = "../../README.md"
	stored, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(stored), tableHead)
	end := strings.Index(rest, "\n\n")
	if !found || end < 0 {
		t.Fatalf("README.md has no table that begins with %s", tableHead)
	}
	before = regexp.MustCompile(`Measured on [0-9]+`).ReplaceAllString(before, fmt.Sprintf("Measured on %d", report.All.Answers))
	current := before + tableHead + strings.Join(answerRows(strings.Split(rest[:end], "\n"), report.Classes), "\n") + rest[end:]
	if *update {
		if err := os.WriteFile(readme, []byte(current), 0o644); err != nil { //nolint:gosec // a README is for all
			t.Fatal(err)
		}
		return
	}
	if current != string(stored) {
		t.Errorf("README.md is not what the recorded answers give; run go generate ./services/spillway:\n%s", current[len(before):len(current)-len(rest[end:])])
	}
}

// answerRows are the rows of the table, in the order and with the words that they have there; what is new comes last.
func answerRows(stored []string, classes []*bench.ValidityClass) (rows []string) {
	for _, row := range stored {
		words := strings.Trim(strings.SplitN(row, "|", 3)[1], " ")
		name, _, _ := strings.Cut(words, ":")
		at := slices.IndexFunc(classes, func(c *bench.ValidityClass) bool { return c.Class == name })
		if at >= 0 {
			rows = append(rows, answerRow(words, classes[at]))
			classes = slices.Delete(slices.Clone(classes), at, at+1)
		}
	}
	for _, c := range classes {
		rows = append(rows, answerRow(c.Class, c))
	}
	return rows
}

func answerRow(words string, c *bench.ValidityClass) string {
	won, how := 0, []string{}
	for _, step := range []string{job.RecoveryStrict, validator.Extracted, validator.Repaired} {
		if n := c.Steps[step]; n > 0 {
			won += n
			how = append(how, fmt.Sprintf("%d %s", n, step))
		}
	}
	text := fmt.Sprint(won)
	if won > 0 && won < c.Answers {
		text = fmt.Sprintf("%d (%.0f %%): %s", won, 100*float64(won)/float64(c.Answers), strings.Join(how, ", "))
	}
	return fmt.Sprintf("| %s | %d | %s | %d | %d | %d |", words, c.Answers, text, c.Steps[job.RecoveryCorrected], c.Steps[bench.StepNone], *c.Wrong)
}
