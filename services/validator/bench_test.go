package validator

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/xeipuuv/gojsonschema"

	"spillway/pkg/job"
)

// answer1500 is a valid answer of 1.5 KB to the analysis of a text.
func answer1500() string {
	topic := `"` + strings.Repeat("late delivery of a parcel ", 4) + `"`
	return `{"sentiment":"negative","confidence":0.83,"summary":"` + strings.Repeat("The parcel came late, and wet. ", 15) +
		`","topics":[` + topic + strings.Repeat(","+topic, 8) + `]}`
}

// BenchmarkAValidAnswer is what the validator takes for an answer that is as it should be, beside the schema
// library alone, which reads and validates the same.
func BenchmarkAValidAnswer(b *testing.B) {
	t := taskOf(b, analysis)
	answer := &job.Answer{Content: answer1500(), FinishReason: finishStop}
	b.Run("validator", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if v := Judge(t, nil, answer); v.Outcome != Valid {
				b.Fatalf("%+v", v)
			}
		}
	})
	b.Run("gojsonschema", func(b *testing.B) {
		s, err := gojsonschema.NewSchema(gojsonschema.NewBytesLoader(t.OutputSchema.Source()))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			r, err := s.Validate(gojsonschema.NewStringLoader(answer.Content))
			if err != nil || !r.Valid() {
				b.Fatal(err, r)
			}
		}
	})
}

// BenchmarkHostileAnswers shows that a verdict takes time in proportion to the answer: ns/byte is the same for
// a quarter of a megabyte and for a whole one. Work that grows faster than the text would show as four times.
func BenchmarkHostileAnswers(b *testing.B) {
	tasks, large, small := hostileTasks(b), hostile(mostHostile), hostile(mostHostile/4)
	for _, kind := range []string{"object", "tree"} {
		for _, name := range slices.Sorted(maps.Keys(large)) {
			for size, content := range map[string]string{"256K": small[name], "1M": large[name]} {
				b.Run(kind+"/"+strings.ReplaceAll(name, " ", "_")+"/"+size, func(b *testing.B) {
					answer := &job.Answer{Content: content, FinishReason: finishStop}
					for b.Loop() {
						Judge(tasks[kind], nil, answer)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(content)), "ns/byte")
				})
			}
		}
	}
}
