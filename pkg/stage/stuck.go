package stage

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// watchEvery is how often an inbox is compared with what this process has asked for.
const watchEvery = 5 * time.Second

// watch reads the inboxes' state from JetStream, for the metrics and against a stall: messages that wait,
// free slots here, and no pull request waiting at the broker means that requests were lost.
func (r *Runner) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range r.pullers {
			r.inspect(ctx, p)
		}
	}
}

func (r *Runner) inspect(ctx context.Context, p *puller) {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	consumer, err := r.env.Conn.JS.Consumer(ctx, p.inbox.Stream, p.inbox.Consumer)
	p.missing.Store(errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound))
	if p.missing.Load() && p.made && r.makeInbox(ctx, p) == nil {
		p.missing.Store(false)
		p.reset()
		return
	}
	if p.missing.Load() {
		r.m.stuck.Inc()
		r.log.Error().Err(err).Str("stream", p.inbox.Stream).Str("consumer", p.inbox.Consumer).
			Msg("the inbox is gone: `spillway broker init` makes it anew")
		return
	}
	if err != nil {
		r.log.Warn().Err(err).Str("consumer", p.inbox.Consumer).Msg("the inbox cannot be looked at")
		return
	}
	info := consumer.CachedInfo()
	label := p.inbox.Consumer
	r.m.depth.WithLabelValues(label).Set(float64(info.NumPending))
	r.m.unacked.WithLabelValues(label).Set(float64(info.NumAckPending))
	r.m.age.WithLabelValues(label).Set(r.oldest(ctx, p).Seconds())
	starving := p.starving()
	if info.NumPending > 0 && info.NumWaiting == 0 && starving {
		r.m.stuck.Inc()
		r.log.Error().Uint64("waiting", info.NumPending).Str("consumer", label).Msg("inbox not pulled though slots are free, pulling again")
		p.reset()
	}
}

// oldest is the age of the first message of the inbox's stream; 0 when it is empty.
func (r *Runner) oldest(ctx context.Context, p *puller) time.Duration {
	s, err := r.env.Conn.JS.Stream(ctx, p.inbox.Stream)
	if err != nil {
		return 0
	}
	if state := s.CachedInfo().State; state.Msgs > 0 {
		return time.Since(state.FirstTime)
	}
	return 0
}
