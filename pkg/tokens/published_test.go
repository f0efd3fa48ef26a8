package tokens

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"spillway/pkg/job"
	"spillway/pkg/schema"
)

//go:generate go test -run TestPublishedUsage -update

var update = flag.Bool("update", false, "write README.md anew")

// published is a request whose whole prompt is public, with the usage that its provider reported.
type published struct {
	Source, License, Vendor, Model, Encoding string
	Messages                                 []job.Message
	Format                                   *responseFormat `json:"response_format"`
	// WithoutFormat is what the provider reported of the same request without the response format; 0: not known.
	// Requests with tools are told by it.
	WithoutFormat int `json:"without_format"`
	// Superseded: recorded while the provider still put response formats before the model in another way.
	Superseded bool
	Published  int
}

type responseFormat struct {
	Name, Description string
	Strict            bool
	Schema            json.RawMessage
}

// text is what the model sees of the schema, as Spillway takes it to be.
func (f *responseFormat) text(t *testing.T) string {
	t.Helper()
	shown := []byte(f.Schema)
	if f.Strict {
		compiled, err := schema.Compile(f.Schema)
		if err != nil {
			t.Fatal(err)
		}
		strict, err := compiled.Strict()
		if err != nil {
			t.Fatal(err)
		}
		shown = strict.Shown
	}
	var b bytes.Buffer
	if f.Description != "" {
		b.WriteString("// " + f.Description + "\n")
	}
	if err := json.Compact(&b, shown); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// counted is what Spillway expects of the request.
func (p *published) counted(t *testing.T, c *Counter) int {
	t.Helper()
	n := p.WithoutFormat
	if n == 0 {
		var err error
		if n, err = c.CountMessages(p.Encoding, p.Messages); err != nil {
			t.Fatal(err)
		}
	}
	if p.Format == nil {
		return n
	}
	format, err := c.CountFormat(p.Encoding, p.Format.Name, p.Format.text(t))
	if err != nil {
		t.Fatal(err)
	}
	return n + format
}

func publishedUsage(t *testing.T) []published {
	t.Helper()
	data, err := os.ReadFile("testdata/published.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []published
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// The figures are the providers' own: usage in recorded responses, or their endpoints that count. Each row names
// its source.
func TestPublishedUsageIsCountedWithinOnePercentOrOneTokenForOpenAI(t *testing.T) {
	t.Parallel()
	c := New()
	rows, formats := 0, 0
	for _, p := range publishedUsage(t) {
		if p.Vendor != "openai" || p.Superseded {
			continue
		}
		rows++
		if p.Format != nil {
			formats++
		}
		got := p.counted(t, c)
		if off := math.Abs(float64(got - p.Published)); off > max(1, 0.01*float64(p.Published)) {
			t.Errorf("%s: %d tokens, published are %d", p.Source, got, p.Published)
		}
	}
	if rows < 15 || formats < 10 {
		t.Errorf("%d rows, %d of them with a response format", rows, formats)
	}
}

// What the README says of all rows is what counting says now.
func TestPublishedUsageIsAsTheReadmeSays(t *testing.T) {
	t.Parallel()
	c := New()
	var b strings.Builder
	b.WriteString(readmeHead)
	row := func(p published) {
		got, format := p.counted(t, c), ""
		if p.Format != nil {
			format = "yes"
		}
		off := got - p.Published
		fmt.Fprintf(&b, "| %s | %d | %s | %d | %d | %+d (%+.1f %%) | %s |\n", p.Model, len(p.Messages), format, p.Published, got, off,
			100*float64(off)/float64(p.Published), strings.ReplaceAll(p.Source, "|", `\|`))
	}
	rows := publishedUsage(t)
	table(&b, "OpenAI", func(p published) bool { return p.Vendor == "openai" && !p.Superseded }, rows, row)
	b.WriteString(readmeSuperseded)
	table(&b, "OpenAI, before", func(p published) bool { return p.Superseded }, rows, row)
	b.WriteString(readmeOthers)
	table(&b, "Others", func(p published) bool { return p.Vendor != "openai" }, rows, row)
	b.WriteString(readmeSafety)
	for _, line := range safety(t, c, rows) {
		b.WriteString(line)
	}
	b.WriteString(readmeSources)
	if *update {
		if err := os.WriteFile("README.md", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile("README.md")
	if err != nil || string(stored) != b.String() {
		t.Fatalf("README.md is not what counting says (%v); run go generate ./pkg/tokens", err)
	}
}

func table(b *strings.Builder, name string, of func(published) bool, rows []published, row func(published)) {
	fmt.Fprintf(b, "\n| %s | messages | response format | published | counted | off | source |\n|---|--:|---|--:|--:|--:|---|\n", name)
	for _, p := range rows {
		if of(p) {
			row(p)
		}
	}
}

// safety is the token_safety that the longest published prompt of each other vendor asks for. Its response
// format is left out of the count: whether a vendor counts it is not known.
func safety(t *testing.T, c *Counter, rows []published) (lines []string) {
	t.Helper()
	longest := map[string]published{}
	for _, p := range rows {
		if p.Vendor != "openai" && (p.Format == nil || p.Vendor == "gemini") && p.Published > longest[p.Vendor].Published {
			longest[p.Vendor] = p
		}
	}
	for _, vendor := range slices.SortedFunc(maps.Keys(longest), cmp.Compare[string]) {
		p := longest[vendor]
		n, err := c.CountMessages(p.Encoding, p.Messages)
		if err != nil {
			t.Fatal(err)
		}
		ratio := float64(p.Published) / float64(n)
		lines = append(lines, fmt.Sprintf("| %s | %d | %d | %.2f | %.2f |\n", p.Model, p.Published, n, ratio, math.Ceil(20*max(ratio, 1))/20))
	}
	return lines
}
