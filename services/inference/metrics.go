package inference

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/metric"
)

// outcomeOK is the outcome of a call that ended with an answer; the others are codes.
const outcomeOK = "ok"

type metrics struct {
	calls      *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	firstToken *prometheus.HistogramVec
	tokens     *prometheus.CounterVec
	cost       *prometheus.CounterVec
	repeated   prometheus.Counter
	unretried  *prometheus.CounterVec
	strangers  *prometheus.CounterVec
}

// newMetrics registers the stage's metrics with r, or with nothing when r is nil. Two handlers of one
// process share them.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	// 10 ms to 5.5 minutes: beyond the longest timeout that is sensible for a call.
	buckets := prometheus.ExponentialBuckets(0.01, 2, 16)
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_calls_total",
			Help: "Calls to models by how they ended: ok, an error code, cancelled, or abandoned by a process that stops.",
		}, []string{"model", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "spillway_call_seconds", Buckets: buckets,
			Help: "How long calls to models took, failed ones included.",
		}, []string{"model"}),
		firstToken: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "spillway_first_token_seconds", Buckets: buckets,
			Help: "From the start of a streamed call to its first token.",
		}, []string{"model"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_tokens_total",
			Help: "Tokens of calls. direction: input and output, as the provider counted them, else estimated; counted, the prompt's as counted before the call.",
		}, []string{"task", "model", "direction"}),
		cost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_cost_usd_total",
			Help: "What calls cost by the prices of models.yaml, failed ones included.",
		}, []string{"task", "model"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_calls_repeated_total",
			Help: "Calls for a job that was delivered before: an upper bound of the calls that were paid twice.",
		}),
	}
	m.unretried = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_retries_refused_total",
		Help: "Retries that were not made because too many of the model's calls were retries (retry_share).",
	}, []string{"model"})
	m.strangers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_answered_by_another_total",
		Help: "Calls in whose response the provider names another model than answers_as in models.yaml.",
	}, []string{"model"})
	err := errors.Join(metric.Register(r, &m.strangers), metric.Register(r, &m.unretried), metric.Register(r, &m.calls), metric.Register(r, &m.seconds), metric.Register(r, &m.firstToken),
		metric.Register(r, &m.tokens), metric.Register(r, &m.cost), metric.Register(r, &m.repeated))
	if err != nil {
		return nil, fmt.Errorf("registering the metrics of inference: %w", err)
	}
	return m, nil
}

func (m *metrics) ended(model, outcome string, took, firstToken time.Duration) {
	m.calls.WithLabelValues(model, outcome).Inc()
	m.seconds.WithLabelValues(model).Observe(took.Seconds())
	if firstToken > 0 {
		m.firstToken.WithLabelValues(model).Observe(firstToken.Seconds())
	}
}

func (m *metrics) spend(task, model string, counted int, t tokens, cost float64) {
	for direction, n := range map[string]int{"counted": counted, "input": t.input, "output": t.output} {
		if n > 0 {
			m.tokens.WithLabelValues(task, model, direction).Add(float64(n))
		}
	}
	if cost > 0 {
		m.cost.WithLabelValues(task, model).Add(cost)
	}
}
