package services_test

import (
	"fmt"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// The jobs over a low limit come at two paces, which both exceed it by themselves. They do not come at once:
// of jobs that are in the pipeline's hands together nobody says which came first.
const (
	lineFast      = 24
	lineSlow      = 3
	lineSlowFrom  = 10 * time.Second
	lineSlowTo    = 40 * time.Second
	lineLookedAt  = 50 * time.Second
	lineRestarted = 75 * time.Second
	// overtakers is how many later jobs may be called before one: what two replicas hold to find takers for the
	// next second, and not the whole line. Those that a restart hands back lose their order among themselves.
	overtakers          = 48
	overtakersByRestart = 96
	// mostInHand is how many jobs two replicas may hold in wait for their turn.
	mostInHand = 64
)

// line is many jobs that wait for a limit that lets one a second through.
type line struct {
	*pressed
	leave func()
	// early are the calls before the restart, order those before the limit was lifted.
	early, order []fakellm.Request
}

func (l *line) setup(t *testing.T) {
	t.Helper()
	l.pressed = press(t, slowly+", limits: {requests_per_minute: 60}", map[string]string{"bare": limitedYAML})
	l.first.SetLimits(fakellm.Limit{Requests: 60})
	l.runAllBut(broker.Inference)
}

func (l *line) steps() []step {
	n, stop := 0, func() {}
	ask := func(int) {
		l.send(job.Interactive, "bare", fmt.Sprintf("question %d", n))
		n++
	}
	return []step{
		{0, func() {
			l.leave = l.run(broker.Inference, broker.Inference)
			stop = l.load(lineFast, ask)
		}},
		{lineSlowFrom, func() {
			stop()
			stop = l.load(lineSlow, ask)
		}},
		{lineSlowTo, func() { stop() }},
		{lineLookedAt, l.waitsOutside},
		{lineRestarted, func() {
			l.early = l.first.Requests("")
			l.leave()
			l.leave = l.run(broker.Inference, broker.Inference)
		}},
		{measuredTo, func() {
			l.waitsOutside()
			l.leave() // what they hold in wait for their turn would take as long as before
			l.lift()
		}},
	}
}

// waitsOutside wants the jobs that were not called yet to be parked, and few of them in the processes.
func (l *line) waitsOutside() {
	l.t.Helper()
	waiting := len(l.all()) - l.first.Counts().Calls
	parked, inHand := l.parked(job.Interactive), l.inHand()
	if parked < waiting*9/10 || inHand > mostInHand {
		l.t.Errorf("%d of %d waiting jobs are parked, the replicas hold %d", parked, waiting, inHand)
	}
	l.t.Logf("%d jobs wait, %d are parked, the replicas hold %d of them", waiting, parked, inHand)
}

// inHand counts the parked jobs that were delivered and are not acknowledged.
func (l *line) inHand() int {
	l.t.Helper()
	c, err := l.conn.JS.Consumer(l.t.Context(), broker.ParkedStream, broker.ParkedConsumer(job.Interactive, "small"))
	if err != nil {
		l.t.Fatal(err)
	}
	return c.CachedInfo().NumAckPending
}

func (l *line) lift() {
	l.order = l.first.Requests("")
	l.first.SetLimits()
	l.redeploy(slowly, map[string]string{"bare": limitedYAML})
	l.run(broker.Inference)
}

func (l *line) check(t *testing.T) {
	own := *l
	own.pressed = l.on(t)
	own.checkOrder(l.early, overtakers)
	own.checkOrder(l.order, overtakersByRestart)
	own.allLive()
	c := own.first.Counts()
	if c.Calls != len(own.sent) || c.Outcomes[fakellm.OutcomeLimited] != 0 {
		t.Errorf("%d calls for %d jobs; %v", c.Calls, len(own.sent), c.Outcomes)
	}
}

// checkOrder counts, for each job, the later ones that were called before it.
func (l *line) checkOrder(calls []fakellm.Request, bound int) {
	f := findings{}
	place := map[string]int{}
	for n, c := range calls {
		place[c.Nonce] = n
	}
	most, called := 0, len(calls)
	for n, s := range l.sent {
		own, ok := place[fakellm.Nonce(s.text)]
		if !ok {
			own = called
		}
		overtaken := 0
		for _, later := range l.sent[n+1:] {
			if p, ok := place[fakellm.Nonce(later.text)]; ok && p < own {
				overtaken++
			}
		}
		if most = max(most, overtaken); overtaken > bound {
			f.add("overtaken by too many later ones", "%q by %d", s.text, overtaken)
		}
	}
	f.report(l.t)
	l.t.Logf("%d calls, no job was overtaken by more than %d others", called, most)
}
