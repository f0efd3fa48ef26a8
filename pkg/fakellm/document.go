package fakellm

import (
	"encoding/json"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// document is a whole schema: references are resolved within it.
type document struct {
	root *schema
	raw  json.RawMessage

	mu   sync.Mutex
	refs map[string]*schema
}

func parseDocument(raw []byte) (*document, error) {
	d := &document{root: new(schema), raw: slices.Clone(raw), refs: map[string]*schema{}}
	d.refs["#"] = d.root
	return d, json.Unmarshal(raw, d.root)
}

// schemas keeps the documents that calls asked for.
type schemas struct {
	seed maphash.Seed

	mu sync.RWMutex
	// byHash has nil for a system message without a schema.
	byHash map[uint64]*document
}

// maxSchemas bounds what is kept: beyond it all are forgotten, for callers whose system message differs in
// each call.
const maxSchemas = 1024

func newSchemas() *schemas {
	return &schemas{seed: maphash.MakeSeed(), byHash: map[uint64]*document{}}
}

// wanted returns the schema that an answer is to satisfy: response_format's, else the first one in a
// system or developer message; nil when there is none.
func (s *schemas) wanted(r *chatRequest) (*document, error) {
	if raw := r.ResponseFormat.JSONSchema.Schema; len(raw) > 0 {
		if r.ResponseFormat.JSONSchema.Strict {
			return s.get(maphash.Bytes(s.seed, raw)+1, func() (*document, error) {
				if err := CheckStrict(raw); err != nil {
					return nil, err
				}
				return parseDocument(raw)
			})
		}
		return s.get(maphash.Bytes(s.seed, raw), func() (*document, error) { return parseDocument(raw) })
	}
	for i := range r.Messages {
		m := &r.Messages[i]
		if m.Role != "system" && m.Role != "developer" {
			continue
		}
		text := m.text()
		d, err := s.get(^maphash.String(s.seed, text), func() (*document, error) { return schemaIn(text), nil })
		if d != nil || err != nil {
			return d, err
		}
	}
	return nil, nil
}

func (s *schemas) get(hash uint64, load func() (*document, error)) (*document, error) {
	s.mu.RLock()
	d, known := s.byHash[hash]
	s.mu.RUnlock()
	if known {
		return d, nil
	}
	d, err := load()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byHash) >= maxSchemas {
		clear(s.byHash)
	}
	s.byHash[hash] = d
	return d, nil
}

// schemaIn returns the first balanced {…} of a text that parses as a schema; nil when there is none. It
// looks at most at maxCandidates braces.
func schemaIn(text string) *document {
	const maxCandidates = 1000
	at := 0
	for range maxCandidates {
		next := strings.IndexByte(text[at:], '{')
		if next < 0 {
			return nil
		}
		at += next
		var candidate json.RawMessage
		if json.NewDecoder(strings.NewReader(text[at:])).Decode(&candidate) == nil && looksLikeSchema(candidate) {
			if d, err := parseDocument(candidate); err == nil {
				return d
			}
		}
		at++
	}
	return nil
}

// maxHops bounds chains of references, which may go in circles, and maxSteps what they branch into.
const (
	maxHops  = 16
	maxSteps = 10_000
)

// flat returns a node without references and combinations: what allOf says is merged, and of anyOf and
// oneOf the first branch that fits.
func (d *document) flat(s *schema) *keywords {
	if k := s.flat.Load(); k != nil {
		return k
	}
	f := flattening{doc: d}
	k := f.flatten(s, 0)
	k.prepare()
	s.flat.Store(&k)
	return &k
}

type flattening struct {
	doc   *document
	steps int
}

func (f *flattening) flatten(s *schema, hops int) keywords {
	k := s.keywords
	k.ref, k.allOf, k.anyOf, k.oneOf = "", nil, nil, nil
	if f.steps++; hops > maxHops || f.steps > maxSteps {
		return k
	}
	if target := f.doc.lookup(s.ref); target != nil {
		k = merge(k, f.flatten(target, hops+1))
	}
	for _, part := range s.allOf {
		k = merge(k, f.flatten(part, hops+1))
	}
	for _, branches := range [][]*schema{s.anyOf, s.oneOf} {
		for i, branch := range branches {
			m := merge(k, f.flatten(branch, hops+1))
			if !m.never || i == len(branches)-1 {
				k = m
				break
			}
		}
	}
	return k
}

// lookup resolves a reference within the document; nil when it names nothing there.
func (d *document) lookup(ref string) *schema {
	if !strings.HasPrefix(ref, "#") {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.refs[ref]; ok {
		return s
	}
	s := new(schema)
	if raw := walk(d.raw, ref); raw == nil || json.Unmarshal(raw, s) != nil {
		s = nil
	}
	d.refs[ref] = s
	return s
}

// unescaper is of the names in the fragment of a reference.
func unescaper() *strings.Replacer {
	return strings.NewReplacer("~1", "/", "~0", "~", "%25", "%", "%20", " ", "%24", "$")
}

// walk follows a JSON pointer (RFC 6901), as the fragment of a reference, down to raw JSON.
func walk(at json.RawMessage, ref string) json.RawMessage {
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil
	}
	unescape := unescaper()
	for step := range strings.SplitSeq(path, "/") {
		var object map[string]json.RawMessage
		var list []json.RawMessage
		if json.Unmarshal(at, &object) == nil {
			at = object[unescape.Replace(step)]
		} else if i, err := strconv.Atoi(step); err == nil && json.Unmarshal(at, &list) == nil && i >= 0 && i < len(list) {
			at = list[i]
		} else {
			return nil
		}
	}
	return at
}
