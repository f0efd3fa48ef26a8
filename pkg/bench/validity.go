package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing/fstest"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Answer is a recorded answer of a model.
type Answer struct {
	Name, Class, Task string
	// Text is what the model says first, FinishReason stop or length.
	Text, FinishReason string
	// Meant is the value that the text stands for; nil: it stands for none.
	Meant json.RawMessage
}

// ValidityOptions are those of Validity.
type ValidityOptions struct {
	// Answers are played one by one; Schemas are the output schemas of their tasks.
	Answers []Answer
	Schemas map[string][]byte
	Options
}

// ValidityReport says how answers became outputs, and at which price.
type ValidityReport struct {
	// Asked are the requests. Where the run was cut short fewer are counted.
	Asked int  `json:"asked"`
	Cut   bool `json:"cut_short"`
	// Classes are in the order of the requests, All is their sum.
	Classes []*ValidityClass `json:"classes"`
	All     *ValidityClass   `json:"all"`
	// Wrong are the names, sorted, of answers out of which came a value, without a correction, that was not meant;
	// null where nobody knows what was.
	Wrong []string `json:"wrong"`
}

// ValidityClass counts the answers of a class by the step that settled them.
type ValidityClass struct {
	Class   string `json:"class"`
	Answers int    `json:"answers"`
	// Steps are strict, extracted, repaired, corrected, and none where the run failed.
	Steps map[string]int `json:"steps"`
	// Codes say why, where it is none.
	Codes map[fate.Code]int `json:"codes"`
	Calls int               `json:"calls"`
	// InputTokens and OutputTokens are of all calls, as the provider counts; the recorded one takes four
	// characters for a token.
	InputTokens  int     `json:"input_tokens"`
	OutputTokens int     `json:"output_tokens"`
	CostUSD      float64 `json:"cost_usd"`
	// Wrong is nil where nobody knows what was meant.
	Wrong *int `json:"wrong"`
}

// StepNone is of answers out of which no output came.
const StepNone = "none"

// playedAtOnce is how many requests have no result yet: who stops a run that costs money stops it soon.
const playedAtOnce = 32

// PhaseValidity is the phase of Validity.
const PhaseValidity = "answers"

const validityModel = `defaults:
  timeouts: {connect: 10s, first_token: 60s, silence: 30s, call: 120s}
  breaker: {consecutive_failures: 100000, failure_share: 1, min_calls: 100000}
providers:
  recorded: {kind: openai, base_url: %q, api_key: none}
models:
  recorded: {provider: recorded, id: recorded-1, stream: false, context_window: 1000000, max_output_tokens: 400000, prices: {input: 0, output: 0}}
`

const validityTask = `model: recorded
retry: {attempts: 1}
correction: {max_tokens: 1000000}
deadline: {default: 5m}
ladder: []
no_ladder: what does not become an output is to be seen
`

// Validity plays answers through a pipeline: each is what a model says to a request of its own. A model that is
// told what is wrong answers with a value that satisfies the schema.
func Validity(ctx context.Context, o ValidityOptions) (*ValidityReport, error) {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	model := &recorded{answers: o.Answers, better: map[string]string{}}
	for name, source := range o.Schemas {
		s, err := schema.Compile(source)
		if err != nil {
			return nil, fmt.Errorf("the schema of %s: %w", name, err)
		}
		better, _ := s.Sample(schema.RequiredOnly)
		text, err := json.Marshal(better)
		if err != nil {
			return nil, fmt.Errorf("a sample of %s: %w", name, err)
		}
		model.better[name] = string(text)
	}
	address, stop, err := model.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	tasks, err := o.tasks("http://" + address + "/v1")
	if err != nil {
		return nil, err
	}
	var all []played
	for n, a := range o.Answers {
		all = append(all, played{
			name: a.Name, class: a.Class, task: a.Task, input: fmt.Appendf(nil, `"%s%d"`, numberMark, n),
			isWrong: func(output json.RawMessage) bool { return !isMeant(output, a.Meant) },
		})
	}
	return o.playAll(ctx, tasks, all)
}

// Live asks real models, in a pipeline in this process, for count answers to each of the tasks, and counts what
// became of them. It costs money. inputs are tried in turn.
func Live(ctx context.Context, o Options, tasks *task.Set, inputs map[string][][]byte, count int) (*ValidityReport, error) {
	var all []played
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		for n := range count {
			all = append(all, played{
				name: fmt.Sprintf("%s %d", name, n), class: name, task: name, input: inputs[name][n%len(inputs[name])],
			})
		}
	}
	return (&ValidityOptions{Options: o}).playAll(ctx, tasks, all)
}

// played is one request.
type played struct {
	name, class, task string
	input             []byte // JSON
	// isWrong reports whether an output that needed no correction is not what was meant; nil: nobody knows.
	isWrong func(output json.RawMessage) bool
}

