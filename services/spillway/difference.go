package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// difference is a place where two JSON values differ. A side that has nothing there is nil.
type difference struct {
	Pointer string          `json:"pointer"`
	First   json.RawMessage `json:"first"`
	Second  json.RawMessage `json:"second"`
}

// maxDifferences bounds what is told of two values.
const maxDifferences = 100

// differencesOf compares two JSON values, by value: 0.9 is 0.90, and the order of members means nothing.
func differencesOf(first, second json.RawMessage) []difference {
	a, errA := schema.Decode(first)
	b, errB := schema.Decode(second)
	if errA != nil || errB != nil {
		return []difference{{First: first, Second: second}}
	}
	var found []difference
	compare("", a, b, &found)
	return found
}

// absent stands for what is not there.
type absent struct{}

func compare(pointer string, a, b any, found *[]difference) {
	if len(*found) == maxDifferences {
		return
	}
	switch first := a.(type) {
	case map[string]any:
		if second, ok := b.(map[string]any); ok {
			compareMembers(pointer, first, second, found)
			return
		}
	case []any:
		if second, ok := b.([]any); ok {
			for i := range max(len(first), len(second)) {
				compare(pointer+"/"+strconv.Itoa(i), itemOf(first, i), itemOf(second, i), found)
			}
			return
		}
	case json.Number:
		if second, ok := b.(json.Number); ok && isSameNumber(first, second) {
			return
		}
	}
	textA, textB := textOf(a), textOf(b)
	if !bytes.Equal(textA, textB) {
		*found = append(*found, difference{pointer, textA, textB})
	}
}

func compareMembers(pointer string, a, b map[string]any, found *[]difference) {
	names := maps.Clone(a)
	maps.Copy(names, b)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		compare(schema.AppendPointer(pointer, name), memberOf(a, name), memberOf(b, name), found)
	}
}

func memberOf(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	return absent{}
}

func itemOf(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return absent{}
}

func isSameNumber(a, b json.Number) bool {
	x, errX := a.Float64()
	y, errY := b.Float64()
	return errX == nil && errY == nil && x == y
}

// textOf is a value as JSON; nil of what is absent.
func textOf(value any) json.RawMessage {
	if value == (absent{}) {
		return nil
	}
	text, err := task.Canonical(value)
	if err != nil { // it was decoded, so it has a form
		return json.RawMessage("null")
	}
	return text
}

// generalized is a pointer with a star for each index of an array: where outputs of many inputs differ.
func generalized(pointer string) string {
	tokens := strings.Split(pointer, "/")
	for i, token := range tokens {
		if token != "" && strings.Trim(token, "0123456789") == "" {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, "/")
}
