package task

import "math"

// The part of task.yaml that says what an answer must be.

func (t *taskLoader) output(m *mapping) {
	o, _ := m.sub("output")
	into := &t.task.Output
	o.choice("format", &into.Format, FormatJSON, FormatText)
	o.size("max_bytes", &into.MaxBytes, maxAnswerBytes)
	o.choice("provider_schema", &into.ProviderSchema, "auto", "never")
	o.choice("additional_properties", &into.AdditionalProperties, "reject", "drop")
	o.choice("optional_null", &into.OptionalNull, "drop", "reject")
	o.truth("coerce", &into.Coerce)
	o.truth("repair", &into.Repair)
	o.choice("stream", &into.Stream, StreamDraft, StreamNever)
	rules, _ := o.list("rules")
	for _, n := range rules {
		t.rule(m.file, n)
	}
	o.done()
}

func (t *taskLoader) rule(file string, n node) {
	m := t.mapping(file, n)
	var rule Rule
	m.text("name", &rule.Name)
	m.text("say", &rule.Say)
	if source, ok := m.get("expr"); ok {
		rule.Expr = t.expression(file, source, true)
	} else {
		t.at(file, n, "a rule needs expr")
	}
	m.done()
	if rule.Name == "" {
		t.at(file, n, "a rule needs a name, which stands in errors and metrics")
	}
	if rule.Say == "" {
		t.at(file, n, "a rule needs say: what is fed back to the model")
	}
	for _, other := range t.task.Output.Rules {
		if other.Name == rule.Name && rule.Name != "" {
			t.at(file, n, "there is another rule %q", rule.Name)
		}
	}
	t.task.Output.Rules = append(t.task.Output.Rules, rule)
}

func (t *taskLoader) correction(m *mapping) {
	c, _ := m.sub("correction")
	into := &t.task.Correction
	c.integer("times", &into.Times, 0, 10)
	c.integer("max_tokens", &into.MaxTokens, 1, math.MaxInt32)
	if n, ok := c.text("last_on", &into.LastOn); ok {
		t.modelNamed(m.file, n)
	}
	c.choice("on_truncation", &into.OnTruncation, "raise_once", "divert")
	c.done()
}

func (t *taskLoader) cache(m *mapping) {
	c, _ := m.sub("cache")
	into := &t.task.Cache
	c.choice("serve", &into.Serve, ServeFallback, ServeFresh, ServeNever)
	c.duration("fresh_for", &into.FreshFor, 0, maxKeep)
	c.duration("keep", &into.Keep, 0, maxKeep)
	c.choice("scope", &into.Scope, "tenant", ScopeEveryone)
	c.pointers("key", &into.Key)
	if into.Serve == ServeFresh && into.FreshFor > into.Keep {
		t.at(c.file, c.node, "cache.fresh_for (%s) must be at most cache.keep (%s): what is not kept can not be served", shortly(into.FreshFor), shortly(into.Keep))
	}
	c.done()
}

// keeping is how long and where results are kept.
func (t *taskLoader) keeping(m *mapping) {
	r, _ := m.sub("retention")
	r.duration("result", &t.task.Retention.Result, 0, maxKeep)
	r.duration("dead", &t.task.Retention.Dead, 0, maxKeep)
	r.duration("session", &t.task.Retention.Session, 0, maxKeep)
	if keep, most := t.task.Retention.Session, t.task.Deadline.Max; t.task.Context.Session != SessionNone && keep < most {
		t.at(m.file, r.node, "retention.session (%s) must be at least deadline.max (%s): a session would be forgotten before its answer is there", shortly(keep), shortly(most))
	}
	r.done()
	d, _ := m.sub("delivery")
	d.truth("postgres", &t.task.Delivery.Postgres)
	d.choice("webhook", &t.task.Delivery.Webhook, "allowed", "refused")
	d.done()
}

// people is what protects persons, and money.
func (t *taskLoader) people(m *mapping) {
	r, _ := m.sub("redaction")
	r.texts("detect", &t.task.Redaction.Detect, detectable()...)
	r.pointers("fields", &t.task.Redaction.Fields)
	r.choice("log_content", &t.task.Redaction.LogContent, "debug", "info", LogNever)
	r.done()
	b, _ := m.sub("budget")
	b.number("usd_per_request", &t.task.Budget.USDPerRequest, 0, math.MaxFloat64)
	b.done()
}
