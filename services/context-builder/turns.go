package contextbuilder

import (
	"fmt"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
)

// turn is an exchange of the conversation so far, which is shown whole or not at all.
type turn struct {
	messages []job.Message
	// counts are the tokens of the contents, by encoding, where they are kept; nil: nowhere.
	counts *map[string]int
}

// size measures a turn with its framing. It reports whether its count is news to where counts are kept.
func (r *ruler) turn(t *turn) (s size, isNews bool, err error) {
	known := false
	if t.counts != nil {
		s.tokens, known = (*t.counts)[r.encoding]
	}
	for i := range t.messages {
		s.bytes += len(t.messages[i].Content)
		if known {
			continue
		}
		content, err := r.content(t.messages[i].Content)
		if err != nil {
			return s, false, err
		}
		s.tokens += content.tokens
	}
	if t.counts != nil && !known {
		if *t.counts == nil {
			*t.counts = map[string]int{}
		}
		(*t.counts)[r.encoding] = s.tokens
		isNews = true
	}
	s.tokens += r.framed(t.messages)
	return s, isNews, nil
}

// framed is what messages take beside their contents.
func (r *ruler) framed(messages []job.Message) (n int) {
	for i := range messages {
		n += r.framing.of(messages[i].Role)
	}
	return n
}

// turnsFrom takes the turns out of an input whose sender keeps them himself. Each begins with what a user said. Only the
// newest recent ones are kept; aged is how many are not.
func turnsFrom(input any, pointer string, recent int) (rest any, turns []turn, aged int, err error) {
	items, err := listAt(input, pointer)
	if err != nil || items == nil {
		return input, nil, 0, err
	}
	for i, item := range items {
		m, err := messageOf(item, schema.AppendPointer(inputPointer+pointer, fmt.Sprint(i)))
		if err != nil {
			return input, nil, 0, err
		}
		if len(turns) == 0 || m.Role == roleUser {
			turns = append(turns, turn{})
		}
		last := &turns[len(turns)-1]
		last.messages = append(last.messages, m)
	}
	if aged = len(turns) - recent; aged > 0 {
		turns = turns[aged:]
	}
	rest, err = schema.With(input, pointer, []any{})
	return rest, turns, max(aged, 0), err
}

// messageOf reads a message of a user or an assistant. Other members are the sender's own.
func messageOf(item any, at string) (job.Message, error) {
	members, _ := item.(map[string]any)
	if members == nil {
		return job.Message{}, misshaped(at, "must be a message, {role, content}")
	}
	role, _ := members["role"].(string)
	if role != roleUser && role != roleAssistant {
		return job.Message{}, misshaped(at+"/role", "must be user or assistant: what others say is the task's to say")
	}
	content, isText := members["content"].(string)
	if !isText {
		return job.Message{}, misshaped(at+"/content", "must be a text")
	}
	return job.Message{Role: role, Content: content}, nil
}

// listAt returns the array that a pointer into the input leads to; nil: there is none, or null.
func listAt(input any, pointer string) ([]any, error) {
	part, found := schema.Lookup(input, pointer)
	if !found || part == nil {
		return nil, nil
	}
	items, isList := part.([]any)
	if !isList {
		return nil, misshaped(inputPointer+pointer, "must be an array")
	}
	return items, nil
}

func misshaped(pointer, message string) error {
	return fate.Rejection(fate.InputInvalid, pointer+": "+message, fate.Reason{Pointer: pointer, Message: message})
}
