package validator

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/metric"
)

type metrics struct {
	verdicts    *prometheus.CounterVec
	corrections *prometheus.CounterVec
	outputs     *prometheus.CounterVec
}

// newMetrics registers the stage's metrics with r, or with nothing when r is nil. Two handlers of one
// process share them.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_verdicts_total",
			Help: "Answers of models by what the validator thought of them: valid, extracted, repaired, invalid, ambiguous, refusal, truncated, empty, too_large.",
		}, []string{"task", "verdict"}),
		corrections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_corrections_total",
			Help: "Answers whose faults were told to a model.",
		}, []string{"task"}),
		outputs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_outputs_total",
			Help: "Answers of models that became outputs, by the step that won them: strict, extracted, repaired, corrected.",
		}, []string{"task", "recovery"}),
	}
	if err := errors.Join(metric.Register(r, &m.verdicts), metric.Register(r, &m.corrections), metric.Register(r, &m.outputs)); err != nil {
		return nil, fmt.Errorf("registering the metrics of the validator: %w", err)
	}
	return m, nil
}
