package schema

import (
	"fmt"
	"math/big"
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
	// Rule is the keyword that is violated; "internal": the value could not be checked; "more": there are
	// more violations.
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

func (at located) violation() Violation {
	rule, message := at.say()
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage-len(cut)], "") + cut
	}
	v := Violation{Pointer: at.pointer, Message: message, Got: Render(at.Value()), Rule: rule}
	if rule == "required" || rule == "dependencies" {
		v.Got = ""
	}
	return v
}

// say translates an error's type into keyword and words.
func (at located) say() (rule, message string) {
	d := at.Details()
	switch at.Type() {
	case "required":
		return "required", "is required, but missing"
	case "missing_dependency":
		return "dependencies", "is required beside another property, but missing"
	case "additional_property_not_allowed":
		return "additionalProperties", "is not a known property: leave it out"
	case "invalid_property_name":
		return "propertyNames", "is not an allowed name of a property"
	case "invalid_type":
		return "type", "must be " + typeNames(fmt.Sprint(d["expected"]))
	case "enum":
		return "enum", fmt.Sprintf("must be one of %v", d["allowed"])
	case "const":
		return "const", fmt.Sprintf("must be %v", d["allowed"])
	case "number_any_of":
		return "anyOf", "must have at least one of the allowed forms; what else is said of it is about the nearest one"
	case "number_one_of":
		return "oneOf", "must have exactly one of the allowed forms"
	case "number_not":
		return "not", "has a form that is not allowed"
	case "false":
		return "false", "is not allowed here"
	case "internal":
		return "internal", "the value can not be checked: " + fmt.Sprint(d["error"])
	}
	if rule, message = at.saySize(); rule == "" {
		return at.Type(), at.Description()
	}
	return rule, message
}

func (at located) saySize() (rule, message string) {
	d := at.Details()
	switch at.Type() {
	case "string_gte":
		return "minLength", fmt.Sprintf("must have at least %s, has %d", count(d["min"], "character"), length(at.Value()))
	case "string_lte":
		return "maxLength", fmt.Sprintf("must have at most %s, has %d", count(d["max"], "character"), length(at.Value()))
	case "pattern":
		return "pattern", fmt.Sprintf("must match the pattern %v", d["pattern"])
	case "format":
		return "format", fmt.Sprintf("must be a valid %v", d["format"])
	case "number_gte":
		return "minimum", "must be at least " + number(d["min"])
	case "number_gt":
		return "exclusiveMinimum", "must be greater than " + number(d["min"])
	case "number_lte":
		return "maximum", "must be at most " + number(d["max"])
	case "number_lt":
		return "exclusiveMaximum", "must be less than " + number(d["max"])
	case "multiple_of":
		return "multipleOf", "must be a multiple of " + number(d["multiple"])
	case "array_min_items":
		return "minItems", fmt.Sprintf("must have at least %s, has %d", count(d["min"], "item"), length(at.Value()))
	case "array_max_items":
		return "maxItems", fmt.Sprintf("must have at most %s, has %d", count(d["max"], "item"), length(at.Value()))
	case "unique":
		return "uniqueItems", fmt.Sprintf("must have no equal items: those at %v and %v are", d["i"], d["j"])
	case "contains":
		return "contains", "must have at least one item of the demanded form"
	case "array_no_additional_items":
		return "additionalItems", "has more items than are allowed"
	case "array_min_properties":
		return "minProperties", fmt.Sprintf("must have at least %s, has %d", count(d["min"], "property"), length(at.Value()))
	case "array_max_properties":
		return "maxProperties", fmt.Sprintf("must have at most %s, has %d", count(d["max"], "property"), length(at.Value()))
	}
	return "", ""
}

// typeNames makes "string" a string, "[string,null]" a string or null.
func typeNames(expected string) string {
	names := strings.Split(strings.Trim(expected, "[]"), ",")
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

func count(n any, noun string) string {
	text := fmt.Sprint(n)
	switch {
	case text == "1":
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return text + " " + noun
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

func number(bound any) string {
	f, ok := bound.(*big.Float)
	switch {
	case !ok:
		return fmt.Sprint(bound)
	case f.IsInt() && f.MantExp(nil) < 128:
		return f.Text('f', 0)
	default:
		return f.Text('g', 15)
	}
}
