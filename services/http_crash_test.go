package services_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
)

// doorProcess is an ingest of its own process, door included, that comes back at its address whenever it died.
type doorProcess struct {
	*front
	p       *processes
	address string
	deaths  atomic.Int64
}

func (r *rig) doorProcess() *doorProcess {
	r.t.Helper()
	address := "127.0.0.1:" + strconv.Itoa(quietPort(r.t))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	r.t.Cleanup(client.CloseIdleConnections)
	f := &front{t: r.t, r: r, base: "http://" + address, client: client}
	return &doorProcess{front: f, p: newProcesses(r), address: address}
}

// keep starts the process again and again until ctx ends, the first times with what env says.
func (d *doorProcess) keep(ctx context.Context, deaths int64, env func() string) {
	for {
		var with []string
		if d.deaths.Load() < deaths {
			with = []string{env()}
		}
		c, err := d.p.startServing(d.address, broker.Ingest, with...)
		if err != nil {
			d.t.Error(err)
			return
		}
		select {
		case <-c.exited:
		case <-ctx.Done():
			d.p.drain([]*child{c})
			return
		}
		if !c.wasKilled() {
			d.t.Errorf("it ended by itself: %s", c.cmd.ProcessState)
			return
		}
		d.deaths.Add(1)
	}
}

// insist posts a request under a key until it is acknowledged, as a client with retries does, and returns its id.
func (d *doorProcess) insist(ctx context.Context, key, text string) (id string) {
	for pause := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; <-pause.C {
		p, err := d.do(http.MethodPost, "/v1/tasks/toy/jobs", fmt.Appendf(nil, `{"input":{"text":%q},"deadline":"10m"}`, text), "Idempotency-Key", key)
		switch {
		case err == nil && p.status == http.StatusAccepted:
			pause.Stop()
			return p.said(d.t).ID
		case err == nil && p.status != http.StatusServiceUnavailable:
			d.t.Errorf("%s: %d %s", key, p.status, p.body)
			return ""
		}
	}
	return ""
}

func TestWhatADoorAcknowledgedBeforeItWasKilledEndsWithAResult(t *testing.T) {
	for _, point := range []string{"submit-published", "submit-marked", "post-answer"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			const posts, clients, deaths = 500, 10, 12
			r := setup(t, brokertest.Server(t).URL())
			r.runAllBut(broker.Ingest)
			d := r.doorProcess()
			rng := rand.New(rand.NewPCG(1, uint64(len(point))))
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
			var process, all sync.WaitGroup
			process.Go(func() {
				d.keep(ctx, deaths, func() string { return fmt.Sprintf("SPILLWAY_KILLPOINT=%s:%d", point, 1+rng.IntN(2*posts/deaths-1)) })
			})
			defer func() { stop(); process.Wait() }()
			var mu sync.Mutex
			ids := map[string]string{}
			for c := range clients {
				all.Go(func() {
					for n := c; n < posts; n += clients {
						text := fmt.Sprintf("%s %d", point, n)
						id := d.insist(ctx, strconv.Itoa(n), text)
						if _, _, err := r.conn.Marker(ctx, id); id == "" || err != nil {
							t.Errorf("%s was acknowledged and has no marker: %v", text, err)
							return
						}
						mu.Lock()
						ids[id] = text
						mu.Unlock()
					}
				})
			}
			all.Wait()
			if len(ids) != posts || d.deaths.Load() < 3 {
				t.Fatalf("%d ids of %d requests, %d deaths", len(ids), posts, d.deaths.Load())
			}
			for id, text := range ids {
				if result := r.result(id, 1); !answersTo(result, text) {
					t.Errorf("%s: %s %s", id, result.Status, result.Output)
				}
			}
			r.emptied(30 * time.Second)
			for id := range ids {
				if n := len(r.heard.of(id)); n != 1 {
					t.Errorf("%d results of %s", n, id)
				}
			}
			if n := r.heard.distinct(); n != posts {
				t.Errorf("results of %d ids, of %d keys", n, posts)
			}
			t.Logf("%d requests, %d deaths, %d calls", posts, d.deaths.Load(), r.first.Counts().Calls)
		})
	}
}

func TestADoorThatIsAskedToLeaveLosesNoRequestAndHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run(broker.ContextBuilder, broker.Validator, broker.Fallback, broker.ResultWriter)
	d := r.doorProcess()
	c, err := d.p.startServing(d.address, broker.Ingest)
	if err != nil {
		t.Fatal(err)
	}
	first := d.insist(t.Context(), "first", "first")
	d.reaches(first, "queued", broker.Inference, "no_process")
	var mu sync.Mutex
	ids := map[string]string{first: "first"}
	var all sync.WaitGroup
	all.Go(func() {
		p, err := d.do(http.MethodGet, "/v1/jobs/"+first+"?wait=25", nil)
		if err != nil || p.status != http.StatusAccepted {
			t.Errorf("who waited is not told where it is: %v %d %s", err, p.status, p.body)
		}
	})
	for n := range 8 {
		all.Go(func() {
			for i := 0; ; i++ {
				text := fmt.Sprintf("leaving %d %d", n, i)
				p, err := d.do(http.MethodPost, "/v1/tasks/toy/jobs", fmt.Appendf(nil, `{"input":{"text":%q},"deadline":"10m"}`, text))
				if err != nil {
					return // nobody listens any more
				}
				if p.status == http.StatusServiceUnavailable {
					if p.is(t, "draining", 503, fate.Draining); p.header.Get("Retry-After") == "" {
						t.Errorf("%v", p.header)
					}
					return
				}
				mu.Lock()
				ids[p.said(t).ID] = text
				mu.Unlock()
			}
		})
	}
	d.eventually("requests come", func() bool { mu.Lock(); defer mu.Unlock(); return len(ids) > 100 })
	began := time.Now()
	c.end(t, syscall.SIGTERM)
	if took := time.Since(began); c.exitCode() != 0 || took > 15*time.Second {
		t.Errorf("exit code %d after %s", c.exitCode(), took)
	}
	all.Wait()
	r.run(broker.Ingest, broker.Inference)
	for id, text := range ids {
		if result := r.result(id, 1); !answersTo(result, text) {
			t.Errorf("%s: %s %s", id, result.Status, result.Output)
		}
	}
}
