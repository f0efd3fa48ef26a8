package stage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler is a stage made of a function.
type handler func(ctx context.Context, j *job.Job) error

func (h handler) Handle(ctx context.Context, j *job.Job) error { return h(ctx, j) }

func definition(name string, slots int, h handler) stage.Definition {
	return stage.Definition{Name: name, Slots: slots, New: func(*stage.Env) (stage.Handler, error) { return h, nil }}
}

// line is a pipeline of two stages under test, with the real names of what the runner needs.
type line struct {
	t    *testing.T
	conn *broker.Conn
	defs []stage.Definition
}

// setup makes a pipeline: first, then second, which keeps what arrives.
func setup(t *testing.T, url string, first stage.Definition) (*line, *arrivals) {
	t.Helper()
	got := &arrivals{seen: map[string][]job.Job{}}
	fallback := definition(broker.Fallback, 16, got.keep(broker.Fallback))
	fallback.FinishesLate, fallback.Aside = true, true
	fallback.SendsOn = []string{broker.ResultWriter}
	last := definition(broker.ResultWriter, 16, got.keep(broker.ResultWriter))
	last.FinishesLate = true
	l := &line{t: t, conn: brokertest.Connect(t, url), defs: []stage.Definition{first, definition("second", 16, got.keep("second")), fallback, last}}
	brokertest.Ensure(t, l.conn, stage.Topology(l.defs, broker.DefaultSizing()))
	return l, got
}

// run runs a stage of the line on a connection of its own until the returned function is called.
func (l *line) run(url, name string, grace time.Duration) (stop func()) {
	l.t.Helper()
	conn := brokertest.Connect(l.t, url)
	r, err := stage.NewRunner(l.defs, name, &stage.Env{Conn: conn, Log: zerolog.Nop(), Limits: stage.DefaultLimits()}, grace)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				l.t.Errorf("stage %s: %v", name, err)
			}
		})
	}
	l.t.Cleanup(stop)
	return stop
}

func (l *line) publish(name string, j job.Job) {
	l.t.Helper()
	if j.V == 0 {
		j.V = job.Version
	}
	if j.Run == 0 {
		j.Run = 1
	}
	if j.Deadline.IsZero() {
		j.Deadline = time.Now().Add(time.Minute)
	}
	j.Task, j.Lane = "toy", job.Interactive
	body, err := json.Marshal(j)
	if err != nil {
		l.t.Fatal(err)
	}
	l.raw(name, body)
}

func (l *line) raw(name string, body []byte) {
	l.t.Helper()
	if _, err := l.conn.JS.Publish(context.Background(), broker.StageSubject(name, job.Interactive), body); err != nil {
		l.t.Fatal(err)
	}
}

// arrivals is what came out, by stage.
type arrivals struct {
	mu   sync.Mutex
	seen map[string][]job.Job
}

func (a *arrivals) keep(name string) handler {
	return func(_ context.Context, j *job.Job) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.seen[name] = append(a.seen[name], *j)
		return fate.DoneElsewhere("kept by the test")
	}
}

func (a *arrivals) at(name string) []job.Job {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]job.Job{}, a.seen[name]...)
}

func (l *line) letters() []job.Letter {
	l.t.Helper()
	s, err := l.conn.JS.Stream(context.Background(), broker.DeadStream)
	if err != nil {
		l.t.Fatal(err)
	}
	var letters []job.Letter
	info := s.CachedInfo().State
	for seq := info.FirstSeq; seq <= info.LastSeq && info.Msgs > 0; seq++ {
		m, err := s.GetMsg(context.Background(), seq)
		if err != nil {
			continue
		}
		var letter job.Letter
		if err := json.Unmarshal(m.Data, &letter); err != nil {
			l.t.Fatal(err)
		}
		letters = append(letters, letter)
	}
	return letters
}

