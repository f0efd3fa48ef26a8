package door

import (
	"context"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

const (
	// maxWait is the longest wait for a result; who asks for longer gets so much.
	maxWait = 25 * time.Second
	// lookAgain is how often what is stored is read while it is waited for: who only listens may miss it.
	lookAgain = 15 * time.Second
)

// preferred is the wait of a Prefer header (RFC 7240, wait=10); what cannot be read is ignored, as it says.
func preferred(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(preference), "=")
			value, _, _ = strings.Cut(value, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			if n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31); err == nil {
				return min(time.Duration(n)*time.Second, maxWait)
			}
		}
	}
	return 0
}

// asked is the wait of ?wait=10, in seconds, else the preferred one.
func asked(r *http.Request) (time.Duration, *Problem) {
	query := r.URL.Query()
	if !query.Has("wait") {
		return preferred(r.Header), nil
	}
	seconds, err := strconv.ParseFloat(query.Get("wait"), 64)
	if err != nil || !(seconds >= 0) { // written so that NaN is refused
		p := refuse(http.StatusBadRequest, fate.InvalidRequest, "wait is a number of seconds, at most 25")
		p.Parameter = "wait"
		return 0, p
	}
	return time.Duration(min(seconds, maxWait.Seconds()) * float64(time.Second)), nil
}

// answerWithin answers with the result if it comes in time, else with the state.
func (d *Door) answerWithin(w http.ResponseWriter, r *http.Request, c *caller, id string, wait time.Duration) {
	k, p := d.await(r.Context(), c, id, 1, wait)
	switch {
	case p != nil:
		p.write(w)
	case k.result != nil:
		writeResult(w, k.result.Data)
	default:
		d.writeState(w, r, c, k.marker, d.state(r.Context(), k.marker))
	}
}

// answerAccepted answers who brought or cancelled a job: with the result if he waits and it comes in time, else with
// a state. What was accepted stays so when JetStream cannot be asked any more: then he is told what was said already.
func (d *Door) answerAccepted(w http.ResponseWriter, r *http.Request, c *caller, m *job.Marker, said *State) {
	wait := preferred(r.Header)
	if wait == 0 || !c.mayReadJob(m.ID, m.Task, m.Tenant) {
		d.writeState(w, r, c, m, said)
		return
	}
	w.Header().Set("Preference-Applied", "wait")
	k, p := d.await(r.Context(), c, m.ID, m.Run, wait)
	switch {
	case p != nil:
		d.writeState(w, r, c, m, said)
	case k.run() >= m.Run:
		writeResult(w, k.result.Data)
	default:
		d.writeState(w, r, c, m, d.state(r.Context(), m))
	}
}

// await returns the job with the result of a run or a later one, or as it is when wait is over or the door drains.
func (d *Door) await(ctx context.Context, c *caller, id string, run int, wait time.Duration) (*known, *Problem) {
	if wait <= 0 {
		return d.lookInTurn(ctx, c, id)
	}
	l := d.hub.watchJob(id) // before the look: what comes in between is seen by one or the other
	defer l.close()
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(d.staying, cancel)() //nolint:contextcheck // the door's own life, beside the request's
	k, p := d.lookInTurn(ctx, c, id)
	for {
		if p != nil || k.run() >= run || waiting.Err() != nil {
			return k, p
		}
		heard := next(waiting, l)
		if heard != nil && broker.RunOf(heard.Header) >= run {
			return &known{result: heard}, nil
		}
		if waiting.Err() != nil {
			return k, nil
		}
		// After a reconnect all who wait come here at once.
		if again, wrong := d.lookInTurn(waiting, c, id); waiting.Err() == nil {
			k, p = again, wrong
		}
	}
}

// next returns the result when it is heard, or nil when it is time to look at what is stored.
func next(ctx context.Context, l *listener) *broker.Stored {
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	for {
		events, err := l.next(ctx)
		for _, e := range events {
			if e.kind == resultEvent {
				return &broker.Stored{Subject: e.msg.Subject, Header: textproto.MIMEHeader(e.msg.Header), Data: e.msg.Data}
			}
		}
		if err != nil || l.lagged() {
			return nil
		}
	}
}
