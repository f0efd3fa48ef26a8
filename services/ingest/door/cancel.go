package door

import (
	"net/http"

	"spillway/pkg/apikey"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/services/ingest"
)

// cancelJob ends a run from outside. It may be repeated: who comes after the result gets the result, whatever it
// is; 202 says that the cancellation was taken up and its result is not written yet.
func (d *Door) cancelJob(w http.ResponseWriter, r *http.Request) {
	c, p := d.authenticate(r, false)
	if p == nil {
		p = d.limit(w, c)
	}
	if p == nil {
		p = c.submitScope()
	}
	if p != nil {
		p.write(w)
		return
	}
	id := r.PathValue("id")
	k, p := d.lookFor(r.Context(), c, id, apikey.Submit)
	var m *job.Marker // of the run that is being cancelled
	if p == nil {
		// A stored result may be of an earlier run than the one under way: the desk compares them.
		var receipt job.Receipt
		receipt, m = d.o.Desk.Cancel(r.Context(), id)
		switch hasResult := k.result != nil; {
		case receipt.Error != nil && receipt.Error.Code == fate.NotFound && hasResult: // its marker has expired
		case receipt.Error != nil:
			p = refused(receipt)
		case receipt.Status != ingest.Cancelling:
			m = nil
			k, p = d.lookFor(r.Context(), c, id, apikey.Submit)
		}
	}
	switch {
	case p != nil:
		p.write(w)
	case m != nil:
		d.answerAccepted(w, r, c, m, cancelled(m))
	case k.result == nil: // it had one a moment ago
		notFound(id).write(w)
	case c.readScope() != nil:
		w.WriteHeader(http.StatusNoContent) // it has ended; how is not for this key
	default:
		writeResult(w, k.result.Data)
	}
}
