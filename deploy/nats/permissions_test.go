package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/bundle"
	"spillway/pkg/client"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/session"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/services"
)

// The users beside those of the stages.
const (
	doorUser      = "door"
	upUser        = "up"
	bootstrapUser = "bootstrap"
	operatorUser  = "operator"
	clientUser    = "client"
)

func TestMain(m *testing.M) {
	for _, user := range append(stages(), doorUser, upUser, bootstrapUser, operatorUser, clientUser) {
		name := "NATS_" + strings.ToUpper(strings.ReplaceAll(user, "-", "_")) + "_PASSWORD"
		if err := os.Setenv(name, password(user)); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

func password(user string) string { return "secret-of-" + user }

func stages() []string {
	var names []string
	for _, d := range services.Pipeline() {
		names = append(names, d.Name)
	}
	return names
}

// rig is a stock server, configured by the two files, with the streams that bootstrap made.
type rig struct {
	t      *testing.T
	server *server.Server
	// provider answers for the only model.
	provider *fakellm.Server

	// books are those of the processes that run stages.
	books []*task.Book

	mu      sync.Mutex
	refused map[string][]string // by user
}

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, server: stockServer(t, "permissions.conf"), refused: map[string][]string{}}
	conn := r.connect(bootstrapUser)
	brokertest.Ensure(t, conn, stage.Topology(services.Pipeline(), broker.DefaultSizing()))
	_, err := conn.JS.CreateConsumer(t.Context(), broker.ResultsStream, jetstream.ConsumerConfig{
		Durable: clientUser, FilterSubject: broker.AllResults, AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatalf("make the client's durable consumer: %v", err)
	}
	provider, err := fakellm.Start(fakellm.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	r.provider = provider
	return r
}

// stockServer runs nats-server with nats.conf and, if it is not "", the users of another file. Only ports and
// store differ from what the files say.
func stockServer(t *testing.T, users string) *server.Server {
	t.Helper()
	opts, err := server.ProcessConfigFile("../../nats.conf")
	if err != nil {
		t.Fatalf("nats.conf: %v", err)
	}
	if users != "" {
		with, err := server.ProcessConfigFile(users)
		if err != nil {
			t.Fatalf("%s: %v", users, err)
		}
		opts.Accounts, opts.Users = with.Accounts, with.Users
	}
	opts.Port, opts.HTTPPort, opts.StoreDir, opts.NoSigs, opts.NoLog = -1, -1, t.TempDir(), true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatalf("start a stock server: %v", err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	brokertest.Eventually(t, 20*time.Second, "the stock server is ready", func() bool {
		return s.ReadyForConnections(time.Second) && s.JetStreamEnabled()
	})
	return s
}

// connect connects as user and collects what the server refuses it: nobody else is told of a refusal.
func (r *rig) connect(user string) *broker.Conn {
	r.t.Helper()
	conn := brokertest.Connect(r.t, fmt.Sprintf("nats://%s:%s@%s", user, password(user), r.server.Addr()))
	conn.NC.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused[user] = append(r.refused[user], err.Error())
	})
	return conn
}

// refusals are what the users were refused, one line each.
func (r *rig) refusals(users ...string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, user := range users {
		for _, refusal := range r.refused[user] {
			all = append(all, user+" was refused: "+refusal)
		}
	}
	return all
}

// refuses reports for each subject whether user is refused what do tries with it. The server says so later,
// in order: the last refusal, of a subject that is open to nobody, ends the wait.
func (r *rig) refuses(user string, subjects []string, do func(nc *nats.Conn, subject string) error) map[string]bool {
	r.t.Helper()
	const nobodys = "open.to.nobody"
	conn := r.connect(user)
	for _, subject := range append(slices.Clone(subjects), nobodys) {
		if err := do(conn.NC, subject); err != nil {
			r.t.Fatal(err)
		}
	}
	isRefused := func(subject string) bool {
		// An application's requests to the API have another name on their way to the pipeline's account.
		elsewhere := strings.Replace(subject, "$JS.API.", "pipeline.", 1)
		return slices.ContainsFunc(r.refusals(user), func(refusal string) bool {
			return strings.Contains(refusal, `"`+subject+`"`) || strings.Contains(refusal, `"`+elsewhere+`"`)
		})
	}
	brokertest.Eventually(r.t, 10*time.Second, "the last try is refused", func() bool { return isRefused(nobodys) })
	refused := map[string]bool{}
	for _, subject := range subjects {
		refused[subject] = isRefused(subject)
	}
	return refused
}

// run runs each of the stages on the connection of the user that asUser names, until the test ends.
func (r *rig) run(asUser func(stage string) *broker.Conn) {
	r.t.Helper()
	tasks := r.tasks()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	r.t.Cleanup(func() { cancel(); all.Wait() })
	prepared := map[*broker.Conn]bool{}
	for _, name := range stages() {
		conn := asUser(name)
		if !prepared[conn] {
			r.prepare(ctx, conn, name)
			r.follow(ctx, &all, conn, tasks)
			prepared[conn] = true
		}
		limits := stage.DefaultLimits()
		limits.Refresh = 20 * time.Millisecond
		runner, err := stage.NewRunner(services.Pipeline(), name, &stage.Env{
			Conn: conn, Tasks: tasks, Log: zerolog.Nop(), Metrics: prometheus.NewRegistry(),
			Getenv: func(string) string { return "" }, Limits: limits,
		}, 5*time.Second)
		if err != nil {
			r.t.Fatal(err)
		}
		all.Go(func() {
			if err := runner.Run(ctx); err != nil {
				r.t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// prepare does what a process does before it runs a stage.
func (r *rig) prepare(ctx context.Context, conn *broker.Conn, name string) {
	r.t.Helper()
	missing, err := conn.Check(ctx, stage.Topology(services.Pipeline(), broker.DefaultSizing()))
	if err != nil || len(missing) > 0 {
		r.t.Fatalf("%s looks for the streams: %v, missing %v", name, err, missing)
	}
	if err := conn.WatchCancels(ctx); err != nil {
		r.t.Fatalf("%s follows the cancelled ids: %v", name, err)
	}
}

// follow does what a process does beside its stages: it reads which versions are live, and fetches them.
func (r *rig) follow(ctx context.Context, all *sync.WaitGroup, conn *broker.Conn, tasks *task.Set) {
	r.t.Helper()
	book := task.NewBook(tasks)
	keeper, err := bundle.NewKeeper(bundle.Options{Conn: conn, Book: book, Own: tasks, Log: zerolog.Nop()})
	if err != nil {
		r.t.Fatal(err)
	}
	all.Go(func() { _ = keeper.Run(ctx) }) // it returns nil
	r.books = append(r.books, book)
}

// tasks are two that differ in what happens when the model fails: toy has a ladder, bare has none; talk is one with a
// memory.
func (r *rig) tasks() *task.Set {
	r.t.Helper()
	folder := fstest.MapFS{"models.yaml": {Data: fmt.Appendf(nil, `defaults:
  timeouts: {connect: 1s, first_token: 5s, silence: 5s, call: 8s}
providers:
  one: {kind: openai, base_url: %q, api_key: none}
models:
  small: {provider: one, id: small-1, context_window: 16000, max_output_tokens: 2000, encoding: o200k_base, structured_output: json_schema, max_tokens_field: max_tokens, prices: {as_of: "2026-11-01", input: 1, output: 2}}
`, r.provider.URL())}}
	const base = "model: small\ndeadline: {default: 20s, max: 10m, reserve: 1s}\ncache: {serve: fallback, keep: 1h}\n"
	for name, ladder := range map[string]string{
		"toy":  "ladder:\n  - {rung: cache, max_age: 1h}\n  - {rung: canned}\n",
		"bare": "ladder: []\nno_ladder: the test wants to see the failure\n",
		"talk": "ladder: []\nno_ladder: the test wants to see the failure\ncontext: {session: required}\n",
	} {
		for file, text := range map[string]string{
			"task.yaml":          base + ladder,
			"prompt.tmpl":        `{{define "system"}}Answer in JSON. {{.Schema}}{{end}}{{define "user"}}{{.Input.text}}{{end}}`,
			"input.schema.json":  `{"type":"object","properties":{"text":{"type":"string","minLength":1}},"required":["text"],"additionalProperties":false}`,
			"output.schema.json": `{"type":"object","properties":{"says":{"type":"string"},"mood":{"enum":["good","bad"]}},"required":["says","mood"],"additionalProperties":false}`,
		} {
			folder["tasks/"+name+"/"+file] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	folder["tasks/toy/canned.yaml"] = &fstest.MapFile{Data: []byte("- output: {says: canned, mood: good}\n")}
	set, err := task.Load(folder, func(string) string { return "" })
	if err != nil {
		r.t.Fatalf("load the tasks: %v", err)
	}
	return set
}

// The values of nats.conf are those of the embedded server, so that what was tested with one holds with the other.
func TestAStockServerHasTheLimitsOfTheEmbeddedOne(t *testing.T) {
	limits := func(s *server.Server) string {
		v, err := s.Varz(&server.VarzOptions{})
		if err != nil {
			t.Fatal(err)
		}
		js := v.JetStream.Config
		return fmt.Sprintf("payload %d, pending %d, write deadline %s, ping %s, memory %d, store %d, sync %s (always: %t), strict %t",
			v.MaxPayload, v.MaxPending, v.WriteDeadline, v.PingInterval, js.MaxMemory, js.MaxStore, js.SyncInterval, js.SyncAlways, js.Strict)
	}
	stock, embedded := limits(stockServer(t, "")), limits(brokertest.Server(t).Server)
	if stock != embedded {
		t.Errorf("nats.conf:\n  %s\nembedded:\n  %s", stock, embedded)
	}
}

func TestEveryStageHasAUser(t *testing.T) {
	opts, err := server.ProcessConfigFile("permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	var users []string
	for _, u := range opts.Users {
		users = append(users, u.Username)
	}
	want := append(stages(), doorUser, upUser, bootstrapUser, operatorUser, clientUser)
	slices.Sort(users)
	slices.Sort(want)
	if !slices.Equal(users, want) {
		t.Errorf("permissions.conf has the users\n%v, not\n%v", users, want)
	}
}

func TestEveryStageDoesItsWorkAsItsUser(t *testing.T) {
	r := setup(t)
	r.run(r.connect)
	r.everyWayOfAJob(t)
	for _, refusal := range r.refusals(append(stages(), operatorUser, clientUser, bootstrapUser)...) {
		t.Error(refusal)
	}
}

func TestOneUserRunsTheWholePipeline(t *testing.T) {
	r := setup(t)
	conn := r.connect(upUser)
	brokertest.Ensure(t, conn, stage.Topology(services.Pipeline(), broker.DefaultSizing()))
	r.run(func(string) *broker.Conn { return conn })
	r.everyWayOfAJob(t)
	for _, refusal := range r.refusals(upUser, operatorUser, clientUser) {
		t.Error(refusal)
	}
}

// everyWayOfAJob makes every stage do everything that it does to a broker, and looks at it as a client and
// as an operator.
func (r *rig) everyWayOfAJob(t *testing.T) {
	t.Helper()
	r.provider.SetFaults(
		fakellm.Fault{Kind: fakellm.KindOffSchemaOnceTold, Match: "[correct me]"},
		fakellm.Fault{Kind: fakellm.KindUnavailable, Match: "[once more]", First: 1},
		fakellm.Fault{Kind: fakellm.KindBadRequest, Match: "[refuse me]"},
		fakellm.Fault{Kind: fakellm.KindHang, Match: "[hang]"},
	)
	app := r.connect(clientUser)
	duty := r.connect(operatorUser)

	t.Log("plain, on both lanes, once by submit; corrected; retried")
	r.ends(t, app, r.publish(t, app, job.Interactive, "toy", "hello"), job.Succeeded)
	r.ends(t, app, r.publish(t, app, job.Batch, "toy", "hello again"), job.Succeeded)
	r.ends(t, app, r.submit(t, app, "toy", "hello by submit"), job.Succeeded)
	r.ends(t, app, r.publish(t, app, job.Interactive, "toy", "[correct me]"), job.Succeeded)
	r.ends(t, app, r.publish(t, app, job.Batch, "toy", "[once more]"), job.Succeeded)

	r.ends(t, app, r.publishBody(t, app, job.Interactive, "talk", `{"input":{"text":"hello"},"session":"ours"}`), job.Succeeded)
	r.ends(t, app, r.publishBody(t, app, job.Interactive, "talk", `{"input":{"text":"do you remember?"},"session":"ours"}`), job.Succeeded)

	t.Log("rejected at the door; degraded by the ladder")
	r.ends(t, app, r.publish(t, app, job.Interactive, "toy", ""), job.Rejected)
	r.ends(t, app, r.publish(t, app, job.Interactive, "toy", "[refuse me]"), job.Degraded)

	t.Log("answered at its deadline; cancelled")
	r.ends(t, app, r.publishBody(t, app, job.Interactive, "toy", `{"input":{"text":"[hang] until the deadline"},"deadline":"2s"}`), job.Degraded)
	hanging := r.publish(t, app, job.Interactive, "toy", "[hang] until cancelled")
	r.cancelled(t, app, hanging)

	t.Log("dead, looked at, replayed; no job at all")
	dead := r.publish(t, app, job.Interactive, "bare", "[refuse me]")
	r.ends(t, app, dead, job.Failed)
	brokertest.Eventually(t, 10*time.Second, "the operator reads the dead letter", func() bool {
		letter, _, err := duty.Dead(t.Context(), dead)
		return err == nil && letter.Code == fate.ProviderRefusedRequest
	})
	r.provider.SetFaults()
	if err := duty.NC.Publish(broker.ReplaySubject(dead), nil); err != nil {
		t.Fatal(err)
	}
	if result := r.wait(t, app, dead, 2); result.Status != job.Succeeded {
		t.Errorf("the replay ended as %s: %+v", result.Status, result.Error)
	}
	r.undecodable(t, duty)
	r.secondAnswerIsRefused(t, app)

	t.Log("late readers, and a person on duty")
	r.readersFindResults(t, app, duty, dead)
	r.lateReaderFindsDrafts(t, app)
	r.operates(t, duty)
}

func (r *rig) publish(t *testing.T, app *broker.Conn, lane, taskName, text string) string {
	t.Helper()
	return r.publishBody(t, app, lane, taskName, body(t, text))
}

func body(t *testing.T, text string) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{"input": map[string]string{"text": text}})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (r *rig) publishBody(t *testing.T, app *broker.Conn, lane, taskName, body string) string {
	t.Helper()
	id, err := client.New(app).Publish(t.Context(), lane, taskName, "", []byte(body))
	if err != nil {
		t.Fatalf("the client publishes: %v, refused %v", err, r.refusals(clientUser))
	}
	return id
}

func (r *rig) submit(t *testing.T, app *broker.Conn, taskName, text string) string {
	t.Helper()
	receipt, err := client.New(app).Submit(t.Context(), taskName, []byte(body(t, text)))
	if err != nil || receipt.Error != nil {
		t.Fatalf("the client submits: %+v, %v", receipt, err)
	}
	return receipt.ID
}

func (r *rig) wait(t *testing.T, app *broker.Conn, id string, run int) *job.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	result, err := client.New(app).Wait(ctx, "", id, run)
	if err != nil {
		t.Fatalf("no result of %s: %v\n%s", id, err, strings.Join(r.refusals(append(stages(), upUser, clientUser)...), "\n"))
	}
	return result
}

func (r *rig) ends(t *testing.T, app *broker.Conn, id string, want job.Status) {
	t.Helper()
	if result := r.wait(t, app, id, 1); result.Status != want {
		t.Errorf("%s ended as %s, not %s: %+v", id, result.Status, want, result.Error)
	}
}

// cancelled cancels a job whose call is under way; the mark reaches inference, which then hangs up.
func (r *rig) cancelled(t *testing.T, app *broker.Conn, id string) {
	t.Helper()
	brokertest.Eventually(t, 10*time.Second, "the cancellation is taken up", func() bool {
		receipt, err := client.New(app).Cancel(t.Context(), id)
		return err == nil && receipt.Error == nil
	})
	r.ends(t, app, id, job.Cancelled)
}

// undecodable puts what is no job into every inbox, as a broken stage would: it is kept as a dead letter by
// the stage that pulls it.
func (r *rig) undecodable(t *testing.T, duty *broker.Conn) {
	t.Helper()
	all := r.connect(upUser)
	for _, name := range stages() {
		for _, subject := range inboxes(name) {
			ack, err := all.Publish(t.Context(), &nats.Msg{Subject: subject, Data: []byte("no job")})
			if err != nil {
				t.Fatal(err)
			}
			id := fmt.Sprintf("%s-%d", consumerOf(name, subject), ack.Sequence)
			brokertest.Eventually(t, 10*time.Second, name+" keeps a dead letter of what is no job", func() bool {
				letter, _, err := duty.Dead(t.Context(), id)
				return err == nil && letter.Stage == name && letter.Code == fate.Undecodable
			})
		}
	}
}

// secondAnswerIsRefused gives a run two results: result-writer reads the first one back and drops the other.
func (r *rig) secondAnswerIsRefused(t *testing.T, app *broker.Conn) {
	t.Helper()
	all := r.connect(upUser)
	now := time.Now()
	m := job.Marker{V: job.Version, ID: "answered-twice", Task: "toy", Lane: job.Interactive, Run: 1, AcknowledgedAt: now, Deadline: now.Add(time.Minute)}
	for _, suffix := range []string{".first", ".second"} {
		j := m.Job()
		j.Outcome = &job.Outcome{Status: job.Cancelled}
		if err := stage.HandIn(t.Context(), all, j, suffix); err != nil {
			t.Fatal(err)
		}
	}
	r.ends(t, app, m.ID, job.Cancelled)
	brokertest.Eventually(t, 10*time.Second, "result-writer is done with both", func() bool {
		s, err := all.JS.Stream(t.Context(), broker.StageStream(broker.ResultWriter))
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
}

// operates does what a person on duty does with any NATS tool.
func (r *rig) operates(t *testing.T, duty *broker.Conn) {
	t.Helper()
	if _, err := duty.JS.AccountInfo(t.Context()); err != nil {
		t.Errorf("the operator asks for the account: %v", err)
	}
	streams := duty.JS.ListStreams(t.Context())
	for info := range streams.Info() {
		s, err := duty.JS.Stream(t.Context(), info.Config.Name)
		if err != nil {
			t.Fatalf("the operator looks at %s: %v", info.Config.Name, err)
		}
		consumers := s.ListConsumers(t.Context())
		n := 0
		for range consumers.Info() {
			n++
		}
		if n != info.State.Consumers {
			t.Errorf("the operator sees %d of %d consumers of %s", n, info.State.Consumers, info.Config.Name)
		}
		if err := consumers.Err(); err != nil {
			t.Errorf("the operator lists consumers: %v", err)
		}
	}
	if err := streams.Err(); err != nil {
		t.Errorf("the operator lists streams: %v", err)
	}
	stream := broker.StageStream(broker.Validator)
	if _, err := duty.JS.Consumer(t.Context(), stream, broker.StageConsumer(broker.Validator, job.Interactive)); err != nil {
		t.Errorf("the operator looks at a stage's consumer: %v", err)
	}
	if _, err := duty.JS.PauseConsumer(t.Context(), stream, broker.StageConsumer(broker.Validator, job.Interactive), time.Now().Add(time.Minute)); err != nil {
		t.Errorf("the operator pauses a stage: %v", err)
	}
	if _, err := duty.JS.ResumeConsumer(t.Context(), stream, broker.StageConsumer(broker.Validator, job.Interactive)); err != nil {
		t.Errorf("the operator resumes a stage: %v", err)
	}
	if _, err := duty.NC.SubscribeSync("llm.>"); err != nil {
		t.Error(err)
	}
	if err := duty.NC.Flush(); err != nil {
		t.Error(err)
	}
	r.remembers(t, duty)
}

// remembers looks at the session that was held, corrects it, and forgets it.
func (r *rig) remembers(t *testing.T, duty *broker.Conn) {
	t.Helper()
	sessions := session.NewStore(duty)
	all, err := sessions.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Task != "talk" || all[0].Name != "ours" {
		t.Errorf("the operator lists the sessions: %+v, %v", all, err)
	}
	if _, err := sessions.Update(t.Context(), "", "talk", "ours", time.Hour, func(s *session.Session) (bool, error) {
		s.State = []byte(`{"n":1}`)
		return true, nil
	}); err != nil {
		t.Errorf("the operator corrects a session: %v", err)
	}
	if was, err := sessions.Remove(t.Context(), "", "talk", "ours"); err != nil || string(was.State) != `{"n":1}` {
		t.Errorf("the operator forgets a session: %+v, %v", was, err)
	}
}

// consumerOf is the consumer that pulls a subject of a stage.
func consumerOf(name, subject string) string {
	for _, d := range services.Pipeline() {
		for _, in := range d.Inboxes {
			if d.Name == name && in.Subject == subject {
				return in.Consumer
			}
		}
	}
	return broker.StageConsumer(name, broker.Token(subject, 3))
}

// inboxes are the subjects of a stage that carry jobs.
func inboxes(name string) []string {
	for _, d := range services.Pipeline() {
		switch {
		case d.Name != name:
		case d.Name == broker.Ingest:
			return nil // requests are no jobs yet
		case len(d.Inboxes) == 0:
			return []string{broker.StageSubject(name, job.Interactive), broker.StageSubject(name, job.Batch)}
		default:
			var subjects []string
			for _, in := range d.Inboxes {
				if in.Decode == nil && in.Stream == broker.StageStream(name) {
					subjects = append(subjects, in.Subject)
				}
			}
			return subjects
		}
	}
	return nil
}

// readersFindResults reads what is stored in the ways that are open to a client and to an operator.
func (r *rig) readersFindResults(t *testing.T, app, duty *broker.Conn, id string) {
	t.Helper()
	kept, err := app.JS.Stream(t.Context(), broker.ResultsStream)
	if err != nil {
		t.Fatalf("the client opens the results: %v", err)
	}
	if _, err := kept.GetLastMsgForSubject(t.Context(), broker.ResultSubject("bare", id)); err != nil {
		t.Errorf("the client reads a result: %v", err)
	}
	durable, err := app.JS.Consumer(t.Context(), broker.ResultsStream, clientUser)
	if err != nil {
		t.Fatalf("the client finds its durable consumer: %v", err)
	}
	m, err := durable.Next(jetstream.FetchMaxWait(10 * time.Second))
	if err != nil {
		t.Fatalf("the client pulls: %v", err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Errorf("the client acknowledges: %v", err)
	}
	for _, stream := range []string{broker.DeadStream, broker.ResultsStream, broker.AdmittedStream, broker.CacheStream} {
		ordered, err := duty.JS.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
		if err != nil {
			t.Fatalf("the operator browses %s: %v", stream, err)
		}
		if _, err := ordered.Next(jetstream.FetchMaxWait(10 * time.Second)); err != nil {
			t.Errorf("the operator browses %s: %v", stream, err)
		}
	}
	stored, err := duty.Last(t.Context(), broker.DeadStream, broker.DeadSubject(broker.Validator, broker.RawTask, "*"))
	if err != nil {
		t.Fatalf("the operator reads a dead letter: %v", err)
	}
	if err := duty.Delete(t.Context(), broker.DeadStream, stored.Sequence); err != nil {
		t.Errorf("the operator removes a dead letter: %v", err)
	}
	if stored, err = duty.Last(t.Context(), broker.CacheStream, broker.AllCached); err != nil {
		t.Fatalf("the operator reads a cached answer: %v", err)
	}
	if err := duty.Delete(t.Context(), broker.CacheStream, stored.Sequence); err != nil {
		t.Errorf("the operator removes a cached answer: %v", err)
	}
}

// lateReaderFindsDrafts reads the drafts of a request after its end, with what any NATS client has.
func (r *rig) lateReaderFindsDrafts(t *testing.T, app *broker.Conn) {
	t.Helper()
	id := r.publishBody(t, app, job.Interactive, "toy", `{"input":{"text":"hello, streamed"},"stream":true}`)
	result := r.wait(t, app, id, 1)
	kept, err := app.JS.Stream(t.Context(), broker.DeltasStream)
	if err != nil {
		t.Fatalf("the client opens the drafts: %v", err)
	}
	brokertest.Eventually(t, 10*time.Second, "the client reads drafts up to the result", func() bool {
		shown, err := shownOf(t.Context(), kept, broker.DeltaSubject("toy", id))
		if err != nil {
			t.Fatalf("the client reads drafts: %v, refused %v", err, r.refusals(clientUser))
		}
		var draft, output any
		return json.Unmarshal(shown.Partial, &draft) == nil && json.Unmarshal(result.Output, &output) == nil && reflect.DeepEqual(draft, output)
	})
}

// shownOf reads the drafts that are kept, one by one.
func shownOf(ctx context.Context, kept jetstream.Stream, subject string) (*job.Shown, error) {
	shown := &job.Shown{}
	for seq := uint64(0); ; {
		m, err := kept.GetMsg(ctx, seq+1, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return shown, nil
		}
		if err != nil {
			return nil, err
		}
		var d job.Draft
		if err := json.Unmarshal(m.Data, &d); err != nil {
			return nil, err
		}
		seq = m.Sequence
		shown.Take(d)
	}
}

// A user may publish where its work goes, and nowhere else. The ways between stages are those that the
// definitions name.
func TestNobodyPublishesBeyondItsWork(t *testing.T) {
	r := setup(t)
	subjects := map[string][]string{ // subject: who may
		broker.WriteSubject("toy", "x"):                 {broker.ResultWriter, upUser},
		broker.ResultSubject("toy", "x"):                nil, // only the stream itself republishes there
		broker.AdmittedSubject("x"):                     {broker.Ingest, doorUser, broker.Fallback, upUser},
		broker.CacheSubject("x"):                        {broker.ResultWriter, upUser},
		broker.DeltaSubject("toy", "x"):                 {broker.Inference, broker.Validator, upUser},
		broker.ParkedSubject("batch", "small"):          {broker.Inference, upUser},
		broker.ReplaySubject("x"):                       {operatorUser, upUser},
		broker.RequestSubject(job.Interactive, "toy"):   {broker.Ingest, doorUser, operatorUser, clientUser, upUser},
		broker.RequestSubject(job.Batch, "toy"):         {broker.Ingest, broker.ContextBuilder, doorUser, operatorUser, clientUser, upUser},
		broker.SubmitSubject("toy"):                     {operatorUser, clientUser, upUser},
		broker.CancelSubject("x"):                       {operatorUser, clientUser, upUser},
		"$KV." + broker.CancelsBucket + ".x.1":          {broker.Ingest, doorUser, upUser},
		"$KV." + broker.KeysBucket + ".signing":         {broker.Ingest, doorUser, operatorUser, upUser},
		"$KV." + broker.KeysBucket + ".key.x":           {operatorUser, upUser},
		"$JS.API.STREAM.MSG.GET.KV_llm_keys":            {broker.Ingest, doorUser, operatorUser, upUser},
		"$JS.API.DIRECT.GET.KV_llm_keys.x":              {operatorUser, upUser},
		"$JS.API.CONSUMER.CREATE.KV_llm_keys.x":         {broker.Ingest, doorUser, bootstrapUser, operatorUser, upUser},
		"$JS.API.STREAM.CREATE.X":                       {bootstrapUser, upUser},
		"$JS.API.STREAM.DELETE.X":                       {bootstrapUser, upUser},
		"$JS.API.STREAM.PURGE.X":                        {bootstrapUser, upUser},
		"$JS.API.STREAM.MSG.DELETE.LLM_DEAD":            {broker.Fallback, operatorUser, upUser},
		"$JS.API.STREAM.MSG.DELETE.LLM_CACHE":           {operatorUser, upUser},
		"$JS.API.STREAM.MSG.DELETE.LLM_RESULTS":         {upUser},
		"$JS.API.STREAM.MSG.GET.LLM_DEAD":               {broker.Ingest, broker.Fallback, doorUser, operatorUser, upUser},
		"$JS.API.STREAM.MSG.GET.LLM_DELTAS":             {operatorUser, upUser},
		"$JS.API.STREAM.MSG.GET.LLM_ADMITTED":           {broker.Ingest, doorUser, broker.Fallback, operatorUser, clientUser, upUser},
		"$JS.API.STREAM.MSG.GET.LLM_CACHE":              {broker.ContextBuilder, broker.Fallback, broker.ResultWriter, operatorUser, upUser},
		"$JS.API.STREAM.MSG.GET.LLM_REQUESTS":           {broker.ContextBuilder, operatorUser, upUser},
		"$JS.API.STREAM.MSG.GET.LLM_BATCH":              {broker.ContextBuilder, operatorUser, upUser},
		"$KV." + broker.SessionsBucket + ".x":           {broker.Ingest, broker.ContextBuilder, operatorUser, upUser},
		"$JS.API.STREAM.MSG.GET.KV_llm_sessions":        {broker.Ingest, broker.ContextBuilder, operatorUser, upUser},
		"$JS.API.DIRECT.GET.KV_llm_sessions.x":          {operatorUser, upUser},
		"$JS.API.CONSUMER.CREATE.KV_llm_sessions.x":     {bootstrapUser, broker.ContextBuilder, operatorUser, upUser},
		"llm.context.toy.x":                             {broker.ContextBuilder, upUser},
		"$KV." + broker.VersionsBucket + ".toy":         {broker.Ingest, operatorUser, upUser},
		"$O." + broker.TasksBucket + ".M.x":             {broker.Ingest, operatorUser, upUser},
		"$O." + broker.TasksBucket + ".C.x":             {broker.Ingest, operatorUser, upUser},
		"$O.other.C.x":                                  nil,
		"$JS.API.STREAM.MSG.GET.OBJ_llm_tasks":          append(stages(), doorUser, operatorUser, upUser),
		"$JS.API.STREAM.MSG.GET.KV_llm_versions":        append(stages(), doorUser, operatorUser, upUser),
		"$JS.API.STREAM.MSG.DELETE.OBJ_llm_tasks":       {upUser},
		"$JS.API.CONSUMER.CREATE.KV_llm_versions.x":     append(stages(), doorUser, bootstrapUser, upUser),
		"$JS.API.CONSUMER.CREATE.OBJ_llm_tasks.x":       {bootstrapUser, upUser},
		"$JS.API.STREAM.PURGE.OBJ_llm_tasks":            {broker.Ingest, bootstrapUser, upUser},
		"$JS.API.CONSUMER.CREATE.LLM_DEAD.x":            {broker.Ingest, bootstrapUser, operatorUser, upUser},
		"$JS.API.CONSUMER.CREATE.LLM_RESULTS.x":         {broker.Ingest, broker.Fallback, bootstrapUser, operatorUser, upUser},
		"$JS.API.DIRECT.GET.LLM_DELTAS":                 {broker.Ingest, doorUser, operatorUser, clientUser, upUser},
		"$JS.API.CONSUMER.CREATE.LLM_DELTAS.x":          {bootstrapUser, upUser},
		"$JS.API.CONSUMER.CREATE.LLM_CACHE.x":           {bootstrapUser, operatorUser, upUser},
		"$JS.API.CONSUMER.CREATE.LLM_INFERENCE.x":       {bootstrapUser, upUser},
		"$JS.API.CONSUMER.CREATE.LLM_REQUESTS.x":        {bootstrapUser, upUser},
		broker.DeadSubject("somebody-else", "toy", "x"): {broker.Fallback, upUser},
	}
	for _, d := range services.Pipeline() {
		subjects[broker.DeadSubject(d.Name, "toy", "x")] = []string{d.Name, broker.Fallback, upUser}
		for _, in := range d.Inboxes {
			subjects[broker.PullSubject(in.Stream, in.Consumer)] = []string{d.Name, upUser}
		}
		for _, subject := range inboxes(d.Name) {
			subjects[subject] = append(sendersTo(d.Name), upUser)
			if d.Name == broker.ResultWriter {
				subjects[subject] = append(subjects[subject], doorUser) // a cancellation
			}
		}
	}
	for _, user := range append(stages(), doorUser, upUser, bootstrapUser, operatorUser, clientUser) {
		tried := slices.Collect(maps.Keys(subjects))
		refused := r.refuses(user, tried, func(nc *nats.Conn, subject string) error { return nc.Publish(subject, nil) })
		for subject, may := range subjects {
			if refused[subject] == slices.Contains(may, user) {
				t.Errorf("%s publishes on %s: refused %t, %v may", user, subject, refused[subject], may)
			}
		}
	}
}

// sendersTo are the stages that hand jobs to the stage called name, itself included: a retry goes there.
func sendersTo(name string) []string {
	senders := []string{name}
	previous := ""
	for _, d := range services.Pipeline() {
		switch {
		case d.Name == name:
			if previous != "" && !d.Aside {
				senders = append(senders, previous)
			}
		case name == broker.ResultWriter, slices.Contains(d.SendsOn, name):
			senders = append(senders, d.Name) // any stage rejects
		case name == broker.Fallback && d.Name != broker.ResultWriter:
			senders = append(senders, d.Name) // any stage diverts
		}
		if !d.Aside {
			previous = d.Name
		}
	}
	return senders
}

// What others ask and answer is nobody's to listen to; a queue of ingest's would take its requests away.
func TestAClientHearsResultsAndProgressAlone(t *testing.T) {
	r := setup(t)
	subjects := map[string]bool{
		"llm.result.>": true, "llm.progress.>": true, "llm.result.toy.x": true, "llm.delta.*.*": true,
		"llm.request.*": false, "llm.submit.*": false, "llm.stage.>": false, "llm.dead.>": false, "llm.>": false, ">": false, "$JS.>": false,
	}
	refused := r.refuses(clientUser, slices.Collect(maps.Keys(subjects)), func(nc *nats.Conn, subject string) error {
		_, err := nc.SubscribeSync(subject)
		return err
	})
	for subject, hears := range subjects {
		if refused[subject] == hears {
			t.Errorf("a client subscribes to %s: refused %t", subject, refused[subject])
		}
	}
}

// A permission says where a user publishes, not where the answer goes: the acknowledgement of a request must
// not become a message of the pipeline because the request names a subject of the pipeline to answer to.
func TestAClientCannotHaveAnAnswerStoredInThePipeline(t *testing.T) {
	r := setup(t)
	conn, look := r.connect(clientUser), r.connect(bootstrapUser)
	count := func(stream string) uint64 {
		s, err := look.JS.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Msgs
	}
	targets := map[string]string{
		broker.WriteSubject("toy", "x"):                        broker.ResultsStream,
		broker.AdmittedSubject("x"):                            broker.AdmittedStream,
		broker.StageSubject(broker.Inference, job.Interactive): broker.StageStream(broker.Inference),
	}
	for reply := range targets {
		for _, subject := range []string{broker.RequestSubject(job.Interactive, "toy"), "$JS.API.STREAM.MSG.GET.LLM_RESULTS", "$JS.API.STREAM.INFO.LLM_RESULTS", "$JS.API.DIRECT.GET.LLM_DELTAS"} {
			if err := conn.NC.PublishRequest(subject, reply, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := conn.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, "the requests are stored", func() bool { return count(broker.RequestsStream) == uint64(len(targets)) })
	for reply, stream := range targets {
		if n := count(stream); n != 0 {
			t.Errorf("%d answers were stored in %s by way of the reply subject %s", n, stream, reply)
		}
	}
}
