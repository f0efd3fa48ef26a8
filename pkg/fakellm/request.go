package fakellm

import (
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"
)

// chatRequest is what the simulator reads of a chat completion request.
type chatRequest struct {
	Model               string    `json:"model"`
	Messages            []message `json:"messages"`
	Stream              bool      `json:"stream"`
	MaxTokens           int       `json:"max_tokens"`
	MaxCompletionTokens int       `json:"max_completion_tokens"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	ResponseFormat struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema json.RawMessage `json:"schema"`
			Strict bool            `json:"strict"`
		} `json:"json_schema"`
	} `json:"response_format"`
}

// message is one message. Content is a string, or a list of parts of which the texts are read.
type message struct {
	Role    string `json:"role"`
	Content any    `json:"content"`
}

func (m *message) text() string {
	switch content := m.Content.(type) {
	case string:
		return content
	case []any:
		var all strings.Builder
		for _, part := range content {
			if p, ok := part.(map[string]any); ok {
				text, _ := p["text"].(string)
				all.WriteString(text)
			}
		}
		return all.String()
	default:
		return ""
	}
}

// maxTokens returns the call's bound on the answer; 0: none.
func (r *chatRequest) maxTokens() int { return max(r.MaxTokens, r.MaxCompletionTokens) }

func (r *chatRequest) promptTokens() int {
	characters := 0
	for i := range r.Messages {
		characters += utf8.RuneCountInString(r.Messages[i].text())
	}
	return max(1, characters/charactersPerToken)
}

// charactersPerToken is the whole of the simulator's tokenizer.
const charactersPerToken = 4

func countTokens(text string) int {
	return max(1, utf8.RuneCountInString(text)/charactersPerToken)
}

// decodeChat reads a request, and says what OpenAI would refuse it for.
func decodeChat(body []byte, deployment string) (chatRequest, *apiError) {
	var r chatRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return r, invalidRequest("We could not parse the JSON body of your request. ("+err.Error()+")", "", "")
	}
	if deployment != "" {
		r.Model = deployment
	}
	if r.Model == "" {
		return r, invalidRequest("you must provide a model parameter", "model", "")
	}
	if len(r.Messages) == 0 {
		return r, invalidRequest("Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.", "messages", "empty_array")
	}
	if r.ResponseFormat.Type == "json_schema" && len(r.ResponseFormat.JSONSchema.Schema) == 0 {
		return r, invalidRequest("Missing required parameter: 'response_format.json_schema.schema'.", "response_format.json_schema.schema", "missing_required_parameter")
	}
	return r, nil
}

// apiKey returns the key of a call as OpenAI (Authorization) and Azure (api-key) have it.
func apiKey(h http.Header) string {
	if bearer, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer "); ok {
		return bearer
	}
	return h.Get("Api-Key")
}
