package validator

import (
	"strings"
	"testing"

	"spillway/pkg/task"
)

const draft = `{"intent":"inquiry","urgency":0.1}`

func TestWhatIsThoughtIsNotSaid(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for name, answer := range map[string]string{
		"a thought":                   "<think>" + draft + "</think>" + good,
		"in capitals":                 "<THINK>" + draft + "</Think>" + good,
		"thinking":                    "<thinking>" + draft + "</thinking>\n" + good,
		"reasoning":                   "<reasoning>" + draft + "</reasoning>\n" + good,
		"a scratchpad":                "<scratchpad>" + draft + "</scratchpad>\n" + good,
		"a reflection":                "<reflection>" + draft + "</reflection>\n" + good,
		"with a blank":                "<think >" + draft + "</think >" + good,
		"with attributes":             "<think id=\"1\">" + draft + "</think>" + good,
		"by tokens":                   "<|begin_of_thought|>" + draft + "<|end_of_thought|>" + good,
		"in square brackets":          "[THINK]" + draft + "[/THINK]" + good,
		"by Kimi's marks":             "◁think▷" + draft + "◁/think▷" + good,
		"by Cohere's tokens":          "<|START_THINKING|>" + draft + "<|END_THINKING|>" + good,
		"by Seed's tags":              "<seed:think>" + draft + "</seed:think>" + good,
		"two thoughts":                "<think>a</think><think>" + draft + "</think>" + good,
		"an end without a begin":      draft + " or so?\n</think>\n" + good,
		"an end too many":             "<think>a</think> or " + draft + "</think>" + good,
		"brackets that nobody closes": "<think>in [0, 1) {so</think>" + good,
		"an end without a begin behind a thought": "Perhaps " + draft + "\n<think>a</think> or\n</think>" + good,
		"a tag within a thought":                  "<think>no <reasoning> here, " + draft + "</think>" + good,
		"prose before a thought":                  "Sure.\n<think>" + draft + "</think>\n" + good,
		"a thought and a fence":                   "<think>" + draft + "</think>\n```json\n" + good + "\n```",
		"the analysis channel":                    "<|channel|>analysis<|message|>" + draft + "<|end|><|start|>assistant<|channel|>final<|message|>" + good + "<|return|>",
		"the commentary channel":                  "<|channel|>commentary to=functions.route<|message|>" + draft + "<|call|><|channel|>final<|message|>" + good,
		"a token of its own in a channel":         "<|channel|>analysis<|message|>a <|x|> b " + draft + "<|end|><|channel|>final <|message|>" + good,
		"a final channel with its format":         "<|channel|>analysis<|message|>" + draft + "<|end|><|channel|>final <|constrain|>json<|message|>" + good,
		"a fence of tildes is not struck out":     "~~~json\n" + good + "\n~~~",
		"a character section is said":             "<![CDATA[" + good + "]]>",
	} {
		if v := judged(t, tk, answer); v.Outcome != Extracted || !same(t, v.Output, good) {
			t.Errorf("%s: %s, %s, %v", name, v.Outcome, v.Output, v.Faults)
		}
	}
}

func TestWhatIsOnlyThoughtIsNoAnswer(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for name, answer := range map[string]string{
		"a thought alone":                    "<think>" + good + "</think>",
		"a thought and words":                "<think>" + good + "</think>\nI have routed the customer.",
		"a thought that never ends":          "<think>" + good,
		"a thought that ends in another":     "<think>" + good + "</thinking>",
		"an end alone":                       good + "</think>",
		"a second thought":                   good + "\n<think>Wait.</think>",
		"a second thought that never ends":   good + "\n<think>Wait",
		"the analysis channel alone":         "<|channel|>analysis<|message|>" + good + "<|end|>",
		"an analysis channel that is cut":    "<|channel|>analysis<|message|>" + good,
		"a channel that is cut in its name":  "<|channel|>analysis " + good,
		"a channel whose name begins so":     "<|channel|>finale<|message|>" + good,
		"a mark that is quoted":              draft + " is right; `</think>` ends a thought.\n" + good,
		"a quoted begin":                     "`<think>` " + draft + "</think>" + good,
		"a mark in the midst of the object":  `{"intent":"support",<think>"urgency":0.1}</think> "urgency":0.9}`,
		"an end in the midst of an object":   `{"intent":"inquiry", </think>` + good,
		"a mark in a string of other quotes": `{'intent': 'support', 'urgency': 0.9, 'suggestedRoute': '</think>'}`,
	} {
		if v := judged(t, tk, answer); v.Output != nil {
			t.Errorf("%s: %s, %s", name, v.Outcome, v.Output)
		}
	}
}

func TestAMarkWithinTheJSONLeavesItInDoubt(t *testing.T) {
	t.Parallel()
	v := judged(t, taskOf(t, onboarding), `{"intent":"support",<think> "urgency":0.9}`)
	if v.Outcome != Ambiguous {
		t.Errorf("%s, %v", v.Outcome, v.Faults)
	}
}

