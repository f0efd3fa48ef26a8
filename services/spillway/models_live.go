package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"

	"golang.org/x/sync/errgroup"

	"spillway/pkg/fate"
	"spillway/pkg/task"
	"spillway/services/validator"
)

// liveProviders is how many providers are called at once; the models of one are called one after another.
const liveProviders = 8

// liveAnswer is how many tokens an answer of the check may have: it needs twenty, models that think first more.
const liveAnswer = 1000

// livePassage is long enough to say how a model's tokens compare with those that are counted here.
const livePassage = `The old harbour wakes before the town does. At five the first boats come in, and by six the square smells of
coffee, diesel and fish. "Forty-two crates today," says Ms. Okonkwo, who has kept the ledger for 31 years; she writes 42, underlines
it twice, and closes the book. Der Regen von gestern steht noch in den Gassen, und niemand hat es eilig. A boy counts gulls: one,
two, three, seven. Someone has chalked x = (a + b) / 2 on the wall of the ice house, and beside it {"open": true, "since": 1987}.
At half past seven the ferry leaves for the islands, late as ever, with nine passengers, two bicycles and a crate of lemons.`

// liveTask is the task of the check. Where structured_output is json_schema the prompt says nothing of JSON, so that an
// answer that satisfies the schema shows that the schema was heard.
func liveTask(m *task.Model) (manifest, prompt, schema string) {
	answer := min(liveAnswer, m.MaxOutputTokens, max(m.ContextWindow/2, 1))
	manifest = fmt.Sprintf("model: %s\nladder: []\nno_ladder: it is a check\nparameters: {max_output_tokens: %d}\nretry: {attempts: 1}\n", m.Name, answer)
	ask := "Which languages is this text written in, and how many sentences has it?"
	switch m.StructuredOutput {
	case "json_schema":
		schema = `{"type":"object","properties":{"languages":{"type":"array","items":{"type":"string"}},"sentences":{"type":"integer"}},"required":["languages","sentences"],"additionalProperties":false}`
	case "json_object":
		ask += " Answer with a JSON object that has the members languages and sentences, and with nothing else."
		schema = `{"type":"object"}`
	default:
		ask += " Answer in one short sentence."
		manifest += "output: {format: text}\n"
	}
	return manifest, `{{define "user"}}{{.Input}}{{end}}{{define "system"}}` + ask + `{{end}}`, schema
}

// liveCheck is what one call to a model showed.
type liveCheck struct {
	Model string `json:"model"`
	ID    string `json:"id"`
	// AnsweredBy is what the model says it is, AnswersAs what models.yaml expects; "": anything.
	AnsweredBy string `json:"answered_by"`
	AnswersAs  string `json:"answers_as"`
	// OK: it answered, as the model that was expected, in the form that was asked for. Faults say why not, Remarks what
	// else is not as models.yaml has it.
	OK      bool     `json:"ok"`
	Faults  []string `json:"faults"`
	Remarks []string `json:"remarks"`

	FirstTokenMS float64 `json:"first_token_ms"`
	TookMS       float64 `json:"took_ms"`
	// Counted is the prompt as counted here, token_safety included; Reported as the provider counts; Ratio is the
	// token_safety that would make them equal. 0: the provider reported nothing.
	Counted    int     `json:"counted_tokens"`
	Reported   int     `json:"reported_tokens"`
	Ratio      float64 `json:"token_safety_seen"`
	Streamed   bool    `json:"streamed"`
	Structured string  `json:"structured_output"`
	CostUSD    float64 `json:"cost_usd"`
}

func (l *liveCheck) fault(format string, args ...any) {
	l.Faults = append(l.Faults, fmt.Sprintf(format, args...))
}

func (l *liveCheck) remark(format string, args ...any) {
	l.Remarks = append(l.Remarks, fmt.Sprintf(format, args...))
}

