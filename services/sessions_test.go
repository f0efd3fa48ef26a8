package services_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

const wholeMemory = "session: required, recent_turns: 1000, summary: none"

// The witness is the provider: it was sent, with each question, an unbroken end of the conversation, whose last turn
// is that whose answer the client had just heard. Its own count of each prompt is within the budget.
func TestARequestSeesTheTurnThatTheClientJustHeardAThousandTimesThoughItsStageIsKilled(t *testing.T) {
	t.Parallel()
	const sessions, turns, budget, kills = 4, 250, 900, 3
	c := newTalk(t, brokertest.Server(t).URL(), fmt.Sprintf("session: required, recent_turns: 30, max_input_tokens: %d, summary: none", budget))
	c.runAllBut(broker.ContextBuilder)
	p := newProcesses(c.rig)
	running := p.mustStart(broker.ContextBuilder)
	var all sync.WaitGroup
	for s := range sessions {
		all.Go(func() {
			for n := range turns {
				if !c.converse(fmt.Sprintf("s%d", s), question(s, n)) {
					return
				}
			}
		})
	}
	for n := range kills { // with a request of each session somewhere on its way
		brokertest.Eventually(t, 2*time.Minute, "the sessions go on", func() bool { return c.heard.distinct() > (n+1)*sessions*turns/(kills+1) || t.Failed() })
		running.end(t, syscall.SIGKILL)
		running = p.mustStart(broker.ContextBuilder)
	}
	all.Wait()
	for s := range sessions {
		var questions []string
		for n := range turns {
			questions = append(questions, question(s, n))
		}
		c.sawWhatWasHeard(questions, budget)
	}
	p.drain([]*child{running})
}

func question(session, n int) string {
	return fmt.Sprintf("Question %d of the long conversation %d", n, session)
}

// sawWhatWasHeard holds the prompts of a session, which asked one question after the other, against what was said.
func (c *talk) sawWhatWasHeard(questions []string, budget int) {
	c.t.Helper()
	const least = 10 // turns fit in any case
	all := exchanges(questions...)
	for n, q := range questions {
		prompts := c.hearing.of(q)
		if len(prompts) == 0 {
			c.t.Errorf("the provider was never asked %q", q)
		}
		for _, prompt := range prompts {
			before := prompt.before()
			if from := 2*n - len(before); from < 0 || !slices.Equal(before, all[from:2*n]) || len(before) < 2*min(n, least) {
				c.t.Errorf("%q came with %d messages, which are not the last before it: %v", q, len(before), before[max(0, len(before)-2):])
			}
			if prompt.tokens > budget {
				c.t.Errorf("%q: the provider counts %d tokens", q, prompt.tokens)
			}
		}
	}
}

// Both requests are published at once. Which is the first, the stream says.
func TestOfTwoRequestsAtOnceTheSecondSeesTheAnswerOfTheFirst(t *testing.T) {
	t.Parallel()
	const sessions, rounds = 10, 6
	c := newTalk(t, brokertest.Server(t).URL(), wholeMemory)
	c.run()
	c.run(broker.Ingest, broker.ContextBuilder) // the two may be in the hands of two processes
	var all sync.WaitGroup
	for s := range sessions {
		all.Go(func() { c.pairs(fmt.Sprintf("s%d", s), rounds) })
	}
	all.Wait()
}

// pairs sends two requests of a session at once, again and again, and holds the prompts against the stream's order.
func (c *talk) pairs(session string, rounds int) {
	var order []string
	for n := range rounds {
		type one struct {
			question, id string
			seq          uint64
		}
		two := []one{{question: fmt.Sprintf("Left %d in %s", n, session)}, {question: fmt.Sprintf("Right %d in %s", n, session)}}
		var both sync.WaitGroup
		for i := range two {
			both.Go(func() { two[i].id, two[i].seq = c.say(session, two[i].question) })
		}
		both.Wait()
		slices.SortFunc(two, func(a, b one) int { return int(int64(a.seq) - int64(b.seq)) })
		for _, q := range two {
			if _, isHeard := c.ended(q.id); !isHeard {
				return
			}
			order = append(order, q.question)
		}
	}
	for n, q := range order {
		for _, prompt := range c.hearing.of(q) {
			if want := exchanges(order[:n]...); !slices.Equal(prompt.before(), want) {
				c.t.Errorf("%q, number %d, came with %d messages, not %d: %v", q, n, len(prompt.before()), len(want), prompt.before())
			}
		}
	}
}

// Requests are redelivered to processes that take the place of killed ones, and the broker dies too. The last prompt
// of a session then has every turn that a reader of the results knows of, once and in order.
func TestEveryTurnIsRememberedOnceAndInOrderThoughTheBrokerAndStagesAreKilled(t *testing.T) {
	t.Parallel()
	const sessions, rounds = 3, 14
	s := startServer(t)
	c := newTalk(t, s.url(), wholeMemory)
	c.runAllBut(broker.ContextBuilder)
	p := newProcesses(c.rig)
	running := p.mustStart(broker.ContextBuilder)
	questions := map[string][]string{}
	for n := range rounds {
		var ids []string
		for session := range sessions {
			name := fmt.Sprintf("s%d", session)
			for _, side := range []string{"first", "second"} { // the second does not wait for the answer of the first
				q := fmt.Sprintf("The %s question of round %d in %s", side, n, name)
				id, _ := c.say(name, q)
				ids, questions[name] = append(ids, id), append(questions[name], q)
			}
		}
		switch n {
		case rounds / 3:
			running.end(t, syscall.SIGKILL)
			running = p.mustStart(broker.ContextBuilder)
		case 2 * rounds / 3:
			s.kill()
			s.start()
		}
		for _, id := range ids {
			if r := c.result(id, 1); r.Status != job.Succeeded {
				t.Fatalf("%s: %s %+v", id, r.Status, r.Error)
			}
		}
	}
	for name, asked := range questions {
		last := "What was said in " + name
		id, _ := c.say(name, last)
		c.result(id, 1)
		if got := c.hearing.of(last)[0].before(); !slices.Equal(got, exchanges(asked...)) {
			t.Errorf("%s has %d messages, not %d:\n%v", name, len(got), 2*len(asked), got)
		}
	}
	p.drain([]*child{running})
}

