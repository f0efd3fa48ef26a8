package job

import (
	"encoding/json"
	"fmt"
)

// Prompt is the messages of a prompt in the form in which they travel and are sent to the model. Most stages
// only pass it on, so it is decoded when somebody asks for the messages, and not before. The zero value is
// no prompt.
type Prompt struct{ encoded json.RawMessage }

// NewPrompt makes a prompt of messages; of none: no prompt.
func NewPrompt(messages ...Message) Prompt {
	if len(messages) == 0 {
		return Prompt{}
	}
	encoded, err := json.Marshal(messages)
	if err != nil {
		panic(err) // strings can be encoded
	}
	return Prompt{encoded}
}

// PromptOf makes a prompt of what Encoded returned.
func PromptOf(encoded []byte) Prompt { return Prompt{encoded} }

// IsZero reports whether there is no prompt.
func (p Prompt) IsZero() bool { return len(p.encoded) == 0 }

// Encoded is the JSON array of the messages. The caller does not change it.
func (p Prompt) Encoded() []byte { return p.encoded }

// Messages decodes the prompt.
func (p Prompt) Messages() ([]Message, error) {
	if p.IsZero() {
		return nil, nil
	}
	var messages []Message
	if err := json.Unmarshal(p.encoded, &messages); err != nil {
		return nil, fmt.Errorf("decode the prompt: %w", err)
	}
	return messages, nil
}

// MarshalJSON implements json.Marshaler.
func (p Prompt) MarshalJSON() ([]byte, error) { return p.encoded.MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Prompt) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		p.encoded = nil
		return nil
	}
	return p.encoded.UnmarshalJSON(data)
}
