package door

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWhoWaitsForAnAnswerOfAnotherGivesUpInTime(t *testing.T) {
	t.Parallel()
	p := newPlaces(nil)
	asked, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if n, ok := ask(t.Context(), p, "slow", func(context.Context) (int, error) {
			close(asked)
			<-release
			return 7, nil
		}); n != 7 || !ok {
			t.Errorf("the first gets %d %v", n, ok)
		}
	}()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	gaveUp := make(chan bool, 1)
	go func() {
		_, ok := ask(ctx, p, "slow", func(context.Context) (int, error) { return 8, nil })
		gaveUp <- !ok
	}()
	select {
	case is := <-gaveUp:
		if !is {
			t.Error("there was an answer")
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits as long as the other")
	}
	close(release)
	<-done
	if n, ok := ask(t.Context(), p, "slow", func(ctx context.Context) (int, error) { return 7, ctx.Err() }); n != 7 || !ok {
		t.Errorf("and then %d %v", n, ok)
	}
}

func TestThatAnEarlyResultWasReplacedDoesNotMeanThatAnyWasDropped(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, _ := w.open(w.conn)
	since := func() time.Time {
		at, ok := newPlaces(d.o.Conn).resultsSince(t.Context())
		if !ok {
			t.Fatal("no answer")
		}
		return at
	}
	began := time.Now()
	w.finish("a", "", "", 1)
	w.finish("b", "", "", 1)
	w.finish("a", "", "", 2) // the first sequence is gone
	if at := since(); began.Sub(at) < 23*time.Hour {
		t.Errorf("results are kept a day, and all are; dropped were those before %s", at)
	}
	s, err := w.conn.JS.Stream(t.Context(), "LLM_RESULTS")
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxBytes = 16 << 10
	if _, err := w.conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		w.store(fmt.Sprintf("llm.write.toy.j%d", i), nil, strings.Repeat("x", 1<<10))
	}
	if at := since(); !at.After(began) {
		t.Errorf("the stream is full, dropped were those before %s", at)
	}
}
