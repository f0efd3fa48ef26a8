package task

import (
	"math"
	"time"

	"spillway/pkg/job"
)

const (
	manifestFile = "task.yaml"
	// maxDeadline is the longest that a request can wait: the duration of the batch lane.
	maxDeadline = 24 * time.Hour
	// maxKeep bounds what only the streams bound in earnest.
	maxKeep = 10 * 365 * 24 * time.Hour
	// maxAnswerBytes is the largest answer that inference reads.
	maxAnswerBytes = 1 << 20
)

// defaultTask has every default of task.yaml.
func defaultTask(name string) *Task {
	return &Task{
		Name: name, MaxInputBytes: job.MaxRequestBytes, Lane: job.Interactive,
		Deadline: Deadline{Default: time.Minute, Max: 10 * time.Minute, Reserve: 2 * time.Second},
		Retry: Retry{
			Attempts: 5, MaxCalls: 6, FirstDelay: 3 * time.Second, Factor: 2, MaxDelay: 30 * time.Second,
			Jitter: 0.2, RetryAfterMax: time.Minute,
		},
		OnOutage:     OnOutage{Interactive: OutageDegrade, Batch: OutageDegrade},
		AfterRefusal: RungCanned, KeepDegraded: true,
		Output: Output{
			Format: FormatJSON, MaxBytes: 64 << 10, ProviderSchema: "auto", AdditionalProperties: "reject",
			OptionalNull: "drop", Repair: true, Stream: StreamDraft,
		},
		Correction: Correction{Times: 2, MaxTokens: 4000, OnTruncation: "raise_once"},
		Context:    Context{Reserve: 0.2, Session: SessionNone, Order: OneAtATime, RecentTurns: 10},
		Cache:      Cache{Serve: ServeFallback, FreshFor: 10 * time.Minute, Keep: 168 * time.Hour, Scope: "tenant"},
		Retention:  Retention{Result: 24 * time.Hour, Dead: 720 * time.Hour, Session: 720 * time.Hour},
		Delivery:   Delivery{Postgres: true, Webhook: "allowed"},
		Redaction:  Redaction{Detect: detectable(), LogContent: "debug"},
	}
}

// detectable are the kinds of personal data that are looked for.
func detectable() []string { return []string{"email", "phone", "card", "iban", "ip", "secret"} }

// manifest reads task.yaml over the defaults. readable: it is YAML.
func (t *taskLoader) manifest() (readable bool) {
	file := t.path(manifestFile)
	root, fault := parseYAML(file, t.task.Files[manifestFile])
	if fault != nil {
		t.add(*fault)
		return false
	}
	m := t.mapping(file, root)
	m.text("description", &t.task.Description)
	m.text("owner", &t.task.Owner)
	t.modelOf(m)
	t.parameters(m)
	t.input(m)
	t.deadline(m)
	t.timeouts(m)
	t.retry(m)
	t.ladder(m)
	t.output(m)
	t.correction(m)
	t.context(m)
	t.cache(m)
	t.keeping(m)
	t.people(m)
	m.done()
	return true
}

// modelOf reads the one key that is required.
func (t *taskLoader) modelOf(m *mapping) {
	n, ok := m.text("model", &t.task.Model)
	switch {
	case ok:
		t.model = t.modelNamed(m.file, n)
	case n.kind == kindNull:
		t.at(m.file, node{line: 1}, "model is required: a name of %s", modelsFile)
	}
}

// modelNamed returns the model that n names, and reports one that does not exist.
func (t *taskLoader) modelNamed(file string, n node) *Model {
	model, ok := t.loader.set.Models[n.text]
	if !ok && t.loader.modelsRead {
		t.at(file, n, "there is no model %q in %s%s", n.text, modelsFile, didYouMean(n.text, t.loader.set.Models))
	}
	return model
}

