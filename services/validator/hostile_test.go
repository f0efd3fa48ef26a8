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
	maps.Copy(answers, hostileTrees(size))
	maps.Copy(answers, hostileThoughts(fill))
	maps.Copy(answers, hostileSurroundings(fill))
	return answers
}

// treeSchema is a union that refers to itself, which doubles the work of who judges each of its forms anew, with each level.
const treeSchema = `{"$ref":"#/$defs/node","$defs":{"node":{"oneOf":[
	{"type":"object","required":["kind"],"properties":{"kind":{"const":"section"},"parts":{"type":"array","items":{"$ref":"#/$defs/node"}}}},
	{"type":"object","required":["kind"],"properties":{"kind":{"const":"list"},"parts":{"type":"array","items":{"$ref":"#/$defs/node"}}}},
	{"anyOf":[{"type":"object","required":["score"],"properties":{"score":{"type":"number"},"parts":{"items":{"$ref":"#/$defs/node"}}}},{"type":"array","items":{"$ref":"#/$defs/node"},"minItems":1}]}]}}}`

// hostileTrees are answers to treeSchema, as deep as JSON may be.
func hostileTrees(size int) map[string]string {
	const levels = 60
	of := func(leaf string) string {
		return strings.Repeat(`{"kind":"section","parts":[`, levels) + leaf + strings.Repeat(`]}`, levels)
	}
	wide := func(leaf string) string { return of(strings.Repeat(leaf+",", size/(len(leaf)+1)) + leaf) }
	tree := of(hostileAnswer)
	return map[string]string{
		"a wide tree":           wide(hostileAnswer),
		"a tree at fault":       wide(`{"kind":"table"}`),
		"a tree of no scores":   wide(`{"score":"a"}`),
		"a tree with a null":    wide(`{"score":0.5,"parts":[null]}`),
		"trees":                 "[" + strings.Repeat(tree+",", size/(len(tree)+1)) + tree + "]",
		"trees at fault":        "[" + strings.Repeat(of("1")+",", size/(len(tree)+1)) + tree + "]",
		"forms of a tree":       wide(`{"kind":"section","kind ":"list","score":1}`),
		"a tree of empty lists": wide(`[]`),
	}
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

// hostileTasks differ in what is done with an answer: searched for an object or an array, judged by forms, or searched
// for thoughts alone.
func hostileTasks(t testing.TB) map[string]*task.Task {
	t.Helper()
	tasks := map[string]*task.Task{"object": taskOf(t, hostileSchema), "list": taskOf(t, list), "tree": taskOf(t, treeSchema), "text": taskOf(t, "")}
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
	bytes = allocates(func() { v = judged(t, tk, answer) })
	return v, bytes
}

// allocates is how much memory do takes in all.
func allocates(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
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

// What is repaired is told from what is not by its length and its members, not by its length alone.
func TestALongTextOfFewMembersIsRepaired(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a word ", 8<<10)
	for text, want := range map[string]bool{
		`{'a':'` + long + `',}`:                                         true,
		`{'a':'` + long + long + `',}`:                                  false,
		"{" + distinctMembers(4<<10, ":1,\n") + "}":                     true,
		"{" + strings.Repeat(`'a':1,`, 10<<10) + "'a':1}":               false,
		"[" + strings.Repeat("{'a':1}\n", 8<<10) + "{'a':1}]":           false,
		`{'a':[` + strings.Repeat("'"+long[:500]+"',", 100) + `'end']}`: true,
	} {
		if c, _ := mend(text, nil); (c != nil) != want {
			t.Errorf("%d bytes, %.20s: repaired %t", len(text), text, c != nil)
		}
	}
}

// repairable are texts of about size bytes of the kinds that cost jsonrepair most.
func repairable(size int) map[string]string {
	fill := func(s string) string { return strings.Repeat(s, (size-64)/len(s)) }
	return map[string]string{
		"members":         "{" + distinctMembers(size, ":1,\n") + "}",
		"quoted members":  "{" + strings.ReplaceAll(distinctMembers(size*3/4, "':1, "), "k", "'k") + "}",
		"one key":         "{" + fill(`'a':1,`) + "'a':1}",
		"items":           "[" + fill("1,") + "]",
		"lines":           "[" + fill("1,\n") + "]",
		"nested":          fill("[[[[[[[[]]]]]]]]"),
		"empty strings":   "[" + fill("'',") + "]",
		"strings":         "[" + fill(`'a',`) + "]",
		"objects":         "[" + fill(`{'a':1},`) + "{'a':1}]",
		"objects, lines":  "[" + fill("{a:1}\n") + "{a:1}]",
		"no members":      "[" + fill("{}\n") + "{}]",
		"lists":           "[" + fill("[1,],") + "[1]]",
		"one long string": `['` + fill("a") + "']",
		"line breaks":     "['" + fill("\n") + "']",
		"escapes":         "['" + fill(`\n`) + "']",
		"comments":        "[1" + fill("/**/") + "]",
		"inner quotes":    `{"a":"` + strings.Repeat(`x" "y `, 15) + strings.Repeat("z", size-128) + `",}`,
		"unclosed quotes": "[" + fill(`"a `) + "]",
		"one quote less":  "[" + fill(`"a",`) + `"b]`,
		"backslashes":     `{"a":"` + fill(`\\`) + `",}`,
		"paths":           `{"a":'` + fill(`C:\\a `) + `',}`,
		"constants":       "[" + fill("True,") + "None]",
		"blanks":          "[1" + fill("\u00a0") + ",]",
	}
}

// The largest texts that are still repaired. Without our own reader before it, 16 KB of unclosed quotes take longer
// than 20 s. It runs alone: the memory of the whole process is measured, which does not depend on the machine.
func TestARepairTakesBoundedTimeAndMemory(t *testing.T) {
	most := uint64(0)
	for size := maxRepairBytes / 64; size <= maxRepairBytes; size += size / 4 {
		for name, text := range repairable(size) {
			started := time.Now()
			bytes := allocates(func() { mend(text, nil) })
			most = max(most, bytes)
			// Measured: at most 0.1 s and 61 MB.
			if took := time.Since(started); took > 10*time.Second || bytes > 100<<20 {
				t.Errorf("%s: %v and %d MB for %d bytes", name, took, bytes>>20, len(text))
			}
		}
	}
	t.Logf("at most %d MB", most>>20)
}

func distinctMembers(size int, end string) string {
	var b strings.Builder
	for i := 0; b.Len() < size-64; i++ {
		b.WriteString("k" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676%26)) + end)
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
