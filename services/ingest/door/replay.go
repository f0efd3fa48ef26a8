package door

import (
	"context"
	"fmt"
	"time"

	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// course is what a client was told of one job.
type course struct {
	id, task string
	// done is the newest run whose result was told, or that is over for the client; 0: none. run is the newest of
	// which anything is known.
	done, run int
	// told is the last draft that was told; blank, that nothing of a model is shown after it.
	told  place
	blank bool
	// news tells which drafts are any; nil: none came yet. It keeps no text.
	news *job.Shown
	// gap is in which try drafts were missing last; asked how often they were read back, askedAt when last.
	gap     place
	asked   int
	askedAt time.Time
}

// Reading drafts back for a gap: what is stored may be a moment behind what was heard, or lost for good.
const (
	maxAsked   = 3
	askedPause = 300 * time.Millisecond
)

// isNews takes a draft in, without what it says: of a value, that there is one.
func (c *course) isNews(d job.Draft) bool {
	if d.Text = ""; d.Partial != nil {
		d.Partial = []byte("0")
	}
	if c.news == nil {
		c.news = &job.Shown{}
		c.news.End(c.done)
	}
	return c.news.Take(d)
}

// await says that a newer run is under way than that of the result that is stored.
func (c *course) await(k *known) { c.done, c.run = k.run(), k.marker.Run }

// isOver reports whether the result of the newest run was told.
func (c *course) isOver() bool { return c.done > 0 && c.done >= c.run }

// end notes a result. It reports whether it was told before.
func (c *course) end(run int) (again bool) {
	if run <= c.done {
		return true
	}
	c.done, c.news = run, nil
	return false
}

// replay reads the drafts that are kept of a job, for a client that is somewhere in them.
type replay struct {
	had   place
	shown job.Shown
	last  job.Draft // taken last
	whole int       // number of the last draft that is in shown.Text
	since []byte    // what was said since had, in its try
	reach int       // number of the last draft in since; -1: it was taken back
}

func (r *replay) take(d *job.Draft) {
	if !r.shown.Take(*d) {
		return
	}
	r.last = *d
	r.last.Text = ""
	if !r.shown.Gap {
		r.whole = d.N
	}
	switch {
	case !r.had.isTryOf(d) || d.N <= r.had.n:
	case d.Event != job.DraftPart:
		r.reach = -1
	case d.N == r.reach+1:
		r.since, r.reach = append(r.since, d.Text...), d.N
	}
}

// missing is what the client is to be told to be where the drafts are: nothing, or the rest of what it shows, or
// that it is to forget that and everything of the try at hand.
func (r *replay) missing() []job.Draft {
	d := r.last
	switch {
	case d.Run == 0 || placeOf(&d) == r.had:
		return nil
	case d.Event != job.DraftPart:
		return []job.Draft{d}
	case r.had.isTryOf(&d) && r.reach >= r.had.n:
		if d.Partial == nil {
			d.Text, d.N = string(r.since), r.reach
		}
		if d.N <= r.had.n {
			return nil // what follows is lost, or not stored yet
		}
		return []job.Draft{d}
	}
	var all []job.Draft
	if r.had != (place{}) {
		all = append(all, anotherTry(d))
	}
	if d.Partial == nil {
		d.Text, d.N = r.shown.Text, r.whole
	}
	if d.Text == "" && d.Partial == nil {
		return all
	}
	return append(all, d)
}

// anotherTry tells a client of which nobody said so, or who missed it, that what it shows is to be forgotten.
func anotherTry(d job.Draft) job.Draft {
	d.Event, d.N, d.Text, d.Partial, d.Code = job.DraftRestarted, 0, "", nil, ""
	return d
}

// catchUp tells a client the drafts that it missed.
func (s *stream) catchUp(ctx context.Context, c *course) error {
	for _, d := range s.missing(ctx, c) {
		if err := s.tellOwn(c, &d); err != nil {
			return err
		}
	}
	return nil
}

// missing are the drafts that a client missed; none when they cannot be read back: it is told those that come.
func (s *stream) missing(ctx context.Context, c *course) []job.Draft {
	r := &replay{had: c.told, reach: c.told.n}
	err := s.d.hub.readDrafts(ctx, c.task, c.id, func(d *job.Draft) {
		if d.Run > c.done {
			r.take(d)
			c.isNews(*d)
		}
	})
	if err == nil {
		return r.missing()
	}
	s.d.log.Debug().Err(err).Str("job", c.id).Msg("drafts cannot be read back")
	return nil
}

// tellOwn tells a draft that is none of those that were published.
func (s *stream) tellOwn(c *course, d *job.Draft) error {
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode a draft: %w", err)
	}
	return s.tellDraft(c, d, body)
}

// draft tells a draft that came, if it is news.
func (s *stream) draft(ctx context.Context, c *course, e event) error {
	d, ok := draftFrom(e.msg.Data)
	if !ok || !c.isNews(d) {
		return nil
	}
	same := c.told.isTryOf(&d)
	isNext := d.Partial != nil || d.N == 1 || same && d.N == c.told.n+1
	switch {
	case d.Event == job.DraftPart && !isNext:
		return s.fillGap(ctx, c, &d)
	case d.Event == job.DraftPart && !same && !c.blank && c.told != (place{}):
		another := anotherTry(d)
		if err := s.tellOwn(c, &another); err != nil {
			return err
		}
	}
	return s.tellDraft(c, &d, e.msg.Data)
}

// fillGap reads back what is missing before a draft, if it may be there. A text with a hole is not shown.
func (s *stream) fillGap(ctx context.Context, c *course, d *job.Draft) error {
	if !c.gap.isTryOf(d) {
		c.gap, c.asked = placeOf(d), 0
	}
	if c.asked >= maxAsked || time.Since(c.askedAt) < askedPause {
		return nil
	}
	c.asked, c.askedAt = c.asked+1, time.Now()
	return s.catchUp(ctx, c)
}

// tellDraft tells a draft, and notes where the client is then.
func (s *stream) tellDraft(c *course, d *job.Draft, body []byte) error {
	c.told, c.blank = placeOf(d), d.Event != job.DraftPart
	return s.tell(d.Event, s.idOf(c), body)
}

// readDrafts reads the drafts that are kept of a job.
func (h *hub) readDrafts(ctx context.Context, task, id string, take func(*job.Draft)) error {
	return h.reading(ctx, func(ctx context.Context) error {
		return h.conn.Each(ctx, broker.DeltasStream, broker.DeltaSubject(task, id), func(m broker.Stored) {
			if d, ok := draftFrom(m.Data); ok {
				take(&d)
			}
		})
	})
}

func draftFrom(body []byte) (d job.Draft, ok bool) {
	err := json.Unmarshal(body, &d)
	return d, err == nil
}

// Reading for those who listen: after a reconnect all want to at once.
const (
	readsAtOnce = 64
	readFor     = 5 * time.Second
)

// reading bounds a read, and how many there are at once.
func (h *hub) reading(ctx context.Context, read func(context.Context) error) error {
	select {
	case h.reads <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-h.reads }()
	ctx, cancel := context.WithTimeout(ctx, readFor)
	defer cancel()
	return read(ctx)
}