func (l *line) waiting(name string) uint64 {
	s, err := l.conn.JS.Stream(context.Background(), broker.StageStream(name))
	if err != nil {
		l.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestAJobThatIsHandledGoesOnWithItsHopRecorded(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, got := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { return nil }))
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), "second", time.Second)
	l.publish("first", job.Job{ID: "a", Hop: 3})
	brokertest.Eventually(t, 5*time.Second, "the job arrives", func() bool { return len(got.at("second")) == 1 })
	j := got.at("second")[0]
	if j.Hop != 4 || len(j.History) != 1 || j.History[0].Stage != "first" || j.History[0].Fate != "" {
		t.Fatalf("hop %d, history %+v", j.Hop, j.History)
	}
	brokertest.Eventually(t, 5*time.Second, "both inboxes are empty", func() bool { return l.waiting("first")+l.waiting("second") == 0 })
}

func TestEachFateMovesTheJobWhereItBelongs(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	cases := map[string]struct {
		verdict error
		stage   string // where it must arrive
		check   func(t *testing.T, j job.Job, letters []job.Letter)
	}{
		"divert": {fate.DivertTo(fate.ProviderTimeout, "too slow", nil), broker.Fallback, func(t *testing.T, j job.Job, letters []job.Letter) {
			if j.Trouble == nil || j.Trouble.Code != fate.ProviderTimeout || j.Trouble.Stage != "first" || len(letters) != 0 {
				t.Errorf("trouble %+v, %d dead letters", j.Trouble, len(letters))
			}
		}},
		"reject": {fate.Rejection(fate.InputInvalid, "no", fate.Reason{Pointer: "/input/a", Message: "no"}), broker.ResultWriter, func(t *testing.T, j job.Job, _ []job.Letter) {
			if j.Outcome == nil || j.Outcome.Status != job.Rejected || j.Outcome.Error.Pointer != "/input/a" {
				t.Errorf("outcome %+v", j.Outcome)
			}
		}},
		"retry": {nil, "second", func(t *testing.T, j job.Job, _ []job.Letter) {
			if tries.Load() != 2 || len(j.History) != 2 || j.History[0].Fate != "retry" {
				t.Errorf("%d tries, history %+v", tries.Load(), j.History)
			}
		}},
		"panic": {nil, broker.Fallback, func(t *testing.T, j job.Job, letters []job.Letter) {
			if j.Trouble.Code != fate.Crashed || len(letters) != 1 || !strings.Contains(letters[0].Stack, "stage_test.go") {
				t.Errorf("trouble %+v, letters %+v", j.Trouble, letters)
			}
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := brokertest.Server(t)
			l, got := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error {
				switch {
				case name == "panic":
					panic("on purpose")
				case name == "retry" && tries.Add(1) == 1:
					return fate.RetryAfter(20*time.Millisecond, fate.ProviderUnavailable, "again", nil)
				}
				return c.verdict
			}))
			for _, stageName := range []string{"first", "second", broker.Fallback, broker.ResultWriter} {
				l.run(s.URL(), stageName, time.Second)
			}
			l.publish("first", job.Job{ID: "a"})
			brokertest.Eventually(t, 5*time.Second, "the job arrives at "+c.stage, func() bool { return len(got.at(c.stage)) == 1 })
			c.check(t, got.at(c.stage)[0], l.letters())
			brokertest.Eventually(t, 5*time.Second, "the inbox is empty", func() bool { return l.waiting("first") == 0 })
		})
	}
}

func TestAParkedJobWaitsOnTheSubjectOfItsModel(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, _ := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error {
		return fate.ParkFor(time.Minute, fate.ProviderUnavailable, "the model is down", nil)
	}))
	l.run(s.URL(), "first", time.Second)
	l.publish("first", job.Job{ID: "a", Model: "small"})
	var stored *broker.Stored
	brokertest.Eventually(t, 5*time.Second, "the job is parked", func() bool {
		var err error
		stored, err = l.conn.Last(context.Background(), broker.ParkedStream, broker.ParkedSubject(job.Interactive, "small"))
		return err == nil
	})
	var j job.Job
	if err := json.Unmarshal(stored.Data, &j); err != nil || time.Until(j.NotBefore) < 50*time.Second {
		t.Fatalf("not before %s: %v", j.NotBefore, err)
	}
}