// live calls the models that some task uses, or those that were named.
func (c *modelsCheckCmd) live(ctx context.Context, g *globals, folder fs.FS, set *task.Set, entries []*modelEntry) error {
	if len(c.Models) == 0 {
		entries = slices.DeleteFunc(entries, func(e *modelEntry) bool { return len(e.usedBy) == 0 })
	}
	entries = slices.DeleteFunc(entries, func(e *modelEntry) bool {
		if e.provider.Kind == task.KindSimulated {
			g.note("%s is simulated: there is nothing to call", e.model.Name)
		}
		return e.provider.Kind == task.KindSimulated
	})
	checks, err := c.prepare(g, folder, set, entries)
	if err != nil {
		return err
	}
	c.announce(g, checks)
	bar := g.newGauge(len(checks), "calling")
	done := make(chan *liveCheck)
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(liveProviders)
	go func() {
		for _, list := range checks {
			group.Go(func() error {
				for _, one := range list {
					result := one.call(working, c)
					if working.Err() != nil {
						return context.Cause(working)
					}
					done <- result
				}
				return nil
			})
		}
		_ = group.Wait() // only the end of ctx is an error
		close(done)
	}()
	var results []*liveCheck
	for result := range done {
		bar.add()
		results = append(results, result)
	}
	bar.done()
	slices.SortFunc(results, func(a, b *liveCheck) int { return cmp.Compare(a.Model, b.Model) })
	if err := showLive(g, results); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return exit(exitInterrupted, "stopped; what was under way may have to be paid for")
	}
	if bad := slices.DeleteFunc(results, func(l *liveCheck) bool { return l.OK }); len(bad) > 0 {
		return exit(exitFailed, "%s not as models.yaml has it", count(len(bad), "model"))
	}
	return nil
}

// modelCheck is a call that is to be made.
type modelCheck struct {
	entry *modelEntry
	side  *contender // nil: it can not be called
}

// prepare makes the tasks of the check, by provider.
func (c *modelsCheckCmd) prepare(g *globals, folder fs.FS, set *task.Set, entries []*modelEntry) (map[string][]*modelCheck, error) {
	text, err := fs.ReadFile(folder, modelsFile)
	if err != nil {
		return nil, fmt.Errorf("read the models: %w", err)
	}
	files := fstest.MapFS{modelsFile: {Data: text}}
	for i, e := range entries {
		manifest, prompt, schema := liveTask(e.model)
		dir := fmt.Sprintf("tasks/check-%d/", i)
		files[dir+"task.yaml"], files[dir+"prompt.tmpl"] = &fstest.MapFile{Data: []byte(manifest)}, &fstest.MapFile{Data: []byte(prompt)}
		if schema != "" {
			files[dir+"output.schema.json"] = &fstest.MapFile{Data: []byte(schema)}
		}
	}
	checks := map[string][]*modelCheck{}
	if len(entries) == 0 {
		return checks, nil
	}
	own, err := task.Load(files, g.getenv)
	if err != nil {
		return nil, fmt.Errorf("make the tasks of the check: %w", err)
	}
	for i, e := range entries {
		check := &modelCheck{entry: e}
		if e.unusable == nil {
			t := own.Tasks[fmt.Sprintf("check-%d", i)]
			t.Deadline.Default = c.Timeout + t.Deadline.Reserve
			if check.side, err = newContender(g, set, t, e.model, t.Version); err != nil {
				return nil, err
			}
		}
		checks[e.provider.Name] = append(checks[e.provider.Name], check)
	}
	return checks, nil
}

// liveInput is what the model reads: of ASCII, Go's quotes are those of JSON.
func liveInput() tryInput { return tryInput{input: []byte(strconv.Quote(livePassage))} }

// announce says what the check costs at most.
func (c *modelsCheckCmd) announce(g *globals, checks map[string][]*modelCheck) {
	var names []string
	most := 0.0
	for _, list := range checks {
		for _, one := range list {
			if one.side == nil {
				continue
			}
			names = append(names, one.entry.model.Name)
			if p, err := one.side.prompt(liveInput()); err == nil {
				most += one.side.most(p)
			}
		}
	}
	if slices.Sort(names); len(names) > 0 {
		g.note("one call each to %s: at most $%.4f", strings.Join(names, ", "), most)
	}
}

