package contextbuilder

import (
	"fmt"

	"spillway/pkg/fate"
)

// afford returns the limit of the answer to a prompt of so many tokens: what the task says, or what the window and the
// rest of the request's money leave.
func (b *build) afford(prompt int) (limit int, err error) {
	wanted := b.budget.output(prompt)
	limit, affords := b.task.Affords(b.model, b.job.CostUSD, prompt, wanted)
	if !affords {
		return 0, fate.DivertTo(fate.OverBudget, fmt.Sprintf("%d tokens for model %s, and an answer, would cost more than what is left of $%g a request: $%.6f is spent",
			prompt, b.model.Name, b.task.Budget.USDPerRequest, b.job.CostUSD), nil)
	}
	return limit, nil
}
