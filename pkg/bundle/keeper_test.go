package bundle_test

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/bundle"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// process is one that follows the records.
type process struct {
	*bundle.Keeper
	book     *task.Book
	log      *buffer
	changes  atomic.Int64
	registry *prometheus.Registry
	stop     func()
}

type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// follow starts a process with the files of a set.
func follow(t *testing.T, url string, own *task.Set, simulate bool) *process {
	t.Helper()
	p := &process{book: task.NewBook(own), log: &buffer{}, registry: prometheus.NewRegistry()}
	var err error
	p.Keeper, err = bundle.NewKeeper(bundle.Options{
		Conn: brokertest.Connect(t, url), Book: p.book, Own: own, Simulate: simulate, Changed: func() { p.changes.Add(1) },
		Log: zerolog.New(p.log), Metrics: p.registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	p.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(p.stop)
	return p
}

func (p *process) awaits(t *testing.T, what string, version string) {
	t.Helper()
	brokertest.Eventually(t, 10*time.Second, what, func() bool {
		live := p.book.Live().Tasks["toy"]
		return live == nil && version == "" || live != nil && live.Version == version
	})
}

func (p *process) ready(t *testing.T) {
	t.Helper()
	brokertest.Eventually(t, 20*time.Second, "the process is ready", func() bool { return p.Unready() == "" })
}

func push(t *testing.T, store *bundle.Store, set *task.Set) string {
	t.Helper()
	_, live, err := store.Push(t.Context(), bundle.Push{Bundle: bundleOf(set), By: "test", How: bundle.HowPush})
	if err != nil || !live {
		t.Fatalf("live %t, %v", live, err)
	}
	return set.Tasks["toy"].Version
}

func TestAProcessFollowsWhatIsLiveWhateverItsFilesAre(t *testing.T) {
	t.Parallel()
	conn, store := setup(t)
	p := follow(t, conn.NC.ConnectedUrl(), toy(t, "one"), false)
	p.ready(t)
	p.awaits(t, "without a record its own files are live", toy(t, "one").Tasks["toy"].Version)
	one, two := push(t, store, toy(t, "one")), push(t, store, toy(t, "two"))
	p.awaits(t, "a push is live", two)
	if j := (&job.Job{Task: "toy", TaskVersion: one}); mustFor(t, p.book, j).Version != one {
		t.Error("a job of the version before is handled under another one")
	}
	if _, _, err := store.Rollback(t.Context(), "toy", "", "ann"); err != nil {
		t.Fatal(err)
	}
	p.awaits(t, "a rollback is live", one)
	if p.book.Live().Tasks["toy"] != p.Own().Tasks["toy"] {
		t.Error("the version of its own files was fetched")
	}
	if err := store.Pause(t.Context(), "toy", "ann", "why"); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, "the task is paused", func() bool {
		pause, ok := p.book.Paused("toy")
		return ok && pause.By == "ann" && pause.Why == "why"
	})
	if err := store.Remove(t.Context(), "toy", "ann"); err != nil {
		t.Fatal(err)
	}
	p.awaits(t, "the task is taken out", "")
	if mustFor(t, p.book, &job.Job{Task: "toy", TaskVersion: two}).Version != two || p.changes.Load() == 0 {
		t.Error("a job in flight of a task that was taken out is handled under another version")
	}
	late := follow(t, conn.NC.ConnectedUrl(), toy(t, "one"), false)
	late.ready(t)
	late.awaits(t, "one that starts later knows", "")
}

func mustFor(t *testing.T, book *task.Book, j *job.Job) *task.Task {
	t.Helper()
	got, err := book.For(t.Context(), j)
	if err != nil || got == nil {
		t.Fatalf("%v, %v", got, err)
	}
	return got
}

func TestASimulatingProcessSimulatesWhatItFetches(t *testing.T) {
	t.Parallel()
	conn, store := setup(t)
	version := push(t, store, toy(t, "two"))
	p := follow(t, conn.NC.ConnectedUrl(), toy(t, "one").Simulated(), true)
	p.awaits(t, "the real version is live", version)
	if live := p.book.Live().Tasks["toy"]; live.Model != "simulated" || p.book.Live().Providers["simulated"].Kind != task.KindSimulated {
		t.Errorf("it calls %s", live.Model)
	}
}

func TestTheModelsOfLiveVersionsAreKnownWhereNoFileNamesThem(t *testing.T) {
	t.Parallel()
	conn, store := setup(t)
	renamed := func(word, model string) *task.Set {
		files := folder(word, 5, nil)
		text := strings.NewReplacer("  small:", "  "+model+":").Replace(string(files["models.yaml"].Data))
		files["models.yaml"].Data = []byte(text)
		files["tasks/toy/task.yaml"].Data = []byte("model: " + model + "\n")
		return load(t, files)
	}
	p := follow(t, conn.NC.ConnectedUrl(), toy(t, "one"), false)
	p.ready(t)
	old := push(t, store, renamed("old", "ancient"))
	p.awaits(t, "another model's task is live", push(t, store, renamed("two", "tiny")))
	models := func() map[string]*task.Model { return p.book.Live().Models }
	if m := models()["tiny"]; m == nil || m.Prices.Input != 5 || models()["small"].Prices.Input != 1 {
		t.Errorf("the models are %v", models())
	}
	p.awaits(t, "its own again", push(t, store, toy(t, "one")))
	if models()["tiny"] == nil {
		t.Error("the model of jobs in flight is forgotten")
	}
	late := follow(t, conn.NC.ConnectedUrl(), toy(t, "one"), false)
	late.ready(t)
	if late.book.Live().Models["ancient"] != nil {
		t.Error("it knows the model before any job names its version")
	}
	mustFor(t, late.book, &job.Job{Task: "toy", TaskVersion: old})
	brokertest.Eventually(t, 10*time.Second, "a job's version brings its models", func() bool { return late.book.Live().Models["ancient"] != nil })
}

func TestALiveVersionThatDoesNotLoadLeavesTheOneBeforeAndSaysWhy(t *testing.T) {
	t.Parallel()
	conn, store := setup(t)
	p := follow(t, conn.NC.ConnectedUrl(), toy(t, "one"), false)
	p.ready(t)
	one := push(t, store, toy(t, "one"))
	spoiled := bundleOf(toy(t, "two"))
	spoiled.Files = map[string][]byte{"task.yaml": []byte("model: small\nnonsense: 1\n")}
	if _, _, err := store.Push(t.Context(), bundle.Push{Bundle: spoiled, By: "test", How: bundle.HowPush}); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 20*time.Second, "the log says why", func() bool {
		return strings.Contains(p.log.String(), `unknown key \"nonsense\"`) && strings.Contains(p.log.String(), spoiled.Version)
	})
	p.awaits(t, "the version before stays", one)
	if n := gaugeOf(t, p.registry); n != 1 {
		t.Errorf("the metric says %v", n)
	}
	if _, err := p.book.Version(t.Context(), "toy", spoiled.Version); !errors.Is(err, task.ErrUnfit) {
		t.Errorf("jobs that name it are not told that it is unfit: %v", err)
	}
	two := push(t, store, toy(t, "three"))
	p.awaits(t, "the next one is live", two)
	brokertest.Eventually(t, 10*time.Second, "the metric is back", func() bool { return gaugeOf(t, p.registry) == 0 })
	if n := strings.Count(p.log.String(), "does not load here, this process"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}

func gaugeOf(t *testing.T, r *prometheus.Registry) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "spillway_tasks_not_live" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}

