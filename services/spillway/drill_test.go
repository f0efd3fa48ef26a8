package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/drill"
	"spillway/pkg/fakellm"
	"spillway/services"
)

func TestTheDrillRunsAllThatItNeeds(t *testing.T) {
	t.Parallel()
	report := spillway(t, "drill", "incident", "--task=onboarding", "--requests=60", "--speed=40", "--rate=0", "--json").with(exitOK).one()
	all, replay := report["all"].(map[string]any), report["replay"].(map[string]any)
	if all["acknowledged"] != 60.0 || all["lost"] != 0.0 || report["cut_short"] != false || report["own_by"] != "nonce" || replay["answered"] != replay["owed"] {
		t.Errorf("%v", report)
	}
}

func TestHurriedTimesAreToldInRoundNumbers(t *testing.T) {
	t.Parallel()
	c := start(t, "drill", "incident", "--speed=60")
	c.says("first_token 10s is 167ms")
	c.cancel()
	c.wait().with(exitInterrupted)
}

func TestTheDrillLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	c := start(t, "drill", "incident")
	brokertest.Eventually(t, 20*time.Second, "the drill has a store", func() bool {
		made, _ := filepath.Glob(filepath.Join(dir, "*"))
		return len(made) > 0
	})
	c.cancel()
	c.wait().with(exitInterrupted)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestADrillThatIsInterruptedSaysWhatItFoundSoFar(t *testing.T) {
	t.Parallel()
	r, provider := staging(t)
	c := r.start(t, "drill", "incident", "--provider="+provider.Root(), "--schemas="+stagingFolder(t, provider), "--requests=5000")
	// The first call is that of the request which goes before the night.
	if err := provider.Await(t.Context(), func(n fakellm.Counts) bool { return n.Calls > 3 }); err != nil {
		t.Fatal(err)
	}
	c.cancel()
	c.wait().with(exitInterrupted, "acknowledged", "before the night was").without("lost  1", "Every one")
	if counts := provider.Counts(); counts.Calls != 0 {
		t.Errorf("the provider was not reset: it counts %d calls", counts.Calls)
	}
}

func TestTheDrillFindsWhatIsLostAndEnds(t *testing.T) {
	t.Parallel()
	r, provider := staging(t, broker.ResultWriter)
	tasks, err := loadTasks(stagingFolder(t, provider), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	o := drill.Options{
		Conn: brokertest.Connect(t, r.url), Provider: drill.NewProvider(provider.Root()), Tasks: tasks, Task: "toy",
		Requests: 30, Speed: 100, ReplayRate: 50,
	}
	t.Cleanup(o.Provider.Close)
	began := time.Now()
	report, err := drill.Incident(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	out, said := &buffer{}, &buffer{}
	g := &globals{cli: newCLI(), getenv: noEnv, stdout: out, stderr: said}
	if code := g.report(t.Context(), g.judged(report)); code != exitFailed || !strings.Contains(said.String(), "the promise was not kept: 30 lost; no request was answered") {
		t.Errorf("exit code %d, %s", code, said)
	}
	if strings.Contains(out.String(), "Every one") {
		t.Error(out)
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestTheDrillRefusesAPipelineThatDoesNotCallTheProvider(t *testing.T) {
	t.Parallel()
	r, provider := staging(t)
	schemas := "--schemas=" + stagingFolder(t, provider)
	other, err := fakellm.Start(fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindOverloaded}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	r.spillway(t, "drill", "incident", "--provider="+other.URL(), schemas).with(exitFailed, "no call of it arrived", "OPENAI_BASE_URL", "breaker ls")
	nothing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(nothing.Close)
	for _, address := range []string{nothing.URL, "http://127.0.0.1:1", "nowhere"} {
		r.spillway(t, "drill", "incident", "--provider="+address, schemas).with(exitFailed, "does not answer as a simulated provider", "spillway fakellm")
	}
	if n := provider.Counts().Outcomes[fakellm.KindRateLimited]; n != 0 {
		t.Errorf("the provider misbehaved %d times all the same", n)
	}
}

func TestTheDrillRefusesWhatItCanNotDo(t *testing.T) {
	t.Parallel()
	spillway(t, "drill", "incident", "--nats=nats://127.0.0.1:1").with(exitUsage, "--provider")
	spillway(t, "drill", "incident", "--provider=http://127.0.0.1:1").with(exitUsage, "--nats")
	spillway(t, "drill", "incident", "--nats=nats://127.0.0.1:1", "--provider=http://127.0.0.1:1", "--speed=100").with(exitUsage, "the staging pipeline's own timeouts are not compressed")
	spillway(t, "drill", "incident", "--speed=0.5").with(exitUsage, "--speed is 1 to 100")
	spillway(t, "drill", "incident", "--requests=0").with(exitUsage, "--requests")
	spillway(t, "drill", "incident", "--rate=soon").with(exitUsage, "a rate is")
	spillway(t, "drill", "incident", "--task=nobody").with(exitUsage, "no task \"nobody\"", "analyze, onboarding")
	spillway(t, "drill", "incident", "--inputs=nowhere").with(exitUsage, "nowhere")
	empty := filepath.Join(t.TempDir(), "inputs")
	write(t, empty, "\n")
	spillway(t, "drill", "incident", "--inputs="+empty).with(exitUsage, "one input a line")
	write(t, empty, "{\"text\": 7}\n")
	spillway(t, "drill", "incident", "--inputs="+empty).with(exitFailed, "input 1 of task analyze", "--inputs")
}

// staging is a pipeline that runs on its own, without the named stages, and the provider that it calls.
func staging(t *testing.T, without ...string) (*rig, *fakellm.Server) {
	t.Helper()
	r := serve(t)
	provider, err := fakellm.Start(fakellm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	tasks, err := loadTasks(stagingFolder(t, provider), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range services.Pipeline() {
		if len(without) == 0 || d.Name != without[0] {
			names = append(names, d.Name)
		}
	}
	p, err := newProcess(brokertest.Connect(t, r.url), tasks, roleFlags{Grace: time.Second, AdmitInteractive: 1000, AdmitBatch: 1000}, noEnv, zerolog.Nop(), names...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the pipeline: %v", err)
		}
		p.close()
	})
	return r, provider
}

// stagingFolder has one task, whose times are short as they are written.
func stagingFolder(t *testing.T, provider *fakellm.Server) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"models.yaml": fmt.Sprintf(`defaults: {timeouts: {first_token: 100ms}, breaker: {window: 1s, half_open_after: 600ms}}
providers: {here: {kind: openai, base_url: %q, api_key: none}}
models: {only: {provider: here, id: only-1, context_window: 8000, prices: {input: 1, output: 2}}}
`, provider.URL()),
		"tasks/toy/task.yaml":          "model: only\ndeadline: {default: 3s, reserve: 500ms}\nretry: {interactive: {attempts: 1, first_delay: 10ms}}\n",
		"tasks/toy/prompt.tmpl":        `{{define "user"}}{{.Input.text}}{{end}}`,
		"tasks/toy/input.schema.json":  `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`,
		"tasks/toy/output.schema.json": `{"type":"object","properties":{"says":{"type":"string"}},"required":["says"],"additionalProperties":false}`,
		"tasks/toy/canned.yaml":        "- output: {says: nothing}\n",
	} {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	return dir
}
