package door

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"spillway/pkg/apikey"
	"spillway/pkg/job"
)

// tokenLife is how long a token in an address is good for. The state of a job always has a fresh one, also for whom
// comes with a token: so long after the job's deadline at most.
const tokenLife = 15 * time.Minute

// Addresses are where to go on from an answer.
type Addresses struct {
	PollURL   string `json:"poll_url"`
	CancelURL string `json:"cancel_url"`
	// EventsURL and SocketURL carry a token for this job, if keys are asked for and the key may read: a browser can
	// use them as they are.
	EventsURL string `json:"events_url"`
	SocketURL string `json:"ws_url"`
	// SessionEventsURL and SessionSocketURL follow all jobs of the job's session; "": it has none.
	SessionEventsURL string `json:"session_events_url,omitempty"`
	SessionSocketURL string `json:"session_ws_url,omitempty"`
}

// addresses of a job for a caller.
func (d *Door) addresses(r *http.Request, c *caller, m *job.Marker) Addresses {
	base := d.base(r)
	of := base + "/v1/jobs/" + m.ID
	token := d.token(c, m, apikey.Grant{Job: m.ID})
	a := Addresses{
		PollURL: of, CancelURL: of + "/cancel",
		EventsURL: of + "/events" + token, SocketURL: socket(of) + "/ws" + token,
	}
	if m.Session != "" && c.mayReadSession(m.Session) {
		session := base + "/v1/sessions/" + url.PathEscape(m.Session)
		token := d.token(c, m, apikey.Grant{Session: m.Session})
		a.SessionEventsURL, a.SessionSocketURL = session+"/events"+token, socket(session)+"/ws"+token
	}
	return a
}

// base is what all addresses begin with.
func (d *Door) base(r *http.Request) string {
	if d.o.PublicURL != "" {
		return strings.TrimSuffix(d.o.PublicURL, "/")
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// socket is an address as WebSocket clients want it.
func socket(address string) string { return "ws" + strings.TrimPrefix(address, "http") }

// token is the query with a token for g; "" where none is needed, or the caller may not hand one out.
func (d *Door) token(c *caller, m *job.Marker, g apikey.Grant) string {
	switch {
	case c.grant != nil:
		g.Tenant, g.KeyID, g.Until = c.grant.Tenant, c.grant.KeyID, renewed(c.grant, &g, m.Deadline)
	case c.key != nil && c.key.May(apikey.Read, m.Task):
		g.Tenant, g.KeyID, g.Until = c.key.Tenant, c.key.ID, time.Now().Add(tokenLife)
	default:
		return ""
	}
	token, err := d.o.Keys.Sign(g)
	if err != nil {
		d.log.Warn().Err(err).Str("key", g.KeyID).Msg("an address goes out without a token")
		return ""
	}
	return "?" + url.Values{tokenParameter: {token}}.Encode()
}

// renewed is until when a new token for g is good that a holder of one is given. What he has himself is never cut
// short; a token for a job of his session lasts no longer than that for the session.
func renewed(has, g *apikey.Grant, deadline time.Time) time.Time {
	until := time.Now().Add(tokenLife)
	if last := deadline.Add(tokenLife); last.Before(until) {
		until = last
	}
	if has.Session != g.Session && until.After(has.Until) || has.Session == g.Session && until.Before(has.Until) {
		return has.Until
	}
	return until
}
