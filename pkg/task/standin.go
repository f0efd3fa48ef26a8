package task

import (
	"spillway/pkg/expr"
	"spillway/pkg/job"
)

// StandIns is what can be known beforehand of the answers that need no model: the key of the cached one, and
// the index of the canned one, from 1. "" and 0: there is none. input is decoded JSON.
func (t *Task) StandIns(tenant, session string, input any) (cacheKey string, canned int) {
	if canonical, err := Canonical(input); err == nil {
		cacheKey = t.CacheKey(tenant, canonical, session)
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
