package contextbuilder

import (
	"fmt"
	"strings"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// build is a prompt in the making.
type build struct {
	ruler
	job   *job.Job
	task  *task.Task
	model *task.Model
	// input is decoded, without turns; documents are those in it.
	input     any
	documents []any
	// turns are what may be shown of the conversation, the oldest first; aged is how many are too old to be.
	turns []turn
	aged  int
	// summary stands for the turns before, state is the session's, whole. Without a memory both are nil.
	summary *session.Summary
	state   map[string]any
	// notes are told in the history, the first early ones of the look before the session's record was read.
	notes []string
	early int
	// refused counts states that an answer would have made.
	refused int

	budget budget
	// bare is what the templates make without documents, whole with those that are kept; tried with so many of them.
	bare, whole    rendering
	tried          map[int]rendering
	format         int
	summaryMessage job.Message
	summarySize    size
	kept           choice
	// counted is true when a count became known that the session's record can keep.
	counted bool
}

// begin reads a job's input.
func (h *Handler) begin(t *task.Task, m *task.Model, j *job.Job) (*build, error) {
	r, err := h.rulerOf(m)
	if err != nil {
		return nil, err
	}
	b := &build{ruler: r, job: j, task: t, model: m, budget: budgetOf(t, m, j.MaxOutputTokens)}
	if b.input, err = schema.Decode(j.Input); err != nil {
		return nil, fate.Rejection(fate.InputInvalid, "the input is not one JSON value",
			fate.Reason{Pointer: inputPointer, Message: err.Error()})
	}
	if from := t.Context.TurnsFrom; from != "" {
		if b.input, b.turns, b.aged, err = turnsFrom(b.input, from, t.Context.RecentTurns); err != nil {
			return nil, err
		}
	}
	if from := t.Context.DocumentsFrom; from != "" {
		if b.documents, err = documentsFrom(b.input, from); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// compose renders the prompt and chooses what fits. It fails when what is never cut alone does not.
func (b *build) compose() (err error) {
	if b.bare, err = b.render(0); err != nil {
		return err
	}
	if b.bare.bytes > MaxPromptBytes {
		return tooManyBytes(b.bare.bytes)
	}
	if err := b.measure(&b.bare); err != nil {
		return err
	}
	if b.format, err = b.responseFormat(); err != nil {
		return err
	}
	b.whole = b.bare
	fixed := b.bare.size().plus(size{tokens: b.framing.reply + b.format})
	b.kept = choice{size: fixed}
	if count := b.scaled(fixed.tokens); count > b.budget.input {
		return tooManyTokens(count, b.budget.input)
	}
	if b.isPlain() {
		return nil
	}
	if err := b.measureSummary(); err != nil {
		return err
	}
	s := supply{fixed, b.summarySize, len(b.turns), b.turnSize, len(b.documents), b.documentsSize, b.fits}
	if b.kept, err = s.compose(); err == nil && b.kept.documents > 0 {
		b.whole = b.tried[b.kept.documents]
	}
	return err
}

// isPlain reports whether the prompt is what the templates make of the input, and nothing more.
func (b *build) isPlain() bool { return b.summary == nil && len(b.turns) == 0 && len(b.documents) == 0 }

func (b *build) fits(s size) bool {
	return s.bytes <= MaxPromptBytes && b.scaled(s.tokens) <= b.budget.input
}

func (b *build) turnSize(i int) (size, error) {
	s, isNews, err := b.turn(&b.turns[i])
	b.counted = b.counted || isNews
	return s, err
}

// documentsSize is what the prompt with the first n documents takes beside the bare one.
func (b *build) documentsSize(n int) (size, error) {
	r, err := b.render(n)
	if err != nil {
		return size{}, err
	}
	if err := b.measure(&r); err != nil {
		return size{}, err
	}
	if b.tried == nil {
		b.tried = map[int]rendering{}
	}
	b.tried[n] = r
	return r.size().less(b.bare.size()), nil
}

// summaryHeading begins the message of the summary. It is the user's: it is made of what users said.
const summaryHeading = "Summary of the conversation so far:\n"

func (b *build) measureSummary() error {
	if b.summary == nil || b.summary.Text == "" {
		return nil
	}
	b.summaryMessage = job.Message{Role: roleUser, Content: summaryHeading + b.summary.Text}
	b.summarySize = size{bytes: len(b.summaryMessage.Content)}
	n, known := b.summary.Counts[b.encoding]
	if !known {
		content, err := b.content(b.summaryMessage.Content)
		if err != nil {
			return err
		}
		n = content.tokens
		if b.summary.Counts == nil {
			b.summary.Counts = map[string]int{}
		}
		b.summary.Counts[b.encoding], b.counted = n, true
	}
	b.summarySize.tokens = n + b.framing.user
	return nil
}

// shown are the turns that the prompt keeps, the oldest first.
func (b *build) shown() []turn { return b.turns[len(b.turns)-b.kept.turns:] }

// messages are those of the prompt, in their order: system, examples, summary, turns, input.
func (b *build) messages() []job.Message {
	messages := b.whole.first(2 + 2*b.kept.turns)
	if b.kept.summary {
		messages = append(messages, b.summaryMessage)
	}
	for _, t := range b.shown() {
		messages = append(messages, t.messages...)
	}
	return append(messages, job.Message{Role: roleUser, Content: b.whole.user})
}

func (b *build) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

func (b *build) detail() string { return strings.Join(b.notes, "; ") }
