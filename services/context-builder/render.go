package contextbuilder

import (
	"encoding/json"
	"fmt"
	"strings"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// The roles of messages. Inference maps them to what the provider calls them.
const (
	roleSystem    = "system"
	roleUser      = "user"
	roleAssistant = "assistant"
)

// MaxPromptBytes bounds a rendered prompt, so that the job fits into a message with all that is added to it.
const MaxPromptBytes = 1 << 20

const inputPointer = "/input"

// render makes the messages of a prompt: the system part, the examples in pairs, the user's part. Each comes
// from a template of its own, and what a template was given is never parsed again: an input can say nothing
// in another role than the one that the template put it into.
func render(t *task.Task, input json.RawMessage) ([]job.Message, *fate.Error) {
	value, err := schema.Decode(input)
	if err != nil {
		return nil, fate.Rejection(fate.InputInvalid, "the input is not one JSON value",
			fate.Reason{Pointer: inputPointer, Message: err.Error()})
	}
	data := task.PromptData{Input: value, State: map[string]any{}}
	if t.OutputSchema != nil {
		data.Schema = string(t.OutputSchema.Source())
	}
	system, examples, user, err := t.Prompt.Render(data)
	if err != nil {
		refused := fate.Rejection(fate.TemplateError, fmt.Sprintf("the prompt template of task %s failed on this input", t.Name),
			fate.Reason{Pointer: inputPointer, Message: job.Cut(err.Error(), job.MaxDetail)})
		refused.Cause = err
		return nil, refused
	}
	messages := make([]job.Message, 0, 2+2*len(examples))
	if strings.TrimSpace(system) != "" {
		messages = append(messages, job.Message{Role: roleSystem, Content: system})
	}
	for _, pair := range examples {
		messages = append(messages, job.Message{Role: roleUser, Content: pair[0]}, job.Message{Role: roleAssistant, Content: pair[1]})
	}
	return append(messages, job.Message{Role: roleUser, Content: user}), nil
}

// tooManyBytes refuses a prompt that is too large to be counted or carried.
func tooManyBytes(messages []job.Message) *fate.Error {
	size := 0
	for i := range messages {
		size += len(messages[i].Content)
	}
	if size <= MaxPromptBytes {
		return nil
	}
	return tooLong(fmt.Sprintf("the prompt is %d bytes too long (%d of %d)", size-MaxPromptBytes, size, MaxPromptBytes))
}

func tooLong(message string) *fate.Error {
	return fate.Rejection(fate.ContextTooLong, message, fate.Reason{Pointer: inputPointer, Message: message})
}
