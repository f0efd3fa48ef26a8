package contextbuilder

import (
	"fmt"
	"strings"
	"testing"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

const onlyInput = `{{define "user"}}{{.Input.message}}{{end}}`

// plain has a prompt that is the input alone, so that its tokens can be counted by hand.
func plain(t *testing.T, manifest string) *Handler {
	t.Helper()
	return handlerOf(t, load(t, manifest, map[string]string{"prompt.tmpl": onlyInput}))
}

// words is a text of n tokens, in o200k_base and cl100k_base alike: " a" is one token of both, and so is "a".
func words(n int) string { return strings.TrimPrefix(strings.Repeat(" a", n), " ") }

// framed is what a prompt of one user's message with n tokens counts by the rule of OpenAI's cookbook: three
// a message, one for the role, three for the beginning of the reply.
func framed(n int) int { return n + 3 + 1 + 3 }

func TestThePromptIsCountedAsTheModelCountsIt(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		model string
		want  int
	}{
		{"small", framed(100)},
		{"abroad", (framed(100)*3 + 1) / 2},         // token_safety 1.5, rounded up
		{"wide", 199/4 + 1 + 3 + len("user")/4 + 3}, // no encoding: characters / 4
	} {
		j := admitted(t, message(words(100)))
		if err := handle(t, plain(t, "model: "+row.model), j); err != nil {
			t.Fatal(err)
		}
		if j.PromptTokens != row.want {
			t.Errorf("%s: %d tokens, want %d", row.model, j.PromptTokens, row.want)
		}
	}
}

func TestTheSchemaIsCountedWhereItIsSentAlong(t *testing.T) {
	t.Parallel()
	count := func(manifest string) int {
		j := admitted(t, message(words(10)))
		if err := handle(t, plain(t, manifest), j); err != nil {
			t.Fatal(err)
		}
		return j.PromptTokens
	}
	if without := count("model: strict\noutput: {provider_schema: never}"); without != framed(10) {
		t.Errorf("%d tokens without the schema", without)
	}
	// A JSON text has two to six characters a token.
	if with := count("model: strict") - framed(10); with < len(schemaText)/6 || with > len(schemaText)/2 {
		t.Errorf("%d tokens for a schema of %d bytes", with, len(schemaText))
	}
}

func TestAPromptFitsToTheTokenAndIsRejectedBeyondIt(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, manifest string
		limit          int
	}{
		{"the window less the reserve", "model: small", 800},
		{"another reserve", "model: small\ncontext: {reserve: 0.5}", 500},
		{"the task's own limit", "model: small\ncontext: {max_input_tokens: 300}", 300},
		{"the wanted answer needs more than the reserve", "model: small\nparameters: {max_output_tokens: 350}", 650},
		{"the wanted answer, beside the task's own limit", "model: small\nparameters: {max_output_tokens: 350}\ncontext: {max_input_tokens: 700}", 650},
		{"an unsaid answer keeps the reserve from the task's own limit", "model: small\ncontext: {max_input_tokens: 950}", 800},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := plain(t, row.manifest)
			fits := row.limit - framed(0)
			if err := handle(t, h, admitted(t, message(words(fits)))); err != nil {
				t.Errorf("%d tokens: %v", row.limit, err)
			}
			err := handle(t, h, admitted(t, message(words(fits+7))))
			if err == nil || err.Fate != fate.Reject || err.Code != fate.ContextTooLong {
				t.Fatalf("%d tokens: %v", row.limit+7, err)
			}
			want := fmt.Sprintf("the prompt is 7 tokens too long (%d of %d)", row.limit+7, row.limit)
			if err.Message != want || len(err.Reasons) != 1 || err.Reasons[0] != (fate.Reason{Pointer: "/input", Message: want}) {
				t.Errorf("%q, %+v; want %q", err.Message, err.Reasons, want)
			}
		})
	}
}

