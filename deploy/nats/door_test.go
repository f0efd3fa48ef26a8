package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/services"
	"spillway/services/ingest"
	"spillway/services/ingest/door"
)

func TestTheOperatorMakesKeysAndEveryDoorFollowsThem(t *testing.T) {
	r := setup(t)
	duty := r.connect(operatorUser)
	secret, k, err := apikey.Create(t.Context(), duty, apikey.Spec{Name: "web", Tenant: "acme", Scopes: []apikey.Scope{apikey.Submit, apikey.Read}})
	if err != nil {
		t.Fatal(err)
	}
	doors := []string{broker.Ingest, doorUser, upUser}
	rings := map[string]*apikey.Ring{}
	for _, user := range doors { // the first one makes what tokens are signed with
		ring, err := apikey.Follow(t.Context(), r.connect(user), zerolog.Nop())
		if err != nil {
			t.Fatalf("%s follows the keys: %v", user, err)
		}
		t.Cleanup(ring.Close)
		if _, err := ring.Check(secret); err != nil {
			t.Errorf("%s does not know the key: %v", user, err)
		}
		rings[user] = ring
	}
	if err := apikey.Rotate(t.Context(), duty); err != nil {
		t.Errorf("the operator rotates the signing key: %v", err)
	}
	token, err := rings[doorUser].Sign(apikey.Grant{Tenant: "acme", Job: "j", KeyID: k.ID, Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apikey.Revoke(t.Context(), duty, k.ID); err != nil {
		t.Fatal(err)
	}
	for user, ring := range rings {
		brokertest.Eventually(t, 10*time.Second, user+" hears of the revocation", func() bool {
			_, err := ring.Check(secret)
			return errors.Is(err, apikey.ErrRevoked)
		})
		brokertest.Eventually(t, 10*time.Second, user+" refuses the token", func() bool {
			_, err := ring.Verify(token, time.Now())
			return errors.Is(err, apikey.ErrRevoked)
		})
	}
	if keys, err := apikey.List(t.Context(), duty); err != nil || len(keys) != 1 || !keys[0].Revoked() {
		t.Errorf("the operator lists %+v, %v", keys, err)
	}
	for _, refusal := range r.refusals(append(doors, operatorUser)...) {
		t.Error(refusal)
	}
}

// A door accepts, follows, reads and cancels as its user, without a stage of its own.
func TestADoorDoesItsWorkAsItsUser(t *testing.T) {
	r := setup(t)
	r.run(r.connect)
	door := r.connect(doorUser)
	heard, err := door.NC.SubscribeSync(broker.AllResults)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{broker.AllProgress, broker.AllDeltas, "llm.delta.>"} {
		if _, err := door.NC.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	if err := door.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	message := &nats.Msg{Subject: broker.RequestSubject(job.Interactive, "toy"), Data: []byte(body(t, "hello")), Header: nats.Header{broker.MsgIDHeader: {"by-door"}}}
	if err := door.PublishRequest(t.Context(), message); err != nil {
		t.Fatalf("the door publishes a request: %v", err)
	}
	if m, err := heard.NextMsg(20 * time.Second); err != nil || broker.Token(m.Subject, 3) != "by-door" {
		t.Fatalf("the door hears %v, %v", m, err)
	}
	held, _, err := door.Marker(t.Context(), "by-door")
	if err != nil {
		t.Fatalf("the door reads the marker: %v", err)
	}
	if result, _, err := door.Result(t.Context(), "toy", "by-door"); err != nil || result.Status != job.Succeeded {
		t.Errorf("the door reads the result: %+v, %v", result, err)
	}
	if _, _, err := door.Dead(t.Context(), "by-door"); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("the door looks for a dead letter: %v", err)
	}
	drafts := func(s broker.Stored) { t.Errorf("there is a draft: %s", s.Data) }
	if err := door.Each(t.Context(), broker.DeltasStream, broker.DeltaSubject("toy", "by-door"), drafts); err != nil {
		t.Errorf("the door looks for drafts: %v", err)
	}
	r.doorMarksAndCancels(t, door, *held)
	for _, refusal := range r.refusals(doorUser) {
		t.Error(refusal)
	}
}

// doorMarksAndCancels writes the marker of a request, and then the two halves of a cancellation.
func (r *rig) doorMarksAndCancels(t *testing.T, door *broker.Conn, m job.Marker) {
	t.Helper()
	m.ID, m.Deadline = "cancelled-by-door", time.Now().Add(time.Minute)
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := door.PublishExpecting(t.Context(), &nats.Msg{Subject: broker.AdmittedSubject(m.ID), Data: data}, 0); err != nil {
		t.Fatalf("the door writes a marker: %v", err)
	}
	j := m.Job()
	j.Outcome = &job.Outcome{Status: job.Cancelled}
	if err := stage.HandIn(t.Context(), door, j, ".cancel"); err != nil {
		t.Fatalf("the door cancels: %v", err)
	}
	for range 2 { // a second time it is marked already
		if err := door.Cancel(t.Context(), m.ID, m.Run); err != nil {
			t.Errorf("the door marks a job as cancelled: %v", err)
		}
	}
	r.ends(t, r.connect(clientUser), m.ID, job.Cancelled)
}

// Each user that a door may run as: it takes a request, says where the job is, cancels it, streams what comes of it.
func TestTheDoorItselfIsRefusedNothing(t *testing.T) {
	for _, user := range []string{doorUser, broker.Ingest, upUser} {
		t.Run(user, func(t *testing.T) {
			r := setup(t)
			r.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindHangHeaders, Match: "hangs"})
			r.run(r.connect)
			conn := r.connect(user)
			if err := conn.WatchCancels(t.Context()); err != nil {
				t.Fatal(err)
			}
			door := r.door(t, conn)
			if code, said := knock(t, door.URL, http.MethodPost, "/v1/tasks/toy/jobs", body(t, "hello"), "wait=20"); code != http.StatusOK {
				t.Errorf("a request: %d %s", code, said)
			}
			knock(t, door.URL, http.MethodPost, "/v1/tasks/toy/jobs", `{"id":"held","input":{"text":"hangs"},"stream":true}`, "")
			r.inFlight(t)
			late := r.door(t, conn) // it has heard nothing, and asks
			brokertest.Eventually(t, 10*time.Second, "inference says that it holds the job", func() bool {
				_, said := knock(t, late.URL, http.MethodGet, "/v1/jobs/held", "", "")
				return strings.Contains(said, `"status":"running","stage":"inference"`)
			})
			if code, said := knock(t, door.URL, http.MethodPost, "/v1/jobs/held/cancel", "", "wait=20"); code != http.StatusOK || !strings.Contains(said, `"status":"cancelled"`) {
				t.Errorf("a cancellation: %d %s", code, said)
			}
			if code, said := knock(t, door.URL, http.MethodGet, "/v1/jobs/held/events", "", ""); code != http.StatusOK || !strings.Contains(said, "event: result") {
				t.Errorf("a stream: %d %s", code, said)
			}
			if code, said := knock(t, door.URL, http.MethodGet, "/v1/jobs/nobody", "", ""); code != http.StatusNotFound {
				t.Errorf("nobody's job: %d %s", code, said)
			}
			for _, refusal := range r.refusals(append(r.stages(), user)...) {
				t.Error(refusal)
			}
		})
	}
}

