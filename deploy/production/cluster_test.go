package production_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
)

// nodeEnv makes this test binary a nats-server, where none is named by SPILLWAY_NATS_SERVER.
const nodeEnv = "SPILLWAY_TEST_NODE"

// patience bounds each wait; it is long for a busy machine.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) == "" {
		os.Exit(m.Run())
	}
	if err := serveNode(); err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		os.Exit(1)
	}
}

// serveNode is what the program nats-server does.
func serveNode() error {
	flags := flag.NewFlagSet("nats-server", flag.ContinueOnError)
	opts, err := server.ConfigureOptions(flags, os.Args[1:], nil, nil, nil)
	if err != nil {
		return err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		return err
	}
	s.WaitForShutdown()
	return nil
}

// process is one that is killed and started again.
type process struct {
	t    *testing.T
	name string
	// command makes it anew; ready waits until it does its work.
	command func() *exec.Cmd
	ready   func(p *process)
	log     *tail
	cmd     *exec.Cmd
	exited  chan struct{}
}

// tail keeps the end of what a process wrote.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-16<<10):]
	return len(p), nil
}

func (l *tail) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = p.command()
	if p.log == nil {
		p.log = &tail{}
		p.t.Cleanup(func() {
			p.end(syscall.SIGKILL)
			if p.t.Failed() {
				p.t.Logf("the end of what %s wrote:\n%s", p.name, p.log)
			}
		})
	}
	p.log.reset()
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.WaitDelay = p.log, p.log, 10*time.Second
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	exited := make(chan struct{})
	p.exited = exited
	go func(cmd *exec.Cmd) {
		defer close(exited)
		_ = cmd.Wait() // how it ended shows in its log
	}(p.cmd)
}

func (p *process) end(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // it may be gone already
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Errorf("%s does not end", p.name)
		_ = p.cmd.Process.Kill()
	}
}

// says waits until a process has written a text since it was started last.
func (p *process) says(text string) {
	p.t.Helper()
	brokertest.Eventually(p.t, patience, p.name+" says "+text, func() bool {
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended by itself:\n%s", p.name, p.log)
		default:
		}
		return strings.Contains(p.log.String(), text)
	})
}

// cluster is what compose.yaml starts, on this machine: nodes, replicas, and a provider.
type cluster struct {
	t        *testing.T
	dir      string
	program  string
	urls     string
	nodes    []*process
	replicas []*process
	provider *fakellm.Server
}

const nodes = 3

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	c.program = filepath.Join(c.dir, "spillway")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", c.program, "spillway/services/spillway").CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	c.spillway("broker", "credentials", filepath.Join(c.dir, "credentials"), "--node", "127.0.0.1")
	provider, err := fakellm.Start(fakellm.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	c.provider = provider
	c.writeTask()
	c.startNodes()
	// As compose does: the container is started again until there is a leader.
	brokertest.Eventually(t, patience, "the streams are made", func() bool {
		_, err := c.try(c.asService("broker", "init", "--replicas", "3", "--results-consumer", "client")...)
		return err == nil
	})
	for n := range nodes {
		c.replicas = append(c.replicas, c.replica(n))
	}
	for _, r := range c.replicas {
		r.start()
	}
	for _, r := range c.replicas {
		r.ready(r)
	}
	return c
}

// spillway runs the program, which must succeed.
func (c *cluster) spillway(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("spillway %v: %v\n%s", args, err, out)
	}
	return out
}

