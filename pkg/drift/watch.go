package drift

import (
	"fmt"
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/metric"
)

// Kind is what makes an answer a bad one.
type Kind string

// The kinds.
const (
	// Invalid: the validator did not take the first answer of the task's own model.
	Invalid Kind = "invalid"
	// Degraded: a run ended degraded or failed, for a reason of the model.
	Degraded Kind = "degraded"
)

// maxSeries bounds what is watched, at 1.2 KiB each.
const maxSeries = 2048

// Watch tells when a share of bad answers doubles: in the log and by a counter. It is safe for concurrent use.
type Watch struct {
	log     zerolog.Logger
	doubled *prometheus.CounterVec

	mu  sync.Mutex
	all map[seriesKey]*watched
	now uint64
}

type seriesKey struct {
	task string
	kind Kind
}

type watched struct {
	*series
	// last is when it was last looked at, as a number that grows.
	last uint64
}

// NewWatch counts with r, or nowhere when r is nil.
func NewWatch(log zerolog.Logger, r prometheus.Registerer) (*Watch, error) {
	w := &Watch{log: log, all: map[seriesKey]*watched{}}
	w.doubled = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_drift_total",
		Help: "How often a task's share of bad answers doubled: invalid, the model's first answer was not taken; degraded, the run had no answer of its model.",
	}, []string{"task", "kind"})
	if err := metric.Register(r, &w.doubled); err != nil {
		return nil, fmt.Errorf("registering the metrics of drift: %w", err)
	}
	return w, nil
}

// Saw notes an answer to a task in one of its versions.
func (w *Watch) Saw(task, version string, kind Kind, bad bool) {
	change := w.saw(seriesKey{task, kind}, bad)
	var e *zerolog.Event
	var message string
	switch change.Event {
	case None:
		return
	case Doubled:
		w.doubled.WithLabelValues(task, string(kind)).Inc()
		e, message = w.log.Warn(), "the share of bad answers has doubled"
	case Returned:
		e, message = w.log.Info(), "the share of bad answers is back"
	case Settled:
		e, message = w.log.Info(), "the share of bad answers stays, and is the usual one from now on"
	}
	e.Str("task", task).Str("task_version", version).Str("kind", string(kind)).
		Float64("share", rounded(change.Now.Value())).Int("bad", change.Now.Bad).Int("of", change.Now.Of).
		Float64("usual_share", rounded(change.Usual.Value())).Int("usual_bad", change.Usual.Bad).Int("usual_of", change.Usual.Of).Msg(message)
}

func (w *Watch) saw(key seriesKey, bad bool) Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now++
	s := w.all[key]
	if s == nil {
		if len(w.all) >= maxSeries {
			w.forgetOldest()
		}
		s = &watched{series: newSeries()}
		w.all[key] = s
		w.doubled.WithLabelValues(key.task, string(key.kind)) // there from now on, so that its first increase is seen
	}
	s.last = w.now
	return s.saw(bad)
}

// forgetOldest makes room. The caller holds w.mu.
func (w *Watch) forgetOldest() {
	var oldest seriesKey
	last := uint64(math.MaxUint64)
	for key, s := range w.all {
		if s.last < last {
			oldest, last = key, s.last
		}
	}
	delete(w.all, oldest)
	w.doubled.DeleteLabelValues(oldest.task, string(oldest.kind))
}

// rounded is a share as people read it.
func rounded(share float64) float64 { return math.Round(share*1e4) / 1e4 }
