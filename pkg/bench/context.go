package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing/fstest"

	"github.com/nats-io/nats.go"
	"github.com/tiktoken-go/tokenizer"

	"spillway/pkg/broker"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// PhaseContext is the phase of Context.
const PhaseContext = "turns of one session"

// MaxTurns bounds a session of Context.
const MaxTurns = 100_000

const (
	contextTask = "conversation"
	// contextAnswer is what the model says to everything, with a nonce of its own.
	contextAnswer = "Thank you for writing. A replacement is on its way and should arrive within a week; it costs you nothing. {{nonce}}"
	contextModel  = `providers:
  bench: {kind: openai, base_url: %q, api_key: none}
models:
  bench: {provider: bench, id: bench-1, context_window: 128000, max_output_tokens: 16384, encoding: o200k_base, prices: {as_of: "2026-11-01", input: 0.15, output: 0.6}}
`
	contextYAML = `model: bench
deadline: {default: 5m}
output: {format: text}
ladder: []
no_ladder: the bench wants to see a failure
context: {session: required, max_input_tokens: %d, recent_turns: 1000, summary: none}
`
	contextSystem = "You answer the letters that customers write to a shop."
	contextPrompt = `{{define "system"}}` + contextSystem + `{{end}}{{define "user"}}{{.Input}}{{end}}`
)

// ContextOptions are those of Context.
type ContextOptions struct {
	// Turns are the requests of the session, Budget the most tokens that a prompt may have.
	Turns, Budget int
	Options
}

// ContextReport says what the requests of a session cost in tokens, beside those of a client that sends its whole
// history.
type ContextReport struct {
	Turns  int `json:"turns"`
	Budget int `json:"budget"`
	Cores  int `json:"cores"`
	// Requests are in their order.
	Requests []ContextRequest `json:"requests"`
	// FullFrom is the first request that something was left out of, from 1; 0: the window never was full.
	FullFrom int `json:"full_from"`
	// Over are the requests that the provider counted above the budget.
	Over int `json:"over_budget"`
	// CostUSD is that of all prompts, FullCostUSD what those with the whole history would have cost.
	CostUSD     float64 `json:"cost_usd"`
	FullCostUSD float64 `json:"full_history_cost_usd"`
	Checks      Checks  `json:"checks"`
}

// ContextRequest is one of them.
type ContextRequest struct {
	// Counted is what the pipeline counted before the call, Provider what the provider did of what it received, and
	// Full what it would have of the whole history.
	Counted  int `json:"counted_tokens"`
	Provider int `json:"provider_tokens"`
	Full     int `json:"full_history_tokens"`
	// Shown are the turns in the prompt, LeftOut those that are not.
	Shown   int `json:"turns_shown"`
	LeftOut int `json:"turns_left_out"`
}

// Context sends one request after the other in one session, each as soon as the result of the one before is there.
// The provider counts the tokens of what it received with the vocabulary's own library, the text as a whole.
func Context(ctx context.Context, o ContextOptions) (*ContextReport, error) {
	if o.Turns < 1 || o.Turns > MaxTurns {
		return nil, fmt.Errorf("turns are 1 to %d, not %d", MaxTurns, o.Turns)
	}
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return nil, fmt.Errorf("load the provider's vocabulary: %w", err)
	}
	scale := &scale{codec: codec}
	provider, err := fakellm.Start(fakellm.Options{PromptTokens: scale.weigh, Log: o.Log})
	if err != nil {
		return nil, fmt.Errorf("start the simulated provider: %w", err)
	}
	defer func() { _ = provider.Close() }() // it ends what hangs; nothing does
	provider.SetAnswer(modelID, contextAnswer)
	tasks, err := contextTasks(provider.URL(), o.Budget)
	if err != nil {
		return nil, err
	}
	b := &bench{Options: o.Options, provider: provider, limits: stage.DefaultLimits()}
	c := &conversation{ContextOptions: &o, scale: scale, price: tasks.Models[model].Prices, report: &ContextReport{Turns: o.Turns, Budget: o.Budget, Cores: runtime.GOMAXPROCS(0)}}
	c.report.Checks.OwnBy = "nonce"
	err = b.onServer(func(url string) error {
		p, err := startPipeline(ctx, url, "", tasks, b.limits, &b.Options)
		if err != nil {
			return err
		}
		return errors.Join(c.talk(ctx, p.conn), p.stop())
	})
	c.report.Checks.Calls = provider.Counts().Calls
	c.report.Checks.PaidTwice = max(c.report.Checks.Calls-c.report.Checks.Results, 0)
	return c.report, err
}

func contextTasks(provider string, budget int) (*task.Set, error) {
	set, err := task.Load(fstest.MapFS{
		"models.yaml":                                 {Data: fmt.Appendf(nil, contextModel, provider)},
		"tasks/" + contextTask + "/task.yaml":         {Data: fmt.Appendf(nil, contextYAML, budget)},
		"tasks/" + contextTask + "/prompt.tmpl":       {Data: []byte(contextPrompt)},
		"tasks/" + contextTask + "/input.schema.json": {Data: []byte(`{"type":"string"}`)},
	}, func(string) string { return "" })
	if err != nil {
		return nil, fmt.Errorf("load the task of the bench: %w", err)
	}
	return set, nil
}

