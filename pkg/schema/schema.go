// Package schema decodes JSON strictly and validates decoded values against JSON schemas.
//
// gojsonschema compiles the schemas and judges the values, behind guards. It fetches remote and file references,
// ignores keywords of later drafts in silence, and overflows the stack on a schema that refers to itself: Compile says
// the former with keywords that it checks (see translation), and refuses what can not be said so before anything is loaded. It panics on numbers with huge exponents, and takes 1 KB and 30 µs for each
// fault: so a walk of our own looks first, names the faults, and ends where there are too many. What that walk finds
// good is then for gojsonschema to judge; but where it would take too long and cannot be stopped (exponential time for
// forms that refer to themselves, and more than maxLibrarySteps), the walk's word stands. FuzzVerdicts holds the verdicts of both against each other.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/xeipuuv/gojsonschema"
)

// Schema is a compiled JSON schema. It is safe for concurrent use.
type Schema struct {
	source []byte
	// document is translated.
	document any
	root     *node
	// library is nil where its time is not bounded.
	library *gojsonschema.Schema
	strict  func() (Strict, error)
	once    sync.Once
	memo    any
}

// CompileError says what is wrong with a schema document, and where in it.
type CompileError struct {
	Pointer string
	Message string
}

// Error gives pointer and message.
func (e *CompileError) Error() string {
	if e.Pointer == "" {
		return e.Message
	}
	return e.Pointer + ": " + e.Message
}

// Compile reads a schema of draft 4, 6 or 7, or of 2019-09 and 2020-12 when it uses only keywords that are
// really checked; without $schema, of any. Nothing outside of the document is ever
// loaded. The error joins all faults: *CompileError, or one *SyntaxError.
func Compile(doc []byte) (schema *Schema, err error) {
	document, err := Decode(doc)
	if err != nil {
		return nil, err
	}
	l, err := lint(document)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cause := recover(); cause != nil {
			schema, err = nil, &CompileError{Message: fmt.Sprintf("the schema can not be compiled: %v", cause)}
		}
	}()
	library, err := l.library(clone(document))
	if err != nil {
		return nil, &CompileError{Message: err.Error()}
	}
	var source bytes.Buffer
	if err := json.Compact(&source, doc); err != nil {
		return nil, &CompileError{Message: err.Error()}
	}
	anchors := l.translate(document, false)
	root, isBounded := build(document, anchors)
	if !isBounded {
		library = nil
	}
	s, dialect := source.Bytes(), l.dialect
	return &Schema{
		source: s, document: document, root: root, library: library,
		strict: sync.OnceValues(func() (Strict, error) { return strictOf(s, dialect) }),
	}, nil
}

// library compiles a document, which it changes, by gojsonschema, which changes its references.
func (l *linter) library(document any) (*gojsonschema.Schema, error) {
	installFormats()
	l.translate(document, true)
	loader := gojsonschema.NewSchemaLoader()
	loader.AutoDetect = false
	loader.Draft = l.dialect.draft
	return loader.Compile(localLoader{gojsonschema.NewRawLoader(document)})
}

func clone(value any) any {
	switch v := value.(type) {
	case []any:
		items := make([]any, len(v))
		for i, item := range v {
			items[i] = clone(item)
		}
		return items
	case map[string]any:
		members := make(map[string]any, len(v))
		for name, member := range v {
			members[name] = clone(member)
		}
		return members
	}
	return value
}

// Memo returns what of makes of the schema. It is made once: all callers of one program must mean the same.
func (s *Schema) Memo(of func(*Schema) any) any {
	s.once.Do(func() { s.memo = of(s) })
	return s.memo
}

// Document returns the schema with the keywords of draft 7 (see translation), decoded, for the caller alone.
func (s *Schema) Document() any { return clone(s.document) }

// Source returns the schema's text without white space. It must not be changed.
func (s *Schema) Source() []byte { return s.source }
