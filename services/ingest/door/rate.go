package door

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"spillway/pkg/apikey"
	"spillway/pkg/fate"
)

// rates hold each key to its rate, in this process alone: N replicas let through N times as much.
type rates struct {
	mu  sync.Mutex
	all map[string]*rate.Limiter // by the key's id
}

func newRates() *rates { return &rates{all: map[string]*rate.Limiter{}} }

// of is the limiter of a key; nil: it has no rate.
func (l *rates) of(k *apikey.Key) *rate.Limiter {
	if k == nil || k.Rate <= 0 {
		return nil
	}
	limit, burst := rate.Limit(k.Rate), max(k.Burst, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.all[k.ID]
	if r == nil || r.Limit() != limit || r.Burst() != burst {
		r = rate.NewLimiter(limit, burst)
		l.all[k.ID] = r
	}
	return r
}

// limit counts a request of the caller and tells him in the RateLimit headers what is left to him; the problem
// is nil while he keeps to his rate.
func (d *Door) limit(w http.ResponseWriter, c *caller) *Problem {
	l := d.rates.of(c.key)
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
