package resultwriter

import (
	"slices"

	"spillway/pkg/drift"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// weigh lets the share of runs that their model failed be watched. Runs that ended for another reason, or without a
// model, say nothing about it.
func (w *writer) weigh(r *job.Result) {
	switch {
	case r.TaskVersion == "": // a name that a client made up is not watched
	case r.Status == job.Succeeded && r.Source == job.FromModel:
		w.drift.Saw(r.Task, r.TaskVersion, drift.Degraded, false)
	case isOfModel(reasonOf(r)):
		w.drift.Saw(r.Task, r.TaskVersion, drift.Degraded, true)
	}
}

// reasonOf is why a run has no answer of its own model; "": it has, or nobody failed.
func reasonOf(r *job.Result) fate.Code {
	switch {
	case r.Status == job.Degraded && r.Degraded != nil:
		return r.Degraded.Reason
	case r.Status == job.Failed && r.Error != nil:
		return r.Error.Code
	}
	return ""
}

// isOfModel reports whether a code blames the model or its provider.
func isOfModel(code fate.Code) bool {
	return slices.Contains([]fate.Code{
		fate.ProviderRateLimited, fate.ProviderQuota, fate.ProviderAuth, fate.ProviderRefusedRequest, fate.ProviderUnavailable,
		fate.ProviderUnreachable, fate.ProviderTimeout, fate.ProviderCut, fate.ProviderEmpty, fate.OutputInvalid, fate.OutputTruncated,
		fate.OutputTooLarge, fate.Refused, fate.CallsSpent, fate.ContextTooLong,
	}, code)
}
