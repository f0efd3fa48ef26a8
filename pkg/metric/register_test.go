package metric_test

import (
	"maps"
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

func TestWhatTakesThePlaceOfAnotherShowsItsOwnGaugesAndGoesOnCounting(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	type kind struct {
		now    prometheus.Gauge
		by     *prometheus.GaugeVec
		counts prometheus.Counter
	}
	start := func(r prometheus.Registerer) *kind {
		r = prometheus.WrapRegistererWith(prometheus.Labels{"stage": "one"}, r)
		k := &kind{
			now:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "now", Help: "Now."}),
			by:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "by", Help: "By model."}, []string{"model"}),
			counts: prometheus.NewCounter(prometheus.CounterOpts{Name: "seen_total", Help: "What was seen."}),
		}
		for _, err := range []error{metric.Register(r, &k.now), metric.Register(r, &k.by), metric.Register(r, &k.counts)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return k
	}
	old := start(r)
	old.now.Set(7)
	old.by.WithLabelValues("gone").Set(7)
	old.counts.Inc()
	next := start(metric.Anew(r))
	next.now.Set(1)
	next.by.WithLabelValues("small").Set(2)
	next.counts.Inc()
	old.now.Set(8)
	old.by.WithLabelValues("small").Set(8)
	old.counts.Inc()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if want := map[string]float64{"now": 1, "by": 2, "seen_total": 3}; !maps.Equal(got, want) {
		t.Errorf("gathered %v, not %v", got, want)
	}
	if metric.Anew(nil) != nil {
		t.Error("without a registry there is one")
	}
}