// call makes the call and compares what it shows with models.yaml.
func (m *modelCheck) call(ctx context.Context, c *modelsCheckCmd) *liveCheck {
	model := m.entry.model
	l := &liveCheck{Model: model.Name, ID: model.ID, AnswersAs: model.AnswersAs, Faults: []string{}, Remarks: []string{}}
	if m.side == nil {
		l.fault("can not be called: %s", m.entry.unusable)
		return l
	}
	defer m.side.close()
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, errors.New("--timeout is over"))
	defer cancel()
	a, err := m.side.try(ctx, liveInput(), &purse{left: math.Inf(1)})
	l.AnsweredBy, l.FirstTokenMS, l.TookMS, l.CostUSD = a.AnsweredBy, a.FirstTokenMS, a.TookMS, a.CostUSD
	l.Counted, l.Streamed = a.CountedTokens, a.streamed
	switch {
	case err != nil:
		l.fault("no answer: %s", context.Cause(ctx))
		return l
	case a.Error != nil:
		l.fault("no answer: %s: %s%s", a.Error.Code, a.Error.Message, remedyAfter(a.Error.Code))
		return l
	}
	if a.Stranger {
		l.fault("%s answered, models.yaml names %s (answers_as): try the tasks on it (`spillway task try`), then correct models.yaml", a.AnsweredBy, model.AnswersAs)
	}
	l.hold(model, a)
	l.OK = len(l.Faults) == 0
	return l
}

func remedyAfter(code fate.Code) string {
	if remedy := remedyOf(code); remedy != "" {
		return " (" + remedy + ")"
	}
	return ""
}

// hold compares the answer with what models.yaml says of the model.
func (l *liveCheck) hold(m *task.Model, a *attempt) {
	switch {
	case m.Stream && !a.streamed:
		l.remark("the answer came in one piece, though stream is true: set stream: false, for a first token is waited for in vain")
	case a.AnsweredBy == "":
		l.remark("the response names no model: answers_as can not be checked")
	}
	if !a.reported {
		l.remark("no usage was reported: tokens and costs are estimated; stream_usage: false, if the provider refuses it")
	} else if l.Reported = a.InputTokens; a.CountedTokens > 0 {
		l.Ratio = math.Round(100*m.TokenSafety*float64(a.InputTokens)/float64(a.CountedTokens)) / 100
		if a.InputTokens > a.CountedTokens+a.CountedTokens/20 {
			l.remark("the provider counts more tokens than are counted here: token_safety: %.2f would be enough for this prompt", math.Ceil(20*l.Ratio)/20)
		}
	}
	l.Structured = m.StructuredOutput
	switch {
	case a.Verdict == validator.Truncated:
		l.Structured += ", not seen"
		l.remark("the answer was cut at its limit of tokens: whether structured_output works is not seen")
	case m.StructuredOutput == "none":
	case !a.isAccepted():
		l.Structured += ", not heard"
		l.fault("structured_output is %s, and the answer is %s: set json_object or none", m.StructuredOutput, a.Verdict)
	case a.Verdict != validator.Valid:
		l.remark("structured_output is %s, and the answer had to be %s", m.StructuredOutput, a.Verdict)
	}
}

// showLive prints the results.
func showLive(g *globals, results []*liveCheck) error {
	if g.cli.JSON {
		for _, l := range results {
			if err := g.printJSON(l); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(g.stdout, "model", "says it is", "ok", "first token", "took", "tokens counted", "reported", "ratio", "structured output", "cost")
	for _, l := range results {
		ok := map[bool]string{true: "yes", false: "NO"}[l.OK]
		t.row(l.Model, dash(l.AnsweredBy), ok, took(l.FirstTokenMS), took(l.TookMS), l.Counted, orDash(l.Reported), orDash(l.Ratio), dash(l.Structured), fmt.Sprintf("$%.5f", l.CostUSD))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, l := range results {
		for _, text := range slices.Concat(l.Faults, l.Remarks) {
			g.printf("%s: %s\n", l.Model, oneLine(text))
		}
	}
	return nil
}

func orDash[N int | float64](n N) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