func (r *rig) stages() []string {
	var names []string
	for _, d := range services.Pipeline() {
		names = append(names, d.Name)
	}
	return names
}

// door opens one that asks for no key.
func (r *rig) door(t *testing.T, conn *broker.Conn) *httptest.Server {
	t.Helper()
	tasks := r.tasks()
	d, err := door.New(t.Context(), door.Options{Conn: conn, Desk: ingest.NewDesk(conn, task.NewBook(tasks), zerolog.Nop()), Tasks: task.NewBook(tasks), Stages: r.stages(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(d.Handler())
	t.Cleanup(func() {
		s.Close()
		d.Close()
	})
	return s
}

func (r *rig) inFlight(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.provider.Await(ctx, func(c fakellm.Counts) bool { return c.InFlight == 1 }); err != nil {
		t.Fatal(err)
	}
}

func knock(t *testing.T, base, method, path, body, prefer string) (code int, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Prefer", prefer)
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestADoorHearsWhatBecomesOfRequestsAndTakesNone(t *testing.T) {
	r := setup(t)
	subjects := map[string]bool{
		"llm.result.>": true, "llm.progress.>": true, "llm.delta.>": true,
		"llm.request.*": false, "llm.submit.*": false, "llm.cancel.*": false, "llm.stage.>": false, "llm.dead.>": false, "$KV.>": false, "llm.>": false, ">": false, "$JS.>": false,
	}
	refused := r.refuses(doorUser, slices.Collect(maps.Keys(subjects)), func(nc *nats.Conn, subject string) error {
		_, err := nc.SubscribeSync(subject)
		return err
	})
	for subject, hears := range subjects {
		if refused[subject] == hears {
			t.Errorf("a door subscribes to %s: refused %t", subject, refused[subject])
		}
	}
}
