package validator

import (
	"os"
	"strings"
	"testing"

	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
	"spillway/services/validator/corpus"
)

// What the corpus counts. A change of a rule that loses a line, or wins one, is to be seen here.
const (
	exactlyTraps    = 405
	leastRecovered  = 0.6
	exactlyRepaired = 179
)

// judgement is a line of the corpus and what the validator thinks of it.
type judgement struct {
	corpus.Line
	verdict Verdict
}

// judgements judges the lines of a class.
func judgements(t testing.TB, class string) (judged []judgement) {
	t.Helper()
	tasks := corpusTasks(t)
	for _, line := range corpusLines(t) {
		if line.Class == class {
			v := Judge(tasks[line.Task], []byte(`{}`), &job.Answer{Content: line.Answer, FinishReason: line.FinishReason})
			judged = append(judged, judgement{line, v})
		}
	}
	if len(judged) == 0 {
		t.Fatalf("no line of class %s", class)
	}
	return judged
}

func corpusLines(t testing.TB) []corpus.Line {
	t.Helper()
	lines, err := corpus.Lines()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func corpusTasks(t testing.TB) map[string]*task.Task {
	t.Helper()
	tasks := map[string]*task.Task{}
	for name, file := range map[string]string{
		"onboarding": "../../schemas/tasks/onboarding/output.schema.json",
		"analyze":    "../../schemas/tasks/analyze/output.schema.json",
		"list":       "corpus/testdata/list.schema.json",
	} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tasks[name] = taskOf(t, string(source))
	}
	return tasks
}

func TestNoTrapIsAccepted(t *testing.T) {
	t.Parallel()
	traps := judgements(t, "trap")
	for _, j := range traps {
		if j.verdict.Output != nil {
			t.Errorf("%s: %s as %s, though %s: %q", j.Name, j.verdict.Outcome, j.verdict.Output, j.Why, j.Answer)
		}
	}
	if len(traps) != exactlyTraps {
		t.Errorf("%d traps, want %d", len(traps), exactlyTraps)
	}
}

func TestMostOfWhatIsRepairableNeedsNoCall(t *testing.T) {
	t.Parallel()
	lines := judgements(t, "repairable")
	steps := map[string]int{}
	won, others, wonOthers := 0, 0, 0
	for _, j := range lines {
		steps[j.verdict.Outcome]++
		if j.verdict.Output != nil {
			won++
		}
		if j.File == "chat.jsonl" {
			continue // written beside the rules about words, so what they win there proves less
		}
		if others++; j.verdict.Output != nil {
			wonOthers++
		}
	}
	t.Logf("%d of %d: %v; without chat.jsonl %d of %d", won, len(lines), steps, wonOthers, others)
	if won != exactlyRepaired || float64(wonOthers) < leastRecovered*float64(others) {
		t.Errorf("%d of %d repairable answers need no call, want %d; without chat.jsonl %d of %d", won, len(lines), exactlyRepaired, wonOthers, others)
	}
}

func TestEveryOutputIsTheOneThatWasMeant(t *testing.T) {
	t.Parallel()
	for _, j := range append(judgements(t, "repairable"), judgements(t, "valid")...) {
		if j.Class == "valid" && j.verdict.Outcome != Valid {
			t.Errorf("%s: %s, %v", j.Name, j.verdict.Outcome, j.verdict.Faults)
		}
		if j.verdict.Output == nil {
			continue
		}
		meant := decoded(t, j.Output)
		if members, ok := meant.(map[string]any); ok && j.Class == "valid" && members["suggestedRoute"] == nil {
			delete(members, "suggestedRoute") // the task drops a null that is optional
		}
		if !equal(decoded(t, j.verdict.Output), meant) {
			t.Errorf("%s: %s, meant was %s", j.Name, j.verdict.Output, j.Output)
		}
		if foreign := foreignTo(j.Answer, decoded(t, j.verdict.Output)); foreign != "" {
			t.Errorf("%s: %s is not in the answer", j.Name, foreign)
		}
	}
}

func TestHopelessAnswersStayHopeless(t *testing.T) {
	t.Parallel()
	for _, j := range judgements(t, "hopeless") {
		if j.verdict.Output != nil {
			t.Errorf("%s: %s as %s", j.Name, j.verdict.Outcome, j.verdict.Output)
		}
	}
}

func decoded(t testing.TB, text []byte) any {
	t.Helper()
	value, err := schema.Decode(text)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

func TestWhatIsForeignToATextIsFound(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ text, value, foreign string }{
		{`{"a":"b\n\u00e4\ud83d\ude00\"c","n":[0.50]}`, `{"a":"b\nä😀\"c","n":[0.50]}`, ""},
		{`"{\"a\":\"say \\\"x\\\"\"}"`, `{"a":"say \"x\""}`, ""},
		{`{'a': True}`, `{"a":true,"b":null}`, "b"},
		{`{"a":"bc"}`, `{"a":"bd"}`, "bd"},
		{`{"a":0.9}`, `{"a":0.90}`, "0.90"},
	} {
		if got := foreignTo(row.text, decoded(t, []byte(row.value))); got != row.foreign {
			t.Errorf("%s in %s: %q, want %q", row.value, row.text, got, row.foreign)
		}
	}
}

// foreignTo returns a key, a string or a number of the value that the text does not hold, however often it was
// encoded; "": there is none.
func foreignTo(text string, value any) (foreign string) {
	texts := []string{text}
	for range maxEncoded {
		texts = append(texts, withoutEscapes(texts[len(texts)-1]))
	}
	check := func(s string) {
		for _, text := range texts {
			if strings.Contains(text, s) {
				return
			}
		}
		foreign = s
	}
	eachScalar(value, check)
	return foreign
}