func TestAnExpiredJobIsDivertedBeforeTheHandlerSeesIt(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	var calls atomic.Int32
	l, got := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { calls.Add(1); return nil }))
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), broker.Fallback, time.Second)
	l.publish("first", job.Job{ID: "a", Deadline: time.Now().Add(-time.Second)})
	brokertest.Eventually(t, 5*time.Second, "fallback has it", func() bool { return len(got.at(broker.Fallback)) == 1 })
	if code := got.at(broker.Fallback)[0].Trouble.Code; code != fate.Deadline || calls.Load() != 0 {
		t.Fatalf("code %s, %d calls of the handler", code, calls.Load())
	}
}

func TestAMessageThatIsNoJobIsKeptAsItCame(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, _ := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { return nil }))
	l.run(s.URL(), "first", time.Second)
	for _, body := range []string{"", "{", `{"id":"a b","task":"toy","run":1}`, `[]`} {
		l.raw("first", []byte(body))
	}
	brokertest.Eventually(t, 5*time.Second, "four dead letters", func() bool { return len(l.letters()) == 4 })
	var kept []string
	for _, letter := range l.letters() {
		kept = append(kept, string(letter.Raw))
	}
	slices.Sort(kept)
	if want := []string{"", "[]", "{", `{"id":"a b","task":"toy","run":1}`}; !slices.Equal(kept, want) {
		t.Fatalf("kept %q", kept)
	}
	brokertest.Eventually(t, 5*time.Second, "the inbox is empty", func() bool { return l.waiting("first") == 0 })
}

func TestAJobThatOutgrowsAMessageEndsOnTheLadder(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, got := setup(t, s.URL(), definition("first", 4, func(_ context.Context, j *job.Job) error {
		j.Prompt = job.NewPrompt(job.Message{Role: "user", Content: strings.Repeat("x", embedded.MaxPayload)})
		return nil
	}))
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), broker.Fallback, time.Second)
	l.publish("first", job.Job{ID: "a", Input: json.RawMessage(`{"a":1}`)})
	brokertest.Eventually(t, 10*time.Second, "fallback has it", func() bool { return len(got.at(broker.Fallback)) == 1 })
	j := got.at(broker.Fallback)[0]
	if j.Trouble.Code != fate.JobTooLarge || string(j.Input) != `{"a":1}` || len(l.letters()) != 1 {
		t.Fatalf("trouble %+v, input %s", j.Trouble, j.Input)
	}
}

func TestAJobThatBreaksTheLadderStillEndsAsFailed(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, got := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { return nil }))
	l.defs[2] = definition(broker.Fallback, 4, func(context.Context, *job.Job) error { panic("on purpose") })
	l.run(s.URL(), broker.Fallback, time.Second)
	l.run(s.URL(), broker.ResultWriter, time.Second)
	l.publish(broker.Fallback, job.Job{ID: "a", Trouble: &job.Trouble{Stage: "first", Code: fate.ProviderTimeout}, Input: json.RawMessage(`1`)})
	brokertest.Eventually(t, 5*time.Second, "result-writer has it", func() bool { return len(got.at(broker.ResultWriter)) == 1 })
	j := got.at(broker.ResultWriter)[0]
	letters := l.letters()
	if !j.Minimal || j.Outcome.Status != job.Failed || j.Outcome.Error.Code != fate.Crashed || len(letters) != 1 || string(letters[0].Job.Input) != "1" {
		t.Fatalf("job %+v, letters %d", j, len(letters))
	}
}

