package validator

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"spillway/pkg/job"
)

// hostile are answers that were made to hurt. Each is as large as inference lets an answer be.
func hostile() map[string]string {
	const size = 1 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	return map[string]string{
		"prose":                   fill("I think that it is so. "),
		"deep arrays":             strings.Repeat("[", 100_000),
		"deep arrays, closed":     strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"deep arrays in prose":    "so " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"deep objects":            strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
		"a huge exponent":         `{"score":1E1000001}`,
		"a huge exponent, fenced": "```json\n{\"score\":1E1000001,}\n```",
		"a huge negative one":     `{"score":1E-999999999}`,
		"a number without end":    `{"score":` + fill("9") + "}",
		"closing brackets":        fill("]}"),
		"empty objects":           fill("{}"),
		"notes":                   fill("[1] "),
		"quotes":                  "{" + fill(`"`),
		"backslashes":             `{"a":"` + fill(`\`),
		"fences":                  fill("```\n"),
		"fences with objects":     fill("```\n{}\n"),
		"thoughts":                fill("<think>"),
		"commas":                  "{" + fill(",") + "}",
		"comments":                "{" + fill("/**/") + "}",
		"open comments":           "{" + fill("/*") + "}",
		"slashes":                 `{"a":"x"` + fill(`"/`) + "}",
		"unclosed quotes":         "[" + fill(`"a `) + "]",
		"members without end":     "{" + fill(`a:1,`) + "}",
		"quoted quotes":           `"` + fill(`\"`) + `"`,
		"not UTF-8":               `{"a":"` + fill("\xff") + `"}`,
		"zeros":                   fill("\x00"),
		"blanks and a brace":      fill(" ") + "{",
		"one key again and again": "{" + fill(`"a":1,`) + `"a":1}`,
	}
}

// It runs alone: the memory of the whole process is measured.
func TestHostileAnswersGetAVerdictInBoundedTimeAndMemory(t *testing.T) {
	for _, source := range []string{`{"type":"object","properties":{"score":{"type":"number","maximum":1}}}`, list} {
		tk := taskOf(t, source)
		tk.Output.MaxBytes = 2 << 20
		tk.Output.AdditionalProperties, tk.Output.Coerce = "drop", true
		for name, answer := range hostile() {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			started := time.Now()
			v := judged(t, tk, answer)
			took := time.Since(started)
			runtime.ReadMemStats(&after)
			if v.Outcome != Invalid && v.Outcome != Ambiguous && v.Outcome != Valid {
				t.Errorf("%s: %s", name, v.Outcome)
			}
			// Measured: at most 50 ms and 25 MB of short-lived memory.
			if took > 10*time.Second || after.TotalAlloc-before.TotalAlloc > 200<<20 {
				t.Errorf("%s: %v, %d MB", name, took, (after.TotalAlloc-before.TotalAlloc)>>20)
			}
		}
	}
}

// The largest texts that are still repaired, of the kinds that cost jsonrepair most. Without our own reader
// before it, 16 KB of unclosed quotes take longer than 20 s.
func TestARepairTakesBoundedTime(t *testing.T) {
	t.Parallel()
	fill := func(s string) string { return strings.Repeat(s, (maxRepairBytes-64)/len(s)) }
	for name, text := range map[string]string{
		"members":         "{" + distinctMembers() + "}",
		"items":           "[" + fill("1,") + "]",
		"lines":           "[" + fill("1,\n") + "]",
		"nested":          fill("[[[[[[[[]]]]]]]]"),
		"empty strings":   "[" + fill("'',") + "]",
		"strings":         "[" + fill(`'a',`) + "]",
		"one long string": `['` + fill("a") + "']",
		"line breaks":     "['" + fill("\n") + "']",
		"escapes":         "['" + fill(`\n`) + "']",
		"comments":        "[1" + fill("/**/") + "]",
		"inner quotes":    `{"a":"` + strings.Repeat(`x" "y `, 15) + strings.Repeat("z", maxRepairBytes-128) + `",}`,
		"unclosed quotes": "[" + fill(`"a `) + "]",
		"one quote less":  "[" + fill(`"a",`) + `"b]`,
		"backslashes":     `{"a":"` + fill(`\\`) + `",}`,
		"paths":           `{"a":'` + fill(`C:\\a `) + `',}`,
	} {
		started := time.Now()
		mend(text)
		// Measured: at most 0.2 s.
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("%s: %v for %d bytes", name, took, len(text))
		}
	}
}

func distinctMembers() string {
	var b strings.Builder
	for i := 0; b.Len() < maxRepairBytes-64; i++ {
		b.WriteString("k" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676%26)) + ":1,\n")
	}
	return b.String()
}

func TestAHostileAnswerIsToldBackInBounds(t *testing.T) {
	t.Parallel()
	for name, answer := range hostile() {
		if len(answer) > 64<<10 {
			answer = answer[:64<<10]
		}
		tk := taskOf(t, onboarding)
		j := answered(strings.ToValidUTF8(answer, "?"), "stop")
		err := handle(t, handlerOf(t, tk), j)
		if err != nil {
			if len(err.Message) > job.MaxDetail {
				t.Errorf("%s: a message of %d bytes", name, len(err.Message))
			}
			continue
		}
		size := 0
		for _, m := range j.Correction {
			size += len(m.Content)
		}
		if size > maxExcerpt+16<<10 {
			t.Errorf("%s: a dialogue of %d bytes", name, size)
		}
	}
}
