package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"spillway/pkg/fakellm"
)

// relay measures the relay: a burst without a call, one with it, the latency.
func (b *bench) relay(ctx context.Context, url string) error {
	set, err := benchTask(b.provider.URL())
	if err != nil {
		return err
	}
	w, err := newWorkload(set.Tasks[TaskName], []byte(sampleInput), b.PromptBytes, 0)
	if err != nil {
		return err
	}
	if b.report.Relay, err = b.relayBurst(ctx, url, "", w, 0, PhaseRelay); err != nil {
		return err
	}
	first := b.warm + b.Jobs
	if b.report.RelayWithCall, err = b.relayBurst(ctx, url, b.provider.URL(), w, first, PhaseRelayWithCall); err != nil {
		return err
	}
	if b.LatencyJobs == 0 {
		return nil
	}
	return b.relayLatency(ctx, url, w, 2*first)
}

func (b *bench) relayBurst(ctx context.Context, url, provider string, w *workload, first int, phase string) (*Throughput, error) {
	r, err := startRelay(ctx, url, provider, w, &b.Options)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	way := r.way()
	if _, err := burst(ctx, url, &way, first, b.warm, b.quiet(), phaseWarmUp); err != nil {
		return nil, err
	}
	measured, err := burst(ctx, url, &way, first+b.warm, b.Jobs, &b.Options, phase)
	if err != nil {
		return nil, err
	}
	return &measured.Throughput, nil
}

func (b *bench) relayLatency(ctx context.Context, url string, w *workload, first int) error {
	m, err := startMeter(b.provider)
	if err != nil {
		return err
	}
	defer m.close()
	r, err := startRelay(ctx, url, m.url, w, &b.Options)
	if err != nil {
		return err
	}
	defer r.stop()
	way := r.way()
	if _, err := burst(ctx, url, &way, first, b.warm, b.quiet(), phaseWarmUp); err != nil {
		return err
	}
	own := func(n int) time.Duration { return m.of(w.traceParent(n)) }
	added, _, err := steady(ctx, url, &way, first+b.warm, own, &b.Options, PhaseRelayLatency)
	if err != nil {
		return err
	}
	s := SpreadOf(added)
	b.report.RelayLatency = &s
	return nil
}

// quiet are the options of a warm-up: nobody is told of it.
func (b *bench) quiet() *Options {
	o := b.Options
	o.Progress, o.Around = nil, nil
	return &o
}

// pipelineBurst measures how fast the pipeline is, and what it takes.
func (b *bench) pipelineBurst(ctx context.Context, url string) error {
	return b.onPipeline(ctx, url, b.provider.URL(), b.Jobs, func(p *pipeline, w *workload, way *way) error {
		calls := b.provider.Counts().Calls
		sent := p.conn.NC.Stats().OutBytes
		memory := watchMemory()
		r, err := burst(ctx, url, way, b.warm, b.Jobs, &b.Options, PhasePipeline)
		b.report.Memory = memory.end()
		if err != nil {
			return err
		}
		b.report.Pipeline = &r.Throughput
		published := float64(p.conn.NC.Stats().OutBytes-sent) / float64(b.Jobs)
		b.report.Storage = storageOf(r, published)
		b.count(w, &r.checks, b.warm, calls)
		b.add(&r.checks)
		return nil
	})
}

func storageOf(r *round, published float64) *Storage {
	s := &Storage{Kept: r.kept, Published: published}
	for _, bytes := range r.kept {
		s.KeptTotal += bytes
	}
	return s
}

// pipelineLatency measures what the pipeline adds to the model's own latency.
func (b *bench) pipelineLatency(ctx context.Context, url string) error {
	m, err := startMeter(b.provider)
	if err != nil {
		return err
	}
	defer m.close()
	return b.onPipeline(ctx, url, m.url, b.LatencyJobs, func(_ *pipeline, w *workload, way *way) error {
		calls := b.provider.Counts().Calls
		own := func(n int) time.Duration { return m.of(w.traceParent(n)) }
		added, checks, err := steady(ctx, url, way, b.warm, own, &b.Options, PhasePipelineLatency)
		if err != nil {
			return err
		}
		s := SpreadOf(added)
		b.report.PipelineLatency = &s
		b.count(w, checks, b.warm, calls)
		b.add(checks)
		return nil
	})
}

