package door

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// What a client is told, by name. Drafts have their own: draft, restarted, retracted.
const (
	tellsState     = "state"
	tellsProgress  = "progress"
	tellsResult    = "result"
	tellsReconnect = "reconnect"
)

const (
	// anewPause is the least time between two readings for a client that does not keep up.
	anewPause = time.Second
	// returnAfter is when clients that are sent away come back, at the earliest and at the latest.
	returnSoonest = 500 * time.Millisecond
	returnLatest  = 3 * time.Second
)

// errUnwelcome is why a client is sent away whose key was revoked, or who had none before the first was made.
var errUnwelcome = errors.New("no API key that is in force lets you in any more")

// teller is how a client is told: as server-sent events, or over a WebSocket.
type teller interface {
	// tell sends an event; data is JSON, id may be "".
	tell(event, id string, data []byte) error
	// pulse sends a sign of life.
	pulse() error
	// sendAway tells the client to come back after so long.
	sendAway(after time.Duration) error
}

// stream tells a client what becomes of a job, or of the jobs of a session: first the state, then what comes. What
// it tells is the same whatever the way.
type stream struct {
	d      *Door
	out    teller
	l      *listener
	caller *caller
	// state says where a job is.
	state func(context.Context, *known) any
	// safe, in a session, is the moment up to which all that was heard has been told; zero: none.
	safe    time.Time
	session bool
	// fresh is when the client was told addresses.
	fresh time.Time
}

func (s *stream) tell(event, id string, data []byte) error { return s.out.tell(event, id, data) }

// idOf is the id of an event: where a client that comes back wants to go on.
func (s *stream) idOf(c *course) string {
	switch {
	case !s.session:
		return c.told.id()
	case s.safe.IsZero():
		return ""
	}
	return strconv.FormatInt(s.safe.UnixMilli(), 10)
}

// job follows one, from where the client is, until its result is told.
func (s *stream) job(ctx context.Context, k *known, had string) error {
	id, task := k.identity()
	c := &course{id: id, task: task, told: placeFrom(had)}
	if runHad(had) > 0 {
		c.told = place{}
	}
	if err := s.tellState(s.state(ctx, k)); err != nil {
		return err
	}
	if k.marker == nil {
		return s.result(c, k.run(), k.result.Data)
	}
	c.await(k)
	if err := s.catchUp(ctx, c); err != nil {
		return err
	}
	f := follower{
		hear: func(events []event) (bool, error) {
			for _, e := range events {
				if err := s.hear(ctx, c, e); err != nil || c.isOver() {
					return true, err
				}
			}
			return false, nil
		},
		look:  func(all bool) (bool, error) { return s.lookAgain(ctx, c, all) },
		renew: func() error { return s.tellState(s.state(ctx, k)) },
	}
	return s.follow(ctx, f)
}

// follower says what to do with what comes: the first return value ends the stream.
type follower struct {
	hear func([]event) (bool, error)
	// look reads the results that may have been missed; all: and the drafts.
	look func(all bool) (bool, error)
	// renew tells the state, with addresses whose tokens are fresh.
	renew func() error
}

// follow passes on what comes until it is told to end.
func (s *stream) follow(ctx context.Context, f follower) error {
	tick := time.NewTicker(s.d.hub.pulseEvery)
	defer tick.Stop()
	s.fresh = time.Now()
	for anew := time.Now(); ; {
		var done bool
		var err error
		select {
		case <-s.l.wake:
			var events []event
			if events, err = s.l.take(); err != nil {
				return err
			}
			done, err = f.hear(events)
			if err == nil && !done && s.l.lagged() {
				anew = s.rest(ctx, anew)
				done, err = f.look(true)
			}
		case <-tick.C:
			if err := s.pulse(f); err != nil {
				return err
			}
			done, err = f.look(false)
		case <-s.d.staying.Done():
			return s.sendAway()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if done || err != nil {
			return err
		}
	}
}

// rest keeps a client that does not keep up from reading without end; it returns when it read last.
func (s *stream) rest(ctx context.Context, last time.Time) time.Time {
	pause := time.NewTimer(time.Until(last.Add(anewPause)))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-s.d.staying.Done():
	case <-ctx.Done():
	}
	return time.Now()
}

