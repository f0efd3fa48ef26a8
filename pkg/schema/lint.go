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
	// later: 2019-09 and 2020-12, compiled as draft 7 when they are translated.
	later bool
	// declared: a document without $schema may have the keywords of any draft that are at odds with no other's.
	declared bool
}

// isOpen: keywords of later drafts than 7 are known.
func (d dialect) isOpen() bool { return d.later || !d.declared }

// has reports whether a keyword of a later draft than 7 is one of the dialect.
func (d dialect) has(name string) bool {
	switch name {
	case "prefixItems":
		return d.name == "2020-12" || !d.declared
	case "dependentRequired", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems":
		return d.isOpen()
	case "nullable":
		return !d.declared
	}
	return false
}

func (d dialect) idWord() string {
	if d.draft == gojsonschema.Draft4 {
		return "id"
	}
	return "$id"
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
	d := dialect{name: match[1], draft: gojsonschema.Draft7, declared: true}
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
	// seen are the pointers of the sub-schemas; anchors those that a local id names; beyond those in places where the
	// meta-schemas up to draft 7 do not look.
	seen    map[string]bool
	anchors map[string]string
	beyond  []string
	// refs are the places of references; same maps a sub-schema to those that hold for the same value.
	refs []reference
	same map[string][]string
}

type reference struct{ from, to string }

