package breaker

import (
	"context"
	"sync"
	"time"

	"spillway/pkg/broker"
)

const (
	// repeatAfter is the pause before what the broker did not take, or did not do, is asked for again.
	repeatAfter = 250 * time.Millisecond
	// compareEvery is how often the records are compared with the leader's: the watch of a bucket may die
	// with a node of the cluster and say nothing.
	compareEvery = 5 * time.Second
	// lastWords is how long Run still tries, when its ctx has ended, to store what is owed.
	lastWords = time.Second
)

// Run follows the records and stores what could not be stored at once, until ctx ends.
func (b *Breakers) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() {
		b.link.follow(ctx, b.conn.NC, func() {
			signal(b.back)
			b.kick()
		})
	})
	all.Go(func() { b.follow(ctx) })
	all.Go(func() { b.payAll(ctx) })
	all.Wait()
	return nil
}

// follow watches the bucket, anew after each loss of the connection: the watch would come to it by itself,
// but only after missing heartbeats for ten seconds.
func (b *Breakers) follow(ctx context.Context) {
	warned := false
	for ctx.Err() == nil {
		if b.link.up.Load() {
			stop, err := b.conn.FollowRecords(ctx, broker.BreakersBucket, b.observe)
			if err == nil {
				warned = false
				b.compare(ctx)
				stop()
				continue
			}
			if !warned && ctx.Err() == nil {
				warned = true
				b.log.Warn().Err(err).Msg("the breakers cannot be followed, repeating")
			}
		}
		select {
		case <-ctx.Done():
		case <-b.back:
		case <-time.After(repeatAfter):
		}
	}
}

// observe takes what the watch says: a record that was there before, or a change.
func (b *Breakers) observe(stored broker.Record) {
	c := b.circuits[stored.Key]
	if c == nil || stored.Revision <= c.view.Load().revision {
		return
	}
	c.learn(b.news(c, stored, 0, nil))
}

// compare reads all records, again and again, until the watch has to begin anew.
func (b *Breakers) compare(ctx context.Context) {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		missed := false
		for _, c := range b.circuits {
			if !b.link.up.Load() {
				break
			}
			news, err := b.read(ctx, c)
			if err != nil {
				break // the broker is away: the next tick, or its return, comes
			}
			missed = missed || news
		}
		if missed {
			if !first {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-b.back:
			return
		case <-tick.C:
		}
	}
}

// payAll stores what is owed, as soon as it is.
func (b *Breakers) payAll(ctx context.Context) {
	for {
		if b.payEach(ctx) {
			select {
			case <-b.kicked:
				continue
			case <-ctx.Done():
			}
		} else {
			select {
			case <-b.kicked:
				continue
			case <-time.After(repeatAfter):
				continue
			case <-ctx.Done():
			}
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
		b.payEach(last)
		return
	}
}

// payEach reports whether nothing is left.
func (b *Breakers) payEach(ctx context.Context) bool {
	all := true
	for _, c := range b.circuits {
		try, cancel := context.WithTimeout(ctx, patience)
		all = b.pay(try, c) && all
		cancel()
	}
	return all
}
