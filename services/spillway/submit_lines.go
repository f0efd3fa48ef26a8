package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"spillway/pkg/broker"
)

const (
	// maxLineBytes bounds a line of standard input.
	maxLineBytes = 1 << 20
	// fullPause is how long a full pipeline is left alone before the next try.
	fullPause = 500 * time.Millisecond
)

var errLineTooLong = badf("longer than %s, the most for a line", size(maxLineBytes))

// lineReader reads lines and goes on after one that is too long.
type lineReader struct {
	in *bufio.Reader
	n  int
}

func newLineReader(in io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, 64<<10)}
}

// next returns the next line that is not empty, and its number. io.EOF: there is none.
func (r *lineReader) next() (line []byte, n int, err error) {
	for {
		line, err = r.line()
		if len(line) > 0 || err != nil {
			return line, r.n, err
		}
	}
}

func (r *lineReader) line() ([]byte, error) {
	r.n++
	var line []byte
	tooLong := false
	for {
		part, err := r.in.ReadSlice('\n')
		if !tooLong {
			line = append(line, part...)
			tooLong = len(line) > maxLineBytes
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0):
			return nil, err
		case tooLong:
			return nil, errLineTooLong
		}
		if r.n == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		return bytes.TrimSpace(line), nil
	}
}

// lines publishes the lines of standard input and prints their results as they come.
type lines struct {
	c    *submitCmd
	g    *globals
	s    *sender
	bar  *gauge
	sums *tally

	// room holds a place for each line that is under way.
	room chan struct{}
	// words are what becomes of lines besides results.
	words chan word
	ids   map[string]int // lines by the ids that they chose
	all   sync.WaitGroup
}

// word is what became of a line: it is acknowledged (and awaited no longer), or at fault.
type word struct {
	q   request
	err error
}

func (c *submitCmd) runLines(ctx context.Context, g *globals, conn *broker.Conn) error {
	if isTerminal(os.Stdin) {
		g.note("reading inputs from the terminal, one a line; Ctrl-D ends")
	}
	l := &lines{
		c: c, g: g, s: newSender(conn), bar: g.newGauge(-1, c.Task), sums: newTally(),
		room: make(chan struct{}, c.InFlight), words: make(chan word, c.InFlight), ids: map[string]int{},
	}
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

// publishAll publishes each line and returns their number once all are acknowledged or at fault.
func (l *lines) publishAll(ctx context.Context, in *lineReader) (n int) {
	defer l.all.Wait()
	for ctx.Err() == nil {
		text, line, err := in.next()
		if errors.Is(err, io.EOF) {
			return n
		}
		n++
		select {
		case l.room <- struct{}{}:
		case <-ctx.Done():
			return n
		}
		if err != nil {
			l.tell(ctx, request{line: line}, err)
			if isBadInput(err) {
				continue
			}
			return n
		}
		q, err := l.c.request(text, line)
		if err == nil {
			err = l.claim(q)
		}
		if err != nil {
			l.tell(ctx, request{line: line}, err)
			continue
		}
		if q.session != "" {
			l.publish(ctx, q) // the turns of a session keep their order
			continue
		}
		l.all.Go(func() { l.publish(ctx, q) })
	}
	return n
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

// publish publishes one line; while the pipeline is full it waits.
func (l *lines) publish(ctx context.Context, q request) {
	for {
		try, cancel := context.WithTimeout(ctx, publishTimeout)
		err := l.s.send(try, q)
		cancel()
		if errors.Is(err, broker.ErrFull) && sleep(ctx, fullPause) == nil {
			continue
		}
		if err != nil || !l.c.Wait {
			l.tell(ctx, q, err)
		}
		return
	}
}

func (l *lines) tell(ctx context.Context, q request, err error) {
	select {
	case l.words <- word{q, err}:
	case <-ctx.Done():
	}
}

// sleep returns after d, or with an error when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
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
