package door

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	allowedHeaders = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, traceparent"
	exposedHeaders = "Allow, Location, Preference-Applied, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, WWW-Authenticate, X-Should-Retry"
)

// cors lets the pages of --cors-origin call the door from a browser, and keeps others from using one that asks
// for no key. The problem is nil for whom may go on; done is true for a preflight, which is answered.
func (d *Door) cors(w http.ResponseWriter, r *http.Request) (p *Problem, done bool) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	open := d.isOpen()
	if open && !IsLoopbackHost(r.Host) {
		return forbidden("without API keys this door answers at its own address only, not at the one of the Host header; `spillway key create` makes a key"), false
	}
	if origin == "" {
		return nil, false
	}
	if open && !isOrigin(origin, r) && (!isLoopbackOrigin(origin) || !d.isAllowedOrigin(origin)) {
		return forbidden("without API keys pages of other places may not call the door; `spillway key create` makes a key, and --cors-origin names the pages"), false
	}
	if !d.isAllowedOrigin(origin) {
		return nil, false // the browser keeps the answer from the page
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return nil, false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", allowedHeaders)
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return nil, true
}

// isAllowedOrigin reports whether pages of an origin may call the door.
func (d *Door) isAllowedOrigin(origin string) bool {
	return slices.ContainsFunc(d.o.Origins, func(o string) bool { return o == "*" || strings.EqualFold(strings.TrimSuffix(o, "/"), origin) })
}

// isOrigin reports whether an origin is the very address that the request was sent to.
func isOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// isLoopbackOrigin reports whether a page is served by this machine: the one that is being worked on.
func isLoopbackOrigin(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && IsLoopbackHost(u.Host)
}

// IsLoopbackHost reports whether a Host header names this machine. It keeps pages out that let their name point here
// (DNS rebinding): to the browser they are of the same origin.
func IsLoopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	ip := net.ParseIP(name)
	return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
}
