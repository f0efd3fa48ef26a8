package task

import (
	"io/fs"
	"math"
	"regexp"
	"slices"
	"time"
)

// models reads models.yaml: defaults, providers, models.
func (l *loader) models() {
	text, err := fs.ReadFile(l.fsys, modelsFile)
	if err != nil {
		l.file(modelsFile, "can not be read: %v", err)
		return
	}
	l.readModels(text)
}

func (l *loader) readModels(text []byte) {
	root, fault := parseYAML(modelsFile, text)
	if fault != nil {
		l.add(*fault)
		return
	}
	l.modelsRead = true
	m := l.mapping(modelsFile, root)
	defaults := l.modelDefaults(m)
	providers, _ := m.sub("providers")
	for _, entry := range providers.node.members {
		if l.named("provider", entry) {
			l.provider(entry)
		}
	}
	models, ok := m.sub("models")
	for _, entry := range models.node.members {
		if l.named("model", entry) {
			l.model(entry, defaults)
		}
	}
	if !ok || len(models.node.members) == 0 {
		l.at(modelsFile, node{line: 1}, "there is no model")
	}
	m.done()
}

func (l *loader) named(what string, entry member) bool {
	message := BadName(entry.key)
	if message != "" {
		l.at(modelsFile, node{line: entry.line, column: entry.column}, "the name of a %s %s", what, message)
	}
	return message == ""
}

// modelDefaults are what holds for each model that does not say otherwise.
type modelDefaults struct {
	timeouts   Timeouts
	breaker    Breaker
	retryShare float64
	// entry is the section as it is written, for versions.
	entry map[string]any
}

func (l *loader) modelDefaults(m *mapping) modelDefaults {
	d := modelDefaults{
		timeouts: Timeouts{
			Connect: 3 * time.Second, FirstToken: 10 * time.Second, Silence: 10 * time.Second, Call: 30 * time.Second,
		},
		breaker: Breaker{
			ConsecutiveFailures: 5, FailureShare: 0.5, MinCalls: 5, Window: time.Minute, HalfOpenAfter: time.Minute, Probes: 1,
		},
		retryShare: 0.2,
	}
	section, _ := m.sub("defaults")
	section.modelTimeouts(&d.timeouts)
	section.breaker(&d.breaker)
	section.number("retry_share", &d.retryShare, 0, 1)
	section.done()
	d.entry, _ = section.node.json().(map[string]any)
	return d
}

func (m *mapping) modelTimeouts(into *Timeouts) {
	t, _ := m.sub("timeouts")
	t.duration("connect", &into.Connect, time.Millisecond, maxDeadline)
	t.duration("first_token", &into.FirstToken, time.Millisecond, maxDeadline)
	t.duration("silence", &into.Silence, time.Millisecond, maxDeadline)
	t.duration("call", &into.Call, time.Millisecond, maxDeadline)
	t.done()
}

func (m *mapping) breaker(into *Breaker) {
	b, _ := m.sub("breaker")
	b.integer("consecutive_failures", &into.ConsecutiveFailures, 1, math.MaxInt32)
	b.number("failure_share", &into.FailureShare, 0.01, 1)
	b.integer("min_calls", &into.MinCalls, 1, math.MaxInt32)
	b.duration("window", &into.Window, time.Millisecond, maxDeadline)
	b.duration("half_open_after", &into.HalfOpenAfter, time.Millisecond, maxDeadline)
	b.integer("probes", &into.Probes, 1, math.MaxInt32)
	b.done()
}

func (m *mapping) limits(into *Limits) {
	section, _ := m.sub("limits")
	section.integer("concurrency", &into.Concurrency, 0, math.MaxInt32)
	section.integer("requests_per_minute", &into.RequestsPerMinute, 0, math.MaxInt32)
	section.integer("tokens_per_minute", &into.TokensPerMinute, 0, math.MaxInt)
	section.number("batch_share", &into.BatchShare, 0, 1)
	section.done()
}

