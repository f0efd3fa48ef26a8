package inference

import (
	"strings"

	"github.com/sashabaranov/go-openai"
)

// finishOf says a finish reason in the words of OpenAI, which are all that the validator knows. Mistral says
// model_length, and Gemini and what imitates Anthropic say their own words also where they imitate OpenAI: an answer
// that was cut or filtered would pass for a whole one.
func finishOf(reason string) string {
	switch strings.ToLower(reason) {
	case "stop":
		return string(openai.FinishReasonStop)
	case "length", "max_tokens", "model_length":
		return string(openai.FinishReasonLength)
	case "content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "refusal":
		return string(openai.FinishReasonContentFilter)
	}
	return reason
}

// isBrokenOff reports whether the provider ended the answer before the model did: so say Mistral and OpenRouter, vLLM
// and SGLang, DeepSeek, and Gemini.
func isBrokenOff(reason string) bool {
	switch strings.ToLower(reason) {
	case "error", "abort", "insufficient_system_resource", "other", "malformed_function_call":
		return true
	}
	return false
}
