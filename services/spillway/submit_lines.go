package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"spillway/pkg/broker"
)

// lines publishes the lines of standard input and prints their results as they come.
type lines struct {
	*feed
	c    *submitCmd
	g    *globals
	bar  *gauge
	sums *tally
	ids  map[string]int // lines by the ids that they chose
}

func (c *submitCmd) runLines(ctx context.Context, g *globals, conn *broker.Conn) error {
	if isTerminal(os.Stdin) {
		g.note("reading inputs from the terminal, one a line; Ctrl-D ends")
	}
	l := &lines{c: c, g: g, bar: g.newGauge(-1, c.Task), sums: newTally(), ids: map[string]int{}}
	l.feed = newFeed(newSender(conn), c.InFlight, l.request)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.Wait {
		var err error
		if l.s.results, err = newCollector(ctx, conn, broker.ResultSubject(c.Task, "*"), c.Timeout); err != nil {
			return err
		}
		defer l.s.results.close()
	}
	read := make(chan int, 1)
	// Not waited for at an early end: nothing can take a reader away from a terminal.
	go func() { read <- l.publishAll(ctx, newLineReader(os.Stdin)) }()
	err := l.gather(ctx, read)
	cancel()
	l.bar.done()
	if err != nil {
		return err
	}
	return l.finish()
}

// request makes a request of a line.
func (l *lines) request(text []byte, line int) (request, error) {
	q, err := l.c.request(text, line)
	if err == nil {
		err = l.claim(q)
	}
	return q, err
}

// claim notes an id; two lines of one id would answer for each other.
func (l *lines) claim(q request) error {
	if !q.own {
		return nil
	}
	if before, taken := l.ids[q.id]; taken {
		return badf("line %d has the same id %s", before, q.id)
	}
	l.ids[q.id] = q.line
	return nil
}

// gather prints what comes until each line that was read has its end.
func (l *lines) gather(ctx context.Context, read <-chan int) error {
	var results <-chan arrival
	if l.s.results != nil {
		results = l.s.results.arrivals
	}
	total := -1
	for total < 0 || l.sums.total() < total {
		var err error
		select {
		case total = <-read:
			l.bar.total(total)
			continue
		case w := <-l.words:
			err = l.word(w)
		case a := <-results:
			err = l.arrival(a)
		case <-ctx.Done():
			return l.interrupted()
		}
		<-l.room
		l.bar.add()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lines) word(w word) error {
	if w.err == nil {
		l.sums.acknowledged++
		return l.bar.aside(func() error { return l.g.receipt(w.q) })
	}
	return l.faulty(w.q.line, w.q.id, w.err)
}

func (l *lines) arrival(a arrival) error {
	switch {
	case errors.Is(a.err, errNoResult):
		return l.faulty(a.line, a.id, fmt.Errorf("%w (%s); the request goes on: `spillway result %s --wait`", a.err, l.c.Timeout, a.id))
	case a.err != nil:
		return l.faulty(a.line, a.id, a.err)
	}
	l.sums.add(a.result)
	return l.bar.aside(func() error { return l.g.printRaw(a.raw) })
}

// faulty tells of a line that has no result.
func (l *lines) faulty(line int, id string, err error) error {
	l.sums.faults++
	return l.bar.aside(func() error {
		l.g.note("line %d: %s", line, oneLine(err.Error()))
		if !l.g.cli.JSON {
			return nil
		}
		return l.g.printJSON(struct {
			Line  int    `json:"line"`
			ID    string `json:"id,omitempty"`
			Error string `json:"error"`
		}{line, id, err.Error()})
	})
}

func (l *lines) interrupted() error {
	open := 0
	if l.s.results != nil {
		open = l.s.results.waiting()
	}
	l.g.summary(l.sums)
	return exit(exitInterrupted, "stopped; %s without a result yet: what is acknowledged goes on, `spillway watch --task %s` shows the results that come", count(open, "request"), l.c.Task)
}

// finish prints the sums and decides the exit code.
func (l *lines) finish() error {
	l.g.summary(l.sums)
	switch {
	case l.sums.faults > 0:
		return exit(exitFailed, "%d of %s without a result", l.sums.faults, count(l.sums.total(), "line"))
	case l.sums.unanswered() > 0:
		return exit(exitNotAnswered, "%d of %s without an output", l.sums.unanswered(), count(l.sums.total(), "request"))
	}
	return nil
}
