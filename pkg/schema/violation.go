package schema

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxMessage bounds a message, in bytes: an enumeration can be long.
const maxMessage = 512

// Violation is one place where a value does not satisfy a schema.
type Violation struct {
	// Pointer (RFC 6901) leads to the value; of a missing or an additional property, to that property.
	Pointer string
	// Message says what is demanded, in plain words fit to be fed back to a model.
	Message string
	// Got is a short JSON rendering of the value, at most MaxGot bytes; "" for a missing property.
	Got string
	// Rule is the keyword that is violated; "internal": the value could not be checked; "steps": to
	// check it takes too long; "more": there are more violations.
	Rule string
}

// String gives pointer, message and value in one line.
func (v Violation) String() string {
	text := v.Message
	if v.Got != "" {
		text += ", got " + v.Got
	}
	if v.Pointer == "" {
		return text
	}
	return v.Pointer + ": " + text
}

func (f Fault) violation() Violation {
	message := f.say()
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage-len(cut)], "") + cut
	}
	v := Violation{Pointer: f.Pointer(), Message: message, Got: Render(f.Value), Rule: f.Rule}
	if f.Rule == "required" || f.Rule == "dependencies" {
		v.Got = ""
	}
	return v
}

// say puts the rule into words.
func (f Fault) say() string {
	switch f.Rule {
	case "required":
		return "is required, but missing"
	case "dependencies":
		return "is required beside another property, but missing"
	case "additionalProperties":
		return "is not a known property: leave it out"
	case "propertyNames":
		return "is not an allowed name of a property"
	case "type":
		return "must be " + typeNames(f.node.typeNames)
	case "enum":
		return "must be one of " + f.node.enum.words
	case "const":
		return "must be " + f.node.fixed.words
	case "anyOf":
		return "must have at least one of the allowed forms; what else is said of it is about the nearest one"
	case "oneOf":
		return "must have exactly one of the allowed forms"
	case "not":
		return "has a form that is not allowed"
	case "steps":
		return "does not satisfy the schema, which has too many alternatives to say where"
	case "pattern":
		return "must match the pattern " + f.node.pattern.String()
	case "format":
		return "must be a valid " + f.node.format
	case "contains":
		return "must have at least one item of the demanded form"
	case "additionalItems":
		return "has more items than are allowed"
	case "uniqueItems":
		items, _ := f.Value.([]any)
		i, j, _, _ := twins(items)
		return fmt.Sprintf("must have no equal items: those at %d and %d are", i, j)
	}
	if message := f.sayBound(); message != "" {
		return message
	}
	return "is not allowed here"
}

func (f Fault) sayBound() string {
	n := f.node
	switch f.Rule {
	case "minLength":
		return tooFew(n.length.least, "character", f.Value)
	case "maxLength":
		return tooMany(n.length.most, "character", f.Value)
	case "minItems":
		return tooFew(n.items.least, "item", f.Value)
	case "maxItems":
		return tooMany(n.items.most, "item", f.Value)
	case "minProperties":
		return tooFew(n.members.least, "property", f.Value)
	case "maxProperties":
		return tooMany(n.members.most, "property", f.Value)
	case "minimum":
		return "must be at least " + number(n.minimum.exact)
	case "exclusiveMinimum":
		return "must be greater than " + number(n.above.exact)
	case "maximum":
		return "must be at most " + number(n.maximum.exact)
	case "exclusiveMaximum":
		return "must be less than " + number(n.below.exact)
	case "multipleOf":
		return "must be a multiple of " + number(n.multipleOf)
	}
	return ""
}

func tooFew(least int, noun string, value any) string {
	return fmt.Sprintf("must have at least %s, has %d", count(least, noun), length(value))
}

func tooMany(most int, noun string, value any) string {
	return fmt.Sprintf("must have at most %s, has %d", count(most, noun), length(value))
}

// typeNames makes string and null a string or null.
func typeNames(types []string) string {
	names := slices.Clone(types)
	for i, name := range names {
		switch name {
		case "null":
		case "array", "integer", "object":
			names[i] = "an " + name
		default:
			names[i] = "a " + name
		}
	}
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " or " + names[last]
	}
	return names[0]
}

func count(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

func length(value any) int {
	switch v := value.(type) {
	case string:
		return utf8.RuneCountInString(v)
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	}
	return 0
}

func number(bound *big.Rat) string {
	f := new(big.Float).SetRat(bound)
	if f.IsInt() && f.MantExp(nil) < 128 {
		return f.Text('f', 0)
	}
	return f.Text('g', 15)
}
