package door

import "github.com/prometheus/client_golang/prometheus"

// register shows what the hub does.
func (h *hub) register(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "spillway", Name: "door_waiting", Help: "Clients that wait at the doors for a result: polls, event streams, sockets.",
	}, func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		return float64(h.waiting)
	}))
	for i, s := range sources() {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "spillway", Name: "door_dropped_total", ConstLabels: prometheus.Labels{"kind": s.name},
			Help: "Messages that the doors did not hear because the process did not keep up: all who wait read anew. Not zero: give it more CPU.",
		}, func() float64 {
			n, err := h.subs[i].Dropped()
			if err != nil {
				return 0
			}
			return float64(n)
		}))
	}
}
