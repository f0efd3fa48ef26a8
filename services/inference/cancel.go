package inference

import (
	"errors"

	"spillway/pkg/job"
)

// Cancels tells which runs were cancelled by their clients. OnCancel calls f, at most once and on any
// goroutine, when the run is cancelled while nobody called stop; also when it was cancelled just before.
type Cancels interface {
	Cancelled(id string, run int) bool
	OnCancel(id string, run int, f func()) (stop func())
}

// errCancelled ends the context of a call whose job was cancelled: the provider sees the disconnect.
var errCancelled = errors.New("the job was cancelled")

func (h *Handler) isCancelled(j *job.Job) bool {
	return h.cancels != nil && h.cancels.Cancelled(j.ID, j.Run)
}

// onCancel calls end when the job is cancelled, until stop is called. The state is read once more after
// the registration, so that a cancellation between the first look and now is not missed.
func (h *Handler) onCancel(j *job.Job, end func()) (stop func()) {
	if h.cancels == nil {
		return func() {}
	}
	stop = h.cancels.OnCancel(j.ID, j.Run, end)
	if h.cancels.Cancelled(j.ID, j.Run) {
		end()
	}
	return stop
}
