package task

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"spillway/pkg/expr"
	"spillway/pkg/schema"
)

// mapping reads the keys of a YAML mapping into typed variables, which keep their value, the default, where
// a key is absent. Each key that is asked for is known; done reports the others.
type mapping struct {
	*faults
	file  string
	node  node
	known []string
}

func (f *faults) mapping(file string, n node) *mapping {
	if n.kind != kindMapping && n.kind != kindNull {
		f.at(file, n, "must be a mapping, not %v", n.kind)
		n.members = nil
	}
	return &mapping{faults: f, file: file, node: n}
}

// done reports the keys that nobody asked for.
func (m *mapping) done() {
	for _, unknown := range m.node.members {
		if slices.Contains(m.known, unknown.key) {
			continue
		}
		message := "unknown key " + strconv.Quote(unknown.key)
		if meant := schema.Nearest(unknown.key, m.known); meant != "" {
			message += ": did you mean " + meant + "?"
		} else {
			message += ": known here are " + strings.Join(slices.Compact(slices.Sorted(slices.Values(m.known))), ", ")
		}
		m.add(Fault{File: m.file, Line: unknown.line, Column: unknown.column, Message: message})
	}
}

// get returns a key's value. A key without a value is absent.
func (m *mapping) get(key string) (node, bool) {
	m.known = append(m.known, key)
	for _, candidate := range m.node.members {
		if candidate.key == key {
			return candidate.value, candidate.value.kind != kindNull
		}
	}
	return node{}, false
}

// scalar returns a key's value when it is of the kind.
func (m *mapping) scalar(key string, want kind) (node, bool) {
	n, ok := m.get(key)
	if ok && n.kind != want {
		m.at(m.file, n, "%s must be %v, not %v", key, want, n.kind)
		return n, false
	}
	return n, ok
}

func (m *mapping) text(key string, into *string) (node, bool) {
	n, ok := m.scalar(key, kindText)
	if ok {
		*into = n.text
	}
	return n, ok
}

// choice reads one of the options.
func (m *mapping) choice(key string, into *string, options ...string) {
	n, ok := m.scalar(key, kindText)
	if !ok {
		return
	}
	if !slices.Contains(options, n.text) {
		m.at(m.file, n, "%s must be %s, not %q", key, anyOf(options), n.text)
		return
	}
	*into = n.text
}

func anyOf(options []string) string {
	if last := len(options) - 1; last > 0 {
		return strings.Join(options[:last], ", ") + " or " + options[last]
	}
	return options[0]
}

func (m *mapping) truth(key string, into *bool) {
	if n, ok := m.scalar(key, kindTruth); ok {
		*into = n.json().(bool)
	}
}

func (m *mapping) integer(key string, into *int, least, most int) {
	n, ok := m.scalar(key, kindNumber)
	if !ok {
		return
	}
	value, err := strconv.Atoi(n.text)
	switch {
	case err != nil:
		m.at(m.file, n, "%s must be a whole number, not %s", key, n.text)
	case value < least:
		m.at(m.file, n, "%s must be at least %d, not %d", key, least, value)
	case value > most:
		m.at(m.file, n, "%s must be at most %d, not %d", key, most, value)
	default:
		*into = value
	}
}

func (m *mapping) number(key string, into *float64, least, most float64) {
	n, ok := m.scalar(key, kindNumber)
	if !ok {
		return
	}
	value, err := strconv.ParseFloat(n.text, 64)
	switch {
	case err != nil:
		m.at(m.file, n, "%s must be a number, not %s", key, n.text)
	case value < least || value > most:
		m.at(m.file, n, "%s must be between %v and %v, not %s", key, least, most, n.text)
	default:
		*into = value
	}
}

// optional reads a number whose absence differs from 0.
func (m *mapping) optional(key string, into **float64, least, most float64) {
	var value float64
	before := len(m.found)
	m.number(key, &value, least, most)
	if _, ok := m.get(key); ok && len(m.found) == before {
		*into = &value
	}
}

// duration reads 500ms, 30s, 72h.
func (m *mapping) duration(key string, into *time.Duration, least, most time.Duration) {
	n, ok := m.get(key)
	if !ok {
		return
	}
	value, err := time.ParseDuration(n.text)
	switch {
	case n.kind == kindNumber && err != nil:
		m.at(m.file, n, "%s needs a unit: say %ss", key, n.text)
	case n.kind != kindText && n.kind != kindNumber || err != nil:
		m.at(m.file, n, "%s must be a duration like 500ms, 30s or 72h, not %s", key, shown(n))
	case value < least:
		m.at(m.file, n, "%s must be at least %v, not %v", key, shortly(least), shortly(value))
	case value > most:
		m.at(m.file, n, "%s must be at most %v, not %v", key, shortly(most), shortly(value))
	default:
		*into = value
	}
}

