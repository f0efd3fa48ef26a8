package main

import (
	"fmt"
	"strings"
	"time"

	"spillway/pkg/task"
)

// What a kept answer is good for today.
const (
	servedFresh   = "in_place_of_a_call"
	servedStandIn = "as_a_stand_in"
	servedNot     = "not"
	servedUnknown = "unknown"
)

// serving is what a task makes of a kept answer that is found for an input.
type serving struct {
	// kind is the best that the answer is good for.
	kind string
	// fresh and standIn are until when it is served in place of a call, and for one that failed; zero: not so.
	fresh, standIn time.Time
	// why it is not served in place of a call, or not at all.
	why string
}

// servingOf decides as pkg/cache and the ladder do. expires is zero for an answer that does not expire.
func servingOf(t *task.Task, at, expires, now time.Time) serving {
	if t.Cache.Serve == task.ServeNever {
		return serving{kind: servedNot, why: "the task says cache.serve: never"}
	}
	until := func(age time.Duration) time.Time {
		end := at.Add(age)
		if !expires.IsZero() && expires.Before(end) {
			end = expires
		}
		if end.Before(now) {
			return time.Time{}
		}
		return end
	}
	s := serving{kind: servedNot}
	if t.Cache.Serve == task.ServeFresh {
		s.fresh = until(t.Cache.FreshFor)
		s.why = fmt.Sprintf("it is %s old, cache.fresh_for is %s", span(now.Sub(at)), short(t.Cache.FreshFor))
	} else {
		s.why = "the task says cache.serve: " + t.Cache.Serve
	}
	maxAge, stands := standInAge(t)
	if stands {
		s.standIn = until(maxAge)
	}
	switch {
	case !s.fresh.IsZero():
		s.kind, s.why = servedFresh, ""
	case !s.standIn.IsZero():
		s.kind = servedStandIn
	case stands:
		s.why += fmt.Sprintf("; it is %s old, the ladder takes none older than %s", span(now.Sub(at)), short(maxAge))
	default:
		s.why += "; the ladder has no rung cache"
	}
	return s
}

// standInAge is how old an answer may be that the ladder gives; false: its ladder gives none.
func standInAge(t *task.Task) (maxAge time.Duration, stands bool) {
	for _, rung := range t.Ladder {
		if rung.Kind == task.RungCache {
			maxAge, stands = max(maxAge, rung.MaxAge), true
		}
	}
	return maxAge, stands
}

// text says it to a person.
func (s serving) text(now time.Time) string {
	until := func(end time.Time) string {
		return fmt.Sprintf("until %s (%s)", end.Local().Format(time.DateTime), span(end.Sub(now)))
	}
	switch s.kind {
	case servedFresh:
		text := "in place of a call " + until(s.fresh)
		if !s.standIn.IsZero() {
			text += ", as a stand-in " + until(s.standIn)
		}
		return text
	case servedStandIn:
		return fmt.Sprintf("only as a stand-in, %s: %s", until(s.standIn), s.why)
	case servedUnknown:
		return "cannot be told: " + s.why
	}
	return "not served: " + s.why
}

// outlook says for how long the answers that a task keeps are good for what.
func outlook(t *task.Task) string {
	var uses []string
	if t.Cache.Serve == task.ServeFresh {
		uses = append(uses, fmt.Sprintf("in place of a call for %s (cache.fresh_for)", short(min(t.Cache.FreshFor, t.Cache.Keep))))
	}
	if maxAge, stands := standInAge(t); stands {
		uses = append(uses, fmt.Sprintf("in place of a failed call for %s (max_age of the ladder's rung cache)", short(min(maxAge, t.Cache.Keep))))
	}
	if len(uses) == 0 {
		return "served to nobody: cache.serve is fallback and the ladder has no rung cache"
	}
	return "served " + strings.Join(uses, ", ")
}
