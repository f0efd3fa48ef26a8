package schema

import (
	"fmt"
	"strings"
	"sync"

	"github.com/xeipuuv/gojsonschema"
)

// The meta-schemas come with gojsonschema: these addresses are never fetched. Compiled once, they never change.
var (
	meta4 = sync.OnceValues(func() (*Schema, error) { return metaSchema("draft-04") })
	meta6 = sync.OnceValues(func() (*Schema, error) { return metaSchema("draft-06") })
	meta7 = sync.OnceValues(func() (*Schema, error) { return metaSchema("draft-07") })
)

func metaSchema(draft string) (*Schema, error) {
	installFormats()
	document, err := gojsonschema.NewReferenceLoader("http://json-schema.org/" + draft + "/schema#").LoadJSON()
	if err != nil {
		return nil, fmt.Errorf("read the meta-schema: %w", err)
	}
	root, _ := build(document, nil)
	return &Schema{root: root}, nil
}

// meta checks the schema itself, which gives faults their pointers; gojsonschema's own do not have them.
func (l *linter) meta() []error {
	load := meta7
	switch l.dialect.draft {
	case gojsonschema.Draft4:
		load = meta4
	case gojsonschema.Draft6:
		load = meta6
	}
	own, err := load()
	if err != nil {
		return []error{fmt.Errorf("compile the meta-schema of %s: %w", l.dialect.name, err)}
	}
	faults := violationsAsFaults("", own.Validate(l.document))
	for _, pointer := range l.beyond {
		node, _ := Lookup(l.document, pointer)
		faults = append(faults, violationsAsFaults(pointer, own.Validate(node))...)
	}
	return faults
}

func violationsAsFaults(prefix string, violations []Violation) []error {
	var faults []error
	for _, v := range violations {
		switch {
		case v.Rule == "anyOf":
			continue // the meta-schemas' alternatives are obvious from the nearest one's violations, which follow
		case v.Rule == "format" && strings.HasSuffix(v.Pointer, "/pattern"):
			continue // linter.expression has looked at it, and knows more of patterns than the format regex
		}
		text := v.Message
		if v.Got != "" {
			text += ", not " + v.Got
		}
		faults = append(faults, &CompileError{prefix + v.Pointer, text})
	}
	return faults
}
