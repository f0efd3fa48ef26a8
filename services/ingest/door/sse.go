package door

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// lastEventID is what a client that comes back had last: EventSource sends a header, others may use the query.
func lastEventID(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return r.URL.Query().Get("last_event_id")
}

// entering authenticates a client of a stream; the problem is nil for whom is let in. fate.Draining is for callers who
// may come in elsewhere.
func (d *Door) entering(w http.ResponseWriter, r *http.Request) (*caller, *Problem) {
	c, p := d.authenticate(r, true)
	if p == nil {
		p = c.readScope()
	}
	if p == nil {
		p = d.limit(w, c)
	}
	if p == nil && d.IsDraining() {
		p = refuse(http.StatusServiceUnavailable, fate.Draining, "this process is leaving; connect again").retryAfter(time.Second)
	}
	return c, p
}

// isStillWelcome reports whether a caller whose stream has been open for a while may still read. That a token
// has expired meanwhile ends no stream, see pulse; that its key was revoked does.
func (d *Door) isStillWelcome(c *caller) bool {
	id := ""
	switch {
	case c.key != nil:
		id = c.key.ID
	case c.grant != nil:
		id = c.grant.KeyID
	default:
		return d.isOpen() // a first key ends what was opened without one
	}
	_, err := d.o.Keys.Key(id)
	return err == nil
}

// jobEvents streams what becomes of a job as server-sent events.
func (d *Door) jobEvents(w http.ResponseWriter, r *http.Request) {
	c, p := d.entering(w, r)
	if p != nil {
		d.noEvents(w, r, c, p)
		return
	}
	id := r.PathValue("id")
	l := d.hub.watchJob(id) // before the look: what comes in between is seen by one or the other
	defer l.close()
	k, p := d.lookInTurn(r.Context(), c, id)
	if p != nil {
		d.noEvents(w, r, c, p)
		return
	}
	had := lastEventID(r)
	if k.marker == nil && runHad(had) >= k.run() {
		w.WriteHeader(http.StatusNoContent) // tells a browser not to come back
		return
	}
	d.events(w, r, func(ctx context.Context, out teller) error {
		s := &stream{d: d, out: out, l: l, caller: c, state: d.stateFor(r, c)}
		return s.job(ctx, k, had)
	})
}

// noEvents answers who cannot follow now. An EventSource gives up for good at any status but 200 (HTML standard, 9.2.3),
// so who shall come back is told so in a stream: while the door cannot serve, and, with a token, when too many of the
// key's browsers come at once. c may be nil.
func (d *Door) noEvents(w http.ResponseWriter, r *http.Request, c *caller, p *Problem) {
	crowd := p.Status == http.StatusTooManyRequests && c != nil && c.grant != nil
	if p.Status != http.StatusServiceUnavailable && !crowd {
		p.write(w)
		return
	}
	d.events(w, r, func(_ context.Context, out teller) error { return out.sendAway(away()) })
}

// sessionEvents streams what becomes of the jobs of a session.
func (d *Door) sessionEvents(w http.ResponseWriter, r *http.Request) {
	c, p := d.entering(w, r)
	var of session
	if p == nil {
		of, p = sessionFor(c, r)
	}
	if p != nil {
		d.noEvents(w, r, c, p)
		return
	}
	l := d.hub.watchSession(of.tenant, of.name)
	defer l.close()
	d.events(w, r, func(ctx context.Context, out teller) error {
		s := &stream{d: d, out: out, l: l, caller: c, state: d.stateFor(r, c), session: true}
		return s.jobs(ctx, of, lastEventID(r))
	})
}

// sessionFor is the session that is asked for, of the caller's tenant. Where no keys are asked for, the query may
// name a tenant.
func sessionFor(c *caller, r *http.Request) (session, *Problem) {
	name := r.PathValue("session")
	tenant, bound := c.tenant()
	if !bound {
		tenant = r.URL.Query().Get("tenant")
	}
	switch {
	case !job.IsLabel(name) || tenant != "" && !job.IsLabel(tenant):
		return session{}, refuse(http.StatusBadRequest, fate.InvalidRequest, "a session, as a tenant, must match [A-Za-z0-9_.@:=/-]{1,128}")
	case !c.mayReadSession(name):
		return session{}, forbidden("this key or token may not follow this session")
	}
	return session{tenant, name}, nil
}

// stateFor says where jobs are, with the addresses for a caller.
func (d *Door) stateFor(r *http.Request, c *caller) func(context.Context, *known) any {
	return func(ctx context.Context, k *known) any {
		if k.marker == nil {
			return k.ended()
		}
		s := d.state(ctx, k.marker)
		s.Addresses = d.addresses(r, c, k.marker)
		return s
	}
}

// events begins the response, and ends with what tells.
func (d *Door) events(w http.ResponseWriter, r *http.Request, tells func(context.Context, teller) error) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // of nginx, which would collect events
	out := &eventStream{w: w, c: http.NewResponseController(w), cutAfter: d.hub.cutAfter}
	_ = out.c.SetReadDeadline(time.Time{}) // of the request; not all writers have one
	if r.Method == http.MethodHead {
		return
	}
	err := out.begin()
	if err == nil {
		err = tells(r.Context(), out)
	}
	if err != nil && r.Context().Err() == nil && !errors.Is(err, errDraining) {
		d.log.Debug().Err(err).Str("path", r.URL.Path).Msg("a client of events was left")
	}
}

// eventStream writes server-sent events.
type eventStream struct {
	w   http.ResponseWriter
	c   *http.ResponseController
	out bytes.Buffer // the event's head; the data is written as it is

	cutAfter time.Duration
}

var _ teller = (*eventStream)(nil)

// begin sends the header, and how long to wait before coming back.
func (s *eventStream) begin() error {
	s.out.WriteString("retry: " + strconv.FormatInt(returnSoonest.Milliseconds(), 10) + "\n")
	return s.flush(nil)
}

func (s *eventStream) tell(event, id string, data []byte) error {
	s.out.WriteString("event: " + event + "\n")
	if id != "" {
		s.out.WriteString("id: " + id + "\n")
	}
	s.out.WriteString("data: ")
	if bytes.ContainsAny(data, "\r\n") {
		data = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r"), nil), []byte("\n"), []byte("\ndata: "))
	}
	return s.flush(data, []byte("\n\n"))
}

// sendAway also says it in the way that an EventSource heeds.
func (s *eventStream) sendAway(after time.Duration) error {
	s.out.WriteString("retry: " + strconv.FormatInt(after.Milliseconds(), 10) + "\n")
	return s.tell(tellsReconnect, "", comeBack(after))
}

// pulse is a comment. No empty line follows it: to some clients that is an event without data.
func (s *eventStream) pulse() error {
	s.out.WriteString(":\n")
	return s.flush(nil)
}

// flush sends what is in out, and what comes after it. A client that does not read is cut.
func (s *eventStream) flush(parts ...[]byte) error {
	if err := s.c.SetWriteDeadline(time.Now().Add(s.cutAfter)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.out.WriteTo(s.w); err != nil {
		return err
	}
	for _, part := range parts {
		if _, err := s.w.Write(part); err != nil {
			return err
		}
	}
	return s.c.Flush()
}
