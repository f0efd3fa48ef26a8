package metric_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/metric"
)

func TestTwoOfAKindCountTogether(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	counter := func() prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "seen_total", Help: "What was seen."})
	}
	one, two := counter(), counter()
	for _, c := range []*prometheus.Counter{&one, &two} {
		if err := metric.Register(r, c); err != nil {
			t.Fatal(err)
		}
		(*c).Inc()
	}
	families, err := r.Gather()
	if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetCounter().GetValue() != 2 {
		t.Errorf("gathered %v, %v", families, err)
	}
	if err := metric.Register(nil, &one); err != nil {
		t.Errorf("without a registry: %v", err)
	}
}

func TestAnotherMetricOfTheSameNameIsAnError(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "seen", Help: "What was seen."})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "seen", Help: "What was seen."})
	if err := metric.Register(r, &counter); err != nil {
		t.Fatal(err)
	}
	if metric.Register(r, &gauge) == nil {
		t.Error("a gauge took the place of a counter")
	}
}
