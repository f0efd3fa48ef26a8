package door

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"spillway/pkg/apikey"
	"spillway/pkg/fate"
)

// rates hold each key to its rate, in this process alone: N replicas let through N times as much. So they do the
// tokens of a key, all together, apart from the key: who only has a token takes nothing away from its owner.
type rates struct {
	mu  sync.Mutex
	all map[rated]*rate.Limiter
	// seats are how many requests of a key and its tokens are under way.
	seats map[string]int
}

// rated is what has a rate: a key, by its id, or its tokens.
type rated struct {
	key      string
	byTokens bool
}

// maxSeats bounds what is under way for one key and its tokens in a process: streams, waits, and all else. One that
// waits takes 40 KB.
const maxSeats = 10_000

func newRates() *rates { return &rates{all: map[rated]*rate.Limiter{}, seats: map[string]int{}} }

// sit counts a request in that is under way for a key; false: there are too many.
func (l *rates) sit(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seats[key] >= maxSeats {
		return false
	}
	l.seats[key]++
	return true
}

func (l *rates) rise(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seats[key]--; l.seats[key] == 0 {
		delete(l.seats, key)
	}
}

// seat counts a request of the caller in, until it is over.
func (d *Door) seat(r *http.Request, c *caller) *Problem {
	key := c.keyID()
	if !d.rates.sit(key) {
		return refuse(http.StatusTooManyRequests, fate.RateLimited, fmt.Sprintf("%d requests of this API key and its tokens are under way here, more are not taken", maxSeats)).retryAfter(comeAgain)
	}
	context.AfterFunc(r.Context(), func() { d.rates.rise(key) })
	return nil
}

// of is the limiter of a key, or of its tokens; nil: it has no rate.
func (l *rates) of(k *apikey.Key, byTokens bool) *rate.Limiter {
	if k == nil || k.Rate <= 0 {
		return nil
	}
	of := rated{k.ID, byTokens}
	limit, burst := rate.Limit(k.Rate), max(k.Burst, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.all[of]
	if r == nil || r.Limit() != limit || r.Burst() != burst {
		r = rate.NewLimiter(limit, burst)
		l.all[of] = r
	}
	return r
}

// limit counts a request of the caller and tells him in the RateLimit headers what is left to him; the problem
// is nil while he keeps to his rate.
func (d *Door) limit(w http.ResponseWriter, c *caller) *Problem {
	k := c.key
	if c.grant != nil {
		k, _ = d.o.Keys.Key(c.grant.KeyID) // one that was revoked just now has no rate, and nothing to read
	}
	l := d.rates.of(k, c.grant != nil)
	if l == nil {
		return nil
	}
	now := time.Now()
	allowed := l.AllowN(now, 1)
	left := max(l.TokensAt(now), 0)
	perSecond, burst := float64(l.Limit()), l.Burst()
	h := w.Header()
	h.Set("RateLimit-Limit", strconv.Itoa(burst))
	h.Set("RateLimit-Remaining", strconv.Itoa(int(left)))
	h.Set("RateLimit-Reset", strconv.Itoa(int(math.Ceil((float64(burst)-left)/perSecond))))
	if allowed {
		return nil
	}
	wait := time.Duration((1 - left) / perSecond * float64(time.Second))
	return refuse(http.StatusTooManyRequests, fate.RateLimited, "more requests than the API key's rate allows").retryAfter(wait)
}
