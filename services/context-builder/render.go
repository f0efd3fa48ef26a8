package contextbuilder

import (
	"fmt"
	"strings"

	"spillway/pkg/fate"
	"spillway/pkg/job"
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

// rendering is what the templates made of an input. Each part comes from a template of its own, and what a template was
// given is never parsed again: an input can say nothing in another role than the one that the template put it into.
type rendering struct {
	system   string // "": there is no such message
	examples [][2]string
	user     string
	bytes    int
	// What the parts take, without the framing of their messages.
	systemTokens, exampleTokens, userTokens int
	framing                                 int
}

// render executes the templates as they see the first n documents.
func (b *build) render(n int) (r rendering, err error) {
	data := task.PromptData{Input: b.withDocuments(n), State: b.state}
	if b.task.OutputSchema != nil {
		data.Schema = string(b.task.OutputSchema.Source())
	}
	r.system, r.examples, r.user, err = b.task.Prompt.Render(data)
	if err != nil {
		refused := fate.Rejection(fate.TemplateError, fmt.Sprintf("the prompt template of task %s failed on this input", b.task.Name),
			fate.Reason{Pointer: inputPointer, Message: job.Cut(err.Error(), job.MaxDetail)})
		refused.Cause = err
		return r, refused
	}
	if strings.TrimSpace(r.system) == "" {
		r.system = ""
	}
	r.bytes = len(r.system) + len(r.user)
	for _, pair := range r.examples {
		r.bytes += len(pair[0]) + len(pair[1])
	}
	return r, nil
}

// measure counts the parts. One that is too large is not counted: it does not fit in any case.
func (b *build) measure(r *rendering) error {
	if r.bytes > MaxPromptBytes {
		return nil
	}
	r.framing = b.framing.user
	if r.system != "" {
		r.framing += b.framing.system
	}
	r.framing += len(r.examples) * (b.framing.user + b.framing.assistant)
	for text, into := range r.texts() {
		content, err := b.content(*text)
		if err != nil {
			return err
		}
		*into += content.tokens
	}
	return nil
}

// texts gives each text with the count that it belongs to.
func (r *rendering) texts() func(func(*string, *int) bool) {
	return func(yield func(*string, *int) bool) {
		if r.system != "" && !yield(&r.system, &r.systemTokens) || !yield(&r.user, &r.userTokens) {
			return
		}
		for i := range r.examples {
			if !yield(&r.examples[i][0], &r.exampleTokens) || !yield(&r.examples[i][1], &r.exampleTokens) {
				return
			}
		}
	}
}

func (r *rendering) size() size {
	return size{r.systemTokens + r.exampleTokens + r.userTokens + r.framing, r.bytes}
}

// first are the messages before the conversation: the system's, and the examples in pairs.
func (r *rendering) first(room int) []job.Message {
	messages := make([]job.Message, 0, 1+2*len(r.examples)+room)
	if r.system != "" {
		messages = append(messages, job.Message{Role: roleSystem, Content: r.system})
	}
	for _, pair := range r.examples {
		messages = append(messages, job.Message{Role: roleUser, Content: pair[0]}, job.Message{Role: roleAssistant, Content: pair[1]})
	}
	return messages
}
