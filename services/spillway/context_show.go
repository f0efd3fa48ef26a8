package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// contextCmd tells what models were shown.
type contextCmd struct {
	Show contextShowCmd `cmd:"" help:"Show what the model saw of a request, section by section: tokens, what was left out, its price."`
}

// contextShowCmd shows the newest prompt of an id.
type contextShowCmd struct {
	natsFlags
	schemasFlag
	ID string `arg:"" name:"id" help:"Id of the request."`
}

// Where what is known of a prompt comes from.
const (
	fromContext = "context"     // kept for an hour, of tasks with a memory
	fromLetter  = "dead_letter" // the job, with its prompt
	fromResult  = "result"      // its history: figures, no text
)

// seen is what is known of a prompt.
type seen struct {
	From  string `json:"from"`
	ID    string `json:"id"`
	Task  string `json:"task"`
	Run   int    `json:"run"`
	Model string `json:"model,omitempty"`
	// Tokens is the count of the prompt, Budget the most that it might have.
	Tokens int `json:"tokens,omitempty"`
	Budget int `json:"budget,omitempty"`
	// Sections carry their messages where they are known; Messages are those of a prompt that is not divided.
	Sections []job.ShownSection `json:"sections,omitempty"`
	Messages []job.Message      `json:"messages,omitempty"`
	Price    *job.ShownPrice    `json:"price,omitempty"`
	Calls    []seenCall         `json:"calls,omitempty"`
}

// seenCall is what was counted of a prompt before a call, and what the provider reported after it.
type seenCall struct {
	N        int     `json:"n"`
	Model    string  `json:"model"`
	Outcome  string  `json:"outcome"`
	Counted  int     `json:"counted_tokens,omitempty"`
	Reported int     `json:"input_tokens,omitempty"`
	CostUSD  float64 `json:"cost_usd,omitempty"`
}