func (l *loader) model(entry member, defaults modelDefaults) {
	m := l.mapping(modelsFile, entry.value)
	model := &Model{
		Name: entry.key, Encoding: "o200k_base", TokenSafety: 1, StructuredOutput: "none", SystemRole: "system",
		MaxTokensField: "max_completion_tokens", Stream: true, StreamUsage: true, Limits: Limits{BatchShare: 0.5},
		Timeouts: defaults.timeouts, Breaker: defaults.breaker, RetryShare: defaults.retryShare,
	}
	own, _ := entry.value.json().(map[string]any)
	written, err := resolvedEntry(defaults.entry, own)
	if err != nil {
		l.at(modelsFile, place(entry), "%v", err)
	}
	model.entry = written
	l.set.Models[entry.key] = model
	l.providerOf(m, entry, model)
	m.required("id", &model.ID, "as the provider names it", entry)
	m.text("answers_as", &model.AnswersAs)
	if _, ok := m.get("context_window"); !ok {
		l.at(modelsFile, place(entry), "context_window is required: the tokens of prompt and answer together")
	}
	m.integer("context_window", &model.ContextWindow, 1, math.MaxInt32)
	model.MaxOutputTokens = model.ContextWindow
	most := math.MaxInt32
	if model.ContextWindow > 0 {
		most = model.ContextWindow
	}
	m.integer("max_output_tokens", &model.MaxOutputTokens, 1, most)
	m.text("encoding", &model.Encoding)
	m.number("token_safety", &model.TokenSafety, 0.1, 10)
	m.choice("structured_output", &model.StructuredOutput, "json_schema", "json_object", "none")
	m.choice("system_role", &model.SystemRole, "system", "developer")
	m.choice("max_tokens_field", &model.MaxTokensField, "max_tokens", "max_completion_tokens")
	m.truth("stream", &model.Stream)
	m.truth("stream_usage", &model.StreamUsage)
	m.texts("unsupported", &model.Unsupported, parameterNames()...)
	l.prices(m, entry, &model.Prices)
	m.limits(&model.Limits)
	m.modelTimeouts(&model.Timeouts)
	m.breaker(&model.Breaker)
	m.number("retry_share", &model.RetryShare, 0, 1)
	m.done()
}

// parameterNames are the keys of parameters in task.yaml.
func parameterNames() []string {
	return []string{"temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop", "reasoning_effort", "max_output_tokens"}
}

// place is where an entry's key stands.
func place(entry member) node { return node{line: entry.line, column: entry.column} }

// required reads a text that must be there and not be empty.
func (m *mapping) required(key string, into *string, what string, entry member) {
	n, ok := m.text(key, into)
	if !ok && n.kind == kindNull || ok && n.text == "" {
		m.at(m.file, place(entry), "%s is required: %s", key, what)
	}
}

func (l *loader) providerOf(m *mapping, entry member, model *Model) {
	m.required("provider", &model.Provider, "a name of providers", entry)
	n, ok := m.get("provider")
	if !ok || n.kind != kindText || n.text == "" {
		return
	}
	provider, known := l.set.Providers[n.text]
	switch {
	case !known && l.restoring:
	case !known:
		l.at(modelsFile, n, "there is no provider %q%s", n.text, didYouMean(n.text, l.set.Providers))
	case model.Name == simulatedName && provider.Kind != KindSimulated:
		l.at(modelsFile, n, "the model %q must be of a provider of kind %s: results say its name", simulatedName, KindSimulated)
	}
}

var datePattern = regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$`)

func (l *loader) prices(m *mapping, entry member, into *Prices) {
	p, ok := m.sub("prices")
	if !ok {
		l.at(modelsFile, place(entry), "prices are required, USD per million tokens: say {input: 0, output: 0} when it costs nothing")
		return
	}
	if n, ok := p.text("as_of", &into.AsOf); ok && !datePattern.MatchString(n.text) {
		l.at(modelsFile, n, "as_of must be a date like 2026-11-01, not %q", n.text)
	}
	for _, key := range []string{"input", "output"} {
		if _, ok := p.get(key); !ok {
			l.at(modelsFile, p.node, "prices.%s is required, USD per million tokens", key)
		}
	}
	p.number("input", &into.Input, 0, 1e6)
	p.number("output", &into.Output, 0, 1e6)
	into.CachedInput = into.Input
	p.number("cached_input", &into.CachedInput, 0, 1e6)
	p.done()
}

// names returns the models that the task may call: its own, its ladder's, its correction's; sorted, once each.
func (t *Task) names() []string {
	names := []string{t.Model}
	for _, rung := range t.Ladder {
		if rung.Kind == RungModel {
			names = append(names, rung.Model)
		}
	}
	if t.Correction.LastOn != "" {
		names = append(names, t.Correction.LastOn)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
