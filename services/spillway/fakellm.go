package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"spillway/pkg/fakellm"
)

// fakellmCmd runs the simulated provider for other programs.
type fakellmCmd struct {
	Addr     string        `help:"Address to listen on." default:"127.0.0.1:8089"`
	Latency  time.Duration `help:"Time to the first token." default:"300ms"`
	PerToken time.Duration `help:"Time between two tokens." default:"10ms"`
	Sigma    float64       `help:"Spread of both (lognormal); 0: none." default:"0"`
	Fault    []string      `help:"Misbehave: a kind of fault, and the share of calls that it strikes, like 429:0.2. Repeatable; the first that strikes counts." placeholder:"KIND[:RATE]"`
	Seed     uint64        `help:"Varies answers and draws." default:"0"`

	RequestsPerMinute int `help:"Refuse calls beyond so many in any minute, of all models together; 0: none." default:"0"`
	TokensPerMinute   int `help:"Refuse calls beyond so many tokens in any minute, of all models together; 0: none." default:"0"`
	Concurrency       int `help:"Refuse calls beyond so many at once, of all models together; 0: none." default:"0"`
}

// Run serves until ctx ends, then prints what was counted.
func (c *fakellmCmd) Run(ctx context.Context, g *globals) error {
	if c.Latency < 0 || c.PerToken < 0 || c.Sigma < 0 {
		return exit(exitUsage, "--latency, --per-token and --sigma are not negative")
	}
	var faults []fakellm.Fault
	for _, text := range c.Fault {
		f, err := parseFault(text)
		if err != nil {
			return err
		}
		faults = append(faults, f)
	}
	limits, err := c.limits()
	if err != nil {
		return err
	}
	s, err := fakellm.Start(fakellm.Options{
		Addr: c.Addr, Latency: fakellm.Latency{FirstToken: c.Latency, PerToken: c.PerToken, Sigma: c.Sigma},
		Seed: c.Seed, Faults: faults, Limits: limits, Log: g.logger(),
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("the address %s is taken: choose another with --addr, or 127.0.0.1:0 for any free port", c.Addr)
	}
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // a second time, after errors
	if err := c.serving(g, s); err != nil {
		return quiet(err)
	}
	<-ctx.Done()
	_ = s.Close() // its error is of a listener that is gone
	return quiet(c.counted(g, s.Counts()))
}

// limits returns what the flags limit.
func (c *fakellmCmd) limits() ([]fakellm.Limit, error) {
	l := fakellm.Limit{
		Requests: c.RequestsPerMinute, Tokens: c.TokensPerMinute, Concurrency: c.Concurrency,
		Window: time.Minute, Headers: true,
	}
	if min(l.Requests, l.Tokens, l.Concurrency) < 0 {
		return nil, exit(exitUsage, "--requests-per-minute, --tokens-per-minute and --concurrency are not negative")
	}
	if max(l.Requests, l.Tokens, l.Concurrency) == 0 {
		return nil, nil
	}
	return []fakellm.Limit{l}, nil
}

// parseFault reads kind[:rate].
func parseFault(text string) (fakellm.Fault, error) {
	kind, share, hasRate := strings.Cut(text, ":")
	f := fakellm.Fault{Kind: kind}
	if hasRate {
		rate, err := strconv.ParseFloat(share, 64)
		if err != nil || !(rate > 0 && rate <= 1) {
			return f, exit(exitUsage, "--fault %s: the rate is above 0 and at most 1", text)
		}
		f.Rate = rate
	}
	if !slices.Contains(fakellm.Kinds(), kind) {
		return f, exit(exitUsage, "--fault %s: there is no such kind; there are %s", text, strings.Join(fakellm.Kinds(), ", "))
	}
	return f, nil
}

// steering are the control endpoints of package fakellm, for people.
func steering() [][2]string {
	return [][2]string{
		{"GET  /fake/counts", "what was counted"},
		{"GET  /fake/requests", "the recorded calls (?model=)"},
		{"GET  /fake/arrivals", "when calls came, in unix ms (?model=)"},
		{"PUT  /fake/faults", `["429", {"kind": "hang", "rate": 0.1}]; GET shows them`},
		{"POST /fake/script", `{"model": "…", "faults": ["429", "ok"]}: the next calls, in order`},
		{"PUT  /fake/answers", `{"model": "…", "answers": ["…"]}: literal answers`},
		{"PUT  /fake/latency", `{"first_token": "300ms", "per_token": "20ms"}`},
		{"PUT  /fake/usage", `{"model": "…", "input": 1200, "output": 300}: what answers say they took`},
		{"PUT  /fake/limits", `[{"requests": 60, "tokens": 10000, "concurrency": 8, "window": "60s"}]; GET shows them`},
		{"POST /fake/reset", "back to the start"},
	}
}

func (c *fakellmCmd) serving(g *globals, s *fakellm.Server) error {
	if g.cli.JSON {
		return g.printJSON(map[string]any{"event": "ready", "base_url": s.URL(), "control": s.Root() + "/fake/"})
	}
	t := newTable(g.stdout)
	t.row("simulated provider", s.URL())
	t.row("use it", "OPENAI_BASE_URL="+s.URL()+" OPENAI_API_KEY=any")
	for i, e := range steering() {
		label := ""
		if i == 0 {
			label = "control"
		}
		t.row(label, e[0], e[1])
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(g.stdout, "faults: %s. Ctrl-C stops.\n", dash(strings.Join(c.Fault, ", ")))
	return err
}

func (c *fakellmCmd) counted(g *globals, n fakellm.Counts) error {
	if g.cli.JSON {
		return g.printJSON(map[string]any{
			"event": "stopped", "calls": n.Calls, "max_in_flight": n.MaxInFlight, "disconnects": n.Disconnects,
			"outcomes": n.Outcomes, "models": n.Models, "inputs": len(n.Nonces) + n.Forgotten,
		})
	}
	if _, err := fmt.Fprintf(g.stdout, "%s of %s, at most %d at once\n", count(n.Calls, "call"), count(len(n.Nonces)+n.Forgotten, "input"), n.MaxInFlight); err != nil {
		return err
	}
	t := newTable(g.stdout)
	for _, outcome := range slices.Sorted(maps.Keys(n.Outcomes)) {
		t.row("  "+outcome, n.Outcomes[outcome])
	}
	return t.flush()
}
