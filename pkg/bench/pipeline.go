package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// grace is how long the stages may take to end: they hold nothing any more.
const grace = 5 * time.Second

// pipeline is all stages in this process, on one connection, as `spillway up` has them.
type pipeline struct {
	conn    *broker.Conn
	running *errgroup.Group
	end     context.CancelFunc
	// resume starts the stage that was left out.
	resume func() error
}

// startPipeline runs the stages and returns when they answer. simulator is where simulated models are.
func startPipeline(ctx context.Context, url, simulator string, tasks *task.Set, limits stage.Limits, o *Options) (*pipeline, error) {
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, Name: "spillway/bench-pipeline", Log: o.Log})
	if err != nil {
		return nil, err
	}
	env := &stage.Env{
		Conn: conn, Tasks: tasks, Log: o.Log, Metrics: prometheus.NewRegistry(), Getenv: o.Getenv,
		Limits: limits, SimulatorURL: simulator,
	}
	own, end := context.WithCancel(ctx)
	p := &pipeline{conn: conn, end: end}
	p.running, own = errgroup.WithContext(own)
	p.resume = func() error { return p.run(own, env, o.Stages, o.without) }
	if err := p.start(own, env, o); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *pipeline) start(ctx context.Context, env *stage.Env, o *Options) error {
	if err := p.conn.Ensure(ctx, stage.Topology(o.Stages, broker.DefaultSizing())); err != nil {
		return err
	}
	if err := p.conn.WatchCancels(ctx); err != nil {
		return err
	}
	for _, d := range o.Stages {
		if d.Name == o.without {
			continue
		}
		if err := p.run(ctx, env, o.Stages, d.Name); err != nil {
			return err
		}
	}
	for o.without != broker.Ingest { // which answers
		_, err := p.conn.NC.Request(broker.CancelSubject("ready"), nil, time.Second)
		if err == nil {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(2*time.Millisecond)); err != nil {
			return fmt.Errorf("the pipeline did not get ready: %w", err)
		}
	}
	return nil
}

// run runs a stage until ctx ends.
func (p *pipeline) run(ctx context.Context, env *stage.Env, defs []stage.Definition, name string) error {
	r, err := stage.NewRunner(defs, name, env, grace)
	if err != nil {
		return err
	}
	p.running.Go(func() error { return r.Run(ctx) })
	return nil
}

func (p *pipeline) stop() error {
	p.end()
	err := p.running.Wait()
	p.conn.Close()
	return err
}

// wayOf is how requests get into a pipeline, wherever it runs, and results out of it. Where simulated is
// false the answers may be a real model's, which knows nothing of nonces.
func wayOf(w *workload, defs []stage.Definition, simulated bool) way {
	subject := broker.RequestSubject(job.Interactive, w.task)
	return way{
		request: func(n int) *nats.Msg {
			return &nats.Msg{Subject: subject, Data: w.body(n), Header: nats.Header{
				broker.MsgIDHeader: {w.id(n)}, broker.TraceParentHeader: {w.traceParent(n)},
			}}
		},
		results:  broker.ResultSubject(w.task, "*"),
		number:   func(m *nats.Msg) int { return w.numberOf(broker.Token(m.Subject, 3)) },
		judge:    func(n int, m *nats.Msg) verdict { return w.judge(n, m.Data, simulated) },
		topology: stage.Topology(defs, broker.DefaultSizing()),
	}
}

var (
	succeededField = []byte(`"status":"succeeded"`)
	nonceStart     = []byte("[nonce:")
)

// judge holds a result against the n-th job. A simulated one is searched, which costs the process less than
// decoding it: the search finds only what is there.
func (w *workload) judge(n int, result []byte, simulated bool) verdict {
	own := bytes.Contains(result, []byte(w.nonces[n]))
	if simulated && own && bytes.Contains(result, succeededField) {
		return verdict{}
	}
	var r struct {
		job.Result
		Metadata struct {
			Number *int `json:"bench"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return verdict{failed: true, why: fmt.Sprintf("job %d: the result is no JSON: %s", n, err)}
	}
	v := verdict{calls: r.Usage.Calls, failed: r.Status != job.Succeeded}
	switch {
	case v.failed && r.Error != nil:
		v.why = fmt.Sprintf("job %d: %s: %s: %s", n, r.Status, r.Error.Code, r.Error.Message)
	case v.failed && r.Degraded != nil:
		v.why = fmt.Sprintf("job %d: %s: %s", n, r.Status, r.Degraded.Reason)
	case v.failed:
		v.why = fmt.Sprintf("job %d: %s", n, r.Status)
	}
	tagged := simulated || bytes.Contains(r.Output, nonceStart)
	if r.Metadata.Number == nil || *r.Metadata.Number != n || !v.failed && tagged && !own {
		v.foreign, v.why = true, fmt.Sprintf("job %d: the answer is another job's: %s", n, job.Cut(string(r.Output), 200))
	}
	return v
}
