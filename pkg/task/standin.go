package task

import (
	"fmt"
	"slices"
	"time"

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

// Sign notes on a job that this version of the task works on it at a stage. That it is not the one that the job names is
// told in its history, once a stage.
func (t *Task) Sign(j *job.Job, stage string) {
	if j.TaskVersion == t.Version {
		return
	}
	j.Mixed = true
	e := job.Event{
		Kind: job.KindVersion, Stage: stage, At: time.Now().UTC(),
		Detail: fmt.Sprintf("version %s of the task is stored no more or does not load here, version %s is at work", job.Cut(j.TaskVersion, 64), t.Version),
	}
	told := func(was job.Event) bool { return was.Kind == e.Kind && was.Stage == e.Stage && was.Detail == e.Detail }
	if j.TaskVersion != "" && !slices.ContainsFunc(j.History, told) {
		j.Record(e)
	}
}
