package metric

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Anew is for what takes the place of another of its kind in a process, while that one finishes: its gauges are those
// that r shows from then on, its counters go on with those that are there.
func Anew(r prometheus.Registerer) prometheus.Registerer {
	if r == nil {
		return nil
	}
	return anew{r}
}

type anew struct{ prometheus.Registerer }

// Register puts c into the registry, in the place of a gauge that is there.
func (a anew) Register(c prometheus.Collector) error {
	err := a.Registerer.Register(c)
	known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
	if !ok {
		return err
	}
	switch known.ExistingCollector.(type) {
	case prometheus.Gauge, *prometheus.GaugeVec:
		a.Unregister(c) // by its name: what leaves is the one before
		return a.Registerer.Register(c)
	}
	return err
}
