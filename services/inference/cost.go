package inference

import (
	"fmt"
	"strings"

	"spillway/pkg/fate"
	"spillway/pkg/task"
)

// bytesPerToken is the usual guess for text whose tokens nobody counted.
const bytesPerToken = 4

// usage is what a provider says that a call took.
type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	PromptDetails    struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// tokens is what a call took, as the provider said or as estimated.
type tokens struct {
	input, cached, output int
	estimated             bool
}

// spent returns what the call took. Providers bill also an answer that was cut, or that nobody waited
// for: without a usage report it is estimated as soon as the provider took the request up, that is, sent
// some of a stream. A refused, an unreachable, an empty call costs nothing that one could know of.
func (c *call) spent() tokens {
	if u := c.usage; u.PromptTokens > 0 || u.CompletionTokens > 0 {
		return tokens{input: u.PromptTokens, cached: u.PromptDetails.CachedTokens, output: u.CompletionTokens}
	}
	if !c.choices {
		return tokens{}
	}
	return tokens{input: c.inputTokens(), output: estimate(c.heard), estimated: true}
}

// afford refuses a call that would cost more than the job may, or lowers the limit of its answer to what the rest of
// the money buys. What earlier calls cost counts, failed ones included.
func (c *call) afford() error {
	j := c.job
	limit, affords := c.task.Affords(c.model, j.CostUSD, c.inputTokens(), c.maxTokens())
	if !affords {
		return fate.DivertTo(fate.OverBudget, fmt.Sprintf("a call of model %s would cost more than what is left of $%g a request: $%.6f is spent",
			c.model.Name, c.task.Budget.USDPerRequest, j.CostUSD), nil)
	}
	if limit < c.maxTokens() || c.maxTokens() == 0 {
		j.MaxOutputTokens = limit
	}
	return nil
}

// inputTokens is how many tokens the prompt and the correction have, as counted or as estimated.
func (c *call) inputTokens() int {
	input := c.job.PromptTokens
	if input == 0 {
		input = estimate(len(c.job.Prompt.Encoded()))
	}
	for i := range c.job.Correction {
		input += estimate(len(c.job.Correction[i].Content))
	}
	return input
}

// estimate returns how many tokens a text of so many bytes has, about; 1 at least unless it is empty.
func estimate(size int) int { return (size + bytesPerToken - 1) / bytesPerToken }

// cost returns USD. Cached input is charged as input where no price is set for it.
func (t tokens) cost(p task.Prices) float64 {
	const million = 1e6
	cachedPrice := p.CachedInput
	if cachedPrice == 0 {
		cachedPrice = p.Input
	}
	cached := min(t.cached, t.input)
	return (float64(t.input-cached)*p.Input + float64(cached)*cachedPrice + float64(t.output)*p.Output) / million
}

// remarks returns the detail of the call's event: why it failed, and what is unusual in it.
func (c *call) remarks(detail string, spent tokens) string {
	isProbe := c.isProbe()
	isStranger := c.isStranger()
	if detail == "" && !spent.estimated && c.malformed == 0 && !isProbe && !isStranger {
		return ""
	}
	parts := make([]string, 0, 5)
	if isProbe {
		parts = append(parts, "a probe, the breaker being half open")
	}
	if detail != "" {
		parts = append(parts, detail)
	}
	if isStranger {
		parts = append(parts, c.introduction())
	}
	if c.malformed > 0 {
		parts = append(parts, fmt.Sprintf("%d malformed chunks were skipped", c.malformed))
	}
	if spent.estimated {
		parts = append(parts, "tokens are estimated: the provider sent no usage")
	}
	return strings.Join(parts, "; ")
}
