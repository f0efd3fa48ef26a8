package validator

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	verdicts    *prometheus.CounterVec
	corrections *prometheus.CounterVec
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
	}
	if err := errors.Join(register(r, &m.verdicts), register(r, &m.corrections)); err != nil {
		return nil, fmt.Errorf("registering the metrics of the validator: %w", err)
	}
	return m, nil
}

// register puts *c into r, or the collector into *c that r has under the same name.
func register(r prometheus.Registerer, c **prometheus.CounterVec) error {
	if r == nil {
		return nil
	}
	err := r.Register(*c)
	if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := known.ExistingCollector.(*prometheus.CounterVec); ok {
			*c = same
			return nil
		}
	}
	return err
}
