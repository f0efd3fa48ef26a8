package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/task"
	contextbuilder "spillway/services/context-builder"
)

// taskRenderCmd shows a prompt.
type taskRenderCmd struct {
	schemasFlag
	Name    string `arg:"" help:"Name of the task."`
	Input   string `arg:"" help:"The input: JSON, @file, - for standard input, or the name of a case."`
	Model   string `env:"-" help:"Make the prompt for this model; default: the task's." placeholder:"NAME"`
	Session string `env:"-" xor:"remembered" help:"File with what is remembered of a session, as \"spillway session show --json\" prints it." placeholder:"FILE"`
	State   string `env:"-" xor:"remembered" help:"The state of a session of which nothing else is remembered; default: the case's, or none." placeholder:"JSON"`
}

// rendered is what a model would see, and what that costs.
type rendered struct {
	Task      string             `json:"task"`
	Version   string             `json:"version"`
	Model     string             `json:"model"`
	ID        string             `json:"id"`
	Tokens    int                `json:"tokens"`
	Budget    int                `json:"budget"`
	Window    int                `json:"window"`
	MaxOutput int                `json:"max_output_tokens"`
	Format    shownFormat        `json:"response_format"`
	Price     renderedPrice      `json:"price"`
	Sections  []job.ShownSection `json:"sections"`
	Messages  []job.Message      `json:"messages"`
}

// renderedPrice is in USD: of the prompt, and of the call with the longest answer that it may get.
type renderedPrice struct {
	Prompt float64 `json:"prompt_usd"`
	Most   float64 `json:"most_usd"`
	AsOf   string  `json:"as_of"`
}

// shownFormat is what is asked for beside the prompt. Why says what keeps the model from being bound to the schema.
type shownFormat struct {
	Kind   string `json:"kind"` // json_schema, json_object, none
	Strict bool   `json:"strict"`
	Why    string `json:"why,omitempty"`
}

func formatOf(t *task.Task, m *task.Model) shownFormat {
	kind, why := t.FormatFor(m)
	f := shownFormat{Kind: kind, Strict: kind == task.FormatJSONSchema && why == nil}
	if kind == "" {
		f.Kind = "none"
	}
	if why != nil {
		f.Why = why.Error()
	}
	return f
}

// String is for a person.
func (f shownFormat) String() string {
	switch {
	case f.Strict:
		return f.Kind + ", strict"
	case f.Kind == task.FormatJSONSchema:
		return f.Kind + ", not strict: " + f.Why
	}
	return f.Kind + ": " + f.Why
}

// Run makes the prompt as context-builder would, and calls nobody.
func (c *taskRenderCmd) Run(ctx context.Context, g *globals) error {
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	t, err := namedTask(set, c.Name)
	if err != nil {
		return err
	}
	m, err := modelOf(set, t, c.Model)
	if err != nil {
		return err
	}
	input, k, err := inputOf(ctx, t, c.Input)
	if err != nil {
		return err
	}
	if err := rejectionOf(t, input); err != nil {
		return err
	}
	s, err := c.remembered(t, k)
	if err != nil {
		return err
	}
	if s != nil && len(s.Pending) > 0 {
		g.note("%s of the session had no result yet when it was printed, and is not shown", count(len(s.Pending), "request"))
	}
	p, refused := contextbuilder.NewPreviewer().Prompt(t, m, input, s)
	if refused != nil {
		refused = exit(exitFailed, "no prompt can be made of it for model %s: %s", m.Name, whyNot(refused))
	}
	if p == nil {
		return refused
	}
	r := renderedOf(t, m, p)
	if g.cli.JSON {
		err = g.printJSON(r)
	} else {
		err = g.showRendered(r)
	}
	return cmp.Or(refused, quiet(err))
}

// modelOf is the named model, or the task's.
func modelOf(set *task.Set, t *task.Task, name string) (*task.Model, error) {
	if name == "" {
		name = t.Model
	}
	m, ok := set.Models[name]
	if !ok {
		return nil, exit(exitNotFound, "there is no model %q in models.yaml; there are %s", name, strings.Join(slices.Sorted(maps.Keys(set.Models)), ", "))
	}
	return m, nil
}

