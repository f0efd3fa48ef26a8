package limit

import "time"

// rhythm is every length of time that the arithmetic knows. Tests run the same arithmetic in a shorter window.
type rhythm struct {
	// window is what the provider's limits speak of, and slides.
	window time.Duration
	// jitter is how much longer one call may take than another from the permit to the provider, with the
	// error of the replicas' clocks.
	jitter time.Duration
	// slot is the grain of the log.
	slot time.Duration
	// block is how long what was granted may be used.
	block time.Duration
	// period is between two exchanges of a busy entity: less than block, so that a block overlaps the next.
	period time.Duration
	// gap is the least time between two exchanges of an entity.
	gap time.Duration
	// lease is how long a claim lives without a sign of life; renew is how often one is given.
	lease, renew time.Duration
	// answer bounds an exchange; retry follows one that failed.
	answer, retry time.Duration
	// measure is how often the server's clock is read again.
	measure time.Duration
	// lowered is how long a lower limit holds that a provider named; held is the longest pause that it may ask for.
	lowered, held time.Duration
}

// perMinute is the rhythm of limits per minute.
func perMinute() rhythm {
	return rhythm{
		window: time.Minute, jitter: 500 * time.Millisecond, slot: 500 * time.Millisecond,
		block: time.Second, period: 900 * time.Millisecond, gap: 50 * time.Millisecond,
		lease: 10 * time.Second, renew: 2500 * time.Millisecond,
		answer: 2 * time.Second, retry: 500 * time.Millisecond,
		measure: time.Minute, lowered: 10 * time.Minute, held: time.Minute,
	}
}

// round is the time in which a limit's worth is granted: the window, and all that may hide in it.
func (r *rhythm) round() time.Duration { return r.window + r.jitter + r.slot + r.block }

// interval is what one unit of a limit costs of the pace, in microseconds.
func (r *rhythm) interval(limit int) float64 {
	return float64(r.round().Microseconds()) / float64(limit)
}

// worth is how many units of a limit a block's time brings.
func (r *rhythm) worth(limit int) int {
	return int(float64(r.block.Microseconds()) / r.interval(limit))
}
