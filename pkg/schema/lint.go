package schema

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/xeipuuv/gojsonschema"
)

// dialect is what $schema declares; without it, draft 7.
type dialect struct {
	name  string
	draft gojsonschema.Draft
	// later: 2019-09 and 2020-12, compiled as draft 7, which is right for the keywords that they share.
	later bool
}

var dialectURL = regexp.MustCompile(`^https?://json-schema\.org/(?:draft/)?(draft-0[467]|2019-09|2020-12)/schema#?$`)

func dialectOf(document any) (dialect, error) {
	root, _ := document.(map[string]any)
	declared, ok := root["$schema"]
	if !ok {
		return dialect{name: "draft-07", draft: gojsonschema.Draft7}, nil
	}
	text, _ := declared.(string)
	match := dialectURL.FindStringSubmatch(text)
	if match == nil {
		return dialect{}, &CompileError{"/$schema", fmt.Sprintf("the dialect %s is not known: declare http://json-schema.org/draft-07/schema#, or draft-04, draft-06, 2019-09, 2020-12", Render(declared))}
	}
	d := dialect{name: match[1], draft: gojsonschema.Draft7}
	switch match[1] {
	case "draft-04":
		d.draft = gojsonschema.Draft4
	case "draft-06":
		d.draft = gojsonschema.Draft6
	case "2019-09", "2020-12":
		d.later = true
	}
	return d, nil
}

// linter walks all sub-schemas of a document before it is compiled.
type linter struct {
	document any
	dialect  dialect
	faults   []error
	// seen are the pointers of the sub-schemas; anchors those that a local id names; defs those in $defs.
	seen    map[string]bool
	anchors map[string]string
	defs    []string
	// refs are the places of references; same maps a sub-schema to those that hold for the same value.
	refs []reference
	same map[string][]string
}

type reference struct{ from, to string }

