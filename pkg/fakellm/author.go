package fakellm

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// author writes one answer. It is used once.
type author struct {
	doc   *document
	nonce uint64
	dice  dice
	// signed is true once the nonce stands in a string.
	signed bool
	// values and text count what was written, up to maxValues and about maxText characters.
	values, text int
	out          []byte
}

const (
	// modestDepth and modestValues are where objects lose their optional properties and arrays their optional
	// items, so that recursive schemas come to an end.
	modestDepth  = 6
	modestValues = 300
	// maxDepth, maxValues and maxText are where a schema that demands endless nesting, or too much, gets null
	// and no more.
	maxDepth  = 64
	maxValues = 20_000
	maxText   = 2 << 20
)

// document returns a value that satisfies the schema, as JSON.
func (a *author) document() string {
	a.out = make([]byte, 0, 512)
	a.value(a.doc.root, "", 0)
	return string(a.out)
}

// prose returns an answer in words.
func (a *author) prose() string {
	a.signed = true
	return string(appendNonceTag([]byte("This is a simulated answer: no model was asked, and nothing was understood. "), a.nonce))
}

// value appends a value of a property, item or document.
func (a *author) value(s *schema, name string, depth int) {
	k := a.doc.flat(s)
	a.values++
	if k.hasEnum && len(k.enum) > 0 {
		a.out = append(a.out, k.enum[a.dice.below(len(k.enum))]...)
		return
	}
	switch kind := k.kind(); {
	case kind == "null" || depth > maxDepth || a.isExhausted():
		a.out = append(a.out, "null"...)
	case kind == "object":
		a.object(k, depth)
	case kind == "array":
		a.array(k, name, depth)
	case kind == "boolean":
		a.out = strconv.AppendBool(a.out, a.dice.below(2) == 1)
	case kind == "integer" || kind == "number":
		a.out = append(a.out, number(k, kind == "integer", &a.dice)...)
	default:
		text := a.words(k, name)
		a.text += len(text)
		a.out = appendString(a.out, text)
	}
}

func (a *author) isModest(depth int) bool { return depth >= modestDepth || a.values >= modestValues }

func (a *author) isExhausted() bool { return a.values > maxValues || a.text > maxText }

// kind returns the type to generate: the first that is not null, or the one that the keywords are about.
func (k *keywords) kind() string {
	for _, name := range k.types {
		if name != "null" {
			return name
		}
	}
	switch {
	case len(k.types) > 0:
		return "null"
	case len(k.properties) > 0 || len(k.required) > 0 || k.minProps > 0 || k.additional != nil:
		return "object"
	case k.items != nil || len(k.prefix) > 0 || k.minItems > 0:
		return "array"
	case k.low.set || k.high.set || k.multiple != "":
		return "number"
	default:
		return "string"
	}
}

func (a *author) object(k *keywords, depth int) {
	start := len(a.out)
	a.out = append(a.out, '{')
	left, reserved := k.maxPro, len(k.required)
	for _, p := range k.properties {
		required := slices.Contains(k.required, p.name)
		if !required && (a.isModest(depth) || left >= 0 && left <= reserved || a.doc.flat(p.schema).never) {
			continue
		}
		left--
		if required {
			reserved--
		}
		a.member(start, p.name)
		a.value(p.schema, p.name, depth+1)
	}
	written := k.maxPro - left
	for _, name := range k.required {
		if !slices.ContainsFunc(k.properties, func(p property) bool { return p.name == name }) {
			written++
			a.member(start, name)
			a.value(k.others(), name, depth+1)
		}
	}
	a.furtherMembers(k, start, written, depth)
	a.out = append(a.out, '}')
}

// furtherMembers adds what minProperties wants, and one entry to a map without named properties.
func (a *author) furtherMembers(k *keywords, start, written, depth int) {
	want := k.minProps
	if len(k.properties) == 0 && k.additional != nil && !a.isModest(depth) && k.maxPro != 0 {
		want = max(want, 1)
	}
	if a.doc.flat(k.others()).never {
		return
	}
	for i := 1; written < want && !a.isExhausted(); i++ {
		name := "simulated_" + strconv.Itoa(i)
		if !slices.Contains(k.required, name) {
			written++
			a.member(start, name)
			a.value(k.others(), name, depth+1)
		}
	}
}

// others returns the schema of members that have no name in the schema.
func (k *keywords) others() *schema {
	if k.additional != nil {
		return k.additional
	}
	return anything()
}

func (a *author) member(start int, name string) {
	if len(a.out) > start+1 {
		a.out = append(a.out, ',')
	}
	a.out = append(appendString(a.out, name), ':')
}

