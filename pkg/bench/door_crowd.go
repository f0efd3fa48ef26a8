package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// crowd opens the streams and the polls of all jobs, tells when all wait, and returns when each has a result. The
// first half of the jobs is followed, the second asked for again and again.
func (p *poster) crowd(ctx context.Context, gathered func() error) (*toldAll, error) {
	var waiting, all sync.WaitGroup
	waiting.Add(2 * p.spec.Crowd)
	told, refused := &toldAll{}, p.refused
	client := func(n int, wait func(context.Context, int, func()) ([]byte, error)) {
		var once sync.Once
		waits := func() { once.Do(waiting.Done) }
		defer waits()
		result, err := wait(ctx, n, waits)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err == nil && bytes.Contains(result, []byte(p.w.nonces[n])) {
			told.Own++
			return
		}
		told.Wrong++
		if len(told.Examples) < maxExamples {
			told.Examples = append(told.Examples, fmt.Sprintf("client %d: %v, %s", n, err, result))
		}
	}
	for n := range 2 * p.spec.Crowd {
		all.Go(func() {
			if n < p.spec.Crowd {
				client(n, p.follow)
			} else {
				client(n, p.poll)
			}
		})
		if err := sleepUntil(ctx, time.Now().Add(arriveEvery)); err != nil {
			return nil, err
		}
	}
	waiting.Wait()
	if err := sleepUntil(ctx, time.Now().Add(settleFor)); err != nil {
		return nil, err
	}
	if err := gathered(); err != nil {
		return nil, err
	}
	all.Wait()
	told.Refused = p.refused - refused
	return told, context.Cause(ctx)
}

const (
	// arriveEvery is between two clients of a crowd.
	arriveEvery = 2 * time.Millisecond
	// settleFor passes until the polls that were sent last wait as well.
	settleFor = 3 * time.Second
)

// follow reads the events of a job until its result.
func (p *poster) follow(ctx context.Context, n int, waits func()) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.spec.Door+"/v1/jobs/"+p.ids[n]+"/events", nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	lines := bufio.NewReaderSize(resp.Body, 1<<10)
	for event := ""; ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%d, behind the event %q", resp.StatusCode, event), err)
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case name == "event":
			event = value
		case name == "data" && event == "state":
			waits()
		case name == "data" && event == "result":
			return []byte(value), nil
		}
	}
}

// poll asks for a job until its result is there.
func (p *poster) poll(ctx context.Context, n int, waits func()) ([]byte, error) {
	for {
		time.AfterFunc(settleFor/2, waits) // no answer says that it waits
		status, said, err := p.knock(ctx, http.MethodGet, "/v1/jobs/"+p.ids[n]+"?wait=25", nil)
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusOK:
			return said, nil
		case status == http.StatusServiceUnavailable:
			if err := sleepUntil(ctx, time.Now().Add(refusedPause)); err != nil {
				return nil, err
			}
			p.refuse(nil)
		case status != http.StatusAccepted:
			return said, fmt.Errorf("status %d", status)
		}
	}
}
