package task

import "math"

// context reads what the model sees.
func (t *taskLoader) context(m *mapping) {
	c, _ := m.sub("context")
	into := &t.task.Context
	most := math.MaxInt
	if t.model != nil && t.model.ContextWindow > 0 {
		most = t.model.ContextWindow
	}
	c.integer("max_input_tokens", &into.MaxInputTokens, 1, most)
	c.number("reserve", &into.Reserve, 0, 0.95)
	c.choice("session", &into.Session, SessionNone, SessionOptional, SessionRequired)
	c.choice("order", &into.Order, "one_at_a_time", "as_accepted")
	for key, field := range map[string]*string{"turns_from": &into.TurnsFrom, "documents_from": &into.DocumentsFrom} {
		if n, ok := c.text(key, field); ok {
			c.pointer(n)
		}
	}
	c.integer("recent_turns", &into.RecentTurns, 0, 1000)
	t.summary(c)
	t.state(c)
	c.done()
}

// summary is none, or the task that makes summaries.
func (t *taskLoader) summary(c *mapping) {
	n, ok := c.get("summary")
	if !ok || n.kind == kindText && n.text == "none" {
		return
	}
	if n.kind != kindMapping {
		t.at(c.file, n, "summary must be none or {task: …, max_tokens: …}, not %s", shown(n))
		return
	}
	m := t.mapping(c.file, n)
	summary := &Summary{MaxTokens: 400}
	if name, ok := m.text("task", &summary.Task); ok {
		t.loader.summaries = append(t.loader.summaries, summaryPlace{c.file, name, t.task.Name})
	} else {
		t.at(c.file, n, "summary needs task: the name of the task that makes summaries")
	}
	m.integer("max_tokens", &summary.MaxTokens, 1, math.MaxInt32)
	m.done()
	t.task.Context.Summary = summary
}

func (t *taskLoader) state(c *mapping) {
	s, _ := c.sub("state")
	s.pointers("in_prompt", &t.task.Context.StateInPrompt)
	update, ok := s.sub("update")
	for _, entry := range update.node.members {
		place := node{kind: kindText, line: entry.line, column: entry.column, text: entry.key}
		update.pointer(place)
		if entry.key == "" {
			t.at(c.file, place, "state.update sets parts of the state, so a pointer can not be empty")
		}
		t.task.Context.StateUpdate = append(t.task.Context.StateUpdate, StateUpdate{
			Pointer: entry.key, Expr: t.expression(c.file, entry.value, false),
		})
	}
	if ok && len(update.node.members) > 0 && t.task.Context.Session == SessionNone {
		t.at(c.file, update.node, "state.update needs a session to keep the state in: context.session is none")
	}
	s.done()
}
