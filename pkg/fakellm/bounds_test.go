package fakellm

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"
)

// What these tests hold is out of reach over HTTP, or would need a quiet clock.

func TestTheMemoryForgetsTheOldestAnswers(t *testing.T) {
	t.Parallel()
	m := newMemory()
	for i := range memorySize + 10 {
		m.keepBad(strconv.Itoa(i))
		m.keepBad(strconv.Itoa(i))
	}
	if len(m.known) != memorySize || len(m.order) != memorySize {
		t.Errorf("%d answers are known, %d in order, at most %d may be", len(m.known), len(m.order), memorySize)
	}
	if m.isBad("9") || !m.isBad("10") || !m.isBad(strconv.Itoa(memorySize+9)) {
		t.Error("not the oldest were forgotten")
	}
}

func TestTheLedgerForgetsTheOldestInputsAndSaysSo(t *testing.T) {
	t.Parallel()
	l := newLedger()
	for i := range uint64(maxNonces + 10) {
		l.remember(i, inputCalls{calls: 1})
	}
	if _, known := l.nonces[9]; known || len(l.nonces) != maxNonces || l.forgotten != 10 {
		t.Errorf("%d inputs known, %d forgotten", len(l.nonces), l.forgotten)
	}
	if _, known := l.nonces[10]; !known {
		t.Error("not the oldest were forgotten")
	}
}

func TestSchemasAreForgottenBeforeTheyAreTooMany(t *testing.T) {
	t.Parallel()
	s := newSchemas()
	for i := range 3 * maxSchemas {
		r := &chatRequest{Messages: []message{{Role: "system", Content: strconv.Itoa(i)}}}
		if d, err := s.wanted(r); d != nil || err != nil {
			t.Fatalf("%v, %v", d, err)
		}
		if len(s.byHash) > maxSchemas {
			t.Fatalf("%d schemas are kept", len(s.byHash))
		}
	}
}

func TestASpreadOfLatencyKeepsTheMedianAndHasItsSigma(t *testing.T) {
	t.Parallel()
	var first, perToken []float64
	for seed := range uint64(10_001) {
		f, p := Latency{FirstToken: time.Second, PerToken: time.Millisecond, Sigma: 0.5}.draw(seed)
		first, perToken = append(first, f.Seconds()), append(perToken, 1000*p.Seconds())
	}
	for name, draws := range map[string][]float64{"first": first, "per token": perToken} {
		slices.Sort(draws)
		// The quantiles of the normal distribution: 0 at 50 %, 1 at 84.13 %, -1 at 15.87 %.
		for quantile, want := range map[int]float64{5000: 1, 8413: math.Exp(0.5), 1587: math.Exp(-0.5)} {
			if got := draws[quantile]; math.Abs(got/want-1) > 0.04 {
				t.Errorf("%s: %v of 10000 draws are below %v, want %v", name, quantile, got, want)
			}
		}
	}
	if f, p := (Latency{time.Second, time.Millisecond, 0}).draw(1); f != time.Second || p != time.Millisecond {
		t.Errorf("without a sigma: %v, %v", f, p)
	}
}

// FuzzASchema holds that whatever parses as a schema gets an answer, of bounded size, that is JSON: also
// one that goes in circles or demands endlessly much.
func FuzzASchema(f *testing.F) {
	for _, seed := range []string{
		`{"type":"object","required":["a"],"properties":{"a":{"$ref":"#"}}}`,
		`{"type":"object","required":["a","b"],"properties":{"a":{"$ref":"#"},"b":{"$ref":"#"}}}`,
		`{"allOf":[{"$ref":"#"},{"$ref":"#"},{"$ref":"#"},{"$ref":"#"}]}`,
		`{"anyOf":[{"$ref":"#/anyOf/1"},{"$ref":"#/anyOf/0"}]}`,
		`{"type":"array","minItems":1000000000,"items":{"type":"array","minItems":1000000000}}`,
		`{"type":"array","minItems":50,"uniqueItems":true,"items":{"type":"boolean"}}`,
		`{"type":"string","minLength":1000000000}`,
		`{"type":"array","minItems":1000000000,"items":{"minLength":1000000000}}`,
		`{"maximum":1e10,"multipleOf":1e-300}`,
		`{"type":"string","minLength":1000000000,"pattern":"^((a*)*)*$"}`,
		`{"type":"string","pattern":"^((((a*)*)*)*)*b$","maxLength":3}`,
		`{"type":"object","minProperties":1000000000}`,
		`{"type":"number","minimum":1e308,"maximum":-1e308}`,
		`{"type":"number","minimum":-1e308,"maximum":1e308,"multipleOf":1e-300}`,
		`{"type":"integer","exclusiveMinimum":0.1,"exclusiveMaximum":0.2}`,
		`{"type":"integer","multipleOf":-1}`,
		`{"items":[{},false],"additionalItems":false,"type":"array"}`,
		`{"enum":[],"type":"string"}`, `{"const":null}`, `true`, `false`, `{"properties":{"":{"maxLength":0}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 10_000 {
			return
		}
		d, err := parseDocument(raw)
		if err != nil {
			return
		}
		good := author{doc: d, nonce: 1, dice: dice{1}}
		text := good.document()
		if !json.Valid([]byte(text)) || len(text) > 64<<20 {
			t.Errorf("%d bytes: %.200q", len(text), text)
		}
		bad := author{doc: d, nonce: 1, dice: dice{1}}
		if text := bad.offSchema(); !json.Valid([]byte(text)) {
			t.Errorf("off schema: %.200q", text)
		}
	})
}
