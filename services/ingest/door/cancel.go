package door

import (
	"net/http"

	"spillway/pkg/apikey"
	"spillway/services/ingest"
)

// cancelJob ends a run from outside. It may be repeated: who comes after the result gets the result, whatever it
// is; 202 says that the cancellation was taken up and its result is not written yet.
func (d *Door) cancelJob(w http.ResponseWriter, r *http.Request) {
	c, p := d.authenticate(r, false)
	if p == nil {
		p = d.limit(w, c)
	}
	if p != nil {
		p.write(w)
		return
	}
	id := r.PathValue("id")
	k, p := d.lookFor(r.Context(), c, id, apikey.Submit)
	if p == nil && k.result == nil {
		receipt := d.o.Desk.Cancel(r.Context(), id)
		switch {
		case receipt.Error != nil:
			p = refused(receipt)
		case receipt.Status != ingest.Cancelling: // it has ended meanwhile
			k, p = d.lookFor(r.Context(), c, id, apikey.Submit)
		}
	}
	switch {
	case p != nil:
		p.write(w)
	case k.result == nil:
		d.answerAccepted(w, r, c, k.marker, cancelled(k.marker))
	case c.readScope() != nil:
		w.WriteHeader(http.StatusNoContent) // it has ended; how is not for this key
	default:
		writeResult(w, k.result.Data)
	}
}
