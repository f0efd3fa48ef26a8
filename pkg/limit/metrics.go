package limit

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/metric"
)

// How exchanges end, as a label.
const (
	exchangeOK       = "ok"
	exchangeConflict = "conflict"
	exchangeFailed   = "failed"
)

type metrics struct {
	waiting   *prometheus.GaugeVec
	granted   *prometheus.CounterVec
	exchanges *prometheus.CounterVec
	lowered   *prometheus.GaugeVec
}

// newMetrics registers the metrics with r, or with nothing when r is nil. Two limiters of one process share them.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spillway_limit_waiting",
			Help: "Calls that wait in this process for a limit's permit.",
		}, []string{"model", "lane"}),
		granted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_limit_granted_total",
			Help: "Permits to call a limited model, also those given back unused.",
		}, []string{"model", "lane"}),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_limit_exchanges_total",
			Help: "Exchanges with the records that all replicas share, by how they ended: ok, conflict (repeated at once), failed.",
		}, []string{"result"}),
		lowered: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spillway_limit_lowered",
			Help: "A limit that the provider says is lower than configured. There is no series for the others.",
		}, []string{"entity", "limit"}),
	}
	err := errors.Join(metric.Register(r, &m.waiting), metric.Register(r, &m.granted), metric.Register(r, &m.exchanges), metric.Register(r, &m.lowered))
	return m, err
}
