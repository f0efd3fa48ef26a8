package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// ending is how a run ended, as the drill heard it.
type ending struct {
	run    int
	at     time.Time
	status job.Status
	source job.Source
	cost   float64
	// saysLate: the result calls itself late.
	saysLate bool
	// foreign: it is another request's. tagged: its output carries a nonce, and the right one unless foreign.
	foreign, tagged bool
	why             string
}

// isLive reports whether it is what was asked for, not a stand-in.
func (e *ending) isLive() bool { return e.status == job.Succeeded && e.source == job.FromModel }

// isMade reports whether a model made the output, now or earlier.
func (e *ending) isMade() bool { return e.source == job.FromModel || e.source == job.FromCache }

// ear hears results and breakers on a connection that the pipeline has no part in.
type ear struct {
	byID map[string]*question
	subs []*nats.Subscription

	mu      sync.Mutex
	endings map[string][]ending // by id, in the order in which they came
	changes []change
	heard   chan struct{} // closed at the next news
}

// change is a breaker's.
type change struct {
	model string
	state string
	at    time.Time
}

const (
	stateOpen   = "open"
	stateClosed = "closed"
)

// listen begins to hear, before anything is published.
func listen(conn *broker.Conn, questions []*question) (*ear, error) {
	e := &ear{byID: map[string]*question{}, endings: map[string][]ending{}, heard: make(chan struct{})}
	for _, q := range questions {
		e.byID[q.id] = q
	}
	for subject, hear := range map[string]nats.MsgHandler{
		broker.AllResults:  func(m *nats.Msg) { e.hear(m.Subject, m.Data, time.Now(), broker.RunOf(m.Header)) },
		broker.AllBreakers: e.hearBreaker,
	} {
		sub, err := conn.NC.Subscribe(subject, hear)
		if err == nil {
			e.subs = append(e.subs, sub)
			err = sub.SetPendingLimits(-1, -1)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("subscribe to %s: %w", subject, err), e.close())
		}
	}
	if err := conn.NC.Flush(); err != nil { // the server knows of the subscriptions now
		return nil, errors.Join(fmt.Errorf("subscribe to results: %w", err), e.close())
	}
	return e, nil
}

func (e *ear) close() error {
	var errs []error
	for _, sub := range e.subs {
		errs = append(errs, sub.Unsubscribe())
	}
	return errors.Join(errs...)
}

// hear takes in a result of the drill.
func (e *ear) hear(subject string, data []byte, at time.Time, run int) {
	q := e.byID[broker.Token(subject, 3)]
	if q == nil {
		return
	}
	end := judge(q, data)
	end.at, end.run = at, run
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endings[q.id] = append(e.endings[q.id], end)
	close(e.heard)
	e.heard = make(chan struct{})
}

// judge holds a result against its question.
func judge(q *question, data []byte) ending {
	var r struct {
		ID       string          `json:"id"`
		Status   job.Status      `json:"status"`
		Source   job.Source      `json:"source"`
		Output   json.RawMessage `json:"output"`
		CostUSD  float64         `json:"cost_usd"`
		Late     bool            `json:"late"`
		Error    *job.Failure    `json:"error"`
		Metadata *told           `json:"metadata"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return ending{foreign: true, why: fmt.Sprintf("%s: the result cannot be read: %s", q.id, err)}
	}
	e := ending{status: r.Status, source: r.Source, cost: r.CostUSD, saysLate: r.Late, tagged: bytes.Contains(r.Output, []byte(nonceTag))}
	own := bytes.Contains(r.Output, []byte(nonceTag+q.nonce+"]"))
	switch {
	case r.ID != q.id || r.Metadata == nil || r.Metadata.Number != q.number:
		e.foreign, e.why = true, q.id+": the result is of "+r.ID
	case e.isMade() && e.tagged && !own:
		e.foreign, e.why = true, q.id+": the output answers another input"
	case r.Error != nil:
		e.why = fmt.Sprintf("%s: %s: %s: %s", q.id, r.Status, r.Error.Code, r.Error.Message)
	}
	return e
}

// nonceTag begins what an answer carries of its input.
const nonceTag = "[nonce:"

func (e *ear) hearBreaker(m *nats.Msg) {
	var event struct {
		Kind  string `json:"kind"`
		Name  string `json:"name"`
		State string `json:"state"`
	}
	at := time.Now()
	if json.Unmarshal(m.Data, &event) != nil || !strings.HasSuffix(m.Subject, "."+event.Name) || event.Kind != "model" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changes = append(e.changes, change{event.Name, event.State, at})
}

// ended reports whether a run of a question has a result.
func (e *ear) ended(q *question, run int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, end := range e.endings[q.id] {
		if end.run >= run {
			return true
		}
	}
	return false
}

// of returns how the runs of a question ended.
func (e *ear) of(q *question) []ending {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]ending{}, e.endings[q.id]...)
}

// changesOf returns what the breaker of a model did.
func (e *ear) changesOf(model string) []change {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []change
	for _, c := range e.changes {
		if c.model == model {
			all = append(all, c)
		}
	}
	return all
}

// await returns once all of the questions have a result of the run, or until is over, or ctx.
func (e *ear) await(ctx context.Context, questions []*question, run int, until time.Time, note func(ended int)) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	open := append([]*question{}, questions...)
	for {
		e.mu.Lock()
		news := e.heard
		e.mu.Unlock()
		left := open[:0]
		for _, q := range open {
			if !e.ended(q, run) {
				left = append(left, q)
			}
		}
		open = left
		note(len(questions) - len(open))
		if len(open) == 0 {
			return nil
		}
		select {
		case <-news:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
