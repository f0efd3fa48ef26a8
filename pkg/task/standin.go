package task

import (
	"spillway/pkg/expr"
	"spillway/pkg/job"
)

// Remembers reports whether a request of this session is answered with a memory of those before it. "" is no session.
func (t *Task) Remembers(session string) bool {
	return session != "" && t.Context.Session != "" && t.Context.Session != SessionNone
}

// StandIns is what can be known beforehand of the answers that need no model: the key of the cached one, and
// the index of the canned one, from 1. "" and 0: there is none; a request with a memory has its key when its prompt
// is built. input is decoded JSON.
func (t *Task) StandIns(tenant, session string, input any) (cacheKey string, canned int) {
	if canonical, err := Canonical(input); err == nil && !t.Remembers(session) {
		cacheKey = t.cacheKey(tenant, input, canonical, "")
	}
	canned, err := t.PickCanned(expr.Vars{Input: input})
	if err != nil {
		canned = 0 // fallback evaluates it again, with the error in its history
	}
	return cacheKey, canned
}

// Sign notes on a job that this version of the task works on it.
func (t *Task) Sign(j *job.Job) {
	if j.TaskVersion != t.Version {
		j.Mixed = true
	}
}
