package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"spillway/pkg/stage"
)

const (
	// MaxInFlight bounds the calls at once: each has a connection of its own, and a machine has about 28,000
	// ports for those to one address.
	MaxInFlight = 25_000
	// fewFirst is the warm-up: its connections stay open, and are missing from what the calls take.
	fewFirst = 20
	// spareFiles are those besides the calls' connections: streams, the server's connections.
	spareFiles = 512
)

// InFlight makes Options.Jobs calls at once, through a pipeline and by a bare HTTP client, to a provider in a
// process of its own. The pipeline comes first: its memory is measured in a process that did nothing else.
func InFlight(ctx context.Context, o Options) (*InFlightReport, error) {
	if err := errors.Join(o.validate(), o.validateInFlight()); err != nil {
		return nil, err
	}
	if err := enoughFiles(o.Jobs); err != nil {
		return nil, err
	}
	o.Log = quietAfter(ctx, o.Log)
	b := &bench{Options: o, warm: min(fewFirst, o.Jobs), limits: limitsFor(o.Jobs, o.PromptBytes)}
	r := &InFlightReport{
		Calls: o.Jobs, PromptBytes: o.PromptBytes, Window: o.window(), Cores: runtime.GOMAXPROCS(0),
		ModelMS: milliseconds(o.ModelLatency), Sync: syncText(o.Sync),
	}
	if err := b.withChild(ctx, func(c *child) error {
		return b.onServer(func(url string) error { return b.pipelineAtOnce(ctx, url, c, r) })
	}); err != nil {
		return nil, err
	}
	if err := b.withChild(ctx, func(c *child) error { return b.bareAtOnce(ctx, c, r) }); err != nil {
		return nil, err
	}
	r.Ratio = r.Pipeline.Seconds / r.Bare.Seconds
	return r, nil
}

func (o *Options) validateInFlight() error {
	if o.Jobs > MaxInFlight {
		return fmt.Errorf("calls at once are at most %d, not %d", MaxInFlight, o.Jobs)
	}
	if o.NATS != "" || o.Task != "" {
		return errors.New("calls at once are measured on an embedded server, with the task of the bench")
	}
	return nil
}

// enoughFiles looks at the hard limit of open files: Go raises the soft one to it.
func enoughFiles(calls int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("ask for the limit of open files: %w", err)
	}
	return fitsFiles(calls, limit.Max)
}

func fitsFiles(calls int, limit uint64) error {
	need := uint64(calls) + spareFiles
	if need <= limit {
		return nil
	}
	most := "no calls fit"
	if limit > spareFiles {
		most = fmt.Sprintf("at most %d fit", limit-spareFiles)
	}
	return fmt.Errorf("%d calls at once need %d open files, and the limit here is %d, so that %s: raise it with `ulimit -n %d`, which above the hard limit (`ulimit -Hn`) takes root",
		calls, need, limit, most, need)
}

// limitsFor let so many jobs in at once. A job takes its text twice on the way, as input and as prompt.
func limitsFor(jobs, promptBytes int) stage.Limits {
	const copies, besides = 3, 8 << 10
	l := stage.DefaultLimits()
	l.Interactive = max(l.Interactive, jobs+fewFirst)
	l.Bytes = max(l.Bytes, int64(jobs)*int64(copies*promptBytes+besides))
	return l
}

// quietAfter logs nothing more once ctx has ended: that calls break off then is no news.
func quietAfter(ctx context.Context, log zerolog.Logger) zerolog.Logger {
	return log.Hook(zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
		if ctx.Err() != nil {
			e.Discard()
		}
	}))
}

// withChild runs do beside a provider that nobody else calls.
func (b *bench) withChild(ctx context.Context, do func(*child) error) error {
	c, err := startChild(ctx, b.Provider)
	if err != nil {
		return err
	}
	defer c.end()
	return do(c)
}

func (b *bench) pipelineAtOnce(ctx context.Context, url string, c *child, r *InFlightReport) error {
	return b.onPipeline(ctx, url, c.url, b.Jobs, func(_ *pipeline, w *workload, way *way) error {
		before, err := c.counts(ctx)
		if err != nil {
			return err
		}
		memory := watchGrowth()
		measured, err := burst(ctx, url, way, b.warm, b.Jobs, &b.Options, PhasePipeline)
		resident, live := memory.end(b.Jobs)
		if err != nil {
			return err
		}
		counts, err := c.counts(ctx)
		if err != nil {
			return err
		}
		r.Checks = measured.checks
		r.Checks.OwnBy = "nonce"
		r.Checks.count(counts, w, b.warm, before.Calls)
		r.Redeliveries, r.Refused = measured.Redeliveries, measured.Refused
		r.Pipeline = AtOnce{
			Seconds: measured.Seconds, MaxInFlight: counts.MaxInFlight, Resident: resident, Live: live,
		}
		return nil
	})
}

// bareAtOnce makes the same calls without a pipeline: a goroutine and a connection each.
func (b *bench) bareAtOnce(ctx context.Context, c *child, r *InFlightReport) error {
	set, err := benchTask(c.url)
	if err != nil {
		return err
	}
	w, err := b.workload(set, b.warm+b.Jobs)
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: b.Jobs, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	if err := callAtOnce(ctx, client, c.url, w, 0, b.warm, new(atomic.Int64)); err != nil {
		return err
	}
	var done atomic.Int64
	memory := watchGrowth()
	began := time.Now()
	told := repeat(noteEvery, func() { b.progress(PhaseBareClient, int(done.Load()), b.Jobs) })
	err = callAtOnce(ctx, client, c.url, w, b.warm, b.Jobs, &done)
	took := time.Since(began)
	told()
	resident, live := memory.end(b.Jobs)
	if err != nil {
		return fmt.Errorf("%s: %d of %d calls were answered: %w", PhaseBareClient, done.Load(), b.Jobs, err)
	}
	counts, err := c.counts(ctx)
	if err != nil {
		return err
	}
	r.Bare = AtOnce{Seconds: took.Seconds(), MaxInFlight: counts.MaxInFlight, Resident: resident, Live: live}
	return nil
}

// callAtOnce returns when all answers are read. The first call that fails ends the others.
func callAtOnce(ctx context.Context, client *http.Client, url string, w *workload, first, calls int, done *atomic.Int64) error {
	group, own := errgroup.WithContext(ctx)
	for n := first; n < first+calls; n++ {
		group.Go(func() error {
			err := ask(own, client, url, w.text(n), w.traceParent(n))
			if err == nil {
				done.Add(1)
			}
			return err
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx) // what the calls say of it is not why
	}
	return err
}
