package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"spillway/pkg/broker"
)

// unfinishedFigures are what a start of `up` takes on a store with markers of runs that have no result.
type unfinishedFigures struct {
	Unfinished int   `json:"unfinished_runs"`
	StoreBytes int64 `json:"store_bytes"`
	// ReadyMS is until requests are taken, WatchedMS until /readyz says so: all deadlines are watched.
	ReadyMS   int64 `json:"ready_ms"`
	WatchedMS int64 `json:"watched_ms"`
	IdleBytes int64 `json:"idle_rss_bytes"`
	// EachBytes is what a run takes beyond an empty start: of the server's memory and of the index's.
	EachBytes int64 `json:"rss_bytes_each"`
}

// benchUnfinished measures starts of `up`, each a process of its own on a store made for it. The first, on an
// empty store, is what the others are compared with.
func benchUnfinished(ctx context.Context, g *globals, counts []int, idle time.Duration) error {
	empty, err := measureUnfinished(ctx, 0, idle)
	if err != nil {
		return err
	}
	for _, n := range counts {
		f := empty
		if n > 0 {
			if f, err = measureUnfinished(ctx, n, idle); err != nil {
				return err
			}
			f.EachBytes = (f.IdleBytes - empty.IdleBytes) / int64(n)
		}
		if g.cli.JSON {
			if err := g.printJSON(f); err != nil {
				return err
			}
			continue
		}
		g.printf("%9s unfinished runs: store %s, ready in %s, all deadlines watched after %s, idle %s; memory, each: %d bytes\n",
			thousands(f.Unfinished), mib(f.StoreBytes), time.Duration(f.ReadyMS)*time.Millisecond,
			time.Duration(f.WatchedMS)*time.Millisecond, mib(f.IdleBytes), f.EachBytes)
	}
	return nil
}

func measureUnfinished(ctx context.Context, n int, idle time.Duration) (*unfinishedFigures, error) {
	f := &unfinishedFigures{Unfinished: n}
	err := withStore(ctx, n, leaveOne, func(dir string, bytes int64) error {
		f.StoreBytes = bytes
		up, err := startUp(ctx, dir)
		if err != nil {
			return err
		}
		f.ReadyMS = up.ready.Milliseconds()
		watched, err := up.watched(ctx, n)
		if err != nil {
			_ = up.cmd.Process.Kill()
			return errors.Join(err, up.cmd.Wait())
		}
		f.WatchedMS = watched.Milliseconds()
		f.IdleBytes = up.idle(ctx, idle)
		return up.end()
	})
	return f, err
}

// leaveOne stores the marker of the i-th run, whose deadline is hours away.
func leaveOne(conn *broker.Conn, i int) error {
	return keepMarker(conn, markerOf(i, time.Now().UTC(), 20*time.Hour+time.Duration(i%10_000)*time.Second))
}

// watchedTimeout bounds the wait for the deadline index.
const watchedTimeout = 2 * time.Minute

// watched returns how long after its start the process watched all deadlines: so many.
func (up *upProcess) watched(ctx context.Context, runs int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, watchedTimeout)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		resp, err := up.get(ctx, "/readyz")
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			break
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	took := time.Since(up.began)
	resp, err := up.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var n float64
		if found, _ := fmt.Sscanf(lines.Text(), "spillway_unfinished_runs %g", &n); found == 1 && int(n) == runs {
			return took, nil
		} else if found == 1 {
			return 0, fmt.Errorf("`up` says that it watches all deadlines, and watches %d of %d", int(n), runs)
		}
	}
	return 0, errors.New("`up` does not say how many runs it watches")
}

func (up *upProcess) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+up.http+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask `up` for %s: %w", path, err)
	}
	return resp, nil
}
