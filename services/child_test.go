package services_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker/embedded"
)

// Tests that kill need processes. A stage is the real program, built with its kill points; a nats-server is
// this test binary once more, which childMain turns into one.
const (
	childEnv      = "SPILLWAY_TEST_CHILD"
	childPortEnv  = "SPILLWAY_TEST_PORT"
	childStoreEnv = "SPILLWAY_TEST_STORE"
	childDiskEnv  = "SPILLWAY_TEST_DISK"
	natsChild     = "nats"
	// startTimeout and exitTimeout bound the waits for a child; both are long for a busy machine.
	startTimeout = 60 * time.Second
	exitTimeout  = 60 * time.Second
)

// childMain runs this process as what a test started it for; false: it is no child.
func childMain() bool {
	if os.Getenv(childEnv) != natsChild {
		return false
	}
	if size := os.Getenv(childDiskEnv); size != "" {
		if err := mountDisk(os.Getenv(childStoreEnv), size); err != nil {
			fmt.Fprintln(os.Stderr, "mount a small disk:", err)
			os.Exit(1)
		}
	}
	if err := serveNATS(os.Getenv(childPortEnv), os.Getenv(childStoreEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "nats-server child:", err)
		os.Exit(1)
	}
	return true
}

// serveNATS runs a server until its standard input ends, as it does with the test's process.
func serveNATS(portText, store string) error {
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("read %s: %w", childPortEnv, err)
	}
	log := zerolog.New(os.Stderr).Level(zerolog.WarnLevel).With().Timestamp().Logger()
	s, err := embedded.Start(embedded.Options{Port: port, Store: store, Sync: time.Second, Log: log})
	if err != nil {
		return err
	}
	defer s.Stop()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// child is a running process.
type child struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
}

// startChild starts a process that ends with the test at the latest. It may be called from any goroutine.
func startChild(t *testing.T, name string, log io.Writer, cmd *exec.Cmd) (*child, error) {
	t.Helper()
	cmd.Stderr = log
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{name: name, cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(c.exited)
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone already
		<-c.exited
	})
	return c, nil
}

// end sends a signal and waits until the process is gone.
func (c *child) end(t *testing.T, signal os.Signal) {
	t.Helper()
	_ = c.cmd.Process.Signal(signal) // it may have died at a kill point meanwhile
	c.wait(t)
}

func (c *child) wait(t *testing.T) {
	t.Helper()
	select {
	case <-c.exited:
	case <-time.After(exitTimeout):
		t.Errorf("%s (pid %d) does not end", c.name, c.cmd.Process.Pid)
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

// wasKilled reports whether the exited process died of SIGKILL.
func (c *child) wasKilled() bool {
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// exitCode is the code of the exited process; -1 when a signal ended it.
func (c *child) exitCode() int { return c.cmd.ProcessState.ExitCode() }

// childLog keeps the end of what the processes of one name wrote, and shows it when the test has failed.
type childLog struct {
	mu   sync.Mutex
	tail []byte
}

const childLogKept = 4 << 10

func newChildLog(t *testing.T, name string) *childLog {
	t.Helper()
	l := &childLog{}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.Failed() && len(l.tail) > 0 {
			t.Logf("the end of what %s wrote:\n%s", name, bytes.TrimSpace(l.tail))
		}
	})
	return l
}

// Write implements io.Writer.
func (l *childLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p...)
	if extra := len(l.tail) - childLogKept; extra > 0 {
		l.tail = append(l.tail[:0], l.tail[extra:]...)
	}
	return len(p), nil
}

// text is what is kept.
func (l *childLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail)
}

// program builds the real program, kill points included. It lies beside the test binary, in the folder
// that the go command removes after the run.
var program = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find a place for the program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "spillway-with-killpoints")
	out, err := exec.Command("go", "build", "-tags", "killpoints", "-o", path, "spillway/services/spillway").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// processes are a pipeline of which each stage is a process, on the server and with the tasks of a rig.
type processes struct {
	r       *rig
	path    string
	schemas string
	mu      sync.Mutex
	logs    map[string]*childLog
}

func newProcesses(r *rig) *processes {
	r.t.Helper()
	path, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	dir := filepath.Join(r.t.TempDir(), "schemas")
	if err := os.CopyFS(dir, r.files); err != nil {
		r.t.Fatalf("write the tasks: %v", err)
	}
	return &processes{r: r, path: path, schemas: dir, logs: map[string]*childLog{}}
}

