package schema

import (
	"slices"

	"github.com/xeipuuv/gojsonschema"
)

// Where the sub-schemas of a keyword are.
type applies int

const (
	none    applies = iota
	one             // the value is a schema
	many            // the value is an array of schemas
	either          // the value is a schema or an array of schemas
	members         // the members of the value are schemas (or, in dependencies, arrays of names)
)

// keyword is one that gojsonschema checks, from draft since on.
type keyword struct {
	since   gojsonschema.Draft
	applies applies
	// sameValue: the sub-schemas hold for the value itself and not for a part of it, so a reference back
	// through them never ends.
	sameValue bool
	// beyond: the meta-schemas up to draft 7 do not look there.
	beyond bool
}

func checked(name string) (keyword, bool) {
	switch name {
	case "type", "enum", "required", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
		"minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties":
		return keyword{since: 4}, true
	case "const":
		return keyword{since: 6}, true
	case "additionalProperties", "additionalItems":
		return keyword{since: 4, applies: one}, true
	case "propertyNames", "contains":
		return keyword{since: 6, applies: one}, true
	case "properties", "patternProperties":
		return keyword{since: 4, applies: members}, true
	case "items":
		return keyword{since: 4, applies: either}, true
	case "allOf", "anyOf", "oneOf":
		return keyword{since: 4, applies: many, sameValue: true}, true
	case "not":
		return keyword{since: 4, applies: one, sameValue: true}, true
	case "if", "then", "else":
		return keyword{since: 7, applies: one, sameValue: true}, true
	case "dependencies":
		return keyword{since: 4, applies: members, sameValue: true}, true
	}
	return keyword{}, false
}

// ofLater is a keyword that translate says with others.
func ofLater(name string) (keyword, bool) {
	switch name {
	case "dependentRequired", "nullable":
		return keyword{beyond: true}, true
	case "prefixItems":
		return keyword{applies: many, beyond: true}, true
	case "dependentSchemas":
		return keyword{applies: members, sameValue: true, beyond: true}, true
	case "unevaluatedProperties", "unevaluatedItems":
		return keyword{applies: one, beyond: true}, true
	}
	return keyword{}, false
}

// checkedKeywords are those that a misspelt one may mean.
func checkedKeywords() []string {
	return []string{
		"type", "enum", "required", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
		"minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
		"const", "additionalProperties", "additionalItems", "propertyNames", "contains", "properties", "patternProperties",
		"items", "allOf", "anyOf", "oneOf", "dependencies", "prefixItems", "dependentRequired", "dependentSchemas",
	}
}

// isAnnotation: the keyword demands nothing of a value.
func isAnnotation(name string) bool {
	return slices.Contains([]string{
		"$schema", "$id", "id", "$comment", "title", "description", "default", "examples",
		"example", "readOnly", "writeOnly", "deprecated", "contentMediaType", "contentEncoding", "contentSchema",
		"definitions", "$defs", "discriminator", "externalDocs", "xml",
	}, name)
}

// remedy says what to write instead of a keyword that gojsonschema ignores in silence.
func remedy(name string) (string, bool) {
	switch name {
	case "prefixItems":
		return `declare "$schema": "https://json-schema.org/draft/2020-12/schema", or write items as an array of schemas (and additionalItems for the rest)`, true
	case "unevaluatedProperties":
		return "name all properties in one place and write additionalProperties: false there", true
	case "unevaluatedItems":
		return "write prefixItems and items: false", true
	case "dependentRequired", "dependentSchemas":
		return "write dependencies", true
	case "extends":
		return "write allOf", true
	case "disallow":
		return "write not", true
	case "divisibleBy":
		return "write multipleOf", true
	case "formatMinimum", "formatMaximum", "formatExclusiveMinimum", "formatExclusiveMaximum", "propertyDependencies",
		"patternRequired", "deepRequired", "deepProperties", "uniqueItemProperties", "instanceof", "typeof", "regexp", "transform":
		return "remove it, or check it by a rule in task.yaml", true
	case "minContains", "maxContains":
		return "remove it: contains alone means at least one; or check it by a rule in task.yaml", true
	case "$dynamicRef", "$recursiveRef":
		return `write $ref with a pointer ("#/$defs/…")`, true
	case "$anchor", "$dynamicAnchor", "$recursiveAnchor":
		return `remove it and refer by pointer ("#/$defs/…")`, true
	case "$vocabulary":
		return "remove it", true
	case "nullable":
		return `write "type": ["string", "null"], or anyOf with {"type": "null"}`, true
	}
	return "", false
}