// scale counts prompts as the provider does.
type scale struct {
	codec tokenizer.Codec
	mu    sync.Mutex
	last  int
	fault error
}

// weigh counts the prompt of a request, and remembers it until it is read.
func (s *scale) weigh(body []byte) int {
	var asked struct {
		Messages []job.Message `json:"messages"`
	}
	err := json.Unmarshal(body, &asked)
	n := 0
	if err == nil {
		n, err = s.count(asked.Messages)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.fault = n, errors.Join(s.fault, err)
	return n
}

// The framing of OpenAI's models, as their cookbook has it.
const (
	perMessage = 3
	perReply   = 3
)

// count returns the tokens of messages, the beginning of the reply included.
func (s *scale) count(messages []job.Message) (int, error) {
	total := perReply
	for _, m := range messages {
		for _, text := range []string{m.Role, m.Content} {
			n, err := s.codec.Count(text)
			if err != nil {
				return 0, err
			}
			total += n
		}
		total += perMessage
	}
	return total, nil
}

func (s *scale) read() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.fault
}

// conversation is one session of one client.
type conversation struct {
	*ContextOptions
	scale  *scale
	price  task.Prices
	report *ContextReport
	// history is what the client would have to send: all that was said.
	history int
}

func (c *conversation) talk(ctx context.Context, conn *broker.Conn) error {
	results := make(chan *nats.Msg, 1)
	sub, err := conn.NC.ChanSubscribe(broker.AllResults, results)
	if err != nil {
		return fmt.Errorf("subscribe to the results: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection ends soon
	if c.history, err = c.scale.count([]job.Message{{Role: "system", Content: contextSystem}}); err != nil {
		return err
	}
	for n := range c.Turns {
		c.progress(PhaseContext, n, c.Turns)
		text := letter(n)
		body, err := json.Marshal(map[string]any{"input": text, "session": "bench"})
		if err != nil {
			return err
		}
		_, err = conn.Publish(ctx, &nats.Msg{Subject: broker.RequestSubject(job.Interactive, contextTask), Data: body, Header: nats.Header{broker.MsgIDHeader: {fmt.Sprintf("turn-%d", n)}}})
		if err != nil {
			return fmt.Errorf("publish request %d: %w", n, err)
		}
		select {
		case m := <-results:
			err = c.take(text, m)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// letter is what the customer writes in the n-th turn.
func letter(n int) string { return fmt.Sprintf("Letter %d. %s", n, prose) }

// take counts a result.
func (c *conversation) take(text string, m *nats.Msg) error {
	var result job.Result
	if err := json.Unmarshal(m.Data, &result); err != nil {
		return fmt.Errorf("decode the result on %s: %w", m.Subject, err)
	}
	r := c.report
	r.Checks.Jobs++
	r.Checks.Results++
	if result.Status != job.Succeeded {
		return fmt.Errorf("request %d ended as %s (%s): a session without its answer says nothing of the next", len(r.Requests)+1, result.Status, codeOf(&result))
	}
	var answer string
	if err := json.Unmarshal(result.Output, &answer); err != nil {
		return fmt.Errorf("decode the answer on %s: %w", m.Subject, err)
	}
	if want := fakellm.Nonce(text); !strings.Contains(answer, want) {
		r.Checks.Foreign++
	}
	one, err := c.measure(text, answer, &result)
	if err != nil {
		return err
	}
	r.Requests = append(r.Requests, one)
	if one.LeftOut > 0 && r.FullFrom == 0 {
		r.FullFrom = len(r.Requests)
	}
	if one.Provider > r.Budget {
		r.Over++
	}
	r.CostUSD += c.price.Cost(one.Provider, 0)
	r.FullCostUSD += c.price.Cost(one.Full, 0)
	return nil
}

// measure puts together what was counted of a request.
func (c *conversation) measure(text, answer string, result *job.Result) (one ContextRequest, err error) {
	if one.Provider, err = c.scale.read(); err != nil {
		return one, fmt.Errorf("count as the provider does: %w", err)
	}
	said := func(role, content string) int {
		n, countErr := c.scale.count([]job.Message{{Role: role, Content: content}})
		err = errors.Join(err, countErr)
		return n - perReply
	}
	c.history += said("user", text)
	one.Full = c.history
	c.history += said("assistant", answer)
	for _, e := range result.History {
		if e.Kind == job.KindCall {
			one.Counted = e.CountedTokens
		}
		for _, s := range e.Sections {
			if s.Name == job.SectionTurns {
				one.Shown, one.LeftOut = s.Kept, s.Dropped
			}
		}
	}
	return one, err
}

// Flat are the least and the most tokens of a prompt since the window was full, as the provider counted.
func (r *ContextReport) Flat() (least, most int) {
	for i, q := range r.Requests[max(r.FullFrom-1, 0):] {
		if i == 0 {
			least = q.Provider
		}
		least, most = min(least, q.Provider), max(most, q.Provider)
	}
	return least, most
}
