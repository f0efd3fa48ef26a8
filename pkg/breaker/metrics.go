package breaker

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/metric"
)

type metrics struct {
	changes *prometheus.CounterVec
	state   *prometheus.GaugeVec
}

// newMetrics registers the metrics with r, or with nothing when r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_breaker_changes_total",
			Help: "Changes of breakers that this process made, by the state after it.",
		}, []string{"kind", "name", "to"}),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spillway_breaker_state",
			Help: "The breakers of models and providers: 0 closed, 1 half open, 2 open.",
		}, []string{"kind", "name"}),
	}
	if err := errors.Join(metric.Register(r, &m.changes), metric.Register(r, &m.state)); err != nil {
		return nil, fmt.Errorf("registering the metrics of the breakers: %w", err)
	}
	return m, nil
}