// lint refuses what would be loaded from elsewhere, be ignored in silence, or never end. The error joins all faults.
func lint(document any) (*linter, error) {
	d, err := dialectOf(document)
	if err != nil {
		return nil, err
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
	return l, errors.Join(l.faults...)
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
	later, isLater := ofLater(name)
	switch {
	case isLater && l.dialect.has(name):
		l.later(at, name, value, siblings)
		l.children(pointer, at, name, later, value)
	case known && word.since > l.dialect.draft:
		l.fault(at, `%s is not checked in %s: declare "$schema": "http://json-schema.org/draft-07/schema#"`, name, l.dialect.name)
	case known && siblings["$ref"] != nil && !l.dialect.isOpen():
		l.fault(at, `%s is not checked beside $ref in %s: write "allOf": [{"$ref": …}] instead of $ref`, name, l.dialect.name)
	case known:
		l.value(at, name, value, siblings)
		l.children(pointer, at, name, word, value)
	case name == "$ref":
		l.ref(pointer, at, value)
	case name == l.dialect.idWord():
		l.id(pointer, at, value)
	case name == "definitions" || name == "$defs":
		l.children(pointer, at, name, keyword{applies: members, beyond: name == "$defs"}, value)
	case name == "nullable" && value == false, isAnnotation(name), strings.HasPrefix(strings.ToLower(name), "x-"):
	default:
		l.unknown(at, name)
	}
}

// unknown refuses a keyword that demands something of a value, as far as its name tells.
func (l *linter) unknown(at, name string) {
	if instead, ok := remedy(name); ok {
		l.fault(at, "%s is not checked: %s", name, instead)
	} else if meant := Nearest(name, checkedKeywords()); meant != "" && len(name) > 3 {
		l.fault(at, "%s is not a keyword: did you mean %s?", name, meant)
	}
}

// later refuses what of the keywords of later drafts has no translation.
func (l *linter) later(at, name string, value any, siblings map[string]any) {
	_, isList := siblings["items"].([]any)
	switch name {
	case "prefixItems":
		if list, ok := value.([]any); !ok || len(list) == 0 {
			l.fault(at, "must be an array of at least one schema, not %s", Render(value))
		}
		if isList || siblings["additionalItems"] != nil {
			l.fault(at, "prefixItems is not checked beside an array of items or additionalItems: items is the schema of the items that follow")
		}
	case "dependentRequired":
		dependents, ok := value.(map[string]any)
		for _, names := range dependents {
			ok = ok && isTexts(names)
		}
		if !ok {
			l.fault(at, "must be an object of arrays of names, not %s", Render(value))
		}
	case "nullable":
		instead, _ := remedy(name)
		_, isBool := value.(bool)
		choices, listed := siblings["enum"].([]any)
		_, fixed := siblings["const"]
		if value != false && (!isBool || siblings["type"] == nil || fixed || listed && !slices.Contains(choices, nil)) {
			l.fault(at, "nullable is not checked without a type, beside const, or beside an enum without null: %s", instead)
		}
	case "unevaluatedProperties", "unevaluatedItems":
		instead, _ := remedy(name)
		if name == "unevaluatedItems" && (isList || siblings["contains"] != nil) || hasForms(siblings) {
			l.fault(at, "%s is not checked beside $ref, forms, conditions or contains: %s", name, instead)
		}
	}
}

func isTexts(value any) bool {
	list, ok := value.([]any)
	return ok && len(textsOf(list)) == len(list)
}

// hasForms: other schemas hold for the same value.
func hasForms(n map[string]any) bool {
	for name := range n {
		word, _ := checked(name)
		later, _ := ofLater(name)
		if word.sameValue && name != "not" || later.sameValue || name == "$ref" {
			return true
		}
	}
	return false
}

// value checks what the meta-schema can not say, or says less helpfully.
func (l *linter) value(at, name string, value any, siblings map[string]any) {
	switch name {
	case "format":
		l.format(at, value, siblings)
	case "exclusiveMinimum", "exclusiveMaximum":
		if _, is := value.(bool); is && l.dialect.draft != gojsonschema.Draft4 {
			l.fault(at, `must be a number, not %v: write "%s": %s and leave %s out, or declare "$schema": "http://json-schema.org/draft-04/schema#"`,
				value, name, Render(siblings[inclusive(name)]), inclusive(name))
		}
	case "additionalItems":
		if l.dialect.name == "2020-12" {
			l.fault(at, "additionalItems is not checked in 2020-12: write prefixItems and items, or remove it")
		}
	case "pattern":
		if text, ok := value.(string); ok {
			l.expression(at, text)
		}
	case "patternProperties":
		members, _ := value.(map[string]any)
		for text := range members {
			if _, err := regexp.Compile(text); err != nil {
				l.refuse(AppendPointer(at, text), text, err)
			}
		}
	case "items":
		if _, ok := value.([]any); ok && l.dialect.name == "2020-12" {
			l.fault(at, `items is one schema in 2020-12: declare "$schema": "http://json-schema.org/draft-07/schema#" to give each position its own`)
		}
	}
}

// inclusive is the bound that an exclusive one takes the place of.
func inclusive(name string) string {
	return strings.ToLower(strings.TrimPrefix(name, "exclusive")[:1]) + strings.TrimPrefix(name, "exclusive")[1:]
}

// format refuses one that is checked neither by name nor by a pattern beside it.
func (l *linter) format(at string, value any, siblings map[string]any) {
	name, ok := value.(string)
	if !ok || isFormat(name) || demandsNothing(name) || siblings["pattern"] != nil {
		return
	}
	if all, ok := siblings["allOf"].([]any); ok && slices.ContainsFunc(all, func(part any) bool {
		members, _ := part.(map[string]any)
		return members["pattern"] != nil
	}) {
		return
	}
	l.fault(at, "the format %s is not checked: write a pattern beside it, or remove it", Render(name))
}

func (l *linter) expression(at, text string) {
	if _, err := compile(text); err != nil {
		l.refuse(at, text, err)
	}
}

func (l *linter) refuse(at, text string, err error) {
	l.fault(at, "the pattern %s can not be used: %s (RE2 syntax: no back-references, look-ahead only right behind a leading ^; format may say the same)",
		Render(text), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
}

func (l *linter) children(parent, at, name string, word keyword, value any) {
	add := func(pointer string, node any) {
		if word.sameValue {
			l.same[parent] = append(l.same[parent], pointer)
		}
		if word.beyond {
			l.beyond = append(l.beyond, pointer)
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
	case ok && pointer == "" && text[0] != '#':
		// Its references are by pointer, so the document's name means nothing.
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
