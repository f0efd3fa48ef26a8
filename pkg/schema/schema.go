// Package schema decodes JSON strictly and validates decoded values against JSON schemas.
//
// A schema is read by gojsonschema, of which three things must never be met unguarded: it fetches remote and file
// references, it ignores keywords of later drafts in silence, and it overflows the stack on a schema that refers to
// itself. Compile refuses these before anything is loaded. Values are judged by a walk of our own, for gojsonschema
// takes exponential time where alternatives nest, panics on numbers with huge exponents and takes 1 KB for each fault;
// FuzzVerdicts holds the verdicts of both against each other.
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
	source   []byte
	document any
	root     *node
	once     sync.Once
	memo     any
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
// really checked. Nothing outside of the document is ever loaded. The error joins all faults: *CompileError, or one
// *SyntaxError.
func Compile(doc []byte) (schema *Schema, err error) {
	document, err := Decode(doc)
	if err != nil {
		return nil, err
	}
	dialect, anchors, err := lint(document)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cause := recover(); cause != nil {
			schema, err = nil, &CompileError{Message: fmt.Sprintf("the schema can not be compiled: %v", cause)}
		}
	}()
	// gojsonschema rewrites the references in the document that it is given, so it gets one of its own.
	own, err := Decode(doc)
	if err != nil {
		return nil, err
	}
	installFormats()
	loader := gojsonschema.NewSchemaLoader()
	loader.AutoDetect = false
	loader.Draft = dialect.draft
	if _, err := loader.Compile(localLoader{gojsonschema.NewRawLoader(own)}); err != nil {
		return nil, &CompileError{Message: err.Error()}
	}
	var source bytes.Buffer
	if err := json.Compact(&source, doc); err != nil {
		return nil, &CompileError{Message: err.Error()}
	}
	return &Schema{source: source.Bytes(), document: document, root: build(document, anchors)}, nil
}

// Memo returns what of makes of the schema. It is made once: all callers of one program must mean the same.
func (s *Schema) Memo(of func(*Schema) any) any {
	s.once.Do(func() { s.memo = of(s) })
	return s.memo
}

// Document returns the schema decoded, for the caller alone.
func (s *Schema) Document() (any, error) { return Decode(s.source) }

// Source returns the schema's text without white space. It must not be changed.
func (s *Schema) Source() []byte { return s.source }
