package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

const (
	// keptWithin is how long an answer is looked for in the cache: result-writer does not await its write.
	keptWithin = 3 * time.Second
	keptPause  = 25 * time.Millisecond
)

// warming has the inputs of one task answered.
type warming struct {
	*feed
	c *taskWarmCmd
	g *globals
	// t is the task of the files here, simulated what a simulated pipeline makes of it.
	t, simulated *task.Task
	bar          *gauge
	sums         *warmSums
	// settled are the inputs that have their end; settling the looks whether they are kept.
	settled  chan warmed
	settling sync.WaitGroup
	sent     map[string]int // lines by the keys of their answers
	// told is true once it was said that the pipeline has other task files.
	told bool
}

// warmed is how an input ended.
type warmed struct {
	awaited
	result *job.Result // nil: none
	// status is the result's, or one of those below.
	status string
	key    string // of the answer, as the pipeline computed it
	cached bool
	why    string // the answer is not in the cache; "": it is
}

// What becomes of lines that have no result.
const (
	warmDuplicate = "duplicate"
	warmNotSent   = "not_sent"
	warmNoResult  = "no_result"
)

func (w *warming) run(ctx context.Context, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	if w.s.results, err = newCollector(ctx, w.s.conn, broker.ResultSubject(w.t.Name, "*"), w.c.Timeout); err != nil {
		return err
	}
	defer w.s.results.close()
	read := make(chan int, 1)
	// Not waited for at an early end: nothing can take a reader away from a terminal.
	go func() { read <- w.publishAll(ctx, newLineReader(in)) }()
	err = w.gather(ctx, read)
	cancel()
	w.settling.Wait()
	w.bar.done()
	if err != nil {
		return err
	}
	return w.finish()
}

// gather takes what comes until each line that was read has its end.
func (w *warming) gather(ctx context.Context, read <-chan int) error {
	hint := make(chan string, 1)
	go func() {
		if sleep(ctx, hintAfter) == nil {
			hint <- nobodyPulls(ctx, w.s.conn, job.Batch)
		}
	}()
	for total := -1; total < 0 || w.sums.lines < total; {
		var end warmed
		select {
		case total = <-read:
			w.bar.total(total)
			continue
		case why := <-hint:
			if why != "" && w.sums.lines == 0 {
				w.note("still waiting: %s", why)
			}
			continue
		case a := <-w.s.results.arrivals:
			w.settling.Go(func() { w.settle(ctx, a) })
			continue
		case word := <-w.words:
			end = unsent(word)
		case end = <-w.settled:
		case <-ctx.Done():
			return w.interrupted()
		}
		<-w.room
		w.bar.add()
		w.sums.add(end)
		if err := w.show(end); err != nil {
			return err
		}
	}
	return nil
}

// unsent is the end of a line that was not published.
func unsent(word word) warmed {
	end := warmed{awaited: awaited{id: word.q.id, line: word.q.line}, status: warmNotSent, why: word.err.Error()}
	if d, ok := errors.AsType[*duplicate](word.err); ok {
		end.status, end.key = warmDuplicate, d.key
	} else if isBadInput(word.err) {
		end.status = string(job.Rejected)
	}
	return end
}

// settle looks whether the answer is kept: its status says that it was made.
func (w *warming) settle(ctx context.Context, a arrival) {
	end := warmed{awaited: a.awaited, result: a.result}
	switch {
	case errors.Is(a.err, errNoResult):
		end.status = warmNoResult
		end.why = fmt.Sprintf("no result within %s; the request goes on: `spillway result %s --wait`", w.c.Timeout, a.id)
	case a.err != nil:
		end.status, end.why = warmNoResult, a.err.Error()
	case a.result.Status != job.Succeeded:
		end.status, end.why = string(a.result.Status), reasonsOf(a.result)
	default:
		end.status = string(a.result.Status)
		end.key, end.why = w.missing(ctx, a.result)
		end.cached = end.why == ""
	}
	select {
	case w.settled <- end:
	case <-ctx.Done():
	}
}

// reasonsOf says in a line why a run has no answer of its own.
func reasonsOf(r *job.Result) string {
	if r.Degraded != nil {
		return strings.TrimPrefix(statusOf(r), string(r.Status)+" ")
	}
	if r.Error == nil {
		return ""
	}
	if len(r.Error.Reasons) == 0 {
		return fmt.Sprintf("%s: %s", r.Error.Code, r.Error.Message)
	}
	var reasons []string
	for _, reason := range r.Error.Reasons {
		reasons = append(reasons, reasonOf(reason))
	}
	return fmt.Sprintf("%s: %s", r.Error.Code, strings.Join(reasons, "; "))
}

// missing says why an answer is not kept under its key; "": it is. The key is the one that the pipeline
// computed: its task files, or its models, may be others than those here.
func (w *warming) missing(ctx context.Context, r *job.Result) (key, why string) {
	ctx, cancel := context.WithTimeout(ctx, keptWithin)
	defer cancel()
	m, _, err := w.s.conn.Marker(ctx, r.ID)
	if err != nil {
		return "", fmt.Sprintf("answered, but under which key is not known: %s", err)
	}
	for {
		e, _, err := lastEntry(ctx, w.s.conn, m.CacheKey)
		switch {
		case err == nil && isOf(e, r):
			return m.CacheKey, ""
		case err != nil && !isNotFound(err):
			return m.CacheKey, fmt.Sprintf("answered, but the cache does not say whether it is kept: %s", err)
		case sleep(ctx, keptPause) != nil:
			return m.CacheKey, fmt.Sprintf("answered by %s, but not in the cache after %s: it is not the task's own model's, two versions of the task worked on it, or result-writer lost it", r.Model, keptWithin)
		}
	}
}

// isOf reports whether what is kept is the result's answer, or a later one.
func isOf(e *entry, r *job.Result) bool {
	return r.Source == job.FromCache || e.ID == r.ID || !e.At.Before(r.AcknowledgedAt)
}

// interrupted says what goes on, and what the same command would do.
func (w *warming) interrupted() error {
	again := "the same command goes on from here: what is fresh costs no call"
	switch {
	case w.c.Renew:
		again = "the same command calls for all inputs again (without --renew, what is fresh costs no call)"
	case w.t.Cache.Serve != task.ServeFresh:
		again = "the same command calls for all inputs again (with cache.serve: fresh, what is fresh would cost no call)"
	}
	open := w.s.results.waiting()
	if err := w.sum(); err != nil {
		return err
	}
	return exit(exitInterrupted, "stopped; %s without a result yet: what was sent goes on; %s", count(open, "input"), again)
}