func TestNothingWaitsInAClientBuffer(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	const slots, jobs = 4, 12
	release := make(chan struct{})
	var started, deepest atomic.Int32
	l, got := setup(t, s.URL(), definition("first", slots, func(_ context.Context, j *job.Job) error {
		if n := int32(j.Arrival.Deliveries); n > deepest.Load() {
			deepest.Store(n)
		}
		started.Add(1)
		<-release
		return nil
	}))
	for i := range jobs {
		l.publish("first", job.Job{ID: fmt.Sprintf("j%d", i)})
	}
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), "second", time.Second)
	brokertest.Eventually(t, 5*time.Second, "all slots work", func() bool { return started.Load() == slots })
	// Longer than a lease lasts: what waited in a buffer would be delivered again by now.
	hold := time.NewTimer(broker.AckWait + 3*time.Second)
	<-hold.C
	info, err := l.conn.JS.Consumer(context.Background(), broker.StageStream("first"), broker.StageConsumer("first", job.Interactive))
	if err != nil {
		t.Fatal(err)
	}
	if out := info.CachedInfo().NumAckPending; out != slots {
		t.Errorf("the broker has %d messages out for %d slots", out, slots)
	}
	close(release)
	brokertest.Eventually(t, 10*time.Second, "all jobs arrive", func() bool { return len(got.at("second")) == jobs })
	if started.Load() != jobs || deepest.Load() != 1 {
		t.Fatalf("%d handled for %d jobs, delivered up to %d times", started.Load(), jobs, deepest.Load())
	}
}

func TestABrokerOutageRepeatsNoWork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := embedded.Start(embedded.Options{Port: -1, Store: dir, Sync: time.Second, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	url := server.URL()
	var handled atomic.Int32
	release := make(chan struct{})
	l, got := setup(t, url, definition("first", 64, func(context.Context, *job.Job) error {
		handled.Add(1)
		<-release
		return nil
	}))
	const jobs = 50
	for i := range jobs {
		l.publish("first", job.Job{ID: fmt.Sprintf("j%d", i)})
	}
	l.run(url, "first", time.Second)
	l.run(url, "second", time.Second)
	brokertest.Eventually(t, 5*time.Second, "all work", func() bool { return handled.Load() == jobs })
	server.Stop()
	outage := time.NewTimer(4 * time.Second)
	close(release) // the work ends while nobody can be told
	<-outage.C
	again := brokertest.StartServer(t, embedded.Options{Port: portOf(t, url), Store: dir, Sync: time.Second})
	if again.URL() != url {
		t.Fatalf("came back at %s", again.URL())
	}
	brokertest.Eventually(t, 20*time.Second, "all arrive", func() bool { return len(got.at("second")) >= jobs })
	brokertest.Eventually(t, 20*time.Second, "the inboxes are empty", func() bool { return l.waiting("first")+l.waiting("second") == 0 })
	if handled.Load() != jobs || len(got.at("second")) != jobs {
		t.Fatalf("%d handled, %d arrived, of %d", handled.Load(), len(got.at("second")), jobs)
	}
}

func TestADrainFinishesWhatItCanAndHandsTheRestBack(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	begun := make(chan string, 2)
	quick := make(chan struct{})
	l, got := setup(t, s.URL(), definition("first", 2, func(ctx context.Context, j *job.Job) error {
		begun <- j.ID
		if j.ID == "slow" {
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), stage.ErrDraining) {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			return context.Cause(ctx)
		}
		<-quick
		return nil
	}))
	l.publish("first", job.Job{ID: "slow"})
	l.publish("first", job.Job{ID: "quick"})
	stop := l.run(s.URL(), "first", 300*time.Millisecond)
	l.run(s.URL(), "second", time.Second)
	<-begun
	<-begun
	close(quick)
	stop()
	if jobs := got.at("second"); len(jobs) > 1 {
		t.Fatalf("%d jobs arrived", len(jobs))
	}
	brokertest.Eventually(t, 5*time.Second, "the quick one arrived", func() bool { return len(got.at("second")) == 1 })
	// Handed back, not left to run out of its lease: another process has it at once.
	taken := make(chan job.Job, 1)
	l.defs[0] = definition("first", 2, func(_ context.Context, j *job.Job) error { taken <- *j; return nil })
	l.run(s.URL(), "first", time.Second)
	select {
	case j := <-taken:
		if j.ID != "slow" || j.Hop != 0 || len(j.History) != 0 {
			t.Fatalf("job %s, hop %d, history %v: an attempt was spent", j.ID, j.Hop, j.History)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("the job was not handed back")
	}
}

func TestAFollowingStageTakesOneLineInThePipeline(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, got := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { return nil }))
	var passed atomic.Int32
	between := definition("between", 4, func(context.Context, *job.Job) error { passed.Add(1); return nil })
	l.defs = append(l.defs[:1:1], append([]stage.Definition{between}, l.defs[1:]...)...)
	brokertest.Ensure(t, l.conn, stage.Topology(l.defs, broker.DefaultSizing()))
	for _, d := range l.defs {
		l.run(s.URL(), d.Name, time.Second)
	}
	l.publish("first", job.Job{ID: "a"})
	brokertest.Eventually(t, 5*time.Second, "the job arrives", func() bool { return len(got.at("second")) == 1 })
	if passed.Load() != 1 {
		t.Fatalf("the new stage saw %d jobs", passed.Load())
	}
}