// Run looks in the kept prompts, then in the dead letters, then in the results.
func (c *contextShowCmd) Run(ctx context.Context, g *globals) error {
	if err := checkID(c.ID); err != nil {
		return err
	}
	conn, err := c.open(ctx, g, "context", broker.ContextsStream, broker.DeadStream, broker.ResultsStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := c.find(ctx, conn)
	if err != nil {
		return err
	}
	if s.From == fromLetter { // which is kept whatever the task says of looking at it
		set, err := loadTasks(c.Schemas, g.getenv)
		if err != nil {
			return err
		}
		if hides, why := hidesTexts(set, s.Task); hides {
			g.note("%s", why)
			s.Messages = nil
		}
	}
	if g.cli.JSON {
		return quiet(g.printJSON(s))
	}
	return quiet(g.showSeen(s))
}

// find puts together what is known. The result is read in any case: only it has what providers reported.
func (c *contextShowCmd) find(ctx context.Context, conn *broker.Conn) (*seen, error) {
	var kept job.Context
	isKept, err := c.read(ctx, conn, broker.ContextsStream, broker.AnyContext(c.ID), &kept)
	if err != nil {
		return nil, err
	}
	var letter job.Letter
	isLetter, err := c.read(ctx, conn, broker.DeadStream, broker.AnyDead(c.ID), &letter)
	if err != nil {
		return nil, err
	}
	isLetter = isLetter && letter.Job != nil && !letter.Job.Prompt.IsZero()
	var result job.Result
	isResult, err := c.read(ctx, conn, broker.ResultsStream, broker.AnyTaskResult(c.ID), &result)
	if err != nil {
		return nil, err
	}
	var s *seen
	switch {
	case isKept && !(isLetter && letter.Job.Run > kept.Run):
		s = &seen{
			From: fromContext, ID: c.ID, Task: kept.Task, Run: kept.Run, Model: kept.Model,
			Tokens: kept.Tokens, Budget: kept.Budget, Sections: kept.Sections, Price: &kept.Price,
		}
	case isLetter:
		j := letter.Job
		s = &seen{From: fromLetter, ID: c.ID, Task: j.Task, Run: max(j.Run, 1), Model: j.Model, Tokens: j.PromptTokens, Sections: sectionsOf(j.History, j.Run)}
		if s.Messages, err = j.Prompt.Messages(); err != nil {
			return nil, fmt.Errorf("read the prompt of the dead letter: %w", err)
		}
		s.Calls = callsOf(j.History, s.Run)
	case isResult:
		s = &seen{From: fromResult, ID: c.ID, Task: result.Task, Run: max(result.Run, 1), Model: result.Model, Sections: sectionsOf(result.History, result.Run)}
		for _, one := range s.Sections {
			s.Tokens += one.Tokens
		}
	default:
		r := resultCmd{natsFlags: c.natsFlags, ID: c.ID}
		return nil, r.missing(ctx, conn)
	}
	if isResult && max(result.Run, 1) == s.Run {
		s.Calls = callsOf(result.History, s.Run)
	}
	if s.From == fromResult && len(s.Sections) == 0 && len(s.Calls) == 0 {
		return nil, exit(exitNotFound, "no model saw %s, or its history does not say so: `spillway result %s --history`", c.ID, c.ID)
	}
	return s, nil
}

// read decodes the newest message on a subject; false: there is none.
func (c *contextShowCmd) read(ctx context.Context, conn *broker.Conn, stream, subject string, into any) (bool, error) {
	stored, err := last(ctx, conn, stream, subject)
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(stored.Data, into); err != nil {
		return false, fmt.Errorf("decode what %s holds of %s: %w", stream, c.ID, err)
	}
	return true, nil
}

// ofRun are a run's events of a kind.
func ofRun(history []job.Event, run int, kind string) []job.Event {
	return slices.DeleteFunc(slices.Clone(history), func(e job.Event) bool { return e.Kind != kind || max(e.Run, 1) != max(run, 1) })
}

// sectionsOf are those of the newest prompt of a run, as its history has them.
func sectionsOf(history []job.Event, run int) []job.ShownSection {
	prompts := ofRun(history, run, job.KindContext)
	if len(prompts) == 0 {
		return nil
	}
	var sections []job.ShownSection
	for _, s := range prompts[len(prompts)-1].Sections {
		sections = append(sections, job.ShownSection{Section: s})
	}
	return sections
}

func callsOf(history []job.Event, run int) []seenCall {
	var calls []seenCall
	for _, e := range ofRun(history, run, job.KindCall) {
		calls = append(calls, seenCall{N: e.N, Model: e.Model, Outcome: e.Outcome, Counted: e.CountedTokens, Reported: e.InputTokens, CostUSD: e.CostUSD})
	}
	return calls
}

// showSeen prints it for a person.
func (g *globals) showSeen(s *seen) error {
	t := newTable(g.stdout)
	t.row("id", fmt.Sprintf("%s (task %s, run %d)", s.ID, s.Task, s.Run))
	t.row("model", dash(s.Model))
	if s.Tokens > 0 {
		budget := ""
		if s.Budget > 0 {
			budget = " of " + thousands(s.Budget)
		}
		t.row("tokens", thousands(s.Tokens)+budget)
	}
	if s.Price != nil {
		t.row("price", priceOf(s.Price))
	}
	for _, call := range s.Calls {
		t.row("call", fmt.Sprintf("#%d %s: %s; counted %s, the provider says %s, $%.5f", call.N, call.Model, dash(call.Outcome), known(call.Counted), known(call.Reported), call.CostUSD))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := g.showSections(s.Sections); err != nil {
		return err
	}
	for _, section := range s.Sections {
		g.showMessages(section.Name+", ", section.Messages)
	}
	g.showMessages("", s.Messages)
	if s.From == fromResult {
		g.printf("\nthis is what the result's history says; the words are not kept: they are for an hour, those of tasks with a session, turns_from or " +
			"documents_from, where redaction.log_content is not never\n")
	}
	return nil
}

// priceOf is what the prompt costs, and when that was so.
func priceOf(p *job.ShownPrice) string {
	if p.AsOf == "" {
		return fmt.Sprintf("$%.5f for the prompt; models.yaml does not say of which day its prices are", p.USD)
	}
	return fmt.Sprintf("$%.5f for the prompt, by the prices of %s", p.USD, p.AsOf)
}

func (g *globals) showSections(sections []job.ShownSection) error {
	if len(sections) == 0 {
		return nil
	}
	g.printf("\n")
	t := newTable(g.stdout, "section", "tokens", "shown", "left out")
	for _, s := range sections {
		t.row(s.Name, thousands(s.Tokens), known(s.Kept), known(s.Dropped))
	}
	return t.flush()
}

func (g *globals) showMessages(of string, messages []job.Message) {
	for _, m := range messages {
		g.printf("\n%s\n%s\n", oneLine(of+m.Role), indent(harmless(m.Content)))
	}
}

// known is a number, or a dash for one that is not.
func known(n int) string {
	if n == 0 {
		return "-"
	}
	return thousands(n)
}
