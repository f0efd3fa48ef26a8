package stage

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/metric"
)

// metrics of one stage in this process. A job's id is never a label.
type metrics struct {
	inFlight    prometheus.Gauge
	handling    prometheus.Observer
	settled     *prometheus.CounterVec
	redelivered *prometheus.CounterVec
	dead        *prometheus.CounterVec
	blocked     prometheus.Counter
	stuck       prometheus.Counter
	depth       *prometheus.GaugeVec
	age         *prometheus.GaugeVec
	unacked     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, stage string) (*metrics, error) {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"stage": stage}, reg)
	m := &metrics{
		inFlight:    gauge("in_flight", "Jobs being handled by this process."),
		settled:     counters("settled_total", "Jobs settled, by fate: on, end, retry, park, divert, reject, elsewhere.", "fate"),
		redelivered: counters("redeliveries_total", "Messages delivered again: held (lease renewed), settled (acknowledged again), taken (worked on again).", "as"),
		dead:        counters("dead_letters_total", "Dead letters kept, by code.", "code"),
		blocked:     prometheus.NewCounter(opts("blocked_total", "Hand-overs that JetStream refused (a full inbox, no permission) and that are repeated. Not zero: act.")),
		stuck:       prometheus.NewCounter(opts("stuck_total", "Times that an inbox had messages, free slots and no waiting pull request. Not zero: act.")),
		depth:       gauges("inbox_messages", "Messages waiting in the inbox, from JetStream.", "consumer"),
		age:         gauges("inbox_oldest_seconds", "Age of the oldest message of the stream that the inbox is in, delayed and held ones included, from JetStream.", "consumer"),
		unacked:     gauges("inbox_unacknowledged", "Messages of the inbox that are out with some process, or delayed.", "consumer"),
	}
	handling := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "spillway", Name: "handling_seconds", Help: "Time in the handler.",
		Buckets: []float64{.0002, .001, .005, .02, .1, .5, 1, 2, 5, 10, 20, 30, 60},
	})
	err := errors.Join(metric.Register(reg, &m.inFlight), metric.Register(reg, &handling), metric.Register(reg, &m.settled),
		metric.Register(reg, &m.redelivered), metric.Register(reg, &m.dead), metric.Register(reg, &m.blocked), metric.Register(reg, &m.stuck),
		metric.Register(reg, &m.depth), metric.Register(reg, &m.age), metric.Register(reg, &m.unacked))
	if err != nil {
		return nil, fmt.Errorf("register the metrics of %s: %w", stage, err)
	}
	m.handling = handling
	return m, nil
}

func opts(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: "spillway", Name: name, Help: help}
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(opts(name, help), labels)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts(opts(name, help)), labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts(opts(name, help)))
}
