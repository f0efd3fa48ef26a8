package door

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"spillway/pkg/apikey"
	"spillway/pkg/fate"
)

// caller is who asks, and what he may.
type caller struct {
	// key is whose key was sent; grant what a token allows. Both nil: keys are not asked for here.
	key   *apikey.Key
	grant *apikey.Grant
}

// tokenParameter carries a token, for the clients that cannot send a header: EventSource, WebSocket.
const tokenParameter = "token"

// authenticate finds out who asks. A token is taken only where mayToken says so: on GETs of the job or session
// that it names. The problem is nil for whom is let in.
func (d *Door) authenticate(r *http.Request, mayToken bool) (*caller, *Problem) {
	if d.isOpen() {
		return &caller{}, nil
	}
	c, p := d.identify(r, mayToken)
	if p == nil {
		p = d.seat(r, c)
	}
	return c, p
}

// identify finds out whose key or token was sent.
func (d *Door) identify(r *http.Request, mayToken bool) (*caller, *Problem) {
	if d.IsLocked() {
		return nil, unauthorized("there is no API key yet; make one: " + FirstKey)
	}
	secret, ok := bearer(r.Header)
	token := r.URL.Query().Get(tokenParameter)
	switch {
	case ok:
		return d.byKey(secret)
	case token == "":
		return nil, unauthorized("this door wants an API key: Authorization: Bearer <key>")
	case !mayToken:
		return nil, unauthorized("a token is for reading; this takes an API key: Authorization: Bearer <key>")
	}
	return d.byToken(token)
}

// isOpen reports whether everybody may do all: while no key was ever made.
func (d *Door) isOpen() bool {
	if d.o.Keys == nil {
		return true
	}
	if d.o.Open && !d.keyed.Load() && d.o.Keys.Len() > 0 {
		d.keyed.Store(true) // for good: that the last key is revoked lets nobody in
	}
	return d.o.Open && !d.keyed.Load()
}

// FirstKey makes the first key; `docker compose exec` and the like go before it.
const FirstKey = "spillway key create NAME --tenant TENANT"

// IsLocked reports whether nobody may come in: a key is asked for, and none is in force.
func (d *Door) IsLocked() bool { return !d.isOpen() && d.o.Keys.Len() == 0 }

func bearer(h http.Header) (secret string, ok bool) {
	scheme, secret, _ := strings.Cut(h.Get("Authorization"), " ")
	return strings.TrimSpace(secret), strings.EqualFold(scheme, "Bearer") && secret != ""
}

func (d *Door) byKey(secret string) (*caller, *Problem) {
	key, err := d.o.Keys.Check(secret)
	switch {
	case err == nil:
		return &caller{key: key}, nil
	case errors.Is(err, apikey.ErrRevoked):
		return nil, unauthorized("this API key was revoked")
	}
	return nil, unauthorized("this API key is not known")
}

func (d *Door) byToken(token string) (*caller, *Problem) {
	grant, err := d.o.Keys.Verify(token, time.Now())
	switch {
	case err == nil:
		return &caller{grant: &grant}, nil
	case errors.Is(err, apikey.ErrExpired):
		return nil, unauthorized("this token has expired; who has the key finds a new one in the events_url of the job's state")
	case errors.Is(err, apikey.ErrRevoked):
		return nil, unauthorized("the API key of this token was revoked")
	}
	return nil, unauthorized("this token was not signed here")
}

// unauthorized asks for a key, as RFC 6750 has it.
func unauthorized(detail string) *Problem {
	p := refuse(http.StatusUnauthorized, fate.Unauthorized, detail)
	p.headers.Set("WWW-Authenticate", `Bearer realm="spillway"`)
	return p
}

func forbidden(detail string) *Problem {
	return refuse(http.StatusForbidden, fate.Forbidden, detail)
}

// keyID is the key that the caller has, or has a token of; "": none.
func (c *caller) keyID() string {
	switch {
	case c.key != nil:
		return c.key.ID
	case c.grant != nil:
		return c.grant.KeyID
	}
	return ""
}

// tenant is whose jobs the caller sees; bound is false where he sees all.
func (c *caller) tenant() (name string, bound bool) {
	switch {
	case c.key != nil:
		return c.key.Tenant, true
	case c.grant != nil:
		return c.grant.Tenant, true
	}
	return "", false
}

// may reports whether the caller may do what the scope stands for with a job. What he may not is not there for him.
func (c *caller) may(scope apikey.Scope, id, task, tenant string) bool {
	own, bound := c.tenant()
	switch {
	case !bound:
		return true
	case own != tenant:
		return false
	case c.grant != nil:
		return scope == apikey.Read && c.grant.Job == id
	}
	return c.key.May(scope, task)
}

// mayReadJob reports whether the caller may see a job.
func (c *caller) mayReadJob(id, task, tenant string) bool {
	return c.may(apikey.Read, id, task, tenant)
}

// mayReadSession reports whether the caller may follow a session of his tenant.
func (c *caller) mayReadSession(session string) bool {
	switch {
	case c.grant != nil:
		return c.grant.Session == session
	case c.key != nil:
		return c.key.May(apikey.Read, "") && len(c.key.Tasks) == 0
	}
	return true
}

// submitScope refuses a key that may only read, whosever the job is.
func (c *caller) submitScope() *Problem {
	if c.key != nil && !slices.Contains(c.key.Scopes, apikey.Submit) {
		return forbidden("this API key may read, not submit or cancel")
	}
	return nil
}

// readScope refuses a key that may read nothing at all, which is no secret to its owner.
func (c *caller) readScope() *Problem {
	if c.key != nil && !slices.Contains(c.key.Scopes, apikey.Read) {
		return forbidden("this API key may submit, not read")
	}
	return nil
}
