package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// poster posts to a door.
type poster struct {
	spec   *doorSpec
	w      *workload
	bare   *barePublisher
	client *http.Client

	mu       sync.Mutex
	ids      []string // by number
	accepted []time.Duration
	refused  int
	broken   int
	err      error
}

func newPoster(spec *doorSpec) (*poster, error) {
	set, err := benchTask("http://unused.invalid/v1")
	if err != nil {
		return nil, err
	}
	w, err := newWorkload(set.Tasks[TaskName], []byte(sampleInput), spec.Bytes, 0)
	if err != nil {
		return nil, err
	}
	w.run = spec.Run
	if spec.Crowd > 0 {
		if err := w.expect(set.Tasks[TaskName], spec.Jobs); err != nil {
			return nil, err
		}
	}
	bare, err := newBarePublisher(spec, w)
	if err != nil {
		return nil, err
	}
	return &poster{
		spec: spec, w: w, bare: bare, ids: make([]string, spec.Jobs),
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: postConns, MaxConnsPerHost: max(postConns, 2*spec.Crowd), DisableCompression: true,
		}},
	}, nil
}

func (p *poster) close() {
	p.client.CloseIdleConnections()
	p.bare.close()
}

// post posts at the given rate, and returns when each request is acknowledged. Bare publishes run beside it.
func (p *poster) post(ctx context.Context, note func(done int)) (*posted, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := repeat(noteEvery, func() { note(p.done()) })
	var all sync.WaitGroup
	var bare []time.Duration
	began := time.Now()
	all.Go(func() {
		var err error
		bare, err = p.bare.run(ctx, bareRate, p.spec.bareCount())
		p.note(cancel, err)
	})
	for n := range p.spec.Jobs {
		if sleepUntil(ctx, began.Add(time.Duration(float64(n)/p.spec.Rate*float64(time.Second)))) != nil {
			break
		}
		body := p.w.body(n)
		all.Go(func() { p.note(cancel, p.one(ctx, n, body)) })
	}
	all.Wait()
	took := time.Since(began)
	told()
	if p.err != nil {
		return nil, p.err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return &posted{Seconds: took.Seconds(), Refused: p.refused, Broken: p.broken, Accepted: wide(p.accepted), Bare: wide(bare)}, nil
}

func (p *poster) done() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.accepted)
}

// note keeps the first failure, which ends all.
func (p *poster) note(cancel context.CancelFunc, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	cancel()
}

// refusedPause is how long a door that refused is left alone, as its Retry-After says.
const refusedPause = 2 * time.Second

// postConns are how many connections requests are posted over: who is behind a slow door waits, as in a pool.
const postConns = 1024

// one posts a request until it is acknowledged. Only the time of the last try is counted.
func (p *poster) one(ctx context.Context, n int, body []byte) error {
	for {
		began := time.Now()
		status, said, err := p.knock(ctx, http.MethodPost, "/v1/tasks/"+TaskName+"/jobs", body)
		took := time.Since(began)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("post a request: %w", err)
		case err == nil && status == http.StatusAccepted:
			return p.accept(n, took, said)
		case err == nil && status != http.StatusServiceUnavailable:
			return fmt.Errorf("post a request: %d %s", status, said)
		}
		p.refuse(err)
		if err := sleepUntil(ctx, time.Now().Add(refusedPause)); err != nil {
			return err
		}
	}
}

// accept keeps the id of a 202.
func (p *poster) accept(n int, took time.Duration, said []byte) error {
	var answer struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(said, &answer); err != nil || answer.ID == "" {
		return fmt.Errorf("a 202 without an id: %s", said)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids[n] = answer.ID
	p.accepted = append(p.accepted, took)
	return nil
}

// refuse counts what is to be sent again: the door asked for that, or closed the connection without an answer.
func (p *poster) refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused++
	if err != nil {
		p.broken++
	}
}

func (p *poster) knock(ctx context.Context, method, path string, body []byte) (status int, said []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, p.spec.Door+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	said, err = io.ReadAll(resp.Body)
	return resp.StatusCode, said, err
}

// wide sums up durations, which it sorts.
func wide(measured []time.Duration) WideSpread {
	s := WideSpread{Spread: SpreadOf(measured)}
	if len(measured) > 0 {
		s.Max = milliseconds(slices.Max(measured))
	}
	return s
}
