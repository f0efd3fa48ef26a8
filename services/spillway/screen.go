package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/client"
	"spillway/pkg/job"
	"spillway/services/ingest/door"
)

// screen is what `up` shows.
type screen struct {
	g       *globals
	c       *upCmd
	p       *process
	conn    *broker.Conn
	url     string
	web     *webServer
	files   *filesScreen
	started time.Time
}

const (
	readyTimeout     = 30 * time.Second
	selfCheckTimeout = 45 * time.Second
)

// ready waits until the pipeline answers, and says where.
func (s screen) ready(ctx context.Context, ended <-chan error) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		_, err := s.conn.NC.Request(broker.CancelSubject("ready"), nil, 100*time.Millisecond)
		if err == nil {
			break
		}
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the pipeline did not get ready: %w", err)
		}
	}
	took := time.Since(s.started).Round(10 * time.Millisecond)
	if s.g.cli.JSON {
		defer s.files.show()
		return s.g.printJSON(map[string]any{
			"event": "ready", "nats": s.url, "http": s.web.address, "door": s.door(), "tasks": s.names(), "simulated": s.c.Simulate, "ready_ms": took.Milliseconds(),
		})
	}
	s.g.printf("spillway is ready (%s)\n\n", took)
	s.g.printf("  NATS     %s%s\n", s.url, s.where())
	if s.web.address != "" {
		s.g.printf("  HTTP     %s\n", s.http())
	}
	if s.p.door != nil && s.p.door.IsLocked() {
		s.g.printf("  keys     none yet, the door lets nobody in: %s\n", door.FirstKey)
	}
	s.g.printf("  tasks    %s\n", strings.Join(s.names(), ", "))
	s.files.show()
	if s.c.Simulate {
		s.g.printf("  models   SIMULATED: no call leaves this machine, results say \"model\":\"simulated\".\n")
		s.g.printf("           Set OPENAI_API_KEY (and OPENAI_BASE_URL, for another provider) for real answers.\n")
	} else {
		s.g.printf("  models   real: calls cost money.\n")
	}
	s.g.printf("\n")
	return nil
}

func (s screen) where() string {
	if s.c.NATS != "" {
		return " (shared)"
	}
	if s.c.Sync == "always" {
		return " (embedded, store " + s.c.Store + ", synced before each acknowledgement)"
	}
	return " (embedded, store " + s.c.Store + ", synced every " + s.c.Sync + ")"
}

// door is the address of the HTTP door; "": there is none.
func (s screen) door() string {
	switch {
	case s.p.door == nil:
		return ""
	case s.c.PublicURL != "":
		return strings.TrimSuffix(s.c.PublicURL, "/") + "/v1"
	}
	return s.web.url() + "/v1"
}

func (s screen) http() string {
	if s.p.door == nil {
		return s.web.url() + "/healthz  /readyz  /metrics, no door"
	}
	return s.door() + "  (" + s.web.url() + "/healthz  /readyz  /metrics)"
}

func (s screen) names() []string {
	var names []string
	for name := range s.p.env.Versions.Live().Tasks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// selfCheck sends one sample request of each task through the pipeline.
func (s screen) selfCheck(ctx context.Context) {
	if !s.g.cli.JSON {
		if s.c.Simulate {
			s.g.printf("self-check: one sample request of each task\n")
		} else {
			s.g.printf("self-check: one sample request of each task, %d real calls (--no-self-check leaves it out)\n", len(s.names()))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, selfCheckTimeout)
	defer cancel()
	cl := client.New(s.conn)
	for _, name := range s.names() {
		r, err := s.sample(ctx, cl, name)
		s.show(name, r, err)
	}
}

func (s screen) sample(ctx context.Context, cl *client.Client, name string) (*job.Result, error) {
	body, err := json.Marshal(map[string]any{"input": json.RawMessage(s.p.env.Versions.Live().Sample(name)), "cache": "bypass"})
	if err != nil {
		return nil, err
	}
	id, err := cl.Publish(ctx, job.Interactive, name, "selfcheck-"+nats.NewInbox()[7:], body)
	if err != nil {
		return nil, err
	}
	return cl.Wait(ctx, name, id, 1)
}

func (s screen) show(name string, r *job.Result, err error) {
	if s.g.cli.JSON {
		line := map[string]any{"event": "self-check", "task": name}
		if err != nil {
			line["error"] = err.Error()
		} else {
			line["result"] = r
		}
		_ = s.g.printJSON(line)
		return
	}
	if err != nil {
		s.g.printf("  %-12s no result: %s\n", name, err)
		return
	}
	took := r.FinishedAt.Sub(r.AcknowledgedAt).Round(time.Millisecond)
	if r.Error != nil {
		s.g.printf("  %-12s %s in %s: %s: %s\n", name, r.Status, took, r.Error.Code, r.Error.Message)
		return
	}
	s.g.printf("  %-12s %s in %s by %s: %s\n", name, r.Status, took, r.Model, job.Cut(string(r.Output), 100))
}

// next says what to try, with the addresses of this very run.
func (s screen) next() {
	if s.g.cli.JSON || len(s.names()) == 0 {
		return
	}
	name := s.names()[0]
	input := s.p.env.Versions.Live().Sample(name)
	flag := ""
	if s.url != defaultURL {
		flag = " --nats " + s.url
	}
	s.g.printf("\nnext, in another terminal:\n")
	s.g.printf("  spillway submit %s%s '%s'\n", name, flag, job.Cut(string(input), 120))
	if s.door() != "" {
		s.g.printf("  curl -H 'Content-Type: application/json' -H 'Prefer: wait=20' -d '{\"input\":%s}' %s/tasks/%s/jobs\n", job.Cut(string(input), 120), s.door(), name)
	}
	s.g.printf("  spillway watch%s\n", flag)
	s.g.printf("  or any NATS client: publish {\"input\": …} on %s, subscribe to %s\n", broker.RequestSubject(job.Interactive, name), broker.AllResults)
	s.g.printf("\nCtrl-C drains and stops.\n")
}

const defaultURL = "nats://127.0.0.1:4222"

func (s screen) leaving() {
	if !s.g.cli.JSON {
		s.g.printf("\ndraining: %d jobs in hand, at most %s (Ctrl-C again ends at once)\n", s.p.inHand(), s.c.Grace)
	}
}

func (s screen) left() {
	if !s.g.cli.JSON {
		s.g.printf("stopped; what waits is in the store and goes on at the next start\n")
	}
}
