package fallback

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	rungs   *prometheus.CounterVec
	replays *prometheus.CounterVec
	overdue *prometheus.CounterVec
	waiting prometheus.Gauge
	// markersLost are deadlines that could not be kept.
	markersLost prometheus.Counter
	// unknown counts the runs of which nobody could say, when their time came, whether they had a result.
	unknown prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		rungs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "spillway", Name: "rungs_total", Help: "Rungs of ladders, by what became of them: taken, missed, skipped.",
		}, []string{"task", "rung", "outcome"}),
		replays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "spillway", Name: "replays_total", Help: "Replays ordered: started or refused.",
		}, []string{"as"}),
		overdue: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "spillway", Name: "deadlines_answered_total", Help: "Runs that had no result when their time came and were answered from the ladder, by status.",
		}, []string{"status"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "spillway", Name: "unfinished_runs", Help: "Acknowledged runs that have no result yet, as this process has heard.",
		}),
	}
	m.markersLost = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "spillway", Name: "markers_lost_total", Help: "Markers that were gone before their run's deadline: the markers' bound is too small. Not zero: act.",
	})
	m.unknown = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "spillway", Name: "deadlines_unknown_total", Help: "Runs at whose deadline it could not be known whether they had a result: the results' bound is too small. Not zero: act.",
	})
	if reg != nil {
		reg.MustRegister(m.rungs, m.replays, m.overdue, m.waiting, m.markersLost, m.unknown)
	}
	return m
}