// start runs a stage as a process of its own. env adds to its environment: a kill point, a planted bug.
func (p *processes) start(stage string, env ...string) (*child, error) {
	return p.startServing("off", stage, env...)
}

// startServing does so with its metrics at an address.
func (p *processes) startServing(address, stage string, env ...string) (*child, error) {
	// Not the test's own context: that ends before its cleanups, in which stages are asked to leave.
	cmd := exec.CommandContext(context.WithoutCancel(p.r.t.Context()), p.path, stage,
		"--nats", p.r.url, "--schemas", p.schemas, "--http", address, "--grace", "20s", "--log-level", "warn")
	// Nothing else is passed on: every flag has a variable, and the tester's own may be set.
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	return startChild(p.r.t, stage, p.log(stage), cmd)
}

func (p *processes) log(stage string) *childLog {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logs[stage] == nil {
		p.logs[stage] = newChildLog(p.r.t, stage)
	}
	return p.logs[stage]
}

// mustStart is start for the test's own goroutine.
func (p *processes) mustStart(stage string, env ...string) *child {
	p.r.t.Helper()
	c, err := p.start(stage, env...)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return c
}

// run runs the named stages, all when none is named, until the returned function is called: it asks them
// to leave, and each must say that it drained.
func (p *processes) run(names ...string) (stop func()) {
	p.r.t.Helper()
	if len(names) == 0 {
		names = p.r.stageNames()
	}
	var running []*child
	for _, name := range names {
		running = append(running, p.mustStart(name))
	}
	var once sync.Once
	stop = func() { once.Do(func() { p.drain(running) }) }
	p.r.t.Cleanup(stop)
	return stop
}

func (p *processes) drain(running []*child) {
	p.r.t.Helper()
	for _, c := range running {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // one that is gone already shows by its exit code
	}
	for _, c := range running {
		c.wait(p.r.t)
		if code := c.exitCode(); code != 0 {
			p.r.t.Errorf("%s exited with %d after SIGTERM", c.name, code)
		}
	}
}

func (r *rig) stageNames() []string {
	var names []string
	for _, d := range r.defs {
		names = append(names, d.Name)
	}
	return names
}

// natsProcess is a nats-server in a process of its own, always on one port and one store.
type natsProcess struct {
	t     *testing.T
	port  int
	store string
	log   *childLog
	child *child
	// prepare changes how the process is started; nil: as it is.
	prepare func(*exec.Cmd)
}

func startServer(t *testing.T) *natsProcess {
	t.Helper()
	s := newServer(t)
	s.start()
	return s
}

// newServer is one that is not started yet.
func newServer(t *testing.T) *natsProcess {
	t.Helper()
	return &natsProcess{t: t, port: quietPort(t), store: t.TempDir(), log: newChildLog(t, "nats-server")}
}

func (s *natsProcess) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.port) }

// start returns once JetStream answers.
func (s *natsProcess) start() {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), self)
	cmd.Env = append(os.Environ(), childEnv+"="+natsChild, childPortEnv+"="+strconv.Itoa(s.port), childStoreEnv+"="+s.store)
	if s.prepare != nil {
		s.prepare(cmd)
	}
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if inErr != nil || outErr != nil {
		s.t.Fatalf("pipes to the nats-server: %v, %v", inErr, outErr)
	}
	if s.child, err = startChild(s.t, "nats-server", s.log, cmd); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = in.Close() }) // closed already when the process has ended
	ready := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(out).ReadString('\n')
		ready <- err
	}()
	select {
	case err := <-ready:
		if err != nil {
			s.t.Fatalf("the nats-server did not start: %v", err)
		}
	case <-time.After(startTimeout):
		s.t.Fatalf("the nats-server was not ready within %s", startTimeout)
	}
}

// kill ends the server with SIGKILL.
func (s *natsProcess) kill() {
	s.t.Helper()
	s.child.end(s.t, syscall.SIGKILL)
}

// quietPort finds a free port below the range from which the kernel takes the ports of outgoing
// connections: a server that comes back must find its own still free.
func quietPort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + rand.IntN(12_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = l.Close() // it listened a moment ago
		return port
	}
	t.Fatal("no free port between 20000 and 32000")
	return 0
}
