package task

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"maps"
	"slices"

	"spillway/pkg/schema"
)

// Lengths of hashes, in bytes.
const (
	versionBytes = 4
	keyBytes     = 16
)

// digest hashes parts so that their borders count: "a","bc" differs from "ab","c".
type digest struct{ hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

func (d digest) part(text []byte) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(text)))
	d.Write(length[:])
	d.Write(text)
}

func (d digest) text(text string) { d.part([]byte(text)) }

func (d digest) hex(bytes int) string { return hex.EncodeToString(d.Sum(nil)[:bytes]) }

// stamp computes the hashes of a task.
func (s *Set) stamp(t *Task) {
	t.Version = s.version(t)
	t.ShapeHash = s.shape(t)
	s.lend(t)
}

// lend gives a task the entries of the models that it may call.
func (s *Set) lend(t *Task) {
	t.Models = map[string]*Model{}
	for _, name := range t.names() {
		if model, ok := s.Models[name]; ok {
			t.Models[name] = model
		}
	}
}

// version hashes the files as they are, so that it does not depend on how they are decoded, and the resolved
// entries of the models that the task may call.
func (s *Set) version(t *Task) string {
	d := newDigest()
	for _, name := range slices.Sorted(maps.Keys(t.Files)) {
		d.text(name)
		d.part(t.Files[name])
	}
	for _, name := range t.names() {
		d.text(name)
		if model, ok := s.Models[name]; ok {
			d.part(model.entry)
		}
	}
	return d.hex(versionBytes)
}

// shape hashes what shapes an answer besides its input, and what makes it acceptable: an answer that today's
// rules would not let pass must not be found under today's key.
func (s *Set) shape(t *Task) string {
	d := newDigest()
	d.part(t.Files[promptFile])
	if t.OutputSchema != nil {
		d.part(t.OutputSchema.Source())
	}
	var settings []any
	for _, name := range []string{t.Model, t.Correction.LastOn} {
		d.text(name)
		if model, ok := s.Models[name]; ok {
			settings = append(settings, shaping(model))
			if p, ok := s.Providers[model.Provider]; ok {
				settings = append(settings, reaching(p))
			}
		}
	}
	o, c := t.Output, t.Context
	for _, rule := range o.Rules {
		d.text(rule.Expr.String())
		d.text(rule.Say)
	}
	o.Rules, o.Stream, c.StateUpdate = nil, "", nil
	for _, one := range append(settings, t.Parameters, o, c) {
		text, err := json.Marshal(one)
		if err != nil { // numbers, texts and pointers to them always have a form in JSON
			panic("settings without a form in JSON: " + err.Error())
		}
		d.part(text)
	}
	return d.hex(keyBytes)
}

// shaping is a model without what does not shape its answers: price, pace, patience. What it gains some day
// counts, until it is named here.
func shaping(m *Model) Model {
	c := *m
	c.Prices, c.Limits, c.Timeouts, c.Breaker, c.RetryShare = Prices{}, Limits{}, Timeouts{}, Breaker{}, 0
	c.Stream, c.StreamUsage = false, false
	return c
}

// reaching is a provider without its keys and bounds.
func reaching(p *Provider) Provider {
	c := *p
	c.APIKey, c.APIKeyEnv, c.APIKeyFile, c.CAFile, c.BaseURLEnv, c.RateLimitHeaders, c.Limits = "", "", "", "", "", "", Limits{}
	return c
}

// CacheKey is the name under which the answer to an input is kept: 32 hexadecimal digits. input is canonical
// JSON; session a digest of what the session adds to the prompt, "" without one.
func (t *Task) CacheKey(tenant string, input []byte, session string) string {
	value, err := schema.Decode(input)
	if err != nil {
		value = string(input) // told apart by all of it
	}
	return t.cacheKey(tenant, value, input, session)
}

// cacheKey does for a value whose canonical JSON is known.
func (t *Task) cacheKey(tenant string, value any, input []byte, session string) string {
	d := newDigest()
	if t.Cache.Scope == ScopeEveryone {
		tenant = ""
	}
	d.text(t.Name)
	d.text(tenant)
	d.text(t.ShapeHash)
	d.text(session)
	// An input that has none of what tells inputs apart is told apart by all of it.
	isThere := func(pointer string) bool { _, found := schema.Lookup(value, pointer); return found }
	if !slices.ContainsFunc(t.Cache.Key, isThere) {
		d.part(input)
		return d.hex(keyBytes)
	}
	for _, pointer := range t.Cache.Key {
		d.text(pointer)
		part, found := schema.Lookup(value, pointer)
		if !found {
			d.text("") // no JSON value is empty
			continue
		}
		text, err := Canonical(part)
		if err != nil {
			text = input
		}
		d.part(text)
	}
	return d.hex(keyBytes)
}

// resolvedEntry is a model's entry over the defaults, as canonical JSON. It is made from what is written, not
// from what was understood, so that it stays the same when Spillway learns new keys.
func resolvedEntry(defaults, own map[string]any) ([]byte, error) {
	return Canonical(overlay(defaults, own))
}

// overlay puts own over defaults, mapping by mapping.
func overlay(defaults, own map[string]any) map[string]any {
	all := maps.Clone(defaults)
	if all == nil {
		all = map[string]any{}
	}
	for key, value := range own {
		below, isMapping := all[key].(map[string]any)
		above, both := value.(map[string]any)
		switch {
		case isMapping && both:
			all[key] = overlay(below, above)
		case isMapping && value == nil: // `breaker:` without a value is absent
		default:
			all[key] = value
		}
	}
	return all
}
