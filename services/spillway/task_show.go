package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// setting is one key of a file; settings keep their order in JSON.
type setting struct {
	key   string
	value any
}

type settings []setting

// MarshalJSON implements json.Marshaler.
func (s settings) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, one := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(one.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.key, err)
		}
		fmt.Fprintf(&b, "%q:%s", one.key, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// viewOf is a task in the shape of its task.yaml, with what the defaults and its model make of it.
func viewOf(t *task.Task, m *task.Model) settings {
	return slices.Concat(
		settings{
			{"name", t.Name},
			{"version", t.Version},
			{"description", t.Description},
			{"owner", t.Owner},
			{"model", t.Model},
			{"parameters", parametersOf(t, m)},
			{"input", settings{{"max_bytes", byteSize(t.MaxInputBytes).String()}}},
			{"lane", t.Lane},
			{"max_in_flight", t.MaxInFlight},
			{"deadline", settings{{"default", short(t.Deadline.Default)}, {"max", short(t.Deadline.Max)}, {"reserve", short(t.Deadline.Reserve)}}},
			{"timeouts", timeoutsOf(t, m)},
		},
		failureView(t), answerView(t), formatView(t, m), contextView(t, m), keepingView(t), filesView(t),
	)
}

func parametersOf(t *task.Task, m *task.Model) settings {
	p := t.Parameters
	var s settings
	for _, one := range []struct {
		key   string
		value *float64
	}{{"temperature", p.Temperature}, {"top_p", p.TopP}, {"frequency_penalty", p.FrequencyPenalty}, {"presence_penalty", p.PresencePenalty}} {
		if one.value != nil {
			s = append(s, setting{one.key, *one.value})
		}
	}
	if p.Seed != nil {
		s = append(s, setting{"seed", *p.Seed})
	}
	if len(p.Stop) > 0 {
		s = append(s, setting{"stop", p.Stop})
	}
	if p.ReasoningEffort != "" {
		s = append(s, setting{"reasoning_effort", p.ReasoningEffort})
	}
	switch {
	case p.MaxOutputTokens > 0:
		s = append(s, setting{"max_output_tokens", p.MaxOutputTokens})
	case m != nil && m.MaxOutputTokens > 0:
		s = append(s, setting{"max_output_tokens", fmt.Sprintf("what the prompt leaves of the window, at most %d", m.MaxOutputTokens)})
	}
	return s
}

func timeoutsOf(t *task.Task, m *task.Model) settings {
	var of task.Timeouts
	if m != nil {
		of = m.Timeouts
	}
	pick := func(own, models time.Duration) string {
		if own > 0 {
			return short(own)
		}
		return short(models)
	}
	return settings{
		{"connect", pick(t.Timeouts.Connect, of.Connect)},
		{"first_token", pick(t.Timeouts.FirstToken, of.FirstToken)},
		{"silence", pick(t.Timeouts.Silence, of.Silence)},
		{"call", pick(t.Timeouts.Call, of.Call)},
	}
}

// failureView is what happens when a call fails.
func failureView(t *task.Task) settings {
	r := t.Retry
	ladder := []settings{}
	for _, rung := range t.Ladder {
		one := settings{{"rung", rung.Kind}}
		if rung.Kind == task.RungCache {
			one = append(one, setting{"max_age", short(rung.MaxAge)})
		}
		if rung.Model != "" {
			one = append(one, setting{"model", rung.Model})
		}
		ladder = append(ladder, one)
	}
	s := settings{
		{"retry", settings{
			{"attempts", r.Attempts},
			{"max_calls", r.MaxCalls},
			{"first_delay", short(r.FirstDelay)},
			{"factor", r.Factor},
			{"max_delay", short(r.MaxDelay)},
			{"jitter", r.Jitter},
			{"retry_after_max", short(r.RetryAfterMax)},
			{"interactive", settings{{"attempts", r.InteractiveAttempts}, {"first_delay", short(r.InteractiveFirstDelay)}}},
		}},
		{"on_outage", settings{{"interactive", t.OnOutage.Interactive}, {"batch", t.OnOutage.Batch}}},
		{"ladder", ladder},
	}
	if t.NoLadder != "" {
		s = append(s, setting{"no_ladder", t.NoLadder})
	}
	return append(s, setting{"after_refusal", t.AfterRefusal}, setting{"keep_degraded", t.KeepDegraded})
}

// answerView is what an answer must be.
func answerView(t *task.Task) settings {
	o := t.Output
	rules := []settings{}
	for _, r := range o.Rules {
		rules = append(rules, settings{{"name", r.Name}, {"expr", r.Expr.String()}, {"say", r.Say}})
	}
	lastOn := t.Correction.LastOn
	if lastOn == "" {
		lastOn = t.Model
	}
	return settings{
		{"output", settings{
			{"format", o.Format},
			{"max_bytes", byteSize(o.MaxBytes).String()},
			{"provider_schema", o.ProviderSchema},
			{"additional_properties", o.AdditionalProperties},
			{"optional_null", o.OptionalNull},
			{"coerce", o.Coerce},
			{"repair", o.Repair},
			{"stream", o.Stream},
			{"rules", rules},
		}},
		{"correction", settings{
			{"times", t.Correction.Times}, {"max_tokens", t.Correction.MaxTokens}, {"last_on", lastOn}, {"on_truncation", t.Correction.OnTruncation},
		}},
	}
}

// formatView is what the model is asked for beside the prompt, and what keeps it from being bound to the schema.
func formatView(t *task.Task, m *task.Model) settings {
	if m == nil {
		return nil
	}
	f := formatOf(t, m)
	s := settings{{"kind", f.Kind}, {"strict", f.Strict}}
	if f.Why != "" {
		s = append(s, setting{"why", f.Why})
	}
	return settings{{"response_format", s}}
}

// contextView is what the model sees.
func contextView(t *task.Task, m *task.Model) settings {
	c := t.Context
	most := c.MaxInputTokens
	if most == 0 && m != nil {
		most = int(float64(m.ContextWindow) * (1 - c.Reserve))
	}
	s := settings{{"max_input_tokens", most}, {"reserve", c.Reserve}, {"session", c.Session}}
	if c.Session != "none" {
		update := settings{}
		for _, u := range c.StateUpdate {
			update = append(update, setting{u.Pointer, u.Expr.String()})
		}
		s = append(s, setting{"order", c.Order}, setting{"recent_turns", c.RecentTurns},
			setting{"state", settings{{"in_prompt", orEmpty(c.StateInPrompt)}, {"update", update}}})
	}
	for _, p := range [][2]string{{"turns_from", c.TurnsFrom}, {"documents_from", c.DocumentsFrom}} {
		if p[1] != "" {
			s = append(s, setting{p[0], p[1]})
		}
	}
	if c.Summary != nil {
		s = append(s, setting{"summary", settings{{"task", c.Summary.Task}, {"max_tokens", c.Summary.MaxTokens}}})
	}
	return settings{{"context", s}}
}

// keepingView is what is kept, delivered, hidden and paid.
func keepingView(t *task.Task) settings {
	return settings{
		{"cache", cacheView(t)},
		{"retention", settings{{"result", short(t.Retention.Result)}, {"dead", short(t.Retention.Dead)}, {"session", short(t.Retention.Session)}}},
		{"delivery", settings{{"postgres", t.Delivery.Postgres}, {"webhook", t.Delivery.Webhook}}},
		{"redaction", settings{{"detect", orEmpty(t.Redaction.Detect)}, {"fields", orEmpty(t.Redaction.Fields)}, {"log_content", t.Redaction.LogContent}}},
		{"budget", settings{{"usd_per_request", t.Budget.USDPerRequest}}},
	}
}

// cacheView is how answers are kept, and to whom they are served.
func cacheView(t *task.Task) settings {
	return settings{
		{"serve", t.Cache.Serve},
		{"fresh_for", short(t.Cache.FreshFor)},
		{"keep", short(t.Cache.Keep)},
		{"scope", t.Cache.Scope},
		{"key", orEmpty(t.Cache.Key)},
	}
}

// filesView is what stands beside task.yaml.
func filesView(t *task.Task) settings {
	canned := []settings{}
	for _, c := range t.Canned {
		one := settings{}
		if c.When != nil {
			one = append(one, setting{"when", c.When.String()})
		}
		canned = append(canned, append(one, setting{"output", json.RawMessage(c.Output)}))
	}
	cases, files := []string{}, []string{}
	for _, k := range t.Cases {
		cases = append(cases, k.Name)
	}
	for name := range t.Files {
		files = append(files, name)
	}
	slices.Sort(files)
	return settings{
		{"input_schema", sourceOfSchema(t.Input)},
		{"output_schema", sourceOfSchema(t.OutputSchema)},
		{"state_schema", sourceOfSchema(t.State)},
		{"canned", canned},
		{"cases", cases},
		{"warm", len(t.Warm)},
		{"files", files},
	}
}

func sourceOfSchema(s *schema.Schema) json.RawMessage {
	if s == nil {
		return json.RawMessage("null")
	}
	return s.Source()
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// short writes a duration as a file has it: 24h, not 24h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
