package contextbuilder

import (
	"fmt"

	"spillway/pkg/schema"
)

// documentsFrom returns the documents of an input, the best first. Each is a text or an object.
func documentsFrom(input any, pointer string) ([]any, error) {
	items, err := listAt(input, pointer)
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		switch item.(type) {
		case string, map[string]any:
		default:
			return nil, misshaped(schema.AppendPointer(inputPointer+pointer, fmt.Sprint(i)), "must be a text or an object")
		}
	}
	return items, nil
}

// withDocuments is the input as the templates see it when the first n documents are kept.
func (b *build) withDocuments(n int) any {
	if len(b.documents) == 0 || n == len(b.documents) {
		return b.input
	}
	input, err := schema.With(b.input, b.task.Context.DocumentsFrom, b.documents[:n:n])
	if err != nil {
		return b.input // the documents were found there, so they can be set there
	}
	return input
}