// onPipeline runs do beside a warm pipeline whose models are at provider.
func (b *bench) onPipeline(ctx context.Context, url, provider string, jobs int, do func(*pipeline, *workload, *way) error) error {
	set, err := b.tasks(provider)
	if err != nil {
		return err
	}
	w, err := b.workload(set, b.warm+jobs)
	if err != nil {
		return err
	}
	p, err := startPipeline(ctx, url, provider, set, b.limits, &b.Options)
	if err != nil {
		return err
	}
	way := wayOf(w, b.Stages, true)
	_, err = burst(ctx, url, &way, 0, b.warm, b.quiet(), phaseWarmUp)
	if err == nil {
		err = do(p, w, &way)
	}
	if stopped := p.stop(); stopped != nil {
		err = errors.Join(err, fmt.Errorf("the pipeline stopped: %w", stopped))
	}
	return err
}

// count takes the calls of the jobs from the provider in this process.
func (b *bench) count(w *workload, c *Checks, first, before int) {
	c.count(b.provider.Counts(), w, first, before)
}

// count takes the calls of the jobs from a provider's counts: all since before, and those beyond the first of
// a job's input.
func (c *Checks) count(counts fakellm.Counts, w *workload, first, before int) {
	c.Calls = counts.Calls - before
	_, c.PaidTwice = w.paid(counts.Nonces, first, c.Jobs)
}

// paid counts the calls for the inputs of the jobs from first on, and those beyond the first of an input.
func (w *workload) paid(nonces map[string]int, first, jobs int) (calls, twice int) {
	for n := first; n < first+jobs; n++ {
		times := nonces[strings.Trim(w.nonces[n], "[]")[len("nonce:"):]]
		calls += times
		twice += max(times-1, 0)
	}
	return calls, twice
}

// runningPipeline measures a pipeline whose stages are elsewhere: what it takes of CPU and memory is its own
// affair, and the models' own latency is what inference says of it.
func (b *bench) runningPipeline(ctx context.Context) error {
	if b.Relay {
		if err := b.relayBeside(ctx); err != nil {
			return err
		}
	}
	w, err := b.workload(b.Tasks, b.Jobs+b.LatencyJobs)
	if err != nil {
		return err
	}
	way := wayOf(w, b.Stages, false)
	r, err := burst(ctx, b.NATS, &way, 0, b.Jobs, &b.Options, PhasePipeline)
	if err != nil {
		return err
	}
	r.CPUPer1000 = 0
	b.report.Pipeline = &r.Throughput
	b.report.Storage = storageOf(r, 0)
	r.checks.PaidTwice = max(r.checks.Calls-r.checks.Jobs, 0)
	b.add(&r.checks)
	b.compare()
	if b.LatencyJobs == 0 {
		return nil
	}
	told := newToldLatency(&way)
	added, checks, err := steady(ctx, b.NATS, &way, b.Jobs, told.of, &b.Options, PhasePipelineLatency)
	if err != nil {
		return err
	}
	s := SpreadOf(added)
	b.report.PipelineLatency = &s
	checks.PaidTwice = max(checks.Calls-checks.Jobs, 0)
	b.add(checks)
	return nil
}

// relayBeside runs the relay on the server of the running pipeline, and removes its streams.
func (b *bench) relayBeside(ctx context.Context) error {
	err := b.relay(ctx, b.NATS)
	removed := removeRelay(context.WithoutCancel(ctx), b.NATS, &b.Options)
	if err != nil {
		return err // what is the matter keeps the streams from being removed too, or they are gone
	}
	b.report.Relay.CPUPer1000, b.report.RelayWithCall.CPUPer1000 = 0, 0
	return removed
}
