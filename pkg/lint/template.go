package lint

import (
	"maps"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"spillway/pkg/schema"
)

// use is a part of its data that a template reads.
type use struct {
	// path leads there from the data on: Input, text. AnyItem stands for an item of a list.
	path []string
	// whole: with all that is below it.
	whole bool
	pos   parse.Pos
}

// words are what a template says itself, with the place of each piece.
type words struct {
	text   strings.Builder
	pieces []piece
}

type piece struct {
	at  int // in the text
	pos parse.Pos
}

// hole stands in the words where a template puts what it was given.
const hole = "\u2026"

func (w *words) add(text string, pos parse.Pos) {
	w.pieces = append(w.pieces, piece{w.text.Len(), pos})
	w.text.WriteString(text)
}

// pos is where in the file something in the text stands.
func (w *words) pos(at int) parse.Pos {
	i, found := slices.BinarySearchFunc(w.pieces, at, func(p piece, at int) int { return p.at - at })
	if !found {
		i--
	}
	return w.pieces[i].pos + parse.Pos(at-w.pieces[i].at)
}

// reader follows what a template does with its data, as far as that can be known without any.
type reader struct {
	uses  []use
	words words
	depth int
}

// place is what an expression leads to; unknown: something made of what was read whole.
type place struct {
	path  []string
	known bool
}

func (p place) below(names ...string) place {
	return place{slices.Concat(p.path, names), p.known}
}

// scope is what a part of a template sees.
type scope struct {
	dot       place
	variables map[string]place
}

func (s scope) inner(dot place) scope { return scope{dot, maps.Clone(s.variables)} }

// maxDepth bounds templates that include themselves.
const maxDepth = 16

// read follows a template from the beginning.
func (r *reader) read(t *template.Template) {
	if t != nil && t.Tree != nil {
		r.enter(t, place{known: true})
	}
}

func (r *reader) enter(t *template.Template, dot place) {
	if r.depth++; r.depth < maxDepth {
		r.list(t, t.Root, scope{dot, map[string]place{"$": dot}})
	}
	r.depth--
}

func (r *reader) list(t *template.Template, list *parse.ListNode, s scope) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			r.words.add(string(n.Text), n.Pos)
		case *parse.ActionNode:
			r.pipe(n.Pipe, s, len(n.Pipe.Decl) == 0)
			if len(n.Pipe.Decl) == 0 {
				r.words.add(hole, n.Pos)
			}
		case *parse.IfNode:
			r.pipe(n.Pipe, s, false)
			r.list(t, n.List, s.inner(s.dot))
			r.list(t, n.ElseList, s.inner(s.dot))
		case *parse.WithNode:
			inner := s.inner(s.dot)
			inner.dot = r.pipe(n.Pipe, inner, false)
			r.list(t, n.List, inner)
			r.list(t, n.ElseList, s.inner(s.dot))
		case *parse.RangeNode:
			r.list(t, n.List, r.items(n, s))
			r.list(t, n.ElseList, s.inner(s.dot))
		case *parse.TemplateNode:
			r.include(t, n, s)
		}
	}
}

// items is what the body of a range sees.
func (r *reader) items(n *parse.RangeNode, s scope) scope {
	inner := s.inner(s.dot)
	inner.dot = r.pipe(n.Pipe, inner, false).below(schema.AnyItem)
	for i, variable := range n.Pipe.Decl {
		inner.variables[variable.Ident[0]] = place{}
		if i == len(n.Pipe.Decl)-1 {
			inner.variables[variable.Ident[0]] = inner.dot
		}
	}
	return inner
}

func (r *reader) include(t *template.Template, n *parse.TemplateNode, s scope) {
	var dot place
	if n.Pipe != nil {
		dot = r.pipe(n.Pipe, s, false)
	}
	if included := t.Lookup(n.Name); included != nil && included.Tree != nil {
		r.enter(included, dot)
	}
}

// pipe notes what a pipeline reads and returns where it leads to. whole: its result is printed.
func (r *reader) pipe(p *parse.PipeNode, s scope, whole bool) (result place) {
	for i, command := range p.Cmds {
		feeds := i < len(p.Cmds)-1
		result = r.command(command, s, whole || feeds)
		if i > 0 {
			result = place{}
		}
	}
	for _, variable := range p.Decl {
		s.variables[variable.Ident[0]] = result
	}
	return result
}

func (r *reader) command(c *parse.CommandNode, s scope, whole bool) place {
	function, isFunction := c.Args[0].(*parse.IdentifierNode)
	switch {
	case !isFunction:
		return r.note(c.Args[0], s, whole || len(c.Args) > 1)
	case function.Ident == "index" && len(c.Args) > 2:
		return r.index(c, s, whole)
	}
	for _, argument := range c.Args[1:] {
		r.note(argument, s, !slices.Contains([]string{"len", "not", "eq", "ne", "lt", "le", "gt", "ge"}, function.Ident))
	}
	return place{}
}

// index follows names that are written; of other keys only that some item is meant is known.
func (r *reader) index(c *parse.CommandNode, s scope, whole bool) place {
	at := r.lead(c.Args[1], s)
	for _, key := range c.Args[2:] {
		name, isName := key.(*parse.StringNode)
		if isName {
			at = at.below(name.Text)
			continue
		}
		r.note(key, s, true)
		at = at.below(schema.AnyItem)
	}
	r.use(at, whole, c.Pos)
	return at
}

// note reads an argument.
func (r *reader) note(n parse.Node, s scope, whole bool) place {
	if text, ok := n.(*parse.StringNode); ok {
		r.words.add(" "+text.Text+" ", n.Position())
	}
	at := r.lead(n, s)
	if _, isPipe := n.(*parse.PipeNode); !isPipe || whole {
		r.use(at, whole, n.Position())
	}
	return at
}

func (r *reader) use(at place, whole bool, pos parse.Pos) {
	if at.known {
		r.uses = append(r.uses, use{at.path, whole, pos})
	}
}

// lead is where an operand leads to.
func (r *reader) lead(n parse.Node, s scope) place {
	switch n := n.(type) {
	case *parse.DotNode:
		return s.dot
	case *parse.FieldNode:
		return s.dot.below(n.Ident...)
	case *parse.VariableNode:
		return s.variables[n.Ident[0]].below(n.Ident[1:]...)
	case *parse.ChainNode:
		return r.lead(n.Node, s).below(n.Field...)
	case *parse.PipeNode:
		return r.pipe(n, s, false)
	}
	return place{}
}
