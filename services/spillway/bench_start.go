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

// idleAfter is how long a started process is left alone before its memory is read: the deadline index has
// read the stored results by then.
const idleAfter = 10 * time.Second

// benchStart measures starts of `up`, each a process of its own on a store made for it.
func benchStart(ctx context.Context, g *globals, kept []int) error {
	for _, n := range kept {
		f, err := measureStart(ctx, n)
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

func measureStart(ctx context.Context, kept int) (*startFigures, error) {
	dir, err := os.MkdirTemp("", "spillway-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a store: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder: what stays is small
	if err := fillStore(ctx, dir, kept); err != nil {
		return nil, fmt.Errorf("fill the store: %w", err)
	}
	f := &startFigures{Kept: kept, StoreBytes: folderSize(dir)}
	return f, f.start(ctx, dir)
}

// fillStore keeps results of runs that ended, with their markers, as a day's work leaves them.
func fillStore(ctx context.Context, dir string, kept int) error {
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
	for i := range kept {
		if err := keepOne(conn, i); err != nil {
			return err
		}
		if i%1000 == 999 || i == kept-1 {
			select {
			case <-conn.JS.PublishAsyncComplete():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// keepOne stores the marker and a result of 1 KB of the i-th job.
func keepOne(conn *broker.Conn, i int) error {
	now := time.Now().UTC()
	m := job.Marker{
		V: job.Version, ID: fmt.Sprintf("01BENCHBENCHBENCH%09d", i), Task: "bench", Lane: job.Interactive, Run: 1,
		RequestStream: broker.RequestsStream, RequestSeq: uint64(i + 1), BodyHash: strings.Repeat("0", 32),
		AcknowledgedAt: now, Deadline: now.Add(time.Minute), AnswerBy: now.Add(59 * time.Second), CacheKey: strings.Repeat("0", 32),
	}
	j := m.Job()
	j.Outcome = &job.Outcome{Status: job.Succeeded, Source: job.FromModel, Output: json.RawMessage(`"` + strings.Repeat("x", 200) + `"`)}
	for range 5 {
		j.Record(job.Event{Kind: job.KindHop, Stage: broker.Inference, At: now})
	}
	marker, err := json.Marshal(m)
	if err != nil {
		return err
	}
	result, err := json.Marshal(j.Result(now))
	if err != nil {
		return err
	}
	if _, err := conn.JS.PublishMsgAsync(&nats.Msg{Subject: broker.AdmittedSubject(m.ID), Data: marker}); err != nil {
		return err
	}
	_, err = conn.JS.PublishMsgAsync(&nats.Msg{
		Subject: broker.WriteSubject(m.Task, m.ID), Data: result, Header: nats.Header{broker.RunHeader: {"1"}},
	})
	return err
}

// start runs `up` on the store and reads when it is ready and what it takes when idle.
func (f *startFigures) start(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "up", "--json", "--simulate", "--store", dir, "--nats-port=-1", "--http=off")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start `up`: %w", err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"ready"`) {
		_ = cmd.Process.Kill()
		return errors.Join(fmt.Errorf("`up` did not get ready: %s", lines.Text()), cmd.Wait())
	}
	f.ReadyMS = time.Since(began).Milliseconds()
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	select {
	case <-idle.C:
	case <-ctx.Done():
	}
	f.IdleBytes = residentBytes(cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	for lines.Scan() { // until the pipe is closed
	}
	return cmd.Wait()
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
