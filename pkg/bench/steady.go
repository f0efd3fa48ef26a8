package bench

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/broker"
)

// steady publishes jobs at the options' rate, whatever becomes of the earlier ones, and returns how long each
// took from its publish until its result was heard, less the time of its calls as own tells it.
func steady(ctx context.Context, url string, w *way, first int, own func(n int) time.Duration, o *Options, phase string) ([]time.Duration, *Checks, error) {
	jobs := o.LatencyJobs
	e, err := listen(url, w, first, jobs, o)
	if err != nil {
		return nil, nil, err
	}
	defer e.close()
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, As: o.As, Name: "spillway/bench-publisher", Log: o.Log})
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	told := e.tell(func(done int) { o.progress(phase, done, jobs) })
	sent, err := publishSteadily(ctx, conn, w, first, o)
	if err == nil {
		err = e.wait(ctx)
	}
	told()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", phase, err)
	}
	o.progress(phase, jobs, jobs)
	added := make([]time.Duration, jobs)
	for n := range added {
		added[n] = e.at[n].Sub(sent[n]) - own(first+n)
	}
	checks := e.checks()
	return added, &checks, nil
}

// publishSteadily returns when each job was published.
func publishSteadily(ctx context.Context, conn *broker.Conn, w *way, first int, o *Options) ([]time.Time, error) {
	sent := make([]time.Time, o.LatencyJobs)
	began := time.Now()
	for n := range sent {
		due := began.Add(time.Duration(float64(n) / o.Rate * float64(time.Second)))
		if err := sleepUntil(ctx, due); err != nil {
			return nil, err
		}
		m := w.request(first + n)
		sent[n] = time.Now()
		if _, err := conn.JS.PublishMsgAsync(m); err != nil {
			return nil, fmt.Errorf("publish a request: %w", err)
		}
	}
	return sent, nil
}

func sleepUntil(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
