package validator

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

const (
	// leastTime is what a further call needs at least, beside the reserve for the ladder.
	leastTime = time.Second
	// maxExcerpt is how much of a bad answer is shown to the model again, in bytes.
	maxExcerpt = 4 << 10
	// maxTold is how many faults are told to the model at once.
	maxTold = 12
	// leastOutput is the least room, in tokens, for which a corrected answer is worth asking.
	leastOutput = 16
	// bytesPerToken is cautious: real text has three and more, so room is rather over- than underestimated.
	bytesPerToken = 2
)

// correct sends the job back with its faults, or diverts it when that may not be.
func (h *Handler) correct(j *job.Job, t *task.Task, v *Verdict) error {
	now := h.now()
	if !now.Before(j.Deadline) {
		return fate.DivertTo(fate.Deadline, fmt.Sprintf("the deadline passed before model %s gave an answer that satisfies the schema", j.Model), nil)
	}
	if why := barred(j, t, now); why != "" {
		return invalid(j, v, why)
	}
	dialogue := dialogueOf(t, j.Answer.Content, v)
	model := j.Model
	if last := j.Corrections+1 == t.Correction.Times; last && t.Correction.LastOn != "" && j.Trouble == nil {
		// On the ladder the job stays with the rung's model: it is there because others are in trouble.
		model = t.Correction.LastOn
	}
	limit, fits := h.limitFor(j, h.tasks.Model(t, model), dialogue)
	if !fits {
		return invalid(j, v, "a correction does not fit the window of model "+model)
	}
	j.Model, j.MaxOutputTokens = model, limit
	j.Correction, j.Answer = dialogue, nil
	j.Corrections++
	j.Attempts = 0
	j.To = broker.Inference
	h.metrics.corrections.WithLabelValues(j.Task).Inc()
	return nil
}

// invalid diverts an answer that is not corrected any more.
func invalid(j *job.Job, v *Verdict, why string) error {
	return fate.DivertTo(fate.OutputInvalid, job.Cut(fmt.Sprintf("the answer of model %s is not valid (%s): %s", j.Model, why, firstFaults(v)), job.MaxDetail), nil)
}

// barred says which limit forbids a correction; "": none does.
func barred(j *job.Job, t *task.Task, now time.Time) string {
	switch {
	case t.Correction.Times == 0:
		return "the task has no corrections"
	case j.Corrections >= t.Correction.Times:
		return fmt.Sprintf("after %d of %d corrections", j.Corrections, t.Correction.Times)
	case j.Calls >= t.Retry.MaxCalls:
		return fmt.Sprintf("all %d calls are spent", t.Retry.MaxCalls)
	case t.Correction.MaxTokens > 0 && j.CorrectionTokens >= t.Correction.MaxTokens:
		return fmt.Sprintf("corrections took %d tokens, of %d", j.CorrectionTokens, t.Correction.MaxTokens)
	case !hasTime(j, t, now):
		return "no time is left for a correction"
	}
	return ""
}

// hasTime reports whether a further call can be over before the ladder needs the rest of the time.
func hasTime(j *job.Job, t *task.Task, now time.Time) bool {
	return j.Left(now, t.ReserveOf(j.Deadline.Sub(j.AcknowledgedAt))) >= leastTime
}

// limitFor is the limit of the corrected answer, which has to share the window with the dialogue. 0: none.
func (h *Handler) limitFor(j *job.Job, m *task.Model, dialogue []job.Message) (limit int, fits bool) {
	if m == nil || m.ContextWindow == 0 {
		return j.MaxOutputTokens, true
	}
	room := m.ContextWindow - j.PromptTokens - tokensOf(dialogue)
	if j.MaxOutputTokens == 0 {
		return 0, room >= leastOutput
	}
	limit = min(j.MaxOutputTokens, room)
	return limit, limit >= min(leastOutput, j.MaxOutputTokens)
}

// tokensOf is a cautious estimate: to load vocabularies here for a few hundred tokens is not worth it.
func tokensOf(messages []job.Message) int {
	bytes := 0
	for i := range messages {
		bytes += len(messages[i].Content)
	}
	return bytes/bytesPerToken + len(messages)*bytesPerToken
}

// dialogueOf is what the model is shown: its last answer, and what is wrong with it. Never more than the
// last: earlier answers cost tokens, and a model repeats what it reads.
func dialogueOf(t *task.Task, answer string, v *Verdict) []job.Message {
	return []job.Message{
		{Role: "assistant", Content: excerpt(answer)},
		{Role: "user", Content: complaint(t, v)},
	}
}

// excerpt is the answer without its middle when it is long: faults sit at the ends, or are named by pointers.
func excerpt(answer string) string {
	const mark = "\n[…]\n"
	if len(answer) <= maxExcerpt {
		return answer
	}
	half := (maxExcerpt - len(mark)) / 2
	head, tail := half, len(answer)-half
	for head > 0 && !utf8.RuneStart(answer[head]) {
		head--
	}
	for tail < len(answer) && !utf8.RuneStart(answer[tail]) {
		tail++
	}
	return answer[:head] + mark + answer[tail:]
}

func complaint(t *task.Task, v *Verdict) string {
	var b strings.Builder
	what := "the corrected JSON only: one JSON value, without any text or code fence around it"
	if t.Output.Format == task.FormatText {
		what = "the corrected text only"
	}
	b.WriteString("Your answer can not be used:\n")
	for i := range v.Faults {
		if i == maxTold {
			fmt.Fprintf(&b, "- and %d more\n", len(v.Faults)-maxTold)
			break
		}
		fmt.Fprintf(&b, "- %s\n", v.Faults[i].String())
	}
	fmt.Fprintf(&b, "Answer with %s.", what)
	return b.String()
}
