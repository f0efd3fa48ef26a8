package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/services/inference"
)

// modelsCmd looks at models.yaml.
type modelsCmd struct {
	Check modelsCheckCmd `cmd:"" help:"Show the models as they are understood, and what is missing; with --live call each that a task uses."`
}

// modelsCheckCmd checks models.yaml.
type modelsCheckCmd struct {
	schemasFlag
	Models  []string      `arg:"" optional:"" name:"model" help:"Only these models; default: all, with --live those that some task uses."`
	Live    bool          `env:"-" help:"Make one small call to each model, which costs money, and say what came of it."`
	Timeout time.Duration `help:"How long one call may take." default:"30s"`
}

// Run shows what is understood, or calls.
func (c *modelsCheckCmd) Run(ctx context.Context, g *globals) error {
	if c.Timeout <= 0 {
		return exit(exitUsage, "--timeout is longer than zero")
	}
	folder, err := folderOf(c.Schemas)
	if err != nil {
		return err
	}
	set, faults := task.Inspect(folder, g.getenv)
	if err := c.faults(g, faults); err != nil {
		return quiet(err)
	}
	entries, err := c.entries(g, set)
	if err != nil {
		return err
	}
	if c.Live {
		return quiet(c.live(ctx, g, folder, set, entries))
	}
	for _, e := range entries {
		if err := e.show(g); err != nil {
			return quiet(err)
		}
	}
	if g.cli.JSON {
		return nil // the rows say it all
	}
	for _, e := range entries {
		for _, remark := range e.remarks {
			g.note("%s: %s", e.model.Name, remark)
		}
	}
	return nil
}

// faults prints those of models.yaml, and fails if there are some. Those of tasks are told elsewhere.
func (c *modelsCheckCmd) faults(g *globals, all task.Faults) error {
	own := slices.DeleteFunc(slices.Clone(all), func(f task.Fault) bool { return f.File != modelsFile })
	for _, f := range own {
		if g.cli.JSON {
			row := map[string]any{"file": f.File, "line": f.Line, "column": f.Column, "message": f.Message}
			if err := g.printJSON(row); err != nil {
				return err
			}
			continue
		}
		g.printf("%s\n", harmless(f.String()))
	}
	if len(own) > 0 {
		return exit(exitFailed, "%s in %s", count(len(own), "fault"), modelsFile)
	}
	if len(all) > 0 {
		g.note("%s in the tasks: `spillway task check` lists them", count(len(all), "fault"))
	}
	return nil
}

// modelEntry is a model with what belongs to it.
type modelEntry struct {
	model    *task.Model
	provider *task.Provider
	// usedBy are the tasks that may call it.
	usedBy []string
	// unusable says why it can not be called from here; nil: it can, as far as that is known without a call.
	unusable error
	remarks  []string
	// baseFrom and keyFrom say where base URL and key come from, hasKey whether there is one.
	baseFrom, keyFrom string
	hasKey            bool
}

// entries are the models that are asked for, by name.
func (c *modelsCheckCmd) entries(g *globals, set *task.Set) ([]*modelEntry, error) {
	usedBy := map[string][]string{}
	for _, name := range namesOf(set) {
		for model := range set.Tasks[name].Models {
			usedBy[model] = append(usedBy[model], name)
		}
	}
	names := c.Models
	for _, name := range names {
		if set.Models[name] == nil {
			return nil, exit(exitNotFound, "there is no model %q in models.yaml; there are %s", name, strings.Join(slices.Sorted(maps.Keys(set.Models)), ", "))
		}
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(set.Models))
	}
	var entries []*modelEntry
	for _, name := range names {
		m := set.Models[name]
		e := &modelEntry{model: m, provider: set.Providers[m.Provider], usedBy: usedBy[name]}
		e.look(g, time.Now())
		entries = append(entries, e)
	}
	return entries, nil
}

// modelsFile is where models stand in a folder of schemas.
const modelsFile = "models.yaml"

// priceAge is how old prices may be before they are to be looked up again.
const priceAge = 180 * 24 * time.Hour

