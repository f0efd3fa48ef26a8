package main

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/session"
)

// sessionShowCmd shows one session.
type sessionShowCmd struct {
	sessionFlags
	schemasFlag
}

// Run prints the record, without what the task wants nobody to see.
func (c *sessionShowCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	return c.sessions(ctx, g, func(ctx context.Context, store *session.Store) error {
		s, _, err := store.Load(ctx, c.Tenant, c.Task, c.Session)
		if err != nil {
			return err
		}
		if s.At.IsZero() {
			return c.unknown()
		}
		hides, why := hidesTexts(set, c.Task)
		if hides {
			g.note("%s", why)
		}
		if g.cli.JSON {
			if hides {
				withoutTexts(s)
			}
			return g.printJSON(s)
		}
		return c.show(g, s, hides)
	})
}

// withoutTexts takes out of a session what clients and models said.
func withoutTexts(s *session.Session) {
	s.State = nil
	for i := range s.Turns {
		s.Turns[i].User, s.Turns[i].Assistant = "", ""
	}
	for i := range s.Pending {
		s.Pending[i].User, s.Pending[i].Input = "", nil
	}
	if s.Summary != nil {
		s.Summary.Text = ""
	}
}

func (c *sessionShowCmd) show(g *globals, s *session.Session, hides bool) error {
	if err := c.showHead(g, s); err != nil {
		return err
	}
	// part prints a text, or how long it is.
	part := func(name, text string) {
		if hides {
			text = "(" + size(len(text)) + ")"
		}
		fmt.Fprintf(g.stdout, "\n%s\n%s\n", name, indent(harmless(text)))
	}
	if s.Summary != nil {
		part(fmt.Sprintf("summary of %s, by %s", count(s.Summary.Turns, "turn"), s.Summary.By), s.Summary.Text)
	}
	for _, t := range s.Turns {
		title := fmt.Sprintf("%s  %s", t.At.Local().Format(time.DateTime), t.ID)
		if t.Run > 1 {
			title += fmt.Sprintf(", run %d", t.Run)
		}
		if t.Source != "" && t.Source != job.FromModel {
			title += ", from " + string(t.Source)
		}
		part("user  "+title, t.User)
		part("assistant", t.Assistant)
	}
	if len(s.State) > 0 {
		if hides {
			part("state", string(s.State))
		} else {
			part("state", pretty(s.State))
		}
	}
	if len(s.Pending) == 0 {
		return nil
	}
	g.printf("\npending\n")
	t := newTable(g.stdout, "id", "run", "lane", "waits for", "deadline in")
	now := time.Now()
	for _, p := range s.Pending {
		t.row(p.ID, p.Run, p.Lane, span(now.Sub(p.At)), span(p.Deadline.Sub(now)))
	}
	return t.flush()
}

func (c *sessionShowCmd) showHead(g *globals, s *session.Session) error {
	t := newTable(g.stdout)
	t.row("session", fmt.Sprintf("%s of task %s, %s", s.Name, s.Task, c.whose()))
	t.row("written", fmt.Sprintf("%s ago (%s)", span(time.Since(s.At)), s.At.Local().Format(time.DateTime)))
	t.row("remembers", fmt.Sprintf("%s of %d, %s waiting, %s of state", count(len(s.Turns), "turn"), s.Totals.Turns, count(len(s.Pending), "request"), size(len(s.State))))
	if f := s.Fold; f != nil {
		t.row("summarises", fmt.Sprintf("%s, by job %s of task %s", count(f.Turns, "turn"), f.ID, f.Task))
	}
	t.row("cost", costOf(s.Totals.CostUSD, s.Totals.Usage))
	return t.flush()
}