func TestWithoutTheBucketsTheFilesAreLive(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	p := follow(t, s.URL(), toy(t, "one"), false)
	p.ready(t)
	p.awaits(t, "its own files are live", toy(t, "one").Tasks["toy"].Version)
	if got := mustFor(t, p.book, &job.Job{Task: "toy", TaskVersion: "ffffffff"}); got.Version != toy(t, "one").Tasks["toy"].Version {
		t.Errorf("%s", got.Version)
	}
}

// restart is a server that can be stopped and started again with its store.
type restart struct {
	t      *testing.T
	store  string
	port   int
	server *embedded.Server
}

func (r *restart) start() string {
	r.t.Helper()
	r.server = brokertest.StartServer(r.t, embedded.Options{Port: r.port, Store: r.store, Sync: time.Second})
	u, err := url.Parse(r.server.URL())
	if err != nil {
		r.t.Fatal(err)
	}
	if r.port, err = strconv.Atoi(u.Port()); err != nil {
		r.t.Fatal(err)
	}
	return r.server.URL()
}

func TestAProcessFollowsOnAfterARestartOfTheBroker(t *testing.T) {
	t.Parallel()
	s := &restart{t: t, store: t.TempDir(), port: -1}
	url := s.start()
	conn := brokertest.Connect(t, url)
	brokertest.Ensure(t, conn, broker.NewTopology(nil, nil, broker.DefaultSizing()))
	store := bundle.NewStore(conn)
	p := follow(t, url, toy(t, "one"), false)
	p.ready(t)
	for _, word := range []string{"two", "three", "four"} {
		p.awaits(t, word+" is live", push(t, store, toy(t, word)))
		s.server.Stop()
		late := follow(t, url, toy(t, "one"), false)
		if late.Unready() == "" {
			t.Error("a process is ready that never saw the broker")
		}
		one := toy(t, "one").Tasks["toy"].Version
		if got := mustFor(t, late.book, &job.Job{Task: "toy"}); got.Version != one {
			t.Errorf("without the broker %s is live", got.Version)
		}
		s.start()
		late.awaits(t, "one that started without the broker", toy(t, word).Tasks["toy"].Version)
		late.stop()
	}
}