func (t *taskLoader) parameters(m *mapping) {
	p, _ := m.sub("parameters")
	into := &t.task.Parameters
	p.optional("temperature", &into.Temperature, 0, 2)
	p.optional("top_p", &into.TopP, 0, 1)
	p.optional("frequency_penalty", &into.FrequencyPenalty, -2, 2)
	p.optional("presence_penalty", &into.PresencePenalty, -2, 2)
	var seed int
	before := len(t.found)
	p.integer("seed", &seed, math.MinInt, math.MaxInt)
	if _, ok := p.get("seed"); ok && len(t.found) == before {
		into.Seed = &seed
	}
	p.texts("stop", &into.Stop)
	p.text("reasoning_effort", &into.ReasoningEffort)
	most := math.MaxInt
	if t.model != nil && t.model.MaxOutputTokens > 0 {
		most = t.model.MaxOutputTokens
	}
	p.integer("max_output_tokens", &into.MaxOutputTokens, 1, most)
	p.done()
}

func (t *taskLoader) input(m *mapping) {
	in, _ := m.sub("input")
	in.size("max_bytes", &t.task.MaxInputBytes, job.MaxRequestBytes)
	in.done()
	m.choice("lane", &t.task.Lane, job.Interactive, job.Batch)
	m.integer("max_in_flight", &t.task.MaxInFlight, 0, math.MaxInt32)
}

func (t *taskLoader) deadline(m *mapping) {
	d, ok := m.sub("deadline")
	into := &t.task.Deadline
	d.duration("default", &into.Default, time.Millisecond, maxDeadline)
	d.duration("max", &into.Max, time.Millisecond, maxDeadline)
	d.duration("reserve", &into.Reserve, 0, maxDeadline)
	d.done()
	if !ok {
		return
	}
	if into.Default > into.Max {
		t.at(m.file, d.node, "deadline.default (%s) must be at most deadline.max (%s)", shortly(into.Default), shortly(into.Max))
	}
	if into.Reserve >= into.Default {
		t.at(m.file, d.node, "deadline.reserve (%s) must be shorter than deadline.default (%s)", shortly(into.Reserve), shortly(into.Default))
	}
}

// timeouts may lower the model's.
func (t *taskLoader) timeouts(m *mapping) {
	limits := Timeouts{Connect: maxDeadline, FirstToken: maxDeadline, Silence: maxDeadline, Call: maxDeadline}
	if t.model != nil {
		limits = t.model.Timeouts
	}
	timeouts, _ := m.sub("timeouts")
	into := &t.task.Timeouts
	timeouts.duration("connect", &into.Connect, time.Millisecond, limits.Connect)
	timeouts.duration("first_token", &into.FirstToken, time.Millisecond, limits.FirstToken)
	timeouts.duration("silence", &into.Silence, time.Millisecond, limits.Silence)
	timeouts.duration("call", &into.Call, time.Millisecond, limits.Call)
	timeouts.done()
}

func (t *taskLoader) retry(m *mapping) {
	r, ok := m.sub("retry")
	into := &t.task.Retry
	r.integer("attempts", &into.Attempts, 1, 100)
	r.integer("max_calls", &into.MaxCalls, 1, 100)
	r.duration("first_delay", &into.FirstDelay, 0, maxDeadline)
	r.number("factor", &into.Factor, 1, 100)
	r.duration("max_delay", &into.MaxDelay, 0, maxDeadline)
	r.number("jitter", &into.Jitter, 0, 1)
	r.duration("retry_after_max", &into.RetryAfterMax, 0, maxDeadline)
	into.InteractiveAttempts, into.InteractiveFirstDelay = into.Attempts, into.FirstDelay
	lane, _ := r.sub(job.Interactive)
	lane.integer("attempts", &into.InteractiveAttempts, 1, 100)
	lane.duration("first_delay", &into.InteractiveFirstDelay, 0, maxDeadline)
	lane.done()
	r.done()
	if ok && into.FirstDelay > into.MaxDelay {
		t.at(m.file, r.node, "retry.first_delay (%s) must be at most retry.max_delay (%s)", shortly(into.FirstDelay), shortly(into.MaxDelay))
	}
	outage, _ := m.sub("on_outage")
	outage.choice(job.Interactive, &t.task.OnOutage.Interactive, OutageDegrade, OutageWait)
	outage.choice(job.Batch, &t.task.OnOutage.Batch, OutageDegrade, OutageWait)
	outage.done()
}