// shown is a scalar as it is written; of other values, their kind.
func shown(n node) string {
	if n.kind == kindList || n.kind == kindMapping {
		return n.kind.String()
	}
	return strconv.Quote(n.text)
}

// shortly writes 10m, not 10m0s.
func shortly(d time.Duration) string {
	text := d.String()
	text = strings.TrimSuffix(text, "m0s") + map[bool]string{true: "m"}[strings.HasSuffix(text, "m0s")]
	return strings.TrimSuffix(text, "h0m") + map[bool]string{true: "h"}[strings.HasSuffix(text, "h0m")]
}

var sizePattern = regexp.MustCompile(`^(\d{1,9})(B|KiB|MiB)?$`)

// size reads 64KiB, 1MiB, or a number of bytes.
func (m *mapping) size(key string, into *int, most int) {
	n, ok := m.get(key)
	if !ok {
		return
	}
	parts := sizePattern.FindStringSubmatch(n.text)
	if parts == nil || n.kind != kindText && n.kind != kindNumber {
		m.at(m.file, n, "%s must be a size like 64KiB or 1MiB, not %s", key, shown(n))
		return
	}
	value, _ := strconv.Atoi(parts[1])
	value *= map[string]int{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}[parts[2]]
	switch {
	case value < 1:
		m.at(m.file, n, "%s must be at least 1B", key)
	case value > most:
		m.at(m.file, n, "%s must be at most %dKiB, not %s", key, most>>10, n.text)
	default:
		*into = value
	}
}

// sub returns the mapping under a key; of an absent one, an empty mapping, whose reading changes nothing.
func (m *mapping) sub(key string) (*mapping, bool) {
	n, ok := m.get(key)
	return m.mapping(m.file, n), ok
}

// list returns the items under a key.
func (m *mapping) list(key string) ([]node, bool) {
	n, ok := m.get(key)
	if ok && n.kind != kindList {
		m.at(m.file, n, "%s must be a list, not %v", key, n.kind)
		return nil, false
	}
	return n.items, ok
}

// texts reads a list of texts. of, when it is not empty, are those that are taken.
func (m *mapping) texts(key string, into *[]string, of ...string) {
	items, ok := m.list(key)
	if !ok {
		return
	}
	*into = make([]string, 0, len(items))
	for _, item := range items {
		switch {
		case item.kind != kindText:
			m.at(m.file, item, "%s must hold texts, not %v", key, item.kind)
		case len(of) > 0 && !slices.Contains(of, item.text):
			m.at(m.file, item, "%s must hold %s, not %q", key, anyOf(of), item.text)
		default:
			*into = append(*into, item.text)
		}
	}
}

// pointers reads a list of JSON pointers.
func (m *mapping) pointers(key string, into *[]string) {
	m.texts(key, into)
	n, _ := m.get(key)
	for _, item := range n.items {
		m.pointer(item)
	}
}

func (m *mapping) pointer(n node) {
	if n.kind != kindText {
		return
	}
	if _, err := schema.SplitPointer(n.text); err != nil {
		m.at(m.file, n, "%v", err)
	}
}

// expression compiles the CEL expression n. condition: it must be able to yield a boolean.
func (f *faults) expression(file string, n node, condition bool) *expr.Program {
	if n.kind == kindList || n.kind == kindMapping || n.kind == kindNull {
		f.at(file, n, "must be an expression, not %v", n.kind)
		return nil
	}
	program, err := expr.Compile(n.text)
	if err != nil {
		f.expressionFaults(file, n, err)
		return nil
	}
	if condition && !program.IsBool() {
		f.at(file, n, "the expression must yield true or false")
	}
	return program
}

// expressionFaults moves the places of the faults from the expression into the file.
func (f *faults) expressionFaults(file string, n node, err error) {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, one := range all {
		fault, ok := errors.AsType[*expr.Error](one)
		switch {
		case !ok:
			f.at(file, n, "%v", one)
		case n.block:
			f.add(Fault{File: file, Line: n.line + fault.Line, Message: fault.Message})
		case fault.Line == 1:
			f.add(Fault{File: file, Line: n.line, Column: n.column + fault.Column - 1, Message: fault.Message})
		default:
			f.add(Fault{File: file, Line: n.line + fault.Line - 1, Message: fault.Message})
		}
	}
}
