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
	if err := errors.Join(metric.Register(r, &m.promptTokens), metric.Register(r, &m.looks)); err != nil {
		return nil, fmt.Errorf("registering the metrics of context-builder: %w", err)
	}
	return m, nil
}

func (m *metrics) prompt(task, model string, tokens int) {
	m.promptTokens.WithLabelValues(task, model).Observe(float64(tokens))
}
