package resultwriter

import (
	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/job"
)

type metrics struct {
	results *prometheus.CounterVec
	late    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "spillway", Name: "results_total", Help: "Results written, by status and source.",
		}, []string{"task", "status", "source"}),
		late: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "spillway", Name: "deadlines_missed_total", Help: "Results written after their deadline.",
		}, []string{"task"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "spillway", Name: "result_seconds", Help: "Time from the request's acknowledgement to its result.",
			Buckets: []float64{.005, .02, .1, .5, 1, 2, 5, 10, 20, 30, 60, 300, 3600, 86400},
		}, []string{"task"}),
	}
	if reg != nil {
		reg.MustRegister(m.results, m.late, m.seconds)
	}
	return m
}

func (m *metrics) count(r *job.Result) {
	task := r.Task
	if r.Error != nil && r.TaskVersion == "" {
		task = "unknown" // a name that a client made up is no label
	}
	m.results.WithLabelValues(task, string(r.Status), string(r.Source)).Inc()
	m.seconds.WithLabelValues(task).Observe(r.FinishedAt.Sub(r.AcknowledgedAt).Seconds())
	if r.Late {
		m.late.WithLabelValues(task).Inc()
	}
}