func TestOnTheLadderATooLongPromptIsDivertedToTheNextRung(t *testing.T) {
	t.Parallel()
	h := plain(t, "model: small")
	j := admitted(t, message(words(900)))
	j.Trouble = &job.Trouble{Stage: broker.Inference, Code: fate.ProviderTimeout}
	err := handle(t, h, j)
	if err == nil || err.Fate != fate.Divert || err.Code != fate.ContextTooLong || !strings.Contains(err.Message, "107 tokens too long") {
		t.Fatalf("%v", err)
	}
	j.Model = "abroad" // 2,000 tokens wide, less the 100 that it can say
	if err := handle(t, h, j); err != nil || j.PromptTokens != (framed(900)*3+1)/2 {
		t.Errorf("%v, %d tokens", err, j.PromptTokens)
	}
}

func TestAPromptOfMoreThanAMegabyteIsRejectedInBytes(t *testing.T) {
	t.Parallel()
	h := plain(t, "model: wide\ncontext: {reserve: 0}")
	if err := handle(t, h, admitted(t, message(strings.Repeat("a", MaxPromptBytes)))); err != nil {
		t.Errorf("1 MiB: %v", err)
	}
	err := handle(t, h, admitted(t, message(strings.Repeat("a", MaxPromptBytes+5))))
	if err == nil || err.Fate != fate.Reject || err.Code != fate.ContextTooLong || !strings.Contains(err.Message, "5 bytes too long (1048581 of 1048576)") {
		t.Errorf("%v", err)
	}
}

func TestTheLimitOfTheAnswerIsTheTasksElseWhatTheModelAndItsWindowLeave(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, manifest string
		words, brought int
		want           int
	}{
		{"the task's", "model: small\nparameters: {max_output_tokens: 50}", 10, 0, 50},
		{"the model's most", "model: small", 10, 0, 400},
		{"what the window leaves", "model: small", 700, 0, 1000 - framed(700)},
		{"what the job brings along", "model: small\nparameters: {max_output_tokens: 50}", 10, 100, 100},
		{"not more than the model's most", "model: abroad", 10, 300, 100},
	} {
		j := admitted(t, message(words(row.words)))
		j.MaxOutputTokens = row.brought
		if err := handle(t, plain(t, row.manifest), j); err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if j.MaxOutputTokens != row.want {
			t.Errorf("%s: %d, want %d", row.name, j.MaxOutputTokens, row.want)
		}
	}
}

func TestPromptAndAnswerNeverTakeMoreThanTheWindow(t *testing.T) {
	t.Parallel()
	for window := range 60 {
		for _, most := range []int{0, 7, 20, 100} {
			for _, wanted := range []int{0, 5, 30} {
				for _, reserve := range []float64{0, 0.2, 0.95} {
					for _, input := range []int{0, 10, 40} {
						tk := &task.Task{Parameters: task.Parameters{MaxOutputTokens: wanted}, Context: task.Context{MaxInputTokens: input, Reserve: reserve}}
						b := budgetOf(tk, &task.Model{ContextWindow: window, MaxOutputTokens: most}, 0)
						for prompt := 1; prompt <= b.input; prompt++ {
							if out := b.output(prompt); out < 0 || prompt+out > window || most > 0 && out > most {
								t.Fatalf("window %d, most %d, wanted %d, reserve %v, input %d: prompt %d and answer %d", window, most, wanted, reserve, input, prompt, out)
							}
						}
					}
				}
			}
		}
	}
}

// The rung decides what answers on the ladder, and who is to renew an answer is not given the old one: no look
// is made, there is no broker here.
func TestOnlyAJobOfTheTasksOwnModelLooksForAFreshAnswer(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*job.Job){
		"on the ladder":   func(j *job.Job) { j.Trouble = &job.Trouble{Stage: broker.Inference, Code: fate.ProviderTimeout} },
		"another model's": func(j *job.Job) { j.Model = "wide" },
		"renewing":        func(j *job.Job) { j.CacheRenew = true },
		"bypassing":       func(j *job.Job) { j.CacheBypass = true },
	} {
		j := admitted(t, message("hello"))
		j.CacheKey = "k"
		change(j)
		if err := handle(t, plain(t, "model: small\ncache: {serve: fresh}"), j); err != nil || j.Prompt.IsZero() || j.Outcome != nil {
			t.Errorf("%s: %v, %+v", name, err, j.Outcome)
		}
	}
}
