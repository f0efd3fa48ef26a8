package inference

import "errors"

// Cancels tells which jobs were cancelled by their clients. OnCancel calls f, at most once and on any
// goroutine, when id is cancelled while nobody called stop; also when it was cancelled just before.
type Cancels interface {
	Cancelled(id string) bool
	OnCancel(id string, f func()) (stop func())
}

// errCancelled ends the context of a call whose job was cancelled: the provider sees the disconnect.
var errCancelled = errors.New("the job was cancelled")

func (h *Handler) isCancelled(id string) bool {
	return h.cancels != nil && h.cancels.Cancelled(id)
}

// onCancel calls end when the job is cancelled, until stop is called. The state is read once more after
// the registration, so that a cancellation between the first look and now is not missed.
func (h *Handler) onCancel(id string, end func()) (stop func()) {
	if h.cancels == nil {
		return func() {}
	}
	stop = h.cancels.OnCancel(id, end)
	if h.cancels.Cancelled(id) {
		end()
	}
	return stop
}
