package door

import (
	"context"
	"strconv"
	"time"

	"spillway/pkg/broker"
)

// SessionState is what a client of a session is told first.
type SessionState struct {
	Session string `json:"session"`
	// Jobs are those of late, the oldest first. The results of those that have one are told next.
	Jobs []any `json:"jobs"`
}

const (
	// clockSlack is by how much the clocks of a door and of the broker may differ.
	clockSlack = 5 * time.Second
	// maxCourses bounds of how many jobs a session's client keeps in mind what it was told.
	maxCourses = 4 * maxSessionJobs
	// fillWait bounds the wait for what was before this process, of a client that comes right at its start.
	fillWait = 5 * time.Second
	// recallBytes bounds the results that are kept between the telling of the states and their own; others are
	// read twice.
	recallBytes = 256 << 10
)

// courses are what a client of a session was told, by job.
type courses map[string]*course

// of is the course of a job, a new one of one that was not heard of.
func (cs courses) of(id, task string) *course {
	c := cs[id]
	if c == nil {
		if len(cs) >= maxCourses {
			cs.prune()
		}
		c = &course{id: id, task: task}
		cs[id] = c
	}
	return c
}

// prune forgets what is over.
func (cs courses) prune() {
	for id, c := range cs {
		if c.isOver() {
			delete(cs, id)
		}
	}
}

// underWay are the courses without a result.
func (cs courses) underWay() []*course {
	var all []*course
	for _, c := range cs {
		if !c.isOver() {
			all = append(all, c)
		}
	}
	return all
}

// jobs follows those of a session, until the client leaves. had is the id of the last event of a client that
// comes back.
func (s *stream) jobs(ctx context.Context, of session, had string) error {
	since := time.Now()
	all := courses{}
	if err := s.recall(ctx, of, had, all); err != nil {
		return err
	}
	s.safe = since
	f := follower{
		hear: func(events []event) (bool, error) {
			taken := time.Now()
			for _, e := range events {
				if err := s.hear(ctx, all.of(e.id(), broker.Token(e.msg.Subject, 2)), e); err != nil {
					return true, err
				}
			}
			s.safe = taken
			return false, nil
		},
		look: func(whole bool) (bool, error) {
			for _, c := range all.underWay() {
				if _, err := s.lookAgain(ctx, c, whole); err != nil {
					return true, err
				}
			}
			return false, nil
		},
		renew: func() error {
			state, _ := s.states(ctx, of)
			return s.tellState(state)
		},
	}
	return s.follow(ctx, f)
}

// recall tells the jobs of late: their states first, then the results that the client does not have, and the
// drafts of the others.
func (s *stream) recall(ctx context.Context, of session, had string, all courses) error {
	s.d.hub.untilFilled(ctx)
	state, found := s.states(ctx, of)
	if err := s.tellState(state); err != nil {
		return err
	}
	last := lastHad(had)
	for _, k := range found {
		if err := s.recallOne(ctx, all.of(k.identity()), k, last); err != nil {
			return err
		}
	}
	return nil
}

// states are those of the jobs of late, with what is known of each.
func (s *stream) states(ctx context.Context, of session) (SessionState, []*known) {
	state := SessionState{Session: of.name, Jobs: []any{}}
	var found []*known
	room := recallBytes
	for _, id := range s.d.hub.recent.of(of) {
		// Whose the jobs of a session are is said by the stages: the caller may see them all.
		k, p := s.d.lookInTurn(ctx, &caller{}, id)
		if p != nil {
			continue // expired, or not to be read now: the client hears of it when something happens
		}
		if k.marker == nil {
			if room -= len(k.result.Data); room < 0 {
				k.result.Data = nil
			}
		}
		state.Jobs = append(state.Jobs, s.state(ctx, k))
		found = append(found, k)
	}
	return state, found
}

// recallOne goes on with a job where the client was last.
func (s *stream) recallOne(ctx context.Context, c *course, k *known, last time.Time) error {
	switch {
	case k.marker != nil:
		c.await(k)
		if !last.IsZero() {
			c.told = elsewhere() // in which try is not said by the id
		}
		return s.catchUp(ctx, c)
	case !last.IsZero() && k.result.At.Before(last.Add(-clockSlack)):
		c.end(k.run())
		return nil
	case k.result.Data != nil:
		return s.result(c, k.run(), k.result.Data)
	}
	_, err := s.lookAgain(ctx, c, false)
	return err
}

// lastHad is the moment that the id of a session's event stands for; zero: it is none.
func lastHad(id string) time.Time {
	ms, err := strconv.ParseUint(id, 10, 43)
	if err != nil || ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// untilFilled waits until the sessions of before are known, for a moment.
func (h *hub) untilFilled(ctx context.Context) {
	wait := time.NewTimer(fillWait)
	defer wait.Stop()
	select {
	case <-h.filled:
	case <-wait.C:
	case <-ctx.Done():
	}
}