func TestTenantsWithTheSameSessionNeverSeeEachOther(t *testing.T) {
	t.Parallel()
	c := newTalk(t, brokertest.Server(t).URL(), wholeMemory)
	c.run()
	var all sync.WaitGroup
	for _, tenant := range []string{"acme", "globex", "nobody"} {
		all.Go(func() {
			for n := range 8 {
				whose := func(body map[string]any) {
					if tenant != "nobody" {
						body["tenant"] = tenant
					}
				}
				if !c.converse("the-same", fmt.Sprintf("Question %d of %s", n, tenant), whose) {
					return
				}
			}
		})
	}
	all.Wait()
	for _, prompt := range c.hearing.all() {
		var n int
		var whose string
		if _, err := fmt.Sscanf(prompt.question(), "Question %d of %s", &n, &whose); err != nil {
			t.Fatal(err)
		}
		var own []string
		for i := range n {
			own = append(own, fmt.Sprintf("Question %d of %s", i, whose))
		}
		if !slices.Equal(prompt.before(), exchanges(own...)) {
			t.Errorf("%q came with %v", prompt.question(), prompt.before())
		}
	}
}

// With order: as_accepted nobody waits: the second is answered while the model still thinks about the first. What is
// known by then is seen in the order of acceptance.
func TestAsAcceptedDoesNotWaitForTheAnswerBefore(t *testing.T) {
	t.Parallel()
	c := newTalk(t, brokertest.Server(t).URL(), wholeMemory+", order: as_accepted")
	c.run()
	release := c.hearing.hold("The slow one")
	slow, _ := c.say("s", "The slow one")
	brokertest.Eventually(t, 30*time.Second, "the provider has the slow one", func() bool { return len(c.hearing.of("The slow one")) == 1 })
	c.converse("s", "The quick one")
	if before := c.hearing.of("The quick one")[0].before(); len(before) != 0 {
		t.Errorf("the quick one came with %v", before)
	}
	release()
	c.answered(slow, "The slow one")
	c.converse("s", "The last one")
	if before := c.hearing.of("The last one")[0].before(); !slices.Equal(before, exchanges("The slow one", "The quick one")) {
		t.Errorf("the last one came with %v", before)
	}
}

// With one_at_a_time, the default, the second waits, and its history says for whom. Another session does not.
func TestTheSecondOfASessionWaitsAndSaysSo(t *testing.T) {
	t.Parallel()
	c := newTalk(t, brokertest.Server(t).URL(), wholeMemory)
	c.run()
	release := c.hearing.hold("The slow one")
	slow, _ := c.say("s", "The slow one")
	brokertest.Eventually(t, 30*time.Second, "the provider has the slow one", func() bool { return len(c.hearing.of("The slow one")) == 1 })
	second, _ := c.say("s", "The second one")
	c.converse("another", "Of another session")
	brokertest.Eventually(t, 30*time.Second, "the second one comes back", func() bool {
		return c.heard.hopsOf(second, broker.ContextBuilder) > 2
	})
	if n := len(c.hearing.of("The second one")); n != 0 || len(c.heard.of(second)) != 0 {
		t.Fatal("the second one did not wait")
	}
	release()
	c.answered(slow, "The slow one")
	c.answered(second, "The second one")
	if before := c.hearing.of("The second one")[0].before(); !slices.Equal(before, exchanges("The slow one")) {
		t.Errorf("the second one came with %v", before)
	}
	r := c.result(second, 1)
	if !slices.ContainsFunc(r.History, func(e job.Event) bool { return e.Stage == broker.ContextBuilder && strings.Contains(e.Detail, slow) }) {
		t.Errorf("the history does not say that it waited for %s: %s", slow, lines(r.History))
	}
}

// The model of summaries fails. The session goes on, and the beginnings of the turns stand in.
func TestASessionWhoseSummariesFailGoesOn(t *testing.T) {
	t.Parallel()
	c := newTalk(t, brokertest.Server(t).URL(), "session: required, recent_turns: 2, summary: {task: sum, max_tokens: 80}")
	c.other.SetFaults(fakellm.Fault{Kind: fakellm.KindServerError})
	c.run()
	var questions []string
	for n := range 60 {
		q := fmt.Sprintf("Question %d", n)
		questions = append(questions, q)
		if !c.converse("s", q) {
			return
		}
		before := c.hearing.of(q)[0].before()
		if len(before) == 0 || !strings.HasPrefix(before[0].Content, "Summary of the conversation so far:") {
			continue
		}
		if before[0].Role != "user" || !strings.Contains(before[0].Content, questions[0]) {
			t.Fatalf("the summary is %+v", before[0])
		}
		shown := len(before[1:]) / 2
		if shown < min(n, 2) || shown >= n || !slices.Equal(before[1:], exchanges(questions[n-shown:n]...)) {
			t.Errorf("after the summary, of %d turns these are shown: %v", n, before[1:])
		}
		return
	}
	t.Fatalf("no summary is shown after %d turns: %v", len(questions), c.hearing.of(questions[len(questions)-1])[0].messages)
}
