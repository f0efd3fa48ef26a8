package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"spillway/pkg/broker"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// sessionSetCmd sets a part of a session's state.
type sessionSetCmd struct {
	sessionFlags
	schemasFlag
	Pointer string `arg:"" help:"JSON pointer of the part, like /order/status; '' is the whole state."`
	Value   string `arg:"" name:"json" help:"The new value, in JSON: a text needs quotes of its own, '\"paid\"'."`
}

// Run sets it in what is stored then, though others change the session meanwhile.
func (c *sessionSetCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	value, err := schema.Decode([]byte(c.Value))
	if err != nil {
		return exit(exitUsage, "the value is not JSON: %w; a text needs quotes of its own: '\"…\"'", err)
	}
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	t := set.Tasks[c.Task]
	switch {
	case t == nil:
		g.note("not checked: there is no task %q in the files here (--schemas)", c.Task)
		t = &task.Task{}
	case t.State == nil:
		g.note("not checked: the task has no state.schema.json")
	}
	return c.sessions(ctx, g, func(ctx context.Context, store *session.Store) error {
		s, err := store.Update(ctx, c.Tenant, c.Task, c.Session, cmp.Or(t.Retention.Session, broker.MaxSessionAge), func(s *session.Session) (bool, error) {
			if s.At.IsZero() {
				return false, c.unknown()
			}
			state, err := c.changed(s.State, value, t.State)
			if err != nil {
				return false, err
			}
			s.State = state
			return true, nil
		})
		if err != nil {
			return err
		}
		return c.show(g, s, set)
	})
}

func (c *sessionSetCmd) show(g *globals, s *session.Session, set *task.Set) error {
	text := indent(harmless(pretty(s.State)))
	if hides, why := hidesTexts(set, c.Task); hides {
		g.note("%s", why)
		text, s.State = indent("("+size(len(s.State))+")"), nil
	}
	if g.cli.JSON {
		return g.printJSON(map[string]any{"set": true, "tenant": s.Tenant, "task": s.Task, "session": s.Name, "state": s.State})
	}
	_, err := fmt.Fprintf(g.stdout, "the state of session %s of task %s %s is now\n%s\n", c.Session, c.Task, c.whose(), text)
	return err
}

// changed is the state with the new value in it, if the task takes that.
func (c *sessionSetCmd) changed(state []byte, value any, must *schema.Schema) ([]byte, error) {
	if len(state) == 0 {
		state = []byte("{}")
	}
	whole, err := schema.Decode(state)
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	if whole, err = schema.With(whole, c.Pointer, value); err != nil {
		return nil, exit(exitUsage, "%w", err)
	}
	if _, isObject := whole.(map[string]any); !isObject {
		return nil, exit(exitUsage, "a state is a JSON object, like '{\"status\":\"paid\"}'")
	}
	if must != nil {
		if violations := must.Validate(whole); len(violations) > 0 {
			var reasons []string
			for _, v := range violations {
				reasons = append(reasons, v.String())
			}
			return nil, exit(exitUsage, "the state would not satisfy state.schema.json, nothing is changed: %s", oneLine(strings.Join(reasons, "; ")))
		}
	}
	text, err := task.Canonical(whole)
	if err != nil {
		return nil, exit(exitUsage, "%w", err)
	}
	if len(text) > session.MaxState {
		return nil, exit(exitUsage, "the state would have %s, %s is the most", size(len(text)), size(session.MaxState))
	}
	return text, nil
}
