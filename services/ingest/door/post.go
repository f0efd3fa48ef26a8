package door

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"spillway/pkg/apikey"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/killpoint"
	"spillway/services/ingest"
)

const (
	// bodyTimeout is how long a body may take to arrive, writeTimeout each write of an answer.
	bodyTimeout  = 20 * time.Second
	writeTimeout = 10 * time.Second
	// comeAgain is when to repeat what could not be taken now, comeLater what a person has to make possible.
	comeAgain, comeLater = 2 * time.Second, 30 * time.Second
	// maxKeyLength is the longest Idempotency-Key.
	maxKeyLength = 255
)

// postJob takes a request: 202 once it is stored and has its marker, 200 with the result for whom waits for it.
func (d *Door) postJob(w http.ResponseWriter, r *http.Request) {
	c, p := d.authenticate(r, false)
	if p == nil {
		p = d.limit(w, c)
	}
	if p != nil {
		p.write(w)
		return
	}
	receipt, m, p := d.submit(w, r, c)
	if p != nil {
		p.write(w)
		return
	}
	killpoint.Here("post-answer")
	if m.Session != "" { // its session's clients need not wait for ingest
		d.hub.recent.note(session{m.Tenant, m.Session}, m.ID, m.AcknowledgedAt)
	}
	said := accepted(m)
	if receipt.Status == ingest.Duplicate {
		said = d.repeated(r.Context(), c, m)
	}
	d.answerAccepted(w, r, c, m, said)
}

// submit takes a request as far as the desk.
func (d *Door) submit(w http.ResponseWriter, r *http.Request, c *caller) (job.Receipt, *job.Marker, *Problem) {
	name := r.PathValue("task")
	s := ingest.Submission{Task: name, TraceParent: r.Header.Get("traceparent")}
	s.Tenant, s.Tenanted = c.tenant()
	var p *Problem
	if c.key != nil && !c.key.May(apikey.Submit, name) {
		return job.Receipt{}, nil, forbidden("this API key may not submit requests for this task")
	}
	if d.IsDraining() {
		return job.Receipt{}, nil, leaving()
	}
	if p := written(r.Header); p != nil {
		return job.Receipt{}, nil, p
	}
	if s.ID, p = idempotent(r.Header, s.Tenant, name); p != nil {
		return job.Receipt{}, nil, p
	}
	body := &arriving{Reader: http.MaxBytesReader(w, r.Body, job.MaxRequestBytes), bodies: d.bodies, tenant: s.Tenant}
	defer body.release()
	if s.Body, p = d.readBody(w, body); p != nil {
		return job.Receipt{}, nil, p
	}
	if !d.desk(r.Context()) {
		return job.Receipt{}, nil, crowded()
	}
	defer d.desks.Release(1)
	receipt, m := d.o.Desk.Submit(r.Context(), s)
	if receipt.Error != nil {
		return receipt, nil, refused(receipt)
	}
	return receipt, m, nil
}

// crowded asks to come again: nothing was stored.
func crowded() *Problem {
	return refuse(http.StatusServiceUnavailable, fate.DoorFull, "too many requests are being stored").retryAfter(comeAgain)
}

// desk waits for a free one.
func (d *Door) desk(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, d.deskWait)
	defer cancel()
	return d.desks.Acquire(ctx, 1) == nil
}

// written refuses a body that is no JSON as it is.
func written(h http.Header) *Problem {
	name, detail := "", ""
	switch coding := h.Get("Content-Encoding"); {
	case !isJSON(h.Get("Content-Type")):
		name, detail = "Content-Type", "send Content-Type: application/json"
	case coding != "" && !strings.EqualFold(coding, "identity"):
		name, detail = "Content-Encoding", "send the body as it is: no Content-Encoding is taken"
	default:
		return nil
	}
	p := refuse(http.StatusUnsupportedMediaType, fate.UnsupportedMedia, detail)
	p.Header = name
	return p
}

// isJSON also takes the types that end in +json.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// idempotent makes the id of a request from its Idempotency-Key; "": it has none. Two tenants, and two tasks,
// may use the same key.
func idempotent(h http.Header, tenant, name string) (string, *Problem) {
	const header = "Idempotency-Key"
	keys := h.Values(header)
	if len(keys) == 0 {
		return "", nil
	}
	key := keys[0]
	printable := strings.IndexFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) < 0
	if len(keys) > 1 || key == "" || len(key) > maxKeyLength || !printable {
		p := refuse(http.StatusBadRequest, fate.InvalidRequest, "Idempotency-Key is one key of 1 to 255 printable ASCII characters")
		p.Header = header
		return "", p
	}
	sum := sha256.Sum256([]byte(tenant + "\x00" + name + "\x00" + key))
	return ingest.KeyedID(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20])), nil
}

// leaving is said while the door drains.
func leaving() *Problem {
	return refuse(http.StatusServiceUnavailable, fate.Draining, "this process is leaving; send it again").retryAfter(time.Second)
}

// readBody reads a request whole, and no more of it than any task takes. A door that drains waits for no body.
func (d *Door) readBody(w http.ResponseWriter, r io.Reader) ([]byte, *Problem) {
	c := http.NewResponseController(w)
	// Not all writers can set one; then the server's own timeouts hold.
	_ = c.SetReadDeadline(time.Now().Add(d.bodyTimeout))
	stay := context.AfterFunc(d.staying, func() { _ = c.SetReadDeadline(time.Now()) })
	body, err := io.ReadAll(r)
	if !stay() {
		return nil, leaving()
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, refuse(http.StatusRequestEntityTooLarge, fate.TooLarge, "the request is larger than 256 KiB, the most that any task takes").at("")
	}
	if errors.Is(err, errFull) {
		return nil, refuse(http.StatusServiceUnavailable, fate.DoorFull, errFull.Error()).retryAfter(comeAgain)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, fate.InvalidRequest, "the body did not arrive whole").at("")
	}
	_ = c.SetReadDeadline(time.Time{}) // else it would end the wait for a result
	w.Header().Del("Connection")
	return body, nil
}

// refused is the problem of a receipt with an error.
func refused(receipt job.Receipt) *Problem {
	e := receipt.Error
	p := refuse(http.StatusBadRequest, e.Code, e.Message).of(receipt.ID)
	if len(e.Reasons) > 0 || e.Pointer != "" {
		p.at(e.Pointer).Reasons = e.Reasons
	}
	switch e.Code {
	case fate.TooLarge:
		p.Status = http.StatusRequestEntityTooLarge
	case fate.UnknownTask, fate.NotFound:
		p.Status = http.StatusNotFound
	case fate.Forbidden:
		p.Status = http.StatusForbidden
	case fate.IDConflict:
		p.Status = http.StatusConflict
		p.final()
	case fate.DoorFull, fate.Unavailable:
		p.Status = http.StatusServiceUnavailable
		p.retryAfter(comeAgain)
	case fate.TaskPaused:
		p.Status = http.StatusServiceUnavailable
		p.retryAfter(comeLater)
	}
	return p
}
