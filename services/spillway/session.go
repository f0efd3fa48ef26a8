package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// sessionCmd deals with what is remembered of sessions.
type sessionCmd struct {
	Ls   sessionLsCmd   `cmd:"" help:"List the sessions: turns, waiting requests, summary, tokens, cost, age."`
	Show sessionShowCmd `cmd:"" help:"Show what is remembered of one session: summary, turns, state, waiting requests, totals."`
	Set  sessionSetCmd  `cmd:"" help:"Set a part of a session's state."`
	Rm   sessionRmCmd   `cmd:"" help:"Forget a session for good. Its next request begins anew."`
}

// sessionTimeout bounds one look or one change.
const sessionTimeout = 30 * time.Second

// sessions opens the connection and does one thing to the sessions.
func (f natsFlags) sessions(ctx context.Context, g *globals, do func(context.Context, *session.Store) error) error {
	conn, err := f.open(ctx, g, "session", broker.RecordStream(broker.SessionsBucket))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	return quiet(unanswerable(do(ctx, session.NewStore(conn))))
}

// sessionFlags name a session.
type sessionFlags struct {
	natsFlags
	Task    string `arg:"" help:"Task of the session."`
	Session string `arg:"" help:"Name of the session."`
	Tenant  string `env:"-" help:"Tenant of the session; none: that without a tenant." placeholder:"TENANT"`
}

func (f sessionFlags) check() error {
	if err := checkToken("task", f.Task); err != nil {
		return err
	}
	for what, label := range map[string]string{"session": f.Session, "tenant": f.Tenant} {
		if !job.IsLabel(label) && (what == "session" || label != "") {
			return exit(exitUsage, "%q is not the name of a %s", job.Cut(label, 80), what)
		}
	}
	return nil
}

// unknown is the error for a session that nothing is remembered of.
func (f sessionFlags) unknown() error {
	return exit(exitNotFound, "nothing is remembered of session %s of task %s %s: it had no request, it was removed, or it expired (`spillway session ls`)", f.Session, f.Task, f.whose())
}

func (f sessionFlags) whose() string {
	if f.Tenant == "" {
		return "without a tenant"
	}
	return "of tenant " + f.Tenant
}

// sessionLsCmd lists sessions.
type sessionLsCmd struct {
	natsFlags
	Task   []string `env:"-" help:"Only those of these tasks." placeholder:"TASK"`
	Tenant []string `env:"-" help:"Only those of these tenants; -: those of none." placeholder:"TENANT"`
}

// Run prints a table, or JSON lines.
func (c *sessionLsCmd) Run(ctx context.Context, g *globals) error {
	for _, t := range c.Task {
		if err := checkToken("task", t); err != nil {
			return err
		}
	}
	return c.sessions(ctx, g, func(ctx context.Context, store *session.Store) error {
		all, unreadable := store.List(ctx)
		all = slices.DeleteFunc(all, func(i session.Info) bool {
			return len(c.Task) > 0 && !slices.Contains(c.Task, i.Task) || len(c.Tenant) > 0 && !slices.Contains(c.Tenant, dash(i.Tenant))
		})
		if err := g.showSessions(all); err != nil {
			return err
		}
		return unreadable
	})
}

func (g *globals) showSessions(all []session.Info) error {
	if g.cli.JSON {
		for _, i := range all {
			if err := g.printJSON(i); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(g.stdout, "no sessions")
		return err
	}
	t := newTable(g.stdout, "tenant", "task", "session", "turns", "pending", "summary", "tokens", "cost", "age")
	now := time.Now()
	for _, i := range all {
		summary := "-"
		if i.Summary > 0 {
			summary = "of " + count(i.Summary, "turn")
		}
		u := i.Totals.Usage
		t.row(dash(i.Tenant), i.Task, i.Name, i.Turns, i.Pending, summary, fmt.Sprintf("%d in, %d out", u.InputTokens, u.OutputTokens), fmt.Sprintf("$%.5f", i.Totals.CostUSD), span(now.Sub(i.At)))
	}
	return t.flush()
}

// sessionRmCmd forgets a session.
type sessionRmCmd struct{ sessionFlags }

// Run removes the record, whoever writes to it meanwhile.
func (c *sessionRmCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.sessions(ctx, g, func(ctx context.Context, store *session.Store) error {
		was, err := store.Remove(ctx, c.Tenant, c.Task, c.Session)
		if isNotFound(err) {
			return c.unknown()
		}
		if err != nil {
			return err
		}
		if was.At.IsZero() {
			g.note("what was remembered of it could not be read")
		}
		if len(was.Pending) > 0 {
			g.note("%s of it still wait for their results, which nobody remembers now", count(len(was.Pending), "request"))
		}
		folded := 0
		if was.Summary != nil {
			folded = was.Summary.Turns
		}
		if g.cli.JSON {
			return g.printJSON(map[string]any{
				"removed": true, "tenant": was.Tenant, "task": was.Task, "session": was.Name, "turns": len(was.Turns), "pending": len(was.Pending), "summary": folded,
			})
		}
		_, err = fmt.Fprintf(g.stdout, "session %s of task %s %s is forgotten: %s, a summary of %d, %s waiting, %s of state\n",
			was.Name, was.Task, c.whose(), count(len(was.Turns), "turn"), folded, count(len(was.Pending), "request"), size(len(was.State)))
		return err
	})
}

// hidesTexts reports whether what clients and models said is not to be shown: the task says so, or it is not known
// what the task says.
func hidesTexts(set *task.Set, name string) (hides bool, why string) {
	t := set.Tasks[name]
	switch {
	case t == nil:
		return true, fmt.Sprintf("texts are not shown: there is no task %q in the files here (--schemas), which may forbid it", name)
	case t.Redaction.LogContent == "never":
		return true, "texts are not shown: redaction.log_content of the task is never"
	}
	return false, ""
}
