package validator

import (
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/task"
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
	maps.Copy(answers, hostileSurroundings(fill))
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
		"half-open thoughts":      fill("<think ") + hostileAnswer,
		"half-closed thoughts":    "<think>" + fill("</think ") + hostileAnswer,
		"tags that are none":      fill("<thinkers>") + hostileAnswer,
		"quotes in a thought":     "<think>" + fill(`{" `) + "</think>" + hostileAnswer,
		"thoughts in brackets":    fill("[think]a[/think]") + hostileAnswer,
		"thoughts between tokens": fill("<|begin_of_thought|>a<|end_of_thought|>") + hostileAnswer,
		"struck out":              fill("~~a~~") + hostileAnswer,
		"deleted":                 fill("<del>a</del>") + hostileAnswer,
		"a begin and false ends":  "<s>" + fill("</sx>") + hostileAnswer,
		"character sections":      fill("<![CDATA[") + hostileAnswer,
		"tildes":                  fill("~~ "),
		"comments of HTML":        fill("<!--") + hostileAnswer,
		"messages":                fill("<|start|>assistant<|channel|>analysis<|message|>a<|end|>") + "<|channel|>final<|message|>" + hostileAnswer,
		"spans of code":           fill("`a` ``b` ```") + hostileAnswer,
		"fences that stay open":   fill("```a\n~~~~b\n") + hostileAnswer,
		"blocks with thoughts":    fill("```\n<think>a</think>\n```\n") + hostileAnswer,
		"marks in spans":          fill("`<think>` ") + hostileAnswer,
		"lines of thoughts":       fill("<think>a</think>\n \t") + hostileAnswer,
	}
}

// hostileSurroundings have what the rules about a value's surroundings look at, again and again.
func hostileSurroundings(fill func(string) string) map[string]string {
	return map[string]string{
		"announcements":            fill("Here is the JSON:\n") + hostileAnswer,
		"announcements, one line":  fill("sure, ") + hostileAnswer,
		"half an announcement":     fill("here is the final ") + hostileAnswer,
		"empty lines":              fill("\n") + hostileAnswer,
		"tokens of a template":     fill("<|assistant|>") + hostileAnswer,
		"tags before an answer":    fill("<output>") + hostileAnswer,
		"headers before an answer": fill("[[ ## a ## ]]\n") + hostileAnswer,
		"bullets before an answer": fill("- ") + hostileAnswer,
		"open comments, then it":   fill("/*") + hostileAnswer,
		"nested fences":            fill("```json\n") + hostileAnswer + fill("\n```"),
		"fences on one line":       fill("```json ") + hostileAnswer,
		"objects before an answer": strings.Repeat("{}", maxPieces-1) + fill(" ") + hostileAnswer,
		"a large object before it": `{"x":"` + fill("not ") + `"}` + hostileAnswer,
		"answers between marks":    strings.Repeat(hostileAnswer+"</s>", maxPieces) + fill("</s>"),
		"marks between answers":    hostileAnswer + fill("</s>") + hostileAnswer,
		"courtesies behind":        hostileAnswer + fill("Hope this helps! "),
		"tokens behind an answer":  hostileAnswer + fill("<|im_end|>"),
		"ends of calls behind":     hostileAnswer + fill("</tool_call>"),
		"blanks behind an answer":  hostileAnswer + fill(" \u200b"),
		"blanks between members":   "{" + fill("\\n\u3000") + `"score":0.5}`,
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

// hostileTasks differ in what is done with an answer: searched for an object or an array, or for thoughts alone.
func hostileTasks(t *testing.T) map[string]*task.Task {
	t.Helper()
	tasks := map[string]*task.Task{"object": taskOf(t, hostileSchema), "list": taskOf(t, list), "text": taskOf(t, "")}
	for _, tk := range tasks {
		tk.Output.MaxBytes = 4 * mostHostile
		tk.Output.AdditionalProperties, tk.Output.Coerce = "drop", true
	}
	tasks["text"].Output.Format = task.FormatText
	return tasks
}

// allocated is how much memory a verdict takes in all, short-lived or not.
func allocated(t *testing.T, tk *task.Task, answer string) (v Verdict, bytes uint64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v = judged(t, tk, answer)
	runtime.ReadMemStats(&after)
	return v, after.TotalAlloc - before.TotalAlloc
}

// It runs alone: the memory of the whole process is measured. Work that grows faster than the answer shows in its
// memory, which does not depend on the machine: sixteen times the answer may take little more than sixteen times the
// memory, where it is large at all.
func TestHostileAnswersGetAVerdictInBoundedTimeAndMemory(t *testing.T) {
	const times, most, small = 16, 24, 256 << 10
	short, long := hostile(mostHostile/times), hostile(mostHostile)
	for kind, tk := range hostileTasks(t) {
		for name, answer := range long {
			_, before := allocated(t, tk, short[name])
			started := time.Now()
			v, after := allocated(t, tk, answer)
			took := time.Since(started)
			if v.Outcome == "" || v.Outcome == TooLarge || v.Outcome == Empty && kind != "text" {
				t.Errorf("%s, %s: %s", kind, name, v.Outcome)
			}
			// Measured: at most 0.1 s (under the race detector on a busy machine 1 s) and 54 MB of short-lived memory.
			if took > 10*time.Second || after > 100<<20 {
				t.Errorf("%s, %s: %v, %d MB", kind, name, took, after>>20)
			}
			if after > most*max(before, small) {
				t.Errorf("%s, %s: %d KB, and %d KB for %d times the answer", kind, name, before>>10, after>>10, times)
			}
			t.Logf("%s, %s: %v, %d KB", kind, name, took, after>>10)
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
