package services_test

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// registries are those of all stages that ever ran in a rig, by name.
type registries struct {
	mu sync.Mutex
	of map[string][]*prometheus.Registry
}

func (all *registries) add(stage string) *prometheus.Registry {
	all.mu.Lock()
	defer all.mu.Unlock()
	own := prometheus.NewRegistry()
	all.of[stage] = append(all.of[stage], own)
	return own
}

// counted sums a counter over all its labels, and over all runs of a stage in this process.
func (r *rig) counted(stage, counter string) float64 {
	r.t.Helper()
	r.registries.mu.Lock()
	defer r.registries.mu.Unlock()
	sum := 0.0
	for _, registry := range r.registries.of[stage] {
		families, err := registry.Gather()
		if err != nil {
			r.t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == counter {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