// pulse shows that the door is there, and looks whether the client may still be. One that came with a token has fresh ones
// at all times: the stream outlives the token, and who loses it then comes back with another.
func (s *stream) pulse(f follower) error {
	if !s.d.isStillWelcome(s.caller) {
		return errUnwelcome
	}
	if s.caller.grant != nil && time.Since(s.fresh) >= s.d.hub.renewEvery {
		s.fresh = time.Now()
		if err := f.renew(); err != nil {
			return err
		}
	}
	return s.out.pulse()
}

// sendAway tells a client of a door that closes to come back, to whoever is there then.
func (s *stream) sendAway() error {
	if err := s.out.sendAway(away()); err != nil {
		return err
	}
	return errDraining
}

// away is how long a client shall stay away.
func away() time.Duration {
	return returnSoonest + rand.N(returnLatest-returnSoonest) //nolint:gosec // so that not all come at once
}

// comeBack is the data of a reconnect event.
func comeBack(after time.Duration) []byte {
	return fmt.Appendf(nil, `{"after_ms":%d}`, after.Milliseconds())
}

// hear tells an event of a job.
func (s *stream) hear(ctx context.Context, c *course, e event) error {
	switch {
	case e.kind == resultEvent:
		return s.result(c, broker.RunOf(e.msg.Header), e.msg.Data)
	case e.kind == deltaEvent:
		return s.draft(ctx, c, e)
	}
	c.run = max(c.run, number(e.msg.Data, `"run":`))
	return s.tell(tellsProgress, s.idOfSession(), e.msg.Data)
}

// idOfSession is the id of what is no draft: of a job, the client shall come back with that of the last draft.
func (s *stream) idOfSession() string {
	if !s.session {
		return ""
	}
	return s.idOf(nil)
}

// result tells a result, byte for byte as it is stored, unless it was told.
func (s *stream) result(c *course, run int, body []byte) error {
	if c.end(run) {
		return nil
	}
	id := resultID(run)
	if s.session {
		id = s.idOf(c)
	}
	return s.tell(tellsResult, id, body)
}

// lookAgain reads what may have been missed of a job. It reports whether its result was told.
func (s *stream) lookAgain(ctx context.Context, c *course, all bool) (done bool, err error) {
	var stored *broker.Stored
	err = s.d.hub.reading(ctx, func(ctx context.Context) error {
		var err error
		stored, err = s.d.o.Conn.Last(ctx, broker.ResultsStream, broker.ResultSubject(c.task, c.id))
		return err
	})
	switch {
	case err == nil:
		err := s.result(c, broker.RunOf(stored.Header), stored.Data)
		if !all || err != nil || c.isOver() {
			return c.isOver(), err
		}
		return false, s.catchUp(ctx, c)
	case all && errors.Is(err, broker.ErrNotFound):
		return false, s.catchUp(ctx, c)
	case !errors.Is(err, broker.ErrNotFound):
		s.d.log.Debug().Err(err).Str("job", c.id).Msg("a result cannot be looked for, waiting on")
	}
	return false, nil
}

// tellState tells where a job, or the jobs of a session, are, with addresses whose tokens are fresh.
func (s *stream) tellState(state any) error {
	body, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return s.tell(tellsState, "", body)
}

// identity is the id and the task of what is known.
func (k *known) identity() (id, task string) {
	if k.result != nil {
		return broker.Token(k.result.Subject, 3), broker.Token(k.result.Subject, 2)
	}
	return k.marker.ID, k.marker.Task
}

// Ended is what is said of a job that has its result, which is told next.
type Ended struct {
	ID     string     `json:"id"`
	Task   string     `json:"task"`
	Run    int        `json:"run"`
	Status job.Status `json:"status"`
}

func (k *known) ended() Ended {
	id, task := k.identity()
	return Ended{ID: id, Task: task, Run: k.run(), Status: job.Status(k.result.Header.Get(broker.StatusHeader))}
}
