package contextbuilder

import (
	"time"

	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// tell says what the prompt is made of: in the job's history, in the metrics, and for an hour with all its words for
// who asks what the model saw. Of a prompt that is the task's and the input's alone there is nothing to tell.
func (h *Handler) tell(b *build, messages []job.Message) {
	dropped := b.dropped()
	for _, d := range dropped {
		h.metrics.trimmed.WithLabelValues(b.task.Name, d.what).Add(float64(d.n))
	}
	c := &b.task.Context
	if len(dropped) == 0 && !b.task.Remembers(b.job.Session) && c.TurnsFrom == "" && c.DocumentsFrom == "" {
		return
	}
	sections := b.sections(messages)
	e := job.Event{
		Kind: job.KindContext, Stage: broker.ContextBuilder, At: time.Now().UTC(), Model: b.model.Name,
		CountedTokens: b.scaled(b.kept.size.tokens), Sections: make([]job.Section, len(sections)), Detail: b.detail(),
	}
	for i := range sections {
		e.Sections[i] = sections[i].Section
	}
	b.job.Record(e)
	if b.task.Redaction.LogContent != task.LogNever {
		h.show(b, sections)
	}
}

// left is a group of which something did not fit.
type left struct {
	what string
	n    int
}

func (b *build) dropped() []left {
	var all []left
	for _, one := range []left{
		{job.SectionSummary, b.droppedSummaries()},
		{job.SectionTurns, b.droppedTurns()},
		{job.SectionDocuments, len(b.documents) - b.kept.documents},
	} {
		if one.n > 0 {
			all = append(all, one)
		}
	}
	return all
}

func (b *build) droppedSummaries() int {
	if b.summarySize != (size{}) && !b.kept.summary {
		return 1
	}
	return 0
}

func (b *build) droppedTurns() int { return b.aged + len(b.turns) - b.kept.turns }

// sections are the parts of the prompt that there are, in order. Tokens are as the model is expected to count them: where
// a safety factor is rounded, each takes what the sum grows by.
func (b *build) sections(messages []job.Message) []job.ShownSection {
	w, bare := &b.whole, &b.bare
	first := w.first(0)
	system := messages[:len(first)-2*len(w.examples)]
	behind := len(first)
	all := []job.ShownSection{
		{Section: job.Section{Name: job.SectionSystem, Tokens: bare.systemTokens}, Messages: system},
		{Section: job.Section{Name: job.SectionExamples, Tokens: bare.exampleTokens}, Messages: messages[len(system):behind]},
	}
	summary := job.ShownSection{Section: job.Section{Name: job.SectionSummary, Dropped: b.droppedSummaries()}}
	if b.kept.summary {
		summary.Tokens, summary.Kept, summary.Messages = b.summarySize.tokens-b.framing.user, 1, messages[behind:behind+1]
		behind++
	}
	turns := messages[behind : len(messages)-1]
	framing := b.framing.reply + b.framed(messages)
	conversation := b.kept.size.tokens - w.size().tokens - b.format - b.framing.reply // summary and turns, framed
	if b.kept.summary {
		conversation -= b.summarySize.tokens
	}
	all = append(all, summary,
		job.ShownSection{Section: job.Section{Name: job.SectionTurns, Tokens: conversation - b.framed(turns), Kept: b.kept.turns, Dropped: b.droppedTurns()}, Messages: turns},
		job.ShownSection{Section: job.Section{
			Name: job.SectionDocuments, Tokens: w.size().tokens - bare.size().tokens - (w.framing - bare.framing),
			Kept: b.kept.documents, Dropped: len(b.documents) - b.kept.documents,
		}},
		job.ShownSection{Section: job.Section{Name: job.SectionInput, Tokens: bare.userTokens}, Messages: messages[len(messages)-1:]},
		job.ShownSection{Section: job.Section{Name: job.SectionResponseFormat, Tokens: b.format}},
		job.ShownSection{Section: job.Section{Name: job.SectionFraming, Tokens: framing}},
	)
	return b.there(all)
}

// there leaves out the sections that the prompt has nothing of, and scales the others.
func (b *build) there(all []job.ShownSection) []job.ShownSection {
	kept, sum := all[:0], 0
	for _, s := range all {
		if s.Tokens == 0 && s.Kept == 0 && s.Dropped == 0 && len(s.Messages) == 0 {
			continue
		}
		before := b.scaled(sum)
		sum += s.Tokens
		s.Tokens = b.scaled(sum) - before
		kept = append(kept, s)
	}
	return kept
}

// show publishes what the model is shown. It may be lost: nothing depends on it.
func (h *Handler) show(b *build, sections []job.ShownSection) {
	if h.conn == nil {
		return
	}
	j, count := b.job, b.scaled(b.kept.size.tokens)
	body, err := json.Marshal(job.Context{
		V: job.Version, ID: j.ID, Run: j.Run, Hop: j.Hop, Task: j.Task, Model: b.model.Name, Tokens: count, Budget: b.budget.input,
		Sections: sections, Price: job.ShownPrice{USD: b.model.Prices.Cost(count, 0), AsOf: b.model.Prices.AsOf},
	})
	if err != nil {
		return
	}
	if err := h.conn.NC.Publish(broker.ContextSubject(j.Task, j.ID), body); err != nil {
		h.log.Debug().Err(err).Str("job", j.ID).Msg("what the model is shown can not be looked at")
	}
}