func portOf(t *testing.T, url string) int {
	t.Helper()
	var port int
	if _, err := fmt.Sscanf(url[strings.LastIndex(url, ":")+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAJobThatIsDeliveredAgainAndAgainIsTakenOutOfTheWay(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	var calls atomic.Int32
	l, got := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { calls.Add(1); return nil }))
	l.publish("first", job.Job{ID: "a"})
	consumer, err := l.conn.JS.Consumer(t.Context(), broker.StageStream("first"), broker.StageConsumer("first", job.Interactive))
	if err != nil {
		t.Fatal(err)
	}
	// As many processes took it and died.
	for range 16 {
		m, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Nak(); err != nil {
			t.Fatal(err)
		}
	}
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), broker.Fallback, time.Second)
	brokertest.Eventually(t, 10*time.Second, "fallback has it", func() bool { return len(got.at(broker.Fallback)) == 1 })
	if code := got.at(broker.Fallback)[0].Trouble.Code; code != fate.TooManyDeliveries || calls.Load() != 0 || len(l.letters()) != 1 {
		t.Fatalf("code %s, %d calls of the handler, %d dead letters", code, calls.Load(), len(l.letters()))
	}
}

func TestADrainDoesNotTakeWhatComesAfterIt(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	hold, entered := make(chan struct{}), make(chan struct{}, 1)
	l, got := setup(t, s.URL(), definition("first", 64, func(_ context.Context, j *job.Job) error {
		if j.ID == "slow" {
			entered <- struct{}{}
			<-hold
		}
		return nil
	}))
	stop := l.run(s.URL(), "first", 20*time.Second)
	l.publish("first", job.Job{ID: "slow"})
	<-entered
	drained := make(chan struct{})
	go func() { stop(); close(drained) }()
	consumer := func() *jetstream.ConsumerInfo {
		c, err := l.conn.JS.Consumer(t.Context(), broker.StageStream("first"), broker.StageConsumer("first", job.Interactive))
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo()
	}
	// The pull requests stay at the broker for seconds; a draining process must be deaf to them at once.
	before := consumer().Delivered.Consumer
	for i := range 20 {
		l.publish("first", job.Job{ID: fmt.Sprintf("late%d", i)})
	}
	close(hold)
	<-drained
	if n := consumer().Delivered.Consumer - before; n > 40 {
		t.Errorf("%d deliveries to a process that was leaving", n)
	}
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), "second", time.Second)
	brokertest.Eventually(t, 5*time.Second, "all arrive", func() bool { return len(got.at("second")) == 21 })
	if letters := l.letters(); len(letters) != 0 {
		t.Errorf("dead letters %+v", letters)
	}
}