func (c *cluster) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Env = plainEnv()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// plainEnv has none of the tester's own variables: every flag has one.
func plainEnv() []string { return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")} }

func (c *cluster) file(path ...string) string {
	return filepath.Join(append([]string{c.dir, "credentials"}, path...)...)
}

func (c *cluster) asService(args ...string) []string {
	return append(args, "--nats", c.urls, "--nats-nkey", c.file("service", "service.nk"), "--nats-ca", c.file("service", "ca.pem"))
}

// startNodes runs the nodes by nats.conf as it is, but for addresses and the folder of the store.
func (c *cluster) startNodes() {
	c.t.Helper()
	text, err := os.ReadFile("nats.conf")
	if err != nil {
		c.t.Fatal(err)
	}
	var clients, routes, monitors []string
	for range nodes {
		clients, routes, monitors = append(clients, quietAddress(c.t)), append(routes, quietAddress(c.t)), append(monitors, quietAddress(c.t))
	}
	c.urls = "nats://" + strings.Join(clients, ",nats://")
	for n := range nodes {
		own := string(text)
		for from, to := range map[string]string{
			"0.0.0.0:4222": clients[n], "0.0.0.0:6222": routes[n], "127.0.0.1:8222": monitors[n],
			"nats-1:6222": routes[0], "nats-2:6222": routes[1], "nats-3:6222": routes[2], `"/data"`: strconv.Quote(c.t.TempDir()),
		} {
			if strings.Count(own, from) != 1 {
				c.t.Fatalf("nats.conf has %s %d times", from, strings.Count(own, from))
			}
			own = strings.Replace(own, from, to, 1)
		}
		path := filepath.Join(c.dir, fmt.Sprintf("node-%d.conf", n))
		if err := os.WriteFile(path, []byte(own), 0o600); err != nil {
			c.t.Fatal(err)
		}
		p := &process{t: c.t, name: fmt.Sprintf("nats-%d", n+1), command: func() *exec.Cmd { return c.node(path, n+1) }}
		p.ready = func(p *process) {
			brokertest.Eventually(p.t, patience, p.name+" is healthy", func() bool { return isHealthy(p.t, monitors[n]) })
		}
		c.nodes = append(c.nodes, p)
		p.start()
	}
	for _, p := range c.nodes {
		p.ready(p)
	}
}

func (c *cluster) node(path string, n int) *exec.Cmd {
	program, env := os.Getenv("SPILLWAY_NATS_SERVER"), plainEnv()
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			c.t.Fatal(err)
		}
		program, env = self, append(env, nodeEnv+"=1")
	}
	cmd := exec.CommandContext(context.WithoutCancel(c.t.Context()), program, "-c", path)
	cmd.Dir, cmd.Env = c.dir, append(env, fmt.Sprintf("NATS_NODE=nats-%d", n))
	return cmd
}

func isHealthy(t *testing.T, address string) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// replica is one of `up`, as compose.yaml starts it.
func (c *cluster) replica(n int) *process {
	args := c.asService("up", "--json", "--schemas", filepath.Join(c.dir, "schemas"), "--http", "127.0.0.1:0", "--replicas", "3", "--no-self-check")
	return &process{
		t: c.t, name: fmt.Sprintf("up-%d", n+1),
		command: func() *exec.Cmd {
			cmd := exec.CommandContext(context.WithoutCancel(c.t.Context()), c.program, args...)
			cmd.Env = plainEnv()
			return cmd
		},
		ready: func(p *process) { p.says(`"event":"ready"`) },
	}
}

// writeTask makes a folder with one task, which asks the provider and has no ladder.
func (c *cluster) writeTask() {
	c.t.Helper()
	for name, text := range map[string]string{
		"models.yaml": fmt.Sprintf(`defaults:
  timeouts: {connect: 5s, first_token: 20s, silence: 20s, call: 30s}
providers:
  one: {kind: openai, base_url: %q, api_key: none}
models:
  small: {provider: one, id: small-1, context_window: 16000, max_output_tokens: 2000, encoding: o200k_base, structured_output: json_schema, max_tokens_field: max_tokens, prices: {as_of: "2026-11-01", input: 1, output: 2}}
`, c.provider.URL()),
		"tasks/toy/task.yaml":          "model: small\ndeadline: {default: 5m, max: 10m, reserve: 1s}\nladder: []\nno_ladder: a result is the model's own answer\n",
		"tasks/toy/prompt.tmpl":        `{{define "system"}}Answer in JSON. {{.Schema}}{{end}}{{define "user"}}{{.Input.text}}{{end}}`,
		"tasks/toy/input.schema.json":  `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false}`,
		"tasks/toy/output.schema.json": `{"type":"object","properties":{"says":{"type":"string"}},"required":["says"],"additionalProperties":false}`,
	} {
		path := filepath.Join(c.dir, "schemas", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// connect is an application's own connection: the client library, and a user's two files.
func (c *cluster) connect(user string, options ...nats.Option) *nats.Conn {
	c.t.Helper()
	seed, err := nats.NkeyOptionFromSeed(c.file(user, user+".nk"))
	if err != nil {
		c.t.Fatal(err)
	}
	options = append([]nats.Option{seed, nats.RootCAs(c.file(user, "ca.pem")), nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(0, 0)}, options...)
	nc, err := nats.Connect(c.urls, options...)
	if err != nil {
		c.t.Fatalf("connect as %s: %v", user, err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

// quietAddress is a free port below those of outgoing connections: a node that comes back must find its own still free.
func quietAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000)))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close() // it listened a moment ago
			return address
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return ""
}
