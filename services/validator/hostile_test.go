package validator

import (
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"

	"spillway/pkg/job"
)

// mostHostile is as large as inference lets an answer be.
const mostHostile = 1 << 20

// hostile are answers of about size bytes that were made to hurt.
func hostile(size int) map[string]string {
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	half := func(s string) string { return strings.Repeat(s, size/2/len(s)) }
	depth := min(100_000, size/2)
	answers := map[string]string{
		"prose":                   fill("I think that it is so. "),
		"prose and an answer":     fill("I think that it is so. ") + hostileAnswer,
		"deep arrays":             strings.Repeat("[", depth),
		"deep arrays, closed":     strings.Repeat("[", depth) + strings.Repeat("]", depth),
		"deep arrays in prose":    "so " + strings.Repeat("[", depth) + strings.Repeat("]", depth),
		"deep objects":            strings.Repeat(`{"a":`, depth/5) + "1" + strings.Repeat("}", depth/5),
		"opening braces":          fill("{"),
		"opening braces in prose": "so " + fill("{ "),
		"a huge exponent":         `{"score":1E1000001}`,
		"a huge exponent, fenced": "```json\n{\"score\":1E1000001,}\n```",
		"a huge negative one":     `{"score":1E-999999999}`,
		"a number without end":    `{"score":` + fill("9") + "}",
		"closing brackets":        fill("]}"),
		"empty objects":           fill("{}"),
		"notes":                   fill("[1] "),
		"notes and an answer":     fill("[1] ") + hostileAnswer,
		"quotes":                  "{" + fill(`"`),
		"quotes in prose":         fill(`"`) + hostileAnswer,
		"escaped quotes":          "{" + fill(`\"`) + "}",
		"backslashes":             `{"a":"` + fill(`\`),
		"backslashes in no text":  "{" + fill(`\`) + "}",
		"fences":                  fill("```\n"),
		"fences with objects":     fill("```\n{}\n"),
		"numbers and an answer":   half("0.5 ") + `{"score":0.5,"note":"` + half("0.5 ") + `"}`,
		"names and an answer":     fill("score ") + hostileAnswer,
		"names before blanks":     half("score") + half(" ") + hostileAnswer,
		"choices and an answer":   fill("noted ") + hostileAnswer,
		"marks behind an answer":  hostileAnswer + fill("</s>"),
		"words behind an answer":  hostileAnswer + fill("let me know if "),
		"signs behind an answer":  hostileAnswer + fill("}"),
		"answers":                 fill(hostileAnswer + " "),
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
		"blanks in an object":     "{" + fill("\u200b") + "}",
		"full-width brackets":     fill("［"),
		"faults":                  `{"score":[` + fill("1,") + `1]}`,
		"items at fault":          "[" + half("1,") + "1]",
		"lists at fault":          strings.Repeat("["+strings.Repeat("1,", size/120)+"1]\n", 60),
		"one key again and again": "{" + fill(`"a":1,`) + `"a":1}`,
	}
	maps.Copy(answers, hostileThoughts(fill))
	return answers
}

// hostileThoughts are those whose marks were made to hurt.
func hostileThoughts(fill func(string) string) map[string]string {
	return map[string]string{
		"thoughts":                fill("<think>"),
		"thoughts, closed":        fill("<think></think>") + hostileAnswer,
		"thoughts, closed wrong":  fill("<think></thinking>") + hostileAnswer,
		"ends of thoughts":        fill("</think>") + hostileAnswer,
		"channels":                fill("<|channel|>"),
		"channels with a message": fill("<|channel|>analysis<|message|>a<|end|>") + hostileAnswer,
		"channels without an end": fill("<|channel|>analysis<|message|>a") + hostileAnswer,
		"final channels":          fill("<|channel|>final") + "<|message|>" + hostileAnswer,
		"tokens in a channel":     "<|channel|>analysis<|message|>" + fill("<|") + hostileAnswer,
		"tildes":                  fill("~~ "),
		"comments of HTML":        fill("<!--") + hostileAnswer,
	}
}

func TestAValueOfTooManyPartsIsRefusedBeforeTheSchema(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"[" + strings.Repeat("1,", maxNodes) + "1]", "so:\n" + strings.Repeat("["+strings.Repeat("1,", 5000)+"1]\n", 50)} {
		tk := taskOf(t, list)
		tk.Output.MaxBytes = mostHostile
		v := judged(t, tk, answer)
		if v.Outcome != Invalid || len(v.Faults) != 1 || v.Faults[0].Rule != ruleSize {
			t.Errorf("%s, %.3v", v.Outcome, v.Faults)
		}
	}
}

const (
	hostileAnswer = `{"score":0.5}`
	hostileSchema = `{"type":"object","properties":{"score":{"type":"number","maximum":1},"note":{"enum":["note","not"]}},"required":["score"]}`
)

// It runs alone: the memory of the whole process is measured.
func TestHostileAnswersGetAVerdictInBoundedTimeAndMemory(t *testing.T) {
	for _, source := range []string{hostileSchema, list} {
		tk := taskOf(t, source)
		tk.Output.MaxBytes = 2 << 20
		tk.Output.AdditionalProperties, tk.Output.Coerce = "drop", true
		for name, answer := range hostile(mostHostile) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			started := time.Now()
			v := judged(t, tk, answer)
			took := time.Since(started)
			runtime.ReadMemStats(&after)
			if v.Outcome == "" || v.Outcome == Empty || v.Outcome == TooLarge {
				t.Errorf("%s: %s", name, v.Outcome)
			}
			// Measured: at most 80 ms and 54 MB of short-lived memory.
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
		mend(text, nil)
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
	for name, answer := range hostile(60 << 10) {
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
