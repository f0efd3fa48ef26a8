package task

import (
	"fmt"
	"strings"
	"testing"
)

func TestYAMLBecomesTheJSONThatItMeans(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a: 1\nb: -2.50\nc: 0x10\nd: .5\ne: 1e3\nf: 9007199254740993\ng: 99999999999999999999999\n": `{"a":1,"b":-2.50,"c":16,"d":0.5,"e":1e3,"f":9007199254740993,"g":99999999999999999999999}`,
		"a: \"1\"\nb: '1e3'\nc: yes\nd: 2026-11-01\ne: 'it''s'\nf: \"\\u00e9\\n\"\n":                `{"a":"1","b":"1e3","c":"yes","d":"2026-11-01","e":"it's","f":"é\n"}`,
		"a: true\nb: False\nc: ~\nd:\ne: null\n":                                                    `{"a":true,"b":false,"c":null,"d":null,"e":null}`,
		"a: |\n  x\n  y\nb: >\n  x\n  y\n":                                                          `{"a":"x\ny\n","b":"x y\n"}`,
		"a: &x [1, {b: 2}]\nc: *x\n":                                                                `{"a":[1,{"b":2}],"c":[1,{"b":2}]}`,
		"- 1\n- - 2\n  - 3\n":                                                                       `[1,[2,3]]`,
		"{a: [], b: {}}\n":                                                                          `{"a":[],"b":{}}`,
		"1: x\ntrue: y\n":                                                                           `{"1":"x","true":"y"}`,
		"\"quoted key\": x\n":                                                                       `{"quoted key":"x"}`,
		"":                                                                                          `null`,
		"# only a comment\n":                                                                        `null`,
		"a: x # a comment\n":                                                                        `{"a":"x"}`,
		"a: \"x # no comment\"":                                                                     `{"a":"x # no comment"}`,
	} {
		n, fault := parseYAML("f", []byte(text))
		if fault != nil {
			t.Errorf("%q: %v", text, fault)
			continue
		}
		got, err := Canonical(n.json())
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestYAMLThatExplodesIsRefused(t *testing.T) {
	t.Parallel()
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	if _, fault := parseYAML("f", []byte(bomb)); fault == nil || !strings.Contains(fault.String(), "the file holds more than 100000 values") {
		t.Errorf("got %v", fault)
	}
}

func FuzzParseYAML(f *testing.F) {
	for _, seed := range []string{"a: 1\n", "a: &x [1]\nb: *x\n", "- a\n- b: |\n    c\n", "? a\n: b\n", "<<: {a: 1}\n", "a: !!str 1\n", "{a: [1, 2}", "\t", "a: \"", "---\n---\n", "a: .inf\n", "- - - -"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, fault := parseYAML("f", text)
		if fault != nil {
			if fault.Message == "" {
				t.Fatalf("%q: a fault without a message: %+v", text, fault)
			}
			return
		}
		_ = n.json()
	})
}