func TestALargeMessageThatIsNoJobIsKeptInPart(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, _ := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { return nil }))
	l.run(s.URL(), "first", time.Second)
	l.raw("first", bytes.Repeat([]byte("x"), 7<<20))
	brokertest.Eventually(t, 5*time.Second, "a dead letter", func() bool { return len(l.letters()) == 1 })
	if n := len(l.letters()[0].Raw); n != 1<<20 || !strings.Contains(l.letters()[0].Message, "7340032") {
		t.Errorf("%d bytes kept, %s", n, l.letters()[0].Message)
	}
	brokertest.Eventually(t, 5*time.Second, "the inbox is empty", func() bool { return l.waiting("first") == 0 })
}

func TestAJobThatNoMessageCanHoldEndsAsFailed(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, got := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { return nil }))
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), broker.ResultWriter, time.Second)
	head := `{"v":1,"id":"big","task":"toy","lane":"interactive","run":1,"deadline":"2099-01-01T00:00:00Z","input":"`
	l.raw("first", []byte(head+strings.Repeat("x", embedded.MaxPayload-len(head)-2)+`"}`))
	brokertest.Eventually(t, 10*time.Second, "result-writer has it", func() bool { return len(got.at(broker.ResultWriter)) == 1 })
	j := got.at(broker.ResultWriter)[0]
	if j.ID != "big" || j.Outcome.Error.Code != fate.JobTooLarge || len(l.letters()) != 1 {
		t.Errorf("job %+v", j.Outcome)
	}
}

func TestAMessageThatBreaksItsStageIsKeptRawAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	def := definition("first", 4, func(_ context.Context, j *job.Job) error {
		if string(j.Raw) == "bad" {
			panic("on purpose")
		}
		j.Raw = nil
		return nil
	})
	def.Inboxes = []stage.Inbox{{
		Stream: broker.StageStream("first"), Subject: broker.StageSubject("first", job.Interactive), Consumer: "first",
		Decode: func(data []byte, a job.Arrival) (*job.Job, error) {
			return &job.Job{V: job.Version, ID: fmt.Sprint("made-", a.Sequence), Task: "toy", Lane: job.Interactive, Run: 1, Raw: data}, nil
		},
	}}
	l, got := setup(t, s.URL(), def)
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), "second", time.Second)
	l.raw("first", []byte("bad"))
	l.raw("first", []byte("good"))
	brokertest.Eventually(t, 5*time.Second, "the good one arrives", func() bool { return len(got.at("second")) == 1 })
	brokertest.Eventually(t, 5*time.Second, "the bad one is kept", func() bool { return len(l.letters()) == 1 })
	letter := l.letters()[0]
	if string(letter.Raw) != "bad" || letter.Stack == "" || letter.Code != fate.Crashed {
		t.Errorf("letter %+v", letter)
	}
	if _, err := l.conn.Last(t.Context(), broker.DeadStream, broker.DeadSubject("first", broker.RawTask, "first-1")); err != nil {
		t.Errorf("not under its own name: %v", err)
	}
}

func TestTheLetterOfAJobIsNotOverwrittenByThatOfItsStub(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	l, _ := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error { return nil }))
	l.defs[3] = definition(broker.ResultWriter, 4, func(context.Context, *job.Job) error { panic("on purpose") })
	l.run(s.URL(), broker.ResultWriter, time.Second)
	l.publish(broker.ResultWriter, job.Job{ID: "a", Input: json.RawMessage(`{"a":1}`), Outcome: &job.Outcome{Status: job.Succeeded}})
	brokertest.Eventually(t, 5*time.Second, "a dead letter", func() bool { return len(l.letters()) == 1 })
	brokertest.Eventually(t, 5*time.Second, "the inbox is empty", func() bool { return l.waiting(broker.ResultWriter) == 0 })
	if letters := l.letters(); len(letters) != 1 || !letters[0].IsReplayable() || string(letters[0].Job.Input) != `{"a":1}` {
		t.Errorf("letters %+v", letters)
	}
}
