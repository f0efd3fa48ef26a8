package contextbuilder

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/metric"
)

type metrics struct {
	promptTokens *prometheus.HistogramVec
	looks        *prometheus.CounterVec
	trimmed      *prometheus.CounterVec
	folds        *prometheus.CounterVec
	waits        *prometheus.CounterVec
	// refusedStates has a child for each task as soon as one is looked at.
	refusedStates *prometheus.CounterVec
}

// newMetrics registers the stage's metrics with r, or with nothing when r is nil. Two handlers of one
// process share them.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		promptTokens: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "spillway_prompt_tokens",
			Help: "Tokens of rendered prompts as counted before the call, those that were too long included.",
			// 64 to 1,048,576: from a one-line prompt to the largest windows.
			Buckets: prometheus.ExponentialBuckets(64, 2, 15),
		}, []string{"task", "model"}),
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_fresh_looks_total",
			Help: "Looks for a cached answer in place of a call, by what came of it: hit, miss.",
		}, []string{"task", "outcome"}),
	}
	m.trimmed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_context_trimmed_total",
		Help: "What was left out of prompts because it did not fit: summary, turns, documents.",
	}, []string{"task", "what"})
	m.folds = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_session_folds_total",
		Help: "Turns of sessions that left, by what stands for them: model, extract, dropped (no summary is wanted); not_asked: the request of a summary was not stored.",
	}, []string{"task", "by"})
	m.waits = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_session_waits_total",
		Help: "How often a job was sent back to wait for an earlier request of its session.",
	}, []string{"task"})
	m.refusedStates = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_session_states_refused_total",
		Help: "Answers that would have made a state of the session that does not satisfy its schema or is too large.",
	}, []string{"task"})
	err := errors.Join(metric.Register(r, &m.promptTokens), metric.Register(r, &m.looks), metric.Register(r, &m.trimmed),
		metric.Register(r, &m.folds), metric.Register(r, &m.waits), metric.Register(r, &m.refusedStates))
	if err != nil {
		return nil, fmt.Errorf("registering the metrics of context-builder: %w", err)
	}
	return m, nil
}

func (m *metrics) prompt(task, model string, tokens int) {
	m.promptTokens.WithLabelValues(task, model).Observe(float64(tokens))
}
