package contextbuilder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/session"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// talk is a context-builder on a real server, and what stands around it: requests, and results.
type talk struct {
	*testing.T
	conn     *broker.Conn
	set      *task.Set
	handler  *Handler
	store    *session.Store
	registry *prometheus.Registry
}

// sessionText shows the message, stateText also the state that it may see.
const (
	sessionText = `{{define "system"}}Be kind.{{end}}{{define "user"}}{{.Input.message}}{{end}}`
	stateText   = `{{define "system"}}Be kind.{{with .State.step}} Step {{.}}.{{end}}{{end}}{{define "user"}}{{.Input.message}}{{end}}`
)

// stepTask has a state.
const stepTask = "model: small\ncontext:\n  session: optional\n  state: {in_prompt: [/step], update: {/step: output.step, /seen: session.turns}}\n"

func converse(t *testing.T, manifest string, files map[string]string) *talk {
	t.Helper()
	all := map[string]string{
		"prompt.tmpl": sessionText, "canned.yaml": "",
		"output.schema.json": `{"type":"object","properties":{"say":{"type":"string"},"step":{"type":"integer"}},"required":["say"]}`,
		"state.schema.json":  `{"type":"object","properties":{"step":{"type":"integer","maximum":9},"seen":{"type":"integer"}},"additionalProperties":false}`,
	}
	maps.Copy(all, files)
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, stage.Topology([]stage.Definition{Definition()}, broker.DefaultSizing()))
	s := &talk{T: t, conn: conn, set: load(t, manifest, all), store: session.NewStore(conn), registry: prometheus.NewRegistry()}
	s.restart()
	return s
}

// restart forgets all that the process knows.
func (s *talk) restart() {
	s.Helper()
	h, err := New(&stage.Env{Conn: s.conn, Tasks: s.set, Metrics: s.registry, Log: zerolog.Nop()})
	if err != nil {
		s.Fatal(err)
	}
	s.handler = h
}

// request stores a request and joins it, as ingest does, and takes it out of the stream unless it stays there.
func (s *talk) request(id, text string) *job.Job {
	s.Helper()
	j := s.stored(id, text)
	s.join(j)
	if err := s.conn.Delete(s.Context(), broker.RequestsStream, j.RequestSeq); err != nil {
		s.Fatal(err)
	}
	return j
}

func (s *talk) stored(id, text string) *job.Job {
	s.Helper()
	input, err := json.Marshal(message(text))
	if err != nil {
		s.Fatal(err)
	}
	body, err := json.Marshal(job.Request{ID: id, Input: input, Session: "one", Tenant: "acme"})
	if err != nil {
		s.Fatal(err)
	}
	ack, err := s.conn.Publish(s.Context(), &nats.Msg{Subject: broker.RequestSubject(job.Interactive, "sample"), Data: body})
	if err != nil {
		s.Fatal(err)
	}
	now := time.Now().UTC()
	return &job.Job{
		V: job.Version, ID: id, Task: "sample", Lane: job.Interactive, Tenant: "acme", Session: "one", Run: 1, Input: input,
		RequestSeq: ack.Sequence, AcknowledgedAt: now, Deadline: now.Add(time.Minute),
	}
}

func (s *talk) join(j *job.Job) {
	s.Helper()
	p := session.Pending{ID: j.ID, Run: j.Run, Place: session.Place{Lane: j.Lane, Seq: j.RequestSeq, At: j.AcknowledgedAt}, Deadline: j.Deadline}
	_, err := s.store.Update(s.Context(), "acme", "sample", "one", time.Hour, func(r *session.Session) (bool, error) { return r.Join(p) })
	if err != nil {
		s.Fatal(err)
	}
}

// build hands a job to the stage and returns its messages.
func (s *talk) build(j *job.Job) []job.Message {
	s.Helper()
	if err := handle(s, s.handler, j); err != nil {
		s.Fatalf("%s: %v", j.ID, err)
	}
	return messagesOf(s.T, j)
}

// refused hands a job to the stage, which says why not.
func (s *talk) refused(j *job.Job) *fate.Error {
	s.Helper()
	err := handle(s, s.handler, j)
	if err == nil {
		s.Fatalf("%s is built", j.ID)
	}
	return err
}

// end stores a result of a job.
func (s *talk) end(j *job.Job, o job.Outcome) {
	s.Helper()
	ended := *j
	ended.Outcome, ended.History = &o, nil
	ended.Usage, ended.CostUSD = job.Usage{InputTokens: 10, OutputTokens: 2, Calls: 1}, 0.5
	body, err := json.Marshal(ended.Result(time.Now().UTC()))
	if err != nil {
		s.Fatal(err)
	}
	_, err = s.conn.Publish(s.Context(), &nats.Msg{
		Subject: broker.WriteSubject(j.Task, j.ID), Data: body, Header: nats.Header{broker.RunHeader: {strconv.Itoa(j.Run)}},
	})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *talk) answer(j *job.Job, output string) {
	s.Helper()
	s.end(j, job.Outcome{Status: job.Succeeded, Source: job.FromModel, Model: "small", Output: json.RawMessage(output)})
}

// exchange is a whole turn.
func (s *talk) exchange(id, text, output string) *job.Job {
	s.Helper()
	j := s.request(id, text)
	s.build(j)
	s.answer(j, output)
	return j
}

func (s *talk) record() *session.Session {
	s.Helper()
	r, _, err := s.store.Load(s.Context(), "acme", "sample", "one")
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// spoken is a prompt without its system part: what was said, a letter for who said it.
func spoken(messages []job.Message) []string {
	var all []string
	for _, m := range messages {
		if m.Role != roleSystem {
			all = append(all, m.Role[:1]+": "+m.Content)
		}
	}
	return all
}

func (s *talk) value(name string, labels ...string) float64 {
	s.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && hasLabels(m, labels) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, labels []string) bool {
	found := 0
	for _, l := range m.GetLabel() {
		for _, want := range labels {
			if l.GetName()+"="+l.GetValue() == want {
				found++
			}
		}
	}
	return found == len(labels)
}

// shownContext is what can be looked at of a job.
func (s *talk) shownContext(id string) *job.Context {
	s.Helper()
	var c job.Context
	brokertest.Eventually(s, 5*time.Second, "what the model saw is stored", func() bool {
		stored, err := s.conn.Last(s.Context(), broker.ContextsStream, broker.ContextSubject("sample", id))
		if errors.Is(err, broker.ErrNotFound) {
			return false
		}
		return err == nil && json.Unmarshal(stored.Data, &c) == nil
	})
	return &c
}

func say(text string) string {
	encoded, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"say":%s}`, encoded)
}

// requests are those that wait on the batch lane of a task.
func (s *talk) requests(taskName string) (bodies []job.Request, ids []string) {
	s.Helper()
	for from := uint64(1); ; {
		m, err := s.conn.Next(context.WithoutCancel(s.Context()), broker.BatchStream, broker.RequestSubject(job.Batch, taskName), from)
		if errors.Is(err, broker.ErrNotFound) {
			return bodies, ids
		}
		if err != nil {
			s.Fatal(err)
		}
		var r job.Request
		if err := json.Unmarshal(m.Data, &r); err != nil {
			s.Fatal(err)
		}
		bodies, ids, from = append(bodies, r), append(ids, m.Header.Get(broker.MsgIDHeader)), m.Sequence+1
	}
}