func TestAMarkWithinAStringIsText(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for _, mark := range []string{"<think>a</think>", "<think>", "</think>", "[THINK]", "<|channel|>", "~~a~~", "<!-- a -->"} {
		value := `{"intent":"support","urgency":0.9,"suggestedRoute":"` + mark + `"}`
		for answer, want := range map[string]string{
			value: Valid, "```json\n" + value + "\n```": Extracted, "Here: " + value: Extracted,
			value[:len(value)-1] + ",}": Repaired,
		} {
			if v := judged(t, tk, answer); v.Outcome != want || !same(t, v.Output, value) {
				t.Errorf("%s: %s, %s, %v", answer, v.Outcome, v.Output, v.Faults)
			}
		}
	}
}

func TestTheThoughtsOfATextAreNotDelivered(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	tk.OutputSchema, tk.Output.Format = nil, task.FormatText
	for answer, want := range map[string]string{
		"Dear customer, [ok":                                                    `valid "Dear customer, [ok"`,
		" a ~~b~~ <!-- c --> <s>d</s>":                                          `valid " a ~~b~~ <!-- c --> <s>d</s>"`,
		"<think>Hm.</think>\n\nDear customer":                                   `extracted "Dear customer"`,
		"<think>Hm.</think> <THINK>Hm.</THINK>Dear customer":                    `extracted "Dear customer"`,
		"◁think▷secret◁/think▷Hello":                                            `extracted "Hello"`,
		"<|START_THINKING|>secret<|END_THINKING|>Hello":                         `extracted "Hello"`,
		"<seed:think>secret</seed:think>Hello":                                  `extracted "Hello"`,
		"Hm.\n</think>\n Dear customer ":                                        `extracted "Dear customer"`,
		"Hm.\n \t</think> Dear customer ":                                       `extracted "Dear customer"`,
		"One.\n<think>Hm.</think>Two.":                                          `extracted "One.\nTwo."`,
		"One.\n<think>Hm.</think>Two.\n</think>Three.":                          `extracted "Three."`,
		"Hm.</think> Dear customer ":                                            "invalid ",
		"see [1, <think>Hm.</think>2]":                                          "invalid ",
		"<think>Hm. `</think>` ends it.</think>\nHello":                         "invalid ",
		"In these templates `</think>` ends the reasoning.":                     "valid \"In these templates `</think>` ends the reasoning.\"",
		"Write ``<think> ` </think>`` or `<think>`.":                            "valid \"Write ``<think> ` </think>`` or `<think>`.\"",
		"A lone ` before <think>Hm.</think>":                                    "invalid ",
		"`\n<think>Hm.</think>`":                                                "extracted \"`\\n`\"",
		"```\n<think>a</think>\n```\nso":                                        "valid \"```\\n<think>a</think>\\n```\\nso\"",
		"~~~~xml\n<think>\n```\n</think>\n~~~~~\nso":                            "valid \"~~~~xml\\n<think>\\n```\\n</think>\\n~~~~~\\nso\"",
		"```\nHm.\n</think>\n```\nso\n```":                                      "invalid ",
		"\ufeff<think>Hm.</think>Dear customer":                                 `extracted "Dear customer"`,
		"```\nHm.\n</think>\nHello":                                             `extracted "Hello"`,
		strings.Repeat("`", 17) + "</think>" + strings.Repeat("`", 17):          "invalid ",
		"<|end|> is a token; <think>x</think> we strip <|start|>.":              "invalid ",
		"<|end|> is a token; we strip <|start|>.":                               `valid "<|end|> is a token; we strip <|start|>."`,
		"The token <|channel|>analysis<|message|>Hm.<|end|> is one.":            "invalid ",
		"<|channel|>final<|message|>Dear customer":                              `extracted "Dear customer"`,
		"\n<|channel|>final<|message|><think>Hm.</think>Dear customer<|end|>\n": `extracted "Dear customer"`,
		"<|channel|>final<|message|>One<|end|><|channel|>final<|message|>Two":   "invalid ",
		"<|channel|>final<|message|>One<|end|> or two":                          "invalid ",
		"<|channel|>analysis<|message|>Hm.<|end|>Dear customer":                 "invalid ",
		"<|channel|>analysis<|message|>Hm.<|end|>":                              "invalid ",
		"<|start|>user<|message|>Hm.<|end|>":                                    "invalid ",
		"<|start|><think><|channel|>final<|message|>Hm.":                        "invalid ",
		"<|channel|>commentary to=f<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>a `<think>`":      "extracted \"a `<think>`\"",
		"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Dear customer<|return|>": `extracted "Dear customer"`,
		"<think>Hm.</think>":                "empty ",
		"Dear customer <think>Hm.":          "invalid ",
		"<think>Hm.":                        "invalid ",
		"<|channel|>analysis<|message|>Hm.": "invalid ",
	} {
		if v := judged(t, tk, answer); v.Outcome+" "+string(v.Output) != want {
			t.Errorf("%s: %s %s, want %s", answer, v.Outcome, v.Output, want)
		}
	}
}
