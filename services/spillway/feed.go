package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
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

// feed publishes the lines of an input, so many at once as there is room for.
type feed struct {
	s *sender
	// make makes the request of a line.
	make func(text []byte, line int) (request, error)

	// room holds a place for each line that is under way.
	room chan struct{}
	// words are what becomes of lines besides results.
	words chan word
	all   sync.WaitGroup
}

func newFeed(s *sender, inFlight int, of func([]byte, int) (request, error)) *feed {
	return &feed{s: s, make: of, room: make(chan struct{}, inFlight), words: make(chan word, inFlight)}
}

// word is what became of a line: it is acknowledged (and awaited no longer), or at fault.
type word struct {
	q   request
	err error
}

// publishAll publishes each line and returns their number once all are acknowledged or at fault.
func (f *feed) publishAll(ctx context.Context, in *lineReader) (n int) {
	defer f.all.Wait()
	for ctx.Err() == nil {
		text, line, err := in.next()
		if errors.Is(err, io.EOF) {
			return n
		}
		n++
		select {
		case f.room <- struct{}{}:
		case <-ctx.Done():
			return n
		}
		if err != nil {
			f.tell(ctx, request{line: line}, err)
			if isBadInput(err) {
				continue
			}
			return n
		}
		q, err := f.make(text, line)
		if err != nil {
			f.tell(ctx, request{line: line}, err)
			continue
		}
		if q.session != "" {
			f.publish(ctx, q) // the turns of a session keep their order
			continue
		}
		f.all.Go(func() { f.publish(ctx, q) })
	}
	return n
}

// publish publishes one line; while the pipeline is full it waits.
func (f *feed) publish(ctx context.Context, q request) {
	for {
		try, cancel := context.WithTimeout(ctx, publishTimeout)
		err := f.s.send(try, q)
		cancel()
		if errors.Is(err, broker.ErrFull) && sleep(ctx, fullPause) == nil {
			continue
		}
		if err != nil || f.s.results == nil {
			f.tell(ctx, q, err)
		}
		return
	}
}

func (f *feed) tell(ctx context.Context, q request, err error) {
	select {
	case f.words <- word{q, err}:
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
