package services_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// The moments of a limit's trial. A window is a minute, as with real providers, so it takes more than two.
const (
	longerAt     = 30 * time.Second
	killedAt     = 40 * time.Second
	replacedAt   = 60 * time.Second
	measuredFrom = 10 * time.Second
	measuredTo   = 130 * time.Second
)

// slowly lets answers take their time.
const slowly = ", timeouts: {first_token: 10s, silence: 10s, call: 20s}"

const limitedYAML = `model: small
parameters: {max_output_tokens: 300}
deadline: {default: 10m, max: 10m, reserve: 2s}
retry: {attempts: 5, max_calls: 6, first_delay: 1s, factor: 1.5, max_delay: 5s, jitter: 0.1, retry_after_max: 1m}
` + ladderNone

// The trials run side by side: what only waits for a minute to pass needs no place of its own among the
// parallel tests.
func TestTheLimitsOfAMinuteAreUsedAndNeverExceededThoughReplicasDieAndCome(t *testing.T) {
	t.Parallel()
	usual := fakellm.Usage{Input: 200, Output: 300}
	requests := &rate{
		settings: slowly + ", limits: {requests_per_minute: 600}", limit: fakellm.Limit{Requests: 600}, jobs: 1600, takes: 2 * time.Second,
		usual: usual, later: usual,
	}
	tokens := &rate{
		settings: slowly + ", limits: {tokens_per_minute: 480000}", limit: fakellm.Limit{Tokens: 480_000}, jobs: 1700, takes: time.Second / 2,
		usual: usual, later: fakellm.Usage{Input: 200, Output: 900},
	}
	low := &line{}
	requests.setup(t)
	tokens.setup(t)
	low.setup(t)
	play(t, append(append(requests.steps(), tokens.steps()...), low.steps()...)...)
	t.Run("requests", requests.check)
	t.Run("tokens", tokens.check)
	t.Run("jobs over a limit wait outside the processes, in their order", low.check)
}

// rate is a limit of a minute that the provider keeps in a window of its own.
type rate struct {
	*pressed
	settings string
	limit    fakellm.Limit
	jobs     int
	// takes is how long an answer takes: some are under way when a process is killed.
	takes time.Duration
	// usual is what a call takes at first, later from longerAt on.
	usual, later fakellm.Usage

	killed *child
	// What the provider had counted at the moments.
	from, longer, to look
	// caught are the inputs of the calls that were under way at the kill.
	caught map[string]bool
}

// look is what a provider counted until a moment: calls that began, and answers that were sent to their end.
type look struct {
	at              time.Time
	calls, answered int
}

func (m *rate) setup(t *testing.T) {
	t.Helper()
	m.pressed = press(t, m.settings, map[string]string{"bare": limitedYAML})
	m.first.SetLimits(m.limit)
	m.first.SetUsage("", m.usual)
	m.first.SetLatency(fakellm.Latency{FirstToken: m.takes})
	m.runAllBut(broker.Inference)
	for n := range m.jobs {
		m.send(job.Interactive, "bare", fmt.Sprintf("question %d", n))
	}
}

func (m *rate) steps() []step {
	return []step{
		{0, func() {
			m.killed = newProcesses(m.rig).mustStart(broker.Inference)
			m.run(broker.Inference)
		}},
		{measuredFrom, func() { m.from = m.look() }},
		{longerAt, func() {
			m.longer = m.look()
			m.first.SetUsage("", m.later)
		}},
		{killedAt, m.kill},
		{replacedAt, func() { m.run(broker.Inference) }},
		{measuredTo, m.lift},
	}
}

func (m *rate) look() look {
	c := m.first.Counts()
	return look{at: time.Now(), calls: c.Calls, answered: c.Outcomes[fakellm.KindOK]}
}

func (m *rate) kill() {
	m.killed.end(m.t, syscall.SIGKILL)
	m.caught = map[string]bool{}
	for _, c := range m.first.Requests("") {
		if time.Since(c.At) < m.takes+time.Second {
			m.caught[c.Nonce] = true
		}
	}
}

// lift ends the measuring, and lets what still waits be answered soon.
func (m *rate) lift() {
	m.to = m.look()
	m.first.SetLimits()
	m.first.SetLatency(fakellm.Latency{})
	m.redeploy(slowly, map[string]string{"bare": limitedYAML})
	m.run(broker.Inference)
}

func (m *rate) check(t *testing.T) {
	own := *m
	own.pressed = m.on(t)
	own.checkLimit()
	own.checkJobs()
}

func (m *rate) checkLimit() {
	if n := m.first.Counts().Outcomes[fakellm.OutcomeLimited]; n != 0 {
		m.t.Errorf("the provider refused %d calls", n)
	}
	if m.to.calls >= m.jobs {
		m.t.Errorf("all %d jobs were called before the end: the limit was not what held them back", m.jobs)
	}
	span := m.to.at.Sub(m.from.at)
	used, allowed := m.used(m.to)-m.used(m.from), float64(m.limit.Requests+m.limit.Tokens)*span.Minutes()
	// 60/62 is what the log's slack leaves. Tokens are settled when answers end, which a busy machine delays.
	least := 0.95
	if m.limit.Tokens > 0 {
		least = 0.93
	}
	if used < least*allowed {
		m.t.Errorf("%.1f %% of the limit were used", 100*used/allowed)
	}
	arrivals := within(m.first.Arrivals(""), time.Time{}, m.to.at)
	m.t.Logf("%d calls, at most %d in a minute; %.1f %% of the limit were used in %s", len(arrivals), mostIn(arrivals, time.Minute),
		100*used/allowed, span.Round(time.Millisecond))
}

// used is what had counted against the limit at a moment: answers last equally long, so they end in the
// order in which they began.
func (m *rate) used(until look) float64 {
	if m.limit.Requests > 0 {
		return float64(until.calls)
	}
	calls, answered := min(until.calls, m.longer.calls), min(until.answered, m.longer.calls)
	return float64(calls*m.usual.Input + (until.calls-calls)*m.later.Input + answered*m.usual.Output + (until.answered-answered)*m.later.Output)
}

// checkJobs wants one answer for each job, and one call but for those that the kill cut short.
func (m *rate) checkJobs() {
	m.allLive()
	c, repeated := m.first.Counts(), 0
	for nonce, n := range c.Nonces {
		if n > 1 {
			repeated++
		}
		if n > 2 || n > 1 && !m.caught[nonce] {
			m.t.Errorf("%d calls for %s, under way at the kill %v", n, nonce, m.caught[nonce])
		}
	}
	if c.Disconnects == 0 && m.takes > time.Second {
		m.t.Error("no call was under way in the process that was killed")
	}
	m.t.Logf("%d jobs, %d calls cut short by the kill, %d repeated", m.jobs, c.Disconnects, repeated)
}
