package door

import (
	"net/http"
	"time"

	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/job"
)

// getJob answers with the stored result, or with the state of a job that has none yet. While a replay is under way that
// is the result of the run before, until the new one takes its place: streams and cancellations go by the new run.
func (d *Door) getJob(w http.ResponseWriter, r *http.Request) {
	c, p := d.authenticate(r, true)
	if p == nil {
		p = d.limit(w, c)
	}
	if p == nil {
		p = c.readScope()
	}
	var wait time.Duration
	if p == nil {
		wait, p = asked(r)
	}
	if p != nil {
		p.write(w)
		return
	}
	d.answerWithin(w, r, c, r.PathValue("id"), wait)
}

// writeResult answers with a stored result, byte for byte.
func writeResult(w http.ResponseWriter, result []byte) {
	w.Header().Set("Content-Type", "application/json")
	writing(w)
	_, _ = w.Write(result) // who left needs no answer
}

// writeState answers 202 with a state, and where to go on.
func (d *Door) writeState(w http.ResponseWriter, r *http.Request, c *caller, m *job.Marker, s *State) {
	s.Addresses = d.addresses(r, c, m)
	body, err := json.Marshal(s)
	if err != nil {
		panic(err) // rescued, and logged
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Location", s.PollURL)
	h.Set("Retry-After", wholeSeconds(time.Duration(s.PollAfterMS)*time.Millisecond))
	writing(w)
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(body) // who left needs no answer
}

// writing cuts a client that does not read its answer.
func writing(w http.ResponseWriter) {
	// Not all writers can set one; then the server's own timeouts hold.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}
