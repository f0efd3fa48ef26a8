package inference

import (
	"bytes"
	"slices"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/partial"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

const (
	// draftPause is how long drafts are collected before they are published as one.
	draftPause = 50 * time.Millisecond
	// draftGrowth is by which part of it a partial value must have grown to be sent again, for it is sent whole:
	// all drafts of an answer together are about so many times as long as it is.
	draftGrowth = 8
)

// drafts publishes what a model says while it says it. nil: nobody wants to know.
type drafts struct {
	publish func(job.Draft)
	head    job.Draft
	// value reads the output of a task whose output is JSON; nil: it is text.
	value *partial.Reader
	// read is how much of the content was looked at, sent how many drafts there were.
	read int
	sent int
	next time.Time
	// enough is how long the content must be for the next draft.
	enough int
}

// draftsOf returns the drafts of a call, nil when the request did not ask for them or its task has none.
func (h *Handler) draftsOf(c *call) *drafts {
	j := c.job
	if !j.Stream || c.task.Output.Stream == task.StreamNever || h.publish == nil {
		return nil
	}
	d := &drafts{publish: h.publish, head: j.Draft(job.DraftPart)}
	d.head.Call, d.head.Holder = j.Calls+1, h.replica
	if c.task.Output.Format != task.FormatText {
		d.value = &partial.Reader{}
	}
	// The drafts of a delivery before this one are not known of.
	if j.Drafted || j.Arrival.Deliveries > 1 {
		d.send(func(e *job.Draft) { e.Event = job.DraftRestarted })
	}
	return d
}

func (d *drafts) send(fill func(*job.Draft)) {
	d.sent++
	e := d.head
	e.N = d.sent
	fill(&e)
	d.publish(e)
}

// heard publishes what is new in the content, unless that was done a moment ago.
func (d *drafts) heard(now time.Time, content []byte) {
	if d == nil || now.Before(d.next) || len(content) < d.enough {
		return
	}
	d.next = now.Add(draftPause)
	if d.value != nil {
		d.enough = len(content) + len(content)/draftGrowth
	}
	d.flush(content)
}

// flush publishes what is new.
func (d *drafts) flush(content []byte) {
	if d.value == nil && isThought(content) {
		return
	}
	news := content[d.read:]
	d.read = len(content)
	switch {
	case d.value == nil && len(news) > 0:
		d.send(func(e *job.Draft) { e.Text = string(news) })
	case d.value != nil && d.value.Add(news):
		value := d.value.Value()
		d.send(func(e *job.Draft) { e.Partial = value })
	}
}

// isThought reports whether a text begins, or may yet turn out to begin, with what a model only thinks: the
// validator takes thoughts away, so none is shown.
func isThought(content []byte) bool {
	begin := bytes.ToLower(bytes.TrimLeft(content[:min(len(content), 64)], " \t\r\n"))
	return slices.ContainsFunc([]string{"<think", "<thought", "<reasoning", "<scratchpad", "<reflection", "<|", "[think"}, func(mark string) bool {
		return bytes.HasPrefix(begin, []byte(mark)) || bytes.HasPrefix([]byte(mark), begin)
	})
}

// end publishes the rest of the answer, or that it is none.
func (d *drafts) end(c *call, failed *failure) {
	switch {
	case d == nil:
		return
	case failed == nil:
		d.flush(c.content)
	case d.sent > 0:
		d.send(func(e *job.Draft) {
			e.Event = job.DraftRetracted
			if c.ended == nil || isTimeout(c.ended) {
				e.Code = failed.code // else the job was cancelled, or the process leaves
			}
		})
	}
	if d.sent > 0 {
		c.job.Drafted = true
	}
}

// drafted lets drafts be published on the connection.
func (h *Handler) drafted(env *stage.Env) {
	if env.Conn != nil {
		h.publish = func(d job.Draft) { stage.PublishDraft(env.Conn, d) }
	}
}
