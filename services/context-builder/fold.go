package contextbuilder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// Turns that leave are folded into a summary by another task, through the pipeline like any request, on the batch lane.
// The job that asks for it does not wait: its prompt shows the turns as long as they fit, and a later prompt of the
// session finds the summary. Whatever fails, the turns' beginnings stand in for it.

const (
	// foldDeadline is how long a summary may take.
	foldDeadline = 10 * time.Minute
	// askTimeout bounds the publish: the prompt waits for it.
	askTimeout = time.Second
	// foldShare is how much of its model's window the turns may take that one summary is to take in.
	foldShare = 0.75
)

// What became of turns that left, for metrics.
const (
	foldDropped = "dropped"
	foldFailed  = "not_asked"
)

// foldedMeanwhile puts a summary that was asked for in the place of its turns, if its job has ended.
func (h *Handler) foldedMeanwhile(ctx context.Context, s *session.Session, b *build, ended endings) bool {
	f := s.Fold
	if f == nil {
		return false
	}
	leaving := s.UpTo(f.Through)
	r, err := h.ending(ctx, f.Task, session.Pending{ID: f.ID, Run: 1}, ended)
	if err != nil {
		h.log.Warn().Err(err).Str("job", b.job.ID).Msg("a summary was not looked for, the prompt goes on without")
		return false
	}
	if r != nil {
		s.Count(r.Usage, r.CostUSD)
	}
	text, isSaid := b.summaryIn(r)
	switch {
	case b.task.Context.Summary == nil:
		s.Folded(f.Through, nil)
		h.folded(b, foldDropped)
	case isSaid:
		made := &session.Summary{Text: text, Turns: len(leaving), By: session.ByModel}
		if s.Summary != nil {
			made.Turns += s.Summary.Turns
		}
		s.Folded(f.Through, made)
		h.folded(b, made.By)
	case r != nil || time.Now().After(f.Deadline.Add(session.Grace)):
		s.Folded(f.Through, b.extract(s.Summary, leaving))
		h.folded(b, session.ByExtract)
	default:
		return false
	}
	return true
}

func (h *Handler) folded(b *build, by string) { h.metrics.folds.WithLabelValues(b.task.Name, by).Inc() }

// summaryIn takes the summary out of a result. Only a model's own answer is one.
func (b *build) summaryIn(r *job.Result) (text string, isSaid bool) {
	if r == nil || r.Status != job.Succeeded || b.task.Context.Summary == nil {
		return "", false
	}
	output, err := schema.Decode(r.Output)
	if err != nil {
		return "", false
	}
	if members, ok := output.(map[string]any); ok {
		output = members[task.SummaryMember]
	}
	text, _ = output.(string)
	return b.cut(text, b.task.Context.Summary.MaxTokens), text != ""
}

// cut shortens a text until it has at most so many tokens: how long a summary may be is only asked of a model.
func (b *build) cut(text string, most int) string {
	const mark = 4
	for n := b.tokensOf(text); n > most && len(text) > mark; n = b.tokensOf(text) {
		text = job.Cut(text, max(len(text)*most/n*9/10, mark))
	}
	return text
}

// tokensOf counts a text whose encoding is known to be.
func (b *build) tokensOf(text string) int {
	content, err := b.content(text)
	if err != nil {
		return len(text)
	}
	return b.scaled(content.tokens)
}

func (b *build) extract(old *session.Summary, leaving []session.Turn) *session.Summary {
	return session.Extract(old, leaving, b.task.Context.Summary.MaxTokens, b.tokensOf)
}

// fold asks for a summary of the turns that leave: those beyond the recent ones, as soon as they are half as many, and
// those that do not fit any more. Without summaries those beyond the recent ones are dropped. It reports whether the
// session changed.
func (h *Handler) fold(ctx context.Context, s *session.Session, b *build) bool {
	if b.job.Run > 1 || b.job.Trouble != nil || s.Fold != nil {
		return false // another model's window, and a look back, say nothing of what leaves
	}
	recent := b.task.Context.RecentTurns
	n := len(s.Leaving(recent))
	if n < max(1, recent/2) {
		n = 0
	}
	if b.task.Context.Summary == nil {
		if n > 0 {
			s.Folded(s.Turns[n-1].Place, nil)
			h.folded(b, foldDropped)
		}
		return n > 0
	}
	// What does not fit are the oldest of those before here, and nobody later is among them.
	if n = max(n, len(b.turns)-b.kept.turns); n == 0 {
		return false
	}
	return h.ask(ctx, s, b, s.Turns[:n])
}

// ask publishes the request of a summary and notes it. The same turns make the same request, so that a prompt that is
// made again asks nothing new.
func (h *Handler) ask(ctx context.Context, s *session.Session, b *build, leaving []session.Turn) bool {
	by := h.tasks.Live().Tasks[b.task.Context.Summary.Task]
	body, n := h.request(s, b, by, leaving)
	if n == 0 {
		s.Folded(leaving[0].Place, b.extract(s.Summary, leaving[:1])) // too long for any request
		h.folded(b, session.ByExtract)
		return true
	}
	sum := sha256.Sum256(append([]byte(session.KeyOf(s.Tenant, s.Task, s.Name)), body...))
	id := "sum_" + hex.EncodeToString(sum[:16])
	m := &nats.Msg{Subject: broker.RequestSubject(job.Batch, by.Name), Data: body, Header: nats.Header{broker.MsgIDHeader: {id}}}
	if b.job.TraceParent != "" {
		m.Header.Set(broker.TraceParentHeader, b.job.TraceParent)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := h.conn.Publish(ctx, m); err != nil {
		h.folded(b, foldFailed)
		h.log.Warn().Err(err).Str("job", b.job.ID).Str("task", b.task.Name).Msg("no summary was asked for, the prompt goes on")
		return false
	}
	s.Fold = &session.Fold{ID: id, Task: by.Name, Through: leaving[n-1].Place, Turns: n, Deadline: time.Now().UTC().Add(foldDeadline)}
	return true
}

// request is the body of the request of a summary of the first n turns that one can take in.
func (h *Handler) request(s *session.Session, b *build, by *task.Task, leaving []session.Turn) (body []byte, n int) {
	if by == nil {
		return nil, 0 // not loaded here
	}
	room := int(float64(budgetOf(by, h.tasks.Model(by, by.Model), 0).input) * foldShare)
	before := ""
	if s.Summary != nil {
		before = s.Summary.Text
	}
	for n = len(leaving); n > 0; n /= 2 {
		var turns []any
		tokens := b.tokensOf(before)
		for _, t := range leaving[:n] {
			turns = append(turns, map[string]any{"role": roleUser, "content": t.User}, map[string]any{"role": roleAssistant, "content": t.Assistant})
			tokens += b.tokensOf(t.User) + b.tokensOf(t.Assistant)
		}
		if tokens > room {
			continue
		}
		body, err := encodeRequest(s.Tenant, b.job.ID, task.SummaryInput(before, turns, b.task.Context.Summary.MaxTokens))
		if err == nil && len(body) <= by.MaxInputBytes {
			return body, n
		}
	}
	return nil, 0
}

// encodeRequest has its members in one order, so that the same request has the same text.
func encodeRequest(tenant, parent string, input map[string]any) ([]byte, error) {
	text, err := json.Marshal(input) // sorts the members of maps
	if err != nil {
		return nil, fmt.Errorf("encode the request of a summary: %w", err)
	}
	return json.Marshal(job.Request{Input: text, Tenant: tenant, Parent: parent, Deadline: foldDeadline.String()})
}
