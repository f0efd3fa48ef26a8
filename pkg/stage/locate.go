package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// Located says who holds a job.
type Located struct {
	ID    string `json:"id"`
	Stage string `json:"stage"`
	Run   int    `json:"run"`
	Hop   int    `json:"hop"`
	// Since is when the stage took it up.
	Since time.Time `json:"since"`
}

// locateTimeout is how long the stages have to answer. Who does not hold the job says nothing.
const locateTimeout = 250 * time.Millisecond

// Locate asks all stages who holds a job at this moment; false: nobody said so. Each process of the pipeline looks
// for it: whoever asks often bounds how often.
func Locate(ctx context.Context, conn *broker.Conn, id string) (Located, bool) {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	reply, err := conn.NC.RequestWithContext(ctx, broker.LocateSubject(id), nil)
	if err != nil {
		return Located{}, false
	}
	var l Located
	err = json.Unmarshal(reply.Data, &l)
	return l, err == nil && l.ID == id
}

// present are the jobs that a stage is at work on in this process.
type present struct {
	mu   sync.Mutex
	jobs map[string]Located
}

func (p *present) enter(name string, j *job.Job, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.jobs == nil {
		p.jobs = map[string]Located{}
	}
	p.jobs[j.ID] = Located{ID: j.ID, Stage: name, Run: j.Run, Hop: j.Hop, Since: since.UTC()}
}

func (p *present) leave(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.jobs, id)
}

func (p *present) of(id string) (Located, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.jobs[id]
	return l, ok
}

// answerLocates tells whoever asks for a job that this process holds it, until stop is called.
func (r *Runner) answerLocates() (stop func(), err error) {
	sub, err := r.env.Conn.NC.Subscribe(broker.AllLocates, func(m *nats.Msg) {
		if l, ok := r.present.of(broker.Token(m.Subject, 2)); ok {
			if body, err := json.Marshal(l); err == nil {
				_ = m.Respond(body) // who asked asks again
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", broker.AllLocates, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // the connection may be gone already
}
