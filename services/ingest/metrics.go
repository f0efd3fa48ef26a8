package ingest

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	admitted *prometheus.CounterVec
	repeated *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		admitted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "spillway", Name: "admitted_total", Help: "Requests that hold the marker of their id, by lane; rejected ones too.",
		}, []string{"lane"}),
		repeated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "spillway", Name: "repeated_total", Help: "Requests whose id was admitted before: duplicate or conflict.",
		}, []string{"as"}),
	}
	if reg != nil {
		reg.MustRegister(m.admitted, m.repeated)
	}
	return m
}