// remembered is what the request's session brings along; nil: it has none.
func (c *taskRenderCmd) remembered(t *task.Task, k *task.Case) (*session.Session, error) {
	isAsked := c.Session != "" || c.State != ""
	if t.Context.Session == task.SessionNone {
		if isAsked {
			return nil, exit(exitUsage, "the task %s has no sessions: context.session is none", t.Name)
		}
		return nil, nil
	}
	s := session.New("", t.Name, "render")
	switch {
	case c.Session != "":
		text, err := os.ReadFile(c.Session)
		if err != nil {
			return nil, fmt.Errorf("read the session: %w", err)
		}
		if err := json.Unmarshal(text, s); err != nil {
			return nil, fmt.Errorf("read the session of %s, which is to be as `spillway session show --json` prints it: %w", c.Session, err)
		}
	case c.State != "":
		s.State = json.RawMessage(c.State)
	case k != nil:
		s.State = k.State
	}
	return s, c.checkState(t, s.State)
}

// checkState refuses a state that a session can not have.
func (c *taskRenderCmd) checkState(t *task.Task, text json.RawMessage) error {
	if len(text) == 0 {
		return nil
	}
	state, err := schema.Decode(text)
	if err != nil {
		return exit(exitUsage, "the state is not JSON: %w", err)
	}
	members, isObject := state.(map[string]any)
	if !isObject {
		return exit(exitUsage, "the state must be an object, not %s", schema.Render(state))
	}
	if t.State == nil || len(members) == 0 { // a new session has none, whatever is required of one
		return nil
	}
	for _, violation := range t.State.Validate(state) {
		return exit(exitFailed, "the state does not satisfy state.schema.json: %s", violation)
	}
	return nil
}

func renderedOf(t *task.Task, m *task.Model, p *contextbuilder.Preview) rendered {
	for i := range p.Messages { // the sections show the same ones
		if p.Messages[i].Role == "system" {
			p.Messages[i].Role = m.SystemRole
		}
	}
	return rendered{
		Task: t.Name, Version: t.Version, Model: m.Name, ID: m.ID, Tokens: p.Tokens, Budget: p.Budget, Window: p.Window, MaxOutput: p.MaxOutput,
		Format: formatOf(t, m), Sections: p.Sections, Messages: p.Messages,
		Price: renderedPrice{Prompt: m.Prices.Cost(p.Tokens, 0), Most: m.Prices.Cost(p.Tokens, p.MaxOutput), AsOf: m.Prices.AsOf},
	}
}

// showRendered prints it for a person.
func (g *globals) showRendered(r rendered) error {
	t := newTable(g.stdout)
	t.row("task", r.Task+", version "+r.Version)
	t.row("model", r.Model+" ("+r.ID+")")
	t.row("tokens", fmt.Sprintf("%s of %s; an answer may have %s", thousands(r.Tokens), thousands(r.Budget), thousands(r.MaxOutput)))
	t.row("format", r.Format)
	t.row("price", r.Price)
	t.row("left out", leftOut(r.Sections))
	if err := t.flush(); err != nil {
		return err
	}
	if err := g.showSections(r.Sections); err != nil {
		return err
	}
	for _, section := range r.Sections {
		g.showMessages(section.Name+", ", section.Messages)
	}
	return nil
}

// String is for a person.
func (p renderedPrice) String() string {
	text := fmt.Sprintf("$%.6f for the prompt, at most $%.6f with the answer", p.Prompt, p.Most)
	if p.AsOf != "" {
		text += ", by the prices of " + p.AsOf
	}
	return text
}

// leftOut says what of the input and of the session did not fit.
func leftOut(sections []job.ShownSection) string {
	var parts []string
	for _, s := range sections {
		if s.Dropped > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d of %d", s.Name, s.Dropped, s.Dropped+s.Kept))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
