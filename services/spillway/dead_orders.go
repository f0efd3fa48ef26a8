package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/stage"
)

// listenFor is how long a command that does not wait listens for fallback's word on its orders.
const listenFor = time.Second

// orders gives orders for replays and tells what becomes of them.
type orders struct {
	c       *deadReplayCmd
	g       *globals
	conn    *broker.Conn
	list    []*letter
	results *collector // nil without --wait
	bar     *gauge
	sums    *tally
	// words are the orders as they are given, heard is what fallback says of them.
	words chan orderWord
	heard chan stage.Progress
	// open are the orders of which more is to be heard.
	open map[string]*letter
	last error // the refusal of a single id
}

// orderWord is a step of an order.
type orderWord struct {
	l     *letter
	event string
	no    *refused
	err   error
}

// The steps of an order.
const (
	ordering = "ordering" // told before the order is published: what is heard then is heard of an open order
	ordered  = "ordered"
	repeated = "ordered_before"
	denied   = "refused"
	begun    = "started"
)

func (c *deadReplayCmd) replay(ctx context.Context, g *globals, conn *broker.Conn, list []*letter) error {
	o := &orders{
		c: c, g: g, conn: conn, list: list, bar: g.newGauge(len(list), "replaying"), sums: newTally(),
		words: make(chan orderWord), heard: make(chan stage.Progress, 256), open: map[string]*letter{},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := o.listen(ctx); err != nil {
		return err
	}
	if c.Wait {
		var err error
		if o.results, err = newCollector(ctx, conn, broker.ResultSubject("*", "*"), c.Timeout); err != nil {
			return err
		}
		defer o.results.close()
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		o.publishAll(ctx)
	}()
	err := o.gather(ctx)
	cancel()
	<-published
	o.bar.done()
	if err != nil {
		return err
	}
	return o.finish()
}

// listen subscribes to what fallback says: of the named ids, or when the results are awaited of all.
func (o *orders) listen(ctx context.Context) error {
	subjects := []string{}
	for _, id := range o.c.IDs {
		subjects = append(subjects, broker.ProgressSubject("*", id))
	}
	if len(o.c.IDs) == 0 && o.c.Wait {
		subjects = append(subjects, broker.AnyProgress)
	}
	for _, subject := range subjects {
		if _, err := o.conn.NC.Subscribe(subject, func(m *nats.Msg) { o.hear(ctx, m) }); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	return flush(ctx, o.conn)
}

func (o *orders) hear(ctx context.Context, m *nats.Msg) {
	var p stage.Progress
	if json.Unmarshal(m.Data, &p) != nil || p.Event != "replay_refused" && p.Stage != broker.Fallback {
		return
	}
	select {
	case o.heard <- p:
	case <-ctx.Done():
	}
}

// publishAll gives the orders, at the rate that was asked for.
func (o *orders) publishAll(ctx context.Context) {
	defer close(o.words)
	limit := rate.NewLimiter(o.c.Rate.Limit, 1)
	body, err := o.c.overrides()
	for _, l := range o.list {
		if err == nil {
			err = limit.Wait(ctx)
		}
		word := orderWord{l: l, event: ordered, err: err}
		if err == nil {
			word = o.order(ctx, l, body)
		}
		if !o.tell(ctx, word) {
			return
		}
	}
}

func (o *orders) tell(ctx context.Context, w orderWord) bool {
	select {
	case o.words <- w:
		return true
	case <-ctx.Done():
		return false
	}
}

// order publishes one order, unless something speaks against it. Its message id names the dead letter: an
// order given twice is one.
func (o *orders) order(ctx context.Context, l *letter, body []byte) orderWord {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	no, err := refusalOf(ctx, o.conn, l)
	if err != nil || no != nil {
		return orderWord{l: l, event: denied, no: no, err: err}
	}
	if !o.tell(ctx, orderWord{l: l, event: ordering}) {
		return orderWord{l: l, event: denied, err: ctx.Err()}
	}
	ack, err := o.conn.Publish(ctx, &nats.Msg{
		Subject: broker.ReplaySubject(l.id), Data: body,
		Header: nats.Header{broker.MsgIDHeader: {fmt.Sprintf("%s.replay.%d", l.id, l.sequence)}},
	})
	switch {
	case err != nil:
		return orderWord{l: l, event: denied, err: err}
	case ack.Duplicate:
		return orderWord{l: l, event: repeated}
	}
	return orderWord{l: l, event: ordered}
}

// gather tells what becomes of the orders until nothing more is to be heard.
func (o *orders) gather(ctx context.Context) error {
	var results <-chan arrival
	if o.results != nil {
		results = o.results.arrivals
	}
	words, enough := o.words, (<-chan time.Time)(nil)
	for {
		var err error
		select {
		case w, more := <-words:
			if more {
				err = o.word(w)
				break
			}
			words = nil
			if o.results == nil {
				enough = time.After(listenFor)
			}
		case p := <-o.heard:
			err = o.hearing(p)
		case a := <-results:
			err = o.arrival(a)
		case <-enough:
			return o.unheard()
		case <-ctx.Done():
			return o.interrupted()
		}
		if err != nil {
			return err
		}
		if words == nil && (len(o.open) == 0 || o.results == nil && len(o.c.IDs) == 0) {
			return nil
		}
	}
}

func (o *orders) word(w orderWord) error {
	switch {
	case w.err != nil:
		o.drop(w.l.id)
		return fmt.Errorf("replay %s (%d of %d are ordered): %w", w.l.id, o.sums.acknowledged+len(o.open), len(o.list), w.err)
	case w.event == ordering:
		o.open[w.l.id] = w.l
		if o.results != nil {
			o.results.expect(awaited{id: w.l.id, task: w.l.task, run: w.l.run() + 1})
			o.results.begin(w.l.id, false)
		}
		return nil
	case w.event == denied:
		return o.deny(w.l, w.no)
	}
	if o.results == nil {
		o.sums.acknowledged++
		o.bar.add()
	}
	if w.event == repeated {
		if o.results == nil {
			o.drop(w.l.id)
		}
		return o.say(w.l, w.event, "the same order was given within the last 30 s; it is not given again")
	}
	return o.say(w.l, w.event, fmt.Sprintf("run %d is ordered", w.l.run()+1))
}

func (o *orders) drop(id string) {
	delete(o.open, id)
	if o.results != nil {
		o.results.forget(id)
	}
}

func (o *orders) deny(l *letter, no *refused) error {
	o.drop(l.id)
	o.sums.refused++
	o.bar.add()
	code := exitFailed
	if no.code == fate.NotFound {
		code = exitNotFound
	}
	o.last = exit(code, "%s is not replayed: %s", l.id, no.message)
	if len(o.list) == 1 && !o.g.cli.JSON {
		return nil // the error that the command ends with says it
	}
	return o.bar.aside(func() error { return o.g.refusedLine(l, no) })
}

// hearing deals with what fallback says of an order.
func (o *orders) hearing(p stage.Progress) error {
	l, ok := o.open[p.ID]
	switch {
	case !ok:
		return nil
	case p.Event == "replay_refused":
		if o.results == nil {
			o.sums.acknowledged--
		}
		return o.deny(l, &refused{p.Code, p.Message})
	case p.Run <= l.run() || o.results != nil:
		return nil
	}
	o.drop(p.ID)
	return o.say(l, begun, fmt.Sprintf("run %d has started", p.Run))
}

func (o *orders) arrival(a arrival) error {
	l, ok := o.open[a.id]
	if !ok {
		return nil
	}
	o.drop(a.id)
	o.bar.add()
	if a.err != nil {
		o.sums.faults++
		return o.say(l, "no_result", fmt.Sprintf("%s (%s): `spillway result %s --wait --run %d`", a.err, o.c.Timeout, a.id, a.run))
	}
	o.sums.add(a.result)
	return o.bar.aside(func() error {
		if o.g.cli.JSON {
			return o.g.printJSON(struct {
				Event  string          `json:"event"`
				Result json.RawMessage `json:"result"`
			}{"result", a.raw})
		}
		_, err := fmt.Fprintln(o.g.stdout, brief(a.result))
		return err
	})
}

// say prints a step of an order. Of orders in bulk people are shown what is not as usual, and the sum.
func (o *orders) say(l *letter, event, text string) error {
	usual := event == ordered || event == begun
	if !o.g.cli.JSON && usual && len(o.c.IDs) == 0 {
		return nil
	}
	return o.bar.aside(func() error {
		if o.g.cli.JSON {
			return o.g.printJSON(map[string]any{"event": event, "id": l.id, "task": l.task, "run": l.run() + 1, "sequence": l.sequence, "message": text})
		}
		_, err := fmt.Fprintf(o.g.stdout, "%s  %s\n", l.id, text)
		return err
	})
}

// unheard ends the listening: the orders are stored, whoever carries them out.
func (o *orders) unheard() error {
	for id := range o.open {
		o.g.note("%s: fallback has not taken the order up within %s; it is stored and waits (`spillway broker check` says who works)", id, listenFor)
	}
	return nil
}

func (o *orders) interrupted() error {
	o.g.summary(o.sums)
	return exit(exitInterrupted, "stopped; what was ordered goes on, the same command orders the rest")
}

// finish prints the sums and decides the exit code.
func (o *orders) finish() error {
	if len(o.list) == 1 && o.last != nil {
		return o.last
	}
	if len(o.list) != 1 || o.results != nil {
		o.g.summary(o.sums)
	}
	switch lost := o.sums.unanswered(); {
	case o.sums.refused > 0:
		return exit(exitFailed, "%d of %s refused", o.sums.refused, count(len(o.list), "replay"))
	case o.sums.faults > 0:
		return exit(exitNotFound, "%d of %s without a result yet", o.sums.faults, count(len(o.list), "replay"))
	case lost > 0:
		return exit(exitNotAnswered, "%d of %s without an output", lost, count(len(o.list), "replay"))
	}
	return nil
}
