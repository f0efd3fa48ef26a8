package task

import (
	"math"
	"strings"

	"spillway/pkg/schema"
)

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
	c.choice("order", &into.Order, OneAtATime, AsAccepted)
	t.from(c)
	c.integer("recent_turns", &into.RecentTurns, 0, 1000)
	t.summary(c)
	t.state(c)
	c.done()
}

// fromPlace is a pointer into the input, and where it is written.
type fromPlace struct {
	key, file string
	node      node
}

// from reads where in the input turns and documents are.
func (t *taskLoader) from(c *mapping) {
	into := &t.task.Context
	for _, one := range []struct {
		key  string
		into *string
	}{{"turns_from", &into.TurnsFrom}, {"documents_from", &into.DocumentsFrom}} {
		n, ok := c.text(one.key, one.into)
		if !ok || n.text == "" {
			continue
		}
		c.pointer(n)
		t.froms = append(t.froms, fromPlace{one.key, c.file, n})
		if one.key == "turns_from" && into.Session != SessionNone {
			t.at(c.file, n, "turns_from is for those who keep the turns themselves, and context.session keeps them here: remove one of the two")
		}
	}
	if turns, documents := into.TurnsFrom, into.DocumentsFrom; len(t.froms) == 2 && (isWithin(turns, documents) || isWithin(documents, turns)) {
		t.at(c.file, t.froms[1].node, "documents_from and turns_from must lead to two places of the input, neither in the other")
	}
}

// isWithin reports whether one JSON pointer leads to what another one leads to, or into it.
func isWithin(pointer, other string) bool {
	return pointer == other || strings.HasPrefix(pointer, other+"/")
}

// fromCheck holds the pointers and the schemas together.
func (t *taskLoader) fromCheck() {
	for _, from := range t.froms {
		if !declares(t.task.Input, from.node, []any{}) {
			t.at(from.file, from.node, "%s leads to %s, where %s declares no array", from.key, from.node.text, inputFile)
		}
	}
	for _, place := range t.statePlaces {
		if !declares(t.task.State, place, nil) {
			t.at(t.path(manifestFile), place, "%s does not declare %s", stateFile, place.text)
		}
	}
}

// declares reports whether a schema, if there is one, declares what a pointer leads to. One that is none is a fault
// already.
func declares(by *schema.Schema, pointer node, value any) bool {
	_, err := schema.SplitPointer(pointer.text)
	return by == nil || err != nil || by.Declares(pointer.text, value)
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
		t.loader.summaries = append(t.loader.summaries, summaryPlace{c.file, name, t.task.Name, summary.MaxTokens})
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
	shown, _ := s.get("in_prompt")
	t.statePlaces = append(t.statePlaces, shown.items...)
	update, ok := s.sub("update")
	for _, entry := range update.node.members {
		place := node{kind: kindText, line: entry.line, column: entry.column, text: entry.key}
		update.pointer(place)
		t.statePlaces = append(t.statePlaces, place)
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