// playAll runs a pipeline for the requests. What ctx cuts short is reported as far as it came.
func (o *ValidityOptions) playAll(ctx context.Context, tasks *task.Set, all []played) (*ValidityReport, error) {
	b := &bench{Options: o.Options, limits: stage.DefaultLimits()}
	report := newValidityReport(all)
	err := b.onServer(func(url string) error {
		p, err := startPipeline(ctx, url, "", tasks, b.limits, &b.Options)
		if err != nil {
			return err
		}
		return errors.Join(o.play(ctx, p.conn, all, report), p.stop())
	})
	report.Cut = err != nil && ctx.Err() != nil
	slices.Sort(report.Wrong)
	return report, err
}

func (o *ValidityOptions) tasks(provider string) (*task.Set, error) {
	folder := fstest.MapFS{"models.yaml": {Data: fmt.Appendf(nil, validityModel, provider)}}
	for name, source := range o.Schemas {
		for file, text := range map[string]string{
			"task.yaml": validityTask, "output.schema.json": string(source), "prompt.tmpl": `{{define "user"}}{{.Input}}{{end}}`,
		} {
			folder["tasks/"+name+"/"+file] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return task.Load(folder, o.Getenv)
}

// play publishes a request an answer and counts what became of them.
func (o *ValidityOptions) play(ctx context.Context, conn *broker.Conn, all []played, report *ValidityReport) error {
	results := make(chan *nats.Msg, len(all))
	sub, err := conn.NC.ChanSubscribe(broker.AllResults, results)
	if err != nil {
		return fmt.Errorf("subscribe to the results: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection ends soon
	next := 0
	for done := range all {
		o.progress(PhaseValidity, done, len(all))
		for ; next < min(len(all), done+playedAtOnce); next++ {
			if err := all[next].publish(ctx, conn, next); err != nil {
				return err
			}
		}
		select {
		case m := <-results:
			if err := report.take(all, m); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// publish sends the n-th request.
func (p *played) publish(ctx context.Context, conn *broker.Conn, n int) error {
	_, err := conn.Publish(ctx, &nats.Msg{
		Subject: broker.RequestSubject(job.Interactive, p.task), Data: fmt.Appendf(nil, `{"input":%s,"cache":"bypass"}`, p.input),
		Header: nats.Header{broker.MsgIDHeader: {fmt.Sprintf("answer-%d", n)}},
	})
	if err != nil {
		return fmt.Errorf("publish request %d: %w", n, err)
	}
	return nil
}

func newValidityReport(all []played) *ValidityReport {
	r := &ValidityReport{Asked: len(all), All: newValidityClass("all")}
	for i := range all {
		r.class(all[i].class) // in the order of the requests, not of the results
		if all[i].isWrong != nil && r.Wrong == nil {
			r.Wrong = []string{}
		}
	}
	return r
}

func newValidityClass(name string) *ValidityClass {
	return &ValidityClass{Class: name, Steps: map[string]int{}, Codes: map[fate.Code]int{}}
}

// class returns the counts of a class, new ones behind the others.
func (r *ValidityReport) class(name string) *ValidityClass {
	for _, c := range r.Classes {
		if c.Class == name {
			return c
		}
	}
	c := newValidityClass(name)
	r.Classes = append(r.Classes, c)
	return c
}

// take counts a result.
func (r *ValidityReport) take(all []played, m *nats.Msg) error {
	var result job.Result
	if err := json.Unmarshal(m.Data, &result); err != nil {
		return fmt.Errorf("decode the result on %s: %w", m.Subject, err)
	}
	var n int
	if _, err := fmt.Sscanf(result.ID, "answer-%d", &n); err != nil || n < 0 || n >= len(all) {
		return fmt.Errorf("a result of nobody's: %q", result.ID)
	}
	wrong := r.class(all[n].class).add(&all[n], &result)
	r.All.add(&all[n], &result)
	if wrong {
		r.Wrong = append(r.Wrong, all[n].name)
	}
	return nil
}

// add counts a result, and reports whether it is wrong.
func (c *ValidityClass) add(p *played, result *job.Result) (wrong bool) {
	c.Answers++
	c.Calls += result.Usage.Calls
	c.InputTokens += result.Usage.InputTokens
	c.OutputTokens += result.Usage.OutputTokens
	c.CostUSD += result.CostUSD
	step := result.Recovery
	if result.Status != job.Succeeded {
		step = StepNone
		c.Codes[codeOf(result)]++
	}
	c.Steps[step]++
	if p.isWrong == nil {
		return false
	}
	if c.Wrong == nil {
		c.Wrong = new(int)
	}
	if wrong = step != StepNone && step != job.RecoveryCorrected && p.isWrong(result.Output); wrong {
		*c.Wrong++
	}
	return wrong
}

// codeOf is why a run did not succeed.
func codeOf(result *job.Result) fate.Code {
	switch {
	case result.Error != nil:
		return result.Error.Code
	case result.Degraded != nil:
		return result.Degraded.Reason
	}
	return fate.Code(result.Status)
}

// isMeant compares values as JSON has them: 1.0 is 1, and members have no order.
func isMeant(output, meant json.RawMessage) bool {
	var is, should any
	return meant != nil && json.Unmarshal(output, &is) == nil && json.Unmarshal(meant, &should) == nil && reflect.DeepEqual(is, should)
}
