package door

import (
	"errors"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"spillway/pkg/fate"
)

// enter is what every request passes: it is counted in and out, a browser's page must be allowed, and what is
// not there, or panics, is answered with a problem too.
func (d *Door) enter(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.inside.enter()
		defer d.inside.exit()
		defer d.rescue(w, r)
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if d.IsDraining() || r.ContentLength != 0 {
			h.Set("Connection", "close") // whoever reads the body takes it back
		}
		if r.ContentLength != 0 {
			defer LeaveUnread(w)
		}
		if p, done := d.cors(w, r); done {
			return
		} else if p != nil {
			p.write(w)
			return
		}
		if _, pattern := mux.Handler(r); pattern == "" || !isClean(r) {
			noRoute(mux, r).write(w)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// linger is how long the rest of a body that nobody reads is taken in after the answer: a client that is still
// sending would lose the answer with the connection.
const linger = time.Second

// LeaveUnread bounds the wait for a body that nobody reads, which the server does before it closes.
func LeaveUnread(w http.ResponseWriter) {
	// Not all writers can set one; then the server's own timeouts hold.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(linger))
}

// rescue keeps a panic to the request that caused it.
func (d *Door) rescue(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	d.log.Error().Str("method", r.Method).Str("path", r.URL.Path).Str("stack", string(debug.Stack())).Msgf("a handler panicked: %v", v)
	refuse(http.StatusInternalServerError, fate.Internal, "this request cannot be handled here").final().write(w)
}

// isClean reports whether the mux takes a path as it is. Others it would redirect, with the token in a page of HTML.
func isClean(r *http.Request) bool {
	escaped := r.URL.EscapedPath()
	return path.Clean(escaped) == escaped
}

// noRoute says what is wrong with an address that leads nowhere.
func noRoute(mux *http.ServeMux, r *http.Request) *Problem {
	var allowed []string
	if !isClean(r) {
		return refuse(http.StatusNotFound, fate.NoSuchRoute, "there is nothing at this address; it has empty segments or dots")
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern == "" {
			continue
		}
		allowed = append(allowed, method)
		if method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	if len(allowed) == 0 {
		return refuse(http.StatusNotFound, fate.NoSuchRoute, "there is nothing at this address")
	}
	p := refuse(http.StatusMethodNotAllowed, fate.MethodNotAllowed, "this address takes "+strings.Join(allowed, ", "))
	p.headers.Set("Allow", strings.Join(allowed, ", "))
	return p
}

// crowd counts the requests that are inside.
type crowd struct {
	mu   sync.Mutex
	n    int
	left chan struct{} // closed when the last one leaves; nil: nobody waits for that
}

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
	if c.left == nil {
		c.left = make(chan struct{})
	}
	left := c.left
	if c.n == 0 {
		close(c.left)
		c.left = nil
	}
	return left
}
