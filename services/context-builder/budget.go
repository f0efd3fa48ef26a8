package contextbuilder

import (
	"fmt"
	"math"

	"spillway/pkg/fate"
	"spillway/pkg/task"
)

// budget is what prompt and answer may take of a model's window, in tokens.
type budget struct {
	// input is the limit of the prompt, wanted the limit of the answer that is asked for; 0: none is.
	input, wanted int
	window, most  int
}

// budgetOf divides the model's window. asked is a limit of the answer that the job brings along; 0: the
// task's. An answer without any limit is given the task's reserve of the window, or the most that the model
// can say if that is less.
func budgetOf(t *task.Task, m *task.Model, asked int) budget {
	b := budget{wanted: asked, window: m.ContextWindow, most: m.MaxOutputTokens}
	if b.wanted == 0 {
		b.wanted = t.Parameters.MaxOutputTokens
	}
	b.wanted = capped(b.wanted, b.most)
	b.input = t.Context.MaxInputTokens
	if b.input == 0 {
		b.input = int(float64(b.window) * (1 - t.Context.Reserve))
	}
	kept := b.wanted
	if kept == 0 {
		kept = capped(int(math.Ceil(float64(b.window)*t.Context.Reserve)), b.most)
	}
	b.input = max(min(b.input, b.window-kept), 0)
	return b
}

// output is the limit of the answer to a prompt of so many tokens.
func (b budget) output(prompt int) int {
	if b.wanted > 0 {
		return b.wanted
	}
	return capped(b.window-prompt, b.most)
}

// capped is n, at most limit. A limit of 0 is none.
func capped(n, limit int) int {
	if limit > 0 {
		return min(n, limit)
	}
	return n
}

// responseFormat is what the output schema takes where it is sent along.
func (b *build) responseFormat() (int, error) {
	if !sendsSchema(b.task, b.model) {
		return 0, nil
	}
	n, err := b.counter.CountFormat(b.encoding, b.task.Name, string(b.task.ResponseFormat().Shown))
	if err != nil {
		return 0, uncounted(b.encoding, err)
	}
	return n, nil
}

// sendsSchema reports whether inference sends the output schema as the response format: the provider then
// puts it before the model, and counts it.
func sendsSchema(t *task.Task, m *task.Model) bool {
	return t.OutputSchema != nil && t.Output.Format != task.FormatText && t.Output.ProviderSchema == "auto" &&
		m.StructuredOutput == "json_schema"
}

func tooManyTokens(count, limit int) *fate.Error {
	return tooLong(fmt.Sprintf("the prompt is %d tokens too long (%d of %d)", count-limit, count, limit))
}

// tooManyBytes refuses a prompt that is too large to be counted or carried.
func tooManyBytes(size int) *fate.Error {
	return tooLong(fmt.Sprintf("the prompt is %d bytes too long (%d of %d)", size-MaxPromptBytes, size, MaxPromptBytes))
}

func tooLong(message string) *fate.Error {
	return fate.Rejection(fate.ContextTooLong, message, fate.Reason{Pointer: inputPointer, Message: message})
}