func (a *author) array(k *keywords, name string, depth int) {
	most := k.maxItems
	if k.items != nil && a.doc.flat(k.items).never {
		most = lower(most, len(k.prefix))
	}
	want := max(k.minItems, len(k.prefix))
	if !a.isModest(depth) {
		want = max(want, k.minItems+1, 2)
	}
	want = lower(want, most)
	var items [][]byte
	// An enum may have fewer values than uniqueItems wants: then the tries end.
	for tries := 8 + 8*want; len(items) < want && tries > 0 && !a.isExhausted(); tries-- {
		at, start := k.items, len(a.out)
		if len(items) < len(k.prefix) {
			at = k.prefix[len(items)]
		} else if at == nil {
			at = anything()
		}
		a.value(at, name, depth+1)
		item := bytes.Clone(a.out[start:])
		a.out = a.out[:start]
		if !k.unique || !slices.ContainsFunc(items, func(other []byte) bool { return bytes.Equal(item, other) }) {
			items = append(items, item)
		}
	}
	a.out = append(append(append(a.out, '['), bytes.Join(items, []byte{','})...), ']')
}

// words returns a string's value.
func (a *author) words(k *keywords, name string) string {
	if k.format != "" {
		if text := formatted(k.format, &a.dice); text != "" {
			return text
		}
	}
	if k.pattern != "" {
		if text, ok := matching(k, &a.dice); ok {
			return text
		}
	}
	tail := string(appendNonce(nil, a.dice.next())[:4])
	room := k.maxLength
	if k.format == "" && k.pattern == "" && !a.signed && (room < 0 || room >= nonceTagLength) {
		a.signed = true
		tail = string(appendNonceTag(nil, a.nonce))
	}
	return fit("Simulated "+inWords(name), tail, k)
}

// fit puts head and tail together, of at least minLength and at most maxLength characters: the head gives way.
func fit(head, tail string, k *keywords) string {
	if k.maxLength >= 0 {
		room := k.maxLength - len(tail) - 1
		if room < 0 {
			return tail[max(0, len(tail)-k.maxLength):]
		}
		head = strings.TrimRight(head[:runes(head, room)], " ")
	}
	if head == "" && len(tail) >= k.minLength {
		return tail
	}
	missing := min(k.minLength, maxText) - utf8.RuneCountInString(head) - 1 - len(tail)
	if missing > 0 {
		filler := strings.Repeat(" filler", missing/len(" filler")+1)
		head += filler[:missing-1] + "."
	}
	return head + " " + tail
}

// inWords turns suggestedRoute and suggested_route into "suggested route".
func inWords(name string) string {
	if name == "" {
		return "answer"
	}
	var words strings.Builder
	previous := ' '
	for _, r := range name {
		switch {
		case r == '_' || r == '-':
			r = ' '
		case unicode.IsUpper(r) && unicode.IsLower(previous):
			words.WriteByte(' ')
		}
		words.WriteRune(unicode.ToLower(r))
		previous = r
	}
	return words.String()
}

// offSchema returns valid JSON that violates the schema: the satisfying value with one member of the wrong
// type, else without members, else a value of another type. For a schema that admits everything there is
// no such thing; it gets the last of these.
func (a *author) offSchema() string {
	if a.doc == nil {
		return `{"off_schema":true}`
	}
	good := a.document()
	for _, bad := range a.mutants(good) {
		if !a.doc.admitsText(bad) {
			return bad
		}
	}
	return wrongValues()[0]
}

// wrongValues has one of each type.
func wrongValues() []string {
	return []string{`{"off_schema":true}`, `"off schema"`, `-98765.4321`, `true`, `["off schema",-98765.4321]`, `null`}
}

func (a *author) mutants(good string) []string {
	var all []string
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(good), &members) == nil {
		k := a.doc.flat(a.doc.root)
		for _, p := range k.properties {
			old := members[p.name]
			for _, wrong := range append(misspelt(old), wrongValues()...) {
				members[p.name] = json.RawMessage(wrong)
				if bad, err := json.Marshal(members); err == nil {
					all = append(all, string(bad))
				}
			}
			members[p.name] = old
		}
		all = append(all, "{}")
	}
	return append(all, wrongValues()...)
}

// misspelt returns a string value cut short, as models cut the names of enums; none for other values.
func misspelt(value json.RawMessage) []string {
	var text string
	if json.Unmarshal(value, &text) != nil || len(text) < 3 {
		return nil
	}
	return []string{string(appendString(nil, text[:runes(text, len(text)/2)]))}
}
