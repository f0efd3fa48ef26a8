package bundle

import (
	"context"
	"time"

	"spillway/pkg/broker"
)

// Name is a version of a task.
type Name struct{ Task, Version string }

// longestRun is how long a run takes at most, from its marker on: the longest deadline, and an hour for a ladder that was
// away at its end.
const longestRun = 25 * time.Hour

// run is an unfinished run.
type run struct {
	Name
	number int
}

// InFlight counts the admitted jobs that have no result, by the version that they end under. It reads headers alone:
// those of the markers of a day, and of the results since the first one of an unfinished job. A job that has missed its
// deadline, and is about to be answered for that, is left out.
func (s *Store) InFlight(ctx context.Context, now time.Time) (map[Name]int, error) {
	runs, first := map[string]run{}, now
	err := s.conn.HeadersSince(ctx, broker.AdmittedStream, now.Add(-longestRun), func(m broker.Stored) {
		id, number, name := broker.Token(m.Subject, 2), broker.RunOf(m.Header), Name{m.Header.Get(broker.TaskHeader), m.Header.Get(broker.VersionHeader)}
		_, answerBy, ok := broker.AnswerBy(m.Header)
		if !ok || name.Version == "" || answerBy.Before(now) {
			delete(runs, id)
			return
		}
		if m.At.Before(first) {
			first = m.At
		}
		runs[id] = run{name, number}
	})
	if err == nil && len(runs) > 0 {
		err = s.ended(ctx, first, runs)
	}
	if err != nil {
		return nil, err
	}
	counts := map[Name]int{}
	for _, r := range runs {
		counts[r.Name]++
	}
	return counts, nil
}

// ended takes the runs away that have a result.
func (s *Store) ended(ctx context.Context, since time.Time, runs map[string]run) error {
	return s.conn.HeadersSince(ctx, broker.ResultsStream, since, func(m broker.Stored) {
		id := broker.Token(m.Subject, 3)
		if r, ok := runs[id]; ok && broker.RunOf(m.Header) >= r.number {
			delete(runs, id)
		}
	})
}
