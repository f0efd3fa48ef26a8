package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// deadShowCmd shows one dead letter.
type deadShowCmd struct {
	natsFlags
	ID      string `arg:"" name:"id" help:"Id of the job."`
	Content bool   `env:"-" help:"Show input, prompt, answer and metadata too: they may hold personal data."`
}

// Run prints the newest dead letter of the id.
func (c *deadShowCmd) Run(ctx context.Context, g *globals) error {
	if err := checkID(c.ID); err != nil {
		return err
	}
	conn, err := c.open(ctx, g, "dead", broker.DeadStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	stored, err := last(ctx, conn, broker.DeadStream, broker.AnyDead(c.ID))
	if isNotFound(err) {
		return exit(exitNotFound, "no dead letter of %s is kept: it did not fail, it was replayed or removed, or it expired (`spillway result %s` says how it ended)", c.ID, c.ID)
	}
	if err != nil {
		return err
	}
	if g.cli.JSON {
		return quiet(g.printRaw(stored.Data))
	}
	l := &job.Letter{}
	if err := json.Unmarshal(stored.Data, l); err != nil {
		return fmt.Errorf("decode the dead letter of %s: %w", c.ID, err)
	}
	if err := c.show(g, l, stored); err != nil {
		return quiet(err)
	}
	for _, subject := range otherLetters(ctx, conn, c.ID, stored.Subject) {
		g.note("an older letter of this id is kept too: %s", subject)
	}
	return nil
}

func (c *deadShowCmd) show(g *globals, l *job.Letter, stored *broker.Stored) error {
	t := newTable(g.stdout)
	t.row("id", c.ID)
	t.row("letter", fmt.Sprintf("%s, sequence %d, %s ago", stored.Subject, stored.Sequence, span(time.Since(stored.At))))
	t.row("stage", l.Stage)
	t.row("error", fmt.Sprintf("%s: %s", l.Code, l.Message))
	if remedy := remedyOf(l.Code); remedy != "" {
		t.row("remedy", remedy)
	}
	if l.Degraded {
		t.row("answer", "the client got a degraded one; a replay may answer properly")
	}
	if l.Job == nil {
		t.row("raw", size(len(l.Raw))+" that are no job; they cannot be replayed")
	} else {
		c.showJob(t, l.Job)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if l.Stack != "" {
		fmt.Fprintf(g.stdout, "\nstack\n%s\n", indent(harmless(l.Stack)))
	}
	if l.Job != nil {
		fmt.Fprintf(g.stdout, "\nhistory\n")
		if err := g.showHistory(l.Job.History); err != nil {
			return err
		}
	}
	if c.Content {
		return c.showContent(g, l)
	}
	if l.Job != nil {
		fmt.Fprintf(g.stdout, "\n`spillway dead replay %s` gives it a new run; --content shows input and prompt here\n", c.ID)
	}
	return nil
}

func (c *deadShowCmd) showJob(t *table, j *job.Job) {
	t.row("task", fmt.Sprintf("%s (version %s), lane %s", j.Task, j.TaskVersion, j.Lane))
	t.row("run", fmt.Sprintf("%d, hop %d", max(j.Run, 1), j.Hop))
	for _, label := range [][2]string{{"tenant", j.Tenant}, {"session", j.Session}, {"parent", j.Parent}, {"model", j.Model}, {"trace", job.TraceID(j.TraceParent)}} {
		if label[1] != "" {
			t.row(label[0], label[1])
		}
	}
	t.row("acknowledged", j.AcknowledgedAt.Local().Format(time.DateTime))
	t.row("deadline", fmt.Sprintf("%s (%s after)", j.Deadline.Local().Format(time.DateTime), span(j.Deadline.Sub(j.AcknowledgedAt))))
	t.row("cost", costOf(j.CostUSD, j.Usage))
	prompt := 0
	messages, _ := j.Prompt.Messages() // what cannot be read is shown as none
	for _, m := range messages {
		prompt += len(m.Content)
	}
	content := "input " + size(len(j.Input))
	if len(messages) > 0 {
		content += fmt.Sprintf(", prompt %s in %s (%d tokens)", size(prompt), count(len(messages), "message"), j.PromptTokens)
	}
	if j.Answer != nil {
		content += fmt.Sprintf(", answer %s (finish reason %q)", size(len(j.Answer.Content)), j.Answer.FinishReason)
	}
	if len(j.Metadata) > 0 {
		content += ", metadata " + size(len(j.Metadata))
	}
	t.row("content", content)
}

// showContent prints what clients and models wrote.
func (c *deadShowCmd) showContent(g *globals, l *job.Letter) error {
	part := func(name, text string) {
		if text != "" {
			fmt.Fprintf(g.stdout, "\n%s\n%s\n", name, indent(harmless(text)))
		}
	}
	part("raw", string(l.Raw))
	if l.Job == nil {
		return nil
	}
	part("input", pretty(l.Job.Input))
	if len(l.Job.Metadata) > 0 {
		part("metadata", pretty(l.Job.Metadata))
	}
	messages, err := l.Job.Prompt.Messages()
	if err != nil {
		return err
	}
	for _, m := range slices.Concat(messages, l.Job.Correction) {
		part(m.Role, m.Content)
	}
	if a := l.Job.Answer; a != nil {
		part("answer", a.Content)
		part("refusal", a.Refusal)
	}
	return nil
}

// otherLetters are the subjects of the letters of an id besides the one at hand.
func otherLetters(ctx context.Context, conn *broker.Conn, id, subject string) []string {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	s, err := conn.JS.Stream(ctx, broker.DeadStream)
	if err != nil {
		return nil
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(broker.AnyDead(id)))
	if err != nil {
		return nil
	}
	var others []string
	for s := range info.State.Subjects {
		if s != subject {
			others = append(others, s)
		}
	}
	slices.Sort(others)
	return others
}