// lint refuses what would be loaded from elsewhere, be ignored in silence, or never end. anchors are the pointers that
// local ids name. The error joins all faults.
func lint(document any) (d dialect, anchors map[string]string, err error) {
	if d, err = dialectOf(document); err != nil {
		return d, nil, err
	}
	l := &linter{document: document, dialect: d, seen: map[string]bool{}, anchors: map[string]string{}, same: map[string][]string{}}
	l.schema("", document)
	l.resolve()
	if len(l.faults) == 0 {
		l.findLoop()
	}
	if len(l.faults) == 0 {
		l.faults = l.meta()
	}
	slices.SortStableFunc(l.faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return d, l.anchors, errors.Join(l.faults...)
}

func (l *linter) fault(pointer, format string, args ...any) {
	l.faults = append(l.faults, &CompileError{pointer, fmt.Sprintf(format, args...)})
}

func (l *linter) schema(pointer string, node any) {
	if l.seen[pointer] {
		return
	}
	l.seen[pointer] = true
	if _, ok := node.(bool); ok && l.dialect.draft >= gojsonschema.Draft6 {
		return
	}
	members, ok := node.(map[string]any)
	if !ok {
		l.fault(pointer, "a schema must be an object, not %s", Render(node))
		return
	}
	for name, value := range members {
		l.keyword(pointer, name, value, members)
	}
}

func (l *linter) keyword(pointer, name string, value any, siblings map[string]any) {
	at := AppendPointer(pointer, name)
	word, known := checked(name)
	if instead, ok := remedy(name); ok {
		l.fault(at, "%s is not checked: %s", name, instead)
		return
	}
	switch {
	case known && word.since > l.dialect.draft:
		l.fault(at, `%s is not checked in %s: declare "$schema": "http://json-schema.org/draft-07/schema#"`, name, l.dialect.name)
	case known && siblings["$ref"] != nil:
		l.fault(at, `%s is not checked beside $ref: write "allOf": [{"$ref": …}] instead of $ref`, name)
	case known:
		l.value(at, name, value)
		l.children(pointer, at, name, word, value)
	case name == "$ref":
		l.ref(pointer, at, value)
	case name == "$id" || name == "id":
		l.id(pointer, at, value)
	case name == "definitions" || name == "$defs":
		l.children(pointer, at, name, keyword{applies: members}, value)
	case !isAnnotation(name) && !strings.HasPrefix(strings.ToLower(name), "x-"):
		if meant := Nearest(name, checkedKeywords()); meant != "" && len(name) > 3 {
			l.fault(at, "%s is not a keyword: did you mean %s?", name, meant)
		}
	}
}

// value checks what the meta-schema can not say, or says less helpfully.
func (l *linter) value(at, name string, value any) {
	switch name {
	case "pattern":
		if text, ok := value.(string); ok {
			l.expression(at, text)
		}
	case "patternProperties":
		members, _ := value.(map[string]any)
		for text := range members {
			l.expression(AppendPointer(at, text), text)
		}
	case "items":
		if _, ok := value.([]any); ok && l.dialect.name == "2020-12" {
			l.fault(at, `items is one schema in 2020-12: declare "$schema": "http://json-schema.org/draft-07/schema#" to give each position its own`)
		}
	}
}

func (l *linter) expression(at, text string) {
	if _, err := regexp.Compile(text); err != nil {
		l.fault(at, "the pattern %s can not be used: %s (RE2 syntax: no look-around, no back-references; format may say the same)",
			Render(text), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

func (l *linter) children(parent, at, name string, word keyword, value any) {
	add := func(pointer string, node any) {
		if word.sameValue {
			l.same[parent] = append(l.same[parent], pointer)
		}
		l.schema(pointer, node)
	}
	switch v := value.(type) {
	case []any:
		if word.applies == many || word.applies == either {
			for i, node := range v {
				add(AppendPointer(at, strconv.Itoa(i)), node)
			}
		}
	case map[string]any:
		switch word.applies {
		case one, either:
			add(at, v)
		case members:
			for key, node := range v {
				if _, names := node.([]any); names && name == "dependencies" {
					continue
				}
				add(AppendPointer(at, key), node)
				if name == "$defs" {
					l.defs = append(l.defs, AppendPointer(at, key))
				}
			}
		}
	}
}

func (l *linter) ref(pointer, at string, value any) {
	text, ok := value.(string)
	if !ok {
		l.fault(at, "$ref must be a string")
		return
	}
	if !strings.HasPrefix(text, "#") {
		l.fault(at, `the reference %s leads out of the document, and nothing is loaded from elsewhere: copy the schema into "definitions" and refer to "#/definitions/…"`, Render(text))
		return
	}
	l.refs = append(l.refs, reference{from: pointer, to: text[1:]})
}

func (l *linter) id(pointer, at string, value any) {
	text, ok := value.(string)
	switch {
	case ok && (text == "" || text == "#"):
	case ok && text[0] == '#' && !strings.HasPrefix(text, "#/") && !l.dialect.later:
		l.anchors[text[1:]] = pointer
	default:
		l.fault(at, "the id %s is not local: remove it, references are by pointer (#/definitions/…)", Render(value))
	}
}

// resolve follows the references, which may lead to sub-schemas in places that no keyword names.
func (l *linter) resolve() {
	for i := 0; i < len(l.refs); i++ {
		r := l.refs[i]
		to, err := target("#"+r.to, l.anchors)
		node, found := Lookup(l.document, to)
		if err != nil || !found {
			l.fault(AppendPointer(r.from, "$ref"), "the reference %s leads nowhere", Render("#"+r.to))
			continue
		}
		l.same[r.from] = append(l.same[r.from], to)
		l.schema(to, node)
	}
}

// findLoop finds a schema that refers to itself without going deeper into the value: validating with it
// would overflow the stack, which no recover() catches.
func (l *linter) findLoop() {
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(pointer string) bool
	visit = func(pointer string) bool {
		state[pointer] = open
		for _, next := range l.same[pointer] {
			if state[next] == open {
				l.fault(pointer, "the schema refers to itself for the same value, so checking would never end")
				return false
			}
			if state[next] == 0 && !visit(next) {
				return false
			}
		}
		state[pointer] = done
		return true
	}
	for _, pointer := range slices.Sorted(maps.Keys(l.same)) {
		if state[pointer] == 0 && !visit(pointer) {
			return
		}
	}
}
