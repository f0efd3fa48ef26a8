package drill

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/fakellm"
	"spillway/pkg/task"
)

// The acts of the night, as the report names them.
const (
	ActWell    = "well"
	ActLimited = "rate_limited"
	ActSlow    = "slow"
	ActAgain   = "well_again"
)

// How long the acts last, in the night's own time. The last is long enough for a probe to find the model
// well, however long its breaker waits.
const (
	wellFor    = 4 * time.Minute
	limitedFor = 5 * time.Minute
	slowFor    = 5 * time.Minute
	againFor   = 4 * time.Minute
	probesMore = 2 // half-open periods that the last act has at least, and a minute
)

// act is a part of the night.
type act struct {
	name string
	// what is told of the provider.
	what   string
	begins time.Duration // of the night
	lasts  time.Duration
	faults []fakellm.Fault
	// answers is how long answers take, in the night's time.
	answers fakellm.Latency
}

// wellLatency is that of a small, quick model; slowLatency's first token takes 15 to 25 s, but for 1 % of the calls.
func wellLatency() fakellm.Latency {
	return fakellm.Latency{FirstToken: 600 * time.Millisecond, PerToken: 10 * time.Millisecond, Sigma: 0.3}
}

func slowLatency() fakellm.Latency {
	return fakellm.Latency{FirstToken: 19500 * time.Millisecond, PerToken: 10 * time.Millisecond, Sigma: 0.1}
}

// night is the acts in their order. halfOpen is the breaker's of the model, in the night's time.
func night(m *task.Model, halfOpen time.Duration) []act {
	acts := []act{
		{name: ActWell, what: "well", lasts: wellFor, answers: wellLatency()},
		{
			name: ActLimited, what: m.Name + " answers 429", lasts: limitedFor, answers: wellLatency(),
			faults: []fakellm.Fault{{Model: m.ID, Kind: fakellm.KindRateLimited}},
		},
		{name: ActSlow, what: "all answer after 15-25 s", lasts: slowFor, answers: slowLatency()},
		{name: ActAgain, what: "well again", lasts: max(againFor, probesMore*halfOpen+time.Minute), answers: wellLatency()},
	}
	for i := 1; i < len(acts); i++ {
		acts[i].begins = acts[i-1].begins + acts[i-1].lasts
	}
	return acts
}

// length is how long the acts last together.
func length(acts []act) time.Duration {
	last := acts[len(acts)-1]
	return last.begins + last.lasts
}

// clock is the night's: it begins at 11 PM.
func clock(since time.Duration) string {
	return time.Date(2000, 1, 1, 23, 0, 0, 0, time.UTC).Add(since).Format("15:04")
}

// here turns a time of the night into one of this clock.
func (d *drill) here(ofNight time.Duration) time.Duration {
	return time.Duration(float64(ofNight) / d.Speed)
}

// stage makes the provider be as an act has it.
func (d *drill) stage(ctx context.Context, a act) error {
	d.steered = true
	l := a.answers
	l.FirstToken, l.PerToken = d.here(l.FirstToken), d.here(l.PerToken)
	if err := d.Provider.Answer(ctx, l); err != nil {
		return fmt.Errorf("begin %s of the night: %w", clock(a.begins), err)
	}
	if err := d.Provider.Misbehave(ctx, a.faults...); err != nil {
		return fmt.Errorf("begin %s of the night: %w", clock(a.begins), err)
	}
	return nil
}
