package door

import (
	"net/http"
	"sync"
)

// crowd counts the requests that are inside.
type crowd struct {
	mu   sync.Mutex
	n    int
	left chan struct{} // closed when the last one leaves; nil: nobody waits for that
}

func newCrowd() *crowd { return &crowd{} }

func (c *crowd) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *crowd) exit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	if c.n == 0 && c.left != nil {
		close(c.left)
		c.left = nil
	}
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// empty is closed once nobody is inside.
func (c *crowd) empty() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if c.left == nil {
		c.left = make(chan struct{})
	}
	return c.left
}

// enter counts each request in and out, and gives it the headers that all answers have.
func (d *Door) enter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.inside.enter()
		defer d.inside.exit()
		next.ServeHTTP(w, r)
	})
}
