package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/services"
)

// startFigures are what a start of `up` on a store with kept results takes.
type startFigures struct {
	Kept       int   `json:"kept_results"`
	StoreBytes int64 `json:"store_bytes"`
	ReadyMS    int64 `json:"ready_ms"`
	IdleBytes  int64 `json:"idle_rss_bytes"`
}

// benchStart measures starts of `up`, each a process of its own on a store made for it.
func benchStart(ctx context.Context, g *globals, kept []int, idle time.Duration) error {
	for _, n := range kept {
		f, err := measureStart(ctx, n, idle)
		if err != nil {
			return err
		}
		if g.cli.JSON {
			if err := g.printJSON(f); err != nil {
				return err
			}
			continue
		}
		g.printf("%9d kept results: store %s, ready in %s, idle %s\n", f.Kept, mib(f.StoreBytes),
			(time.Duration(f.ReadyMS) * time.Millisecond).String(), mib(f.IdleBytes))
	}
	return nil
}

func mib(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }

func measureStart(ctx context.Context, kept int, idle time.Duration) (*startFigures, error) {
	f := &startFigures{Kept: kept}
	err := withStore(ctx, kept, keepOne, func(dir string, bytes int64) error {
		f.StoreBytes = bytes
		up, err := startUp(ctx, dir)
		if err != nil {
			return err
		}
		f.ReadyMS = up.ready.Milliseconds()
		f.IdleBytes = up.idle(ctx, idle)
		return up.end()
	})
	return f, err
}

// withStore has a store filled with so many of what keep stores, for as long as measure runs.
func withStore(ctx context.Context, n int, keep func(*broker.Conn, int) error, measure func(dir string, bytes int64) error) error {
	dir, err := os.MkdirTemp("", "spillway-bench-")
	if err != nil {
		return fmt.Errorf("make a store: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder: what stays is small
	if err := fillStore(ctx, dir, n, keep); err != nil {
		return fmt.Errorf("fill the store: %w", err)
	}
	return measure(dir, folderSize(dir))
}

func fillStore(ctx context.Context, dir string, n int, keep func(*broker.Conn, int) error) error {
	s, err := embedded.Start(embedded.Options{Port: -1, Store: dir, Sync: time.Second, Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer s.Stop()
	conn, err := broker.Connect(broker.ConnectOptions{URL: s.URL(), Name: "spillway/bench", Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Ensure(ctx, stage.Topology(services.Pipeline(), broker.DefaultSizing())); err != nil {
		return err
	}
	for i := range n {
		if err := keep(conn, i); err != nil {
			return err
		}
		if i%1000 == 999 || i == n-1 {
			select {
			case <-conn.JS.PublishAsyncComplete():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// keepOne stores the marker and a result of 1 KB of the i-th job, as a day's work leaves them.
func keepOne(conn *broker.Conn, i int) error {
	now := time.Now().UTC()
	m := markerOf(i, now, time.Minute)
	j := m.Job()
	j.Outcome = &job.Outcome{Status: job.Succeeded, Source: job.FromModel, Output: json.RawMessage(`"` + strings.Repeat("x", 200) + `"`)}
	for range 5 {
		j.Record(job.Event{Kind: job.KindHop, Stage: broker.Inference, At: now})
	}
	result, err := json.Marshal(j.Result(now))
	if err != nil {
		return err
	}
	if err := keepMarker(conn, m); err != nil {
		return err
	}
	_, err = conn.JS.PublishMsgAsync(&nats.Msg{
		Subject: broker.WriteSubject(m.Task, m.ID), Data: result, Header: nats.Header{broker.RunHeader: {"1"}},
	})
	return err
}

// markerOf is the marker of the i-th job.
func markerOf(i int, now time.Time, deadline time.Duration) *job.Marker {
	return &job.Marker{
		V: job.Version, ID: fmt.Sprintf("01BENCHBENCHBENCH%09d", i), Task: "bench", TaskVersion: "00000000", Lane: job.Interactive, Run: 1,
		RequestStream: broker.RequestsStream, RequestSeq: uint64(i + 1), BodyHash: strings.Repeat("0", 32),
		AcknowledgedAt: now, Deadline: now.Add(deadline), AnswerBy: now.Add(deadline - time.Second), CacheKey: strings.Repeat("0", 32),
		TraceParent: "00-" + strings.Repeat("0", 32) + "-" + strings.Repeat("0", 16) + "-01",
	}
}

func keepMarker(conn *broker.Conn, m *job.Marker) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = conn.JS.PublishMsgAsync(&nats.Msg{Subject: broker.AdmittedSubject(m.ID), Data: body, Header: broker.MarkerHeader(m)})
	return err
}

// upProcess is an `up` that was started to be measured.
type upProcess struct {
	cmd   *exec.Cmd
	began time.Time
	lines *bufio.Scanner
	// ready is when it took requests.
	ready time.Duration
	http  string // address
}

// startUp runs `up` on the store until it takes requests.
func startUp(ctx context.Context, dir string) (*upProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "up", "--json", "--simulate", "--no-self-check", "--store", dir, "--nats-port=-1", "--http=127.0.0.1:0", "--log-level=warn")
	cmd.Env = []string{} // no variable changes what is measured
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	up := &upProcess{cmd: cmd, began: time.Now(), lines: bufio.NewScanner(out)}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start `up`: %w", err)
	}
	var said struct{ Event, HTTP string }
	if !up.lines.Scan() || json.Unmarshal(up.lines.Bytes(), &said) != nil || said.Event != "ready" {
		_ = cmd.Process.Kill()
		return nil, errors.Join(fmt.Errorf("`up` did not get ready: %s", up.lines.Text()), cmd.Wait())
	}
	up.ready, up.http = time.Since(up.began), said.HTTP
	return up, nil
}

// idle leaves it alone and reads what it takes then, in bytes.
func (up *upProcess) idle(ctx context.Context, after time.Duration) int64 {
	idle := time.NewTimer(after)
	defer idle.Stop()
	select {
	case <-idle.C:
	case <-ctx.Done():
	}
	return residentBytes(up.cmd.Process.Pid)
}

// end asks it to leave.
func (up *upProcess) end() error {
	if err := up.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	for up.lines.Scan() { // until the pipe is closed
	}
	return up.cmd.Wait()
}

// residentBytes is VmRSS of a process; 0 where the system does not say.
func residentBytes(pid int) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}

func folderSize(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