// look finds out what can be known without a call.
func (e *modelEntry) look(g *globals, now time.Time) {
	p, m := e.provider, e.model
	e.baseFrom = modelsFile
	if p.BaseURLEnv != "" && g.getenv(p.BaseURLEnv) != "" {
		e.baseFrom = p.BaseURLEnv
	}
	switch {
	case p.Kind == task.KindSimulated:
		e.keyFrom = "none is needed"
		return
	case p.APIKey != "":
		e.keyFrom = "none is needed (api_key: none)"
	case p.APIKeyFile != "":
		e.keyFrom = "file " + p.APIKeyFile
	default:
		e.keyFrom, e.hasKey = "environment "+p.APIKeyEnv, g.getenv(p.APIKeyEnv) != ""
	}
	if e.unusable = inference.Unusable(&stage.Env{Getenv: g.getenv}, p); e.unusable != nil {
		e.remark("can not be called: %s", e.unusable)
	}
	e.hasKey = e.hasKey || p.APIKeyFile != "" && e.unusable == nil
	if m.AnswersAs == "" {
		e.remark("answers_as is not set: nobody is told when another model answers under %s", m.ID)
	}
	if m.Prices.Input == 0 && m.Prices.Output == 0 {
		return
	}
	if age, known := e.priceAge(now); !known {
		e.remark("prices.as_of is not set: nobody knows how old the prices are")
	} else if age > priceAge {
		e.remark("the prices are of %s, %s ago: look them up, and set prices.as_of", m.Prices.AsOf, span(age))
	}
}

func (e *modelEntry) remark(format string, args ...any) {
	e.remarks = append(e.remarks, fmt.Sprintf(format, args...))
}

func (e *modelEntry) priceAge(now time.Time) (time.Duration, bool) {
	at, err := time.Parse(time.DateOnly, e.model.Prices.AsOf)
	return now.Sub(at), err == nil
}

// host is where the model is called; a URL holds no secret, but its path is long.
func (e *modelEntry) host() string {
	u, err := url.Parse(e.provider.BaseURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Host
}

// show prints the entry.
func (e *modelEntry) show(g *globals) error {
	view := e.view(time.Now())
	if g.cli.JSON {
		return g.printJSON(view)
	}
	// The name is the heading, the remarks are told beside the output.
	text, err := json.Marshal(settings{{e.model.Name, view[1 : len(view)-1]}})
	if err != nil {
		return fmt.Errorf("encode the model: %w", err)
	}
	if text, err = yaml.JSONToYAML(text); err != nil {
		return fmt.Errorf("encode the model: %w", err)
	}
	g.printf("%s", harmless(string(text)))
	return nil
}

// view is the entry in the shape of models.yaml, with what the defaults and its provider make of it.
func (e *modelEntry) view(now time.Time) settings {
	m, p := e.model, e.provider
	prices := settings{{"as_of", m.Prices.AsOf}}
	if age, known := e.priceAge(now); known {
		prices = append(prices, setting{"age_days", int(age.Hours() / 24)})
	}
	prices = append(prices, setting{"input", m.Prices.Input}, setting{"cached_input", m.Prices.CachedInput}, setting{"output", m.Prices.Output})
	provider := settings{{"name", p.Name}, {"kind", p.Kind}}
	if p.Kind != task.KindSimulated {
		provider = append(provider, setting{"host", e.host()}, setting{"base_url_from", e.baseFrom})
	}
	provider = append(provider, setting{"key", settings{{"from", e.keyFrom}, {"there", e.hasKey}}}, setting{"limits", limitsView(p.Limits)})
	return settings{
		{"model", m.Name},
		{"provider", provider},
		{"id", m.ID},
		{"answers_as", m.AnswersAs},
		{"used_by", orEmpty(e.usedBy)},
		{"context_window", m.ContextWindow},
		{"max_output_tokens", m.MaxOutputTokens},
		{"encoding", m.Encoding},
		{"token_safety", m.TokenSafety},
		{"structured_output", m.StructuredOutput},
		{"system_role", m.SystemRole},
		{"max_tokens_field", m.MaxTokensField},
		{"stream", m.Stream},
		{"stream_usage", m.StreamUsage},
		{"unsupported", orEmpty(m.Unsupported)},
		{"prices", prices},
		{"limits", limitsView(m.Limits)},
		{"timeouts", timeoutsOf(&task.Task{}, m)},
		{"breaker", settings{
			{"consecutive_failures", m.Breaker.ConsecutiveFailures},
			{"failure_share", m.Breaker.FailureShare},
			{"min_calls", m.Breaker.MinCalls},
			{"window", short(m.Breaker.Window)},
			{"half_open_after", short(m.Breaker.HalfOpenAfter)},
			{"probes", m.Breaker.Probes},
		}},
		{"retry_share", m.RetryShare},
		{"remarks", orEmpty(e.remarks)},
	}
}

func limitsView(l task.Limits) settings {
	return settings{
		{"concurrency", l.Concurrency}, {"requests_per_minute", l.RequestsPerMinute}, {"tokens_per_minute", l.TokensPerMinute}, {"batch_share", l.BatchShare},
	}
}
