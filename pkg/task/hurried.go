package task

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"spillway/pkg/schema"
)

// The shortest times that a machine can be held to, whatever the hurry. What is shorter already stays as it is.
const (
	leastDeadline = 3 * time.Second
	leastReserve  = 500 * time.Millisecond
	leastTimeout  = 100 * time.Millisecond
	leastKept     = time.Second // the broker forgets in whole seconds
)

// Hurried returns a copy in which time goes by so many times as fast: deadlines, timeouts, waits, windows and
// ages are divided, and what is allowed a minute is multiplied. Times are cut no shorter than a machine can
// keep. Retention stays: how long things are kept to be looked at is not part of what is hurried. The set
// itself is not changed. by is above 0.
func (s *Set) Hurried(by float64) *Set {
	copied := s.copied()
	h := hurry{by}
	for _, model := range copied.Models {
		h.timeouts(&model.Timeouts)
		h.divide(leastTimeout, &model.Breaker.Window, &model.Breaker.HalfOpenAfter)
		h.limits(&model.Limits)
		model.entry = marked(model.entry, "hurried", strconv.FormatFloat(by, 'g', -1, 64))
	}
	for _, provider := range copied.Providers {
		h.limits(&provider.Limits)
	}
	for _, t := range copied.Tasks {
		h.task(t)
		copied.stamp(t)
	}
	return copied
}

// hurry is how many times as fast time goes by.
type hurry struct{ by float64 }

func (h hurry) task(t *Task) {
	h.divide(leastDeadline, &t.Deadline.Default, &t.Deadline.Max)
	h.divide(leastReserve, &t.Deadline.Reserve)
	h.timeouts(&t.Timeouts)
	h.divide(time.Millisecond, &t.Retry.FirstDelay, &t.Retry.MaxDelay, &t.Retry.RetryAfterMax, &t.Retry.InteractiveFirstDelay)
	h.divide(leastKept, &t.Cache.FreshFor, &t.Cache.Keep)
	for i := range t.Ladder {
		h.divide(leastKept, &t.Ladder[i].MaxAge)
	}
}

func (h hurry) timeouts(t *Timeouts) {
	h.divide(leastTimeout, &t.Connect, &t.FirstToken, &t.Silence, &t.Call)
}

func (h hurry) limits(l *Limits) {
	l.RequestsPerMinute = h.multiplied(l.RequestsPerMinute)
	l.TokensPerMinute = h.multiplied(l.TokensPerMinute)
}

// divide shortens times, down to least at most. 0 stays: it has meanings of its own.
func (h hurry) divide(least time.Duration, times ...*time.Duration) {
	for _, d := range times {
		*d = max(time.Duration(float64(*d)/h.by), min(*d, least))
	}
}

// multiplied is a number a minute of the hurried time. A limit never becomes 0, which would be none.
func (h hurry) multiplied(perMinute int) int {
	if perMinute == 0 {
		return 0
	}
	return max(int(float64(perMinute)*h.by), 1)
}

// SimulatedAt returns a copy in which every model answers at url, the base URL of a simulated provider, and
// needs no key. Models keep their names, limits and breakers, so that a ladder of several is several; what
// the provider calls them is "simulated-<name>", which their results say in answered_by. The set itself is
// not changed.
func (s *Set) SimulatedAt(url string) *Set {
	copied := s.copied()
	for name, model := range copied.Models {
		model.ID, model.AnswersAs = simulatedName+"-"+name, ""
		model.entry = marked(model.entry, "id", model.ID)
	}
	for name, p := range copied.Providers {
		copied.Providers[name] = &Provider{
			Name: p.Name, Kind: KindOpenAI, BaseURL: url, APIKey: "none", RateLimitHeaders: p.RateLimitHeaders, Limits: p.Limits,
		}
	}
	for _, t := range copied.Tasks {
		copied.stamp(t)
	}
	return copied
}

// copied is a set whose tasks, models and providers can be changed; what they point to is shared.
func (s *Set) copied() *Set {
	c := &Set{Tasks: maps.Clone(s.Tasks), Models: maps.Clone(s.Models), Providers: maps.Clone(s.Providers)}
	for name, original := range s.Tasks {
		t := *original
		t.Ladder = slices.Clone(t.Ladder)
		c.Tasks[name] = &t
	}
	for name, original := range s.Models {
		m := *original
		c.Models[name] = &m
	}
	for name, original := range s.Providers {
		p := *original
		c.Providers[name] = &p
	}
	return c
}

// marked is a model's entry with a key set, for the versions of the tasks that call it.
func marked(entry []byte, key, value string) []byte {
	written, err := schema.Decode(entry)
	fields, ok := written.(map[string]any)
	if err != nil || !ok { // of a model that no file wrote
		fields = map[string]any{}
	}
	fields[key] = value
	text, err := Canonical(fields)
	if err != nil {
		panic("a model's entry without a form in JSON: " + err.Error())
	}
	return text
}
