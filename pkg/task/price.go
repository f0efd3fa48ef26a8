package task

import "math"

// million is how many tokens a price is for.
const million = 1e6

// Cost is what so many tokens cost, in USD, when none of the input is cached.
func (p Prices) Cost(input, output int) float64 {
	return (float64(input)*p.Input + float64(output)*p.Output) / million
}

// rounding is what sums of prices may be off by, as a share: what is bought to the last token is within the budget.
const rounding = 1e-9

// Affords reports whether a run that has spent so much may call the model with a prompt of so many tokens, and
// returns the limit of the answer then: output, which is lowered to what the rest of the money buys, a token at
// least, where the task does not say how long an answer is. output 0: no limit is known.
func (t *Task) Affords(m *Model, spent float64, prompt, output int) (limit int, affords bool) {
	budget := t.Budget.USDPerRequest
	if budget == 0 {
		return output, true
	}
	rest := budget*(1+rounding) - spent - m.Prices.Cost(prompt, 0)
	if m.Prices.Cost(0, output) <= rest && (output > 0 || m.Prices.Output == 0) {
		return output, rest >= 0
	}
	buys := int(math.Floor(min(max(rest, 0)*million/m.Prices.Output, math.MaxInt32)))
	if t.Parameters.MaxOutputTokens > 0 || buys < 1 {
		return output, false
	}
	return buys, true
}
