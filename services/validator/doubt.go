package validator

import (
	"regexp"
	"strings"
)

// maxBehind bounds what may stand behind a value: a few marks and a courtesy.
const maxBehind = 1 << 10

// doubt says why the value is not surely meant, from what stands around it; "": it is. Nobody reads the prose
// here, so only what can not speak against the value may be there, of closed lists: before it what announces a
// result (announce.go), behind it what says nothing. No other object is of them.
func doubt(words *vocabulary, before, text string, claims []*claim, value any) string {
	end := claims[len(claims)-1].end
	front := before + text[:claims[0].begin]
	switch {
	case !isSilent(text[end:]):
		return "there are words behind the JSON, which may say something else"
	case !isAnnounced(front):
		return "there are words before the JSON that do not just announce it"
	}
	for i, c := range claims[1:] {
		between := text[claims[i].end:c.begin]
		if !isAnnounced(withoutSilence(between)) {
			return "there are words between the JSON and its repetition"
		}
		front += between
	}
	if other := words.other(front, value); other != "" {
		return "the text before the JSON names " + other + ", which the JSON does not have"
	}
	return ""
}

// What may stand behind a value: brackets that close, quotes, fences and signs of Markdown, one stop, the tokens and
// tags that end an answer, and courtesies, word for word, for what is said more, or otherwise, is no courtesy.
const (
	closers = "[\\s\\x00\\v\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200d}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{2060}\\x{3000}\\x{feff}" +
		"}\\])｝］\"'”’`*_]|~{3,}|\\\\[nrt\"]"
	lines = `\n[ >]*>[ >]*|\n-{3,}(?:\s|$)`
	lasts = `<\|(?:im_end|end|return|eot_id|eom_id|eot|end_of_text|endoftext|end_of_turn|end_of_turn_token|eos)\|>|<｜end▁of▁sentence｜>|` +
		`<end_of_turn>|\]\]>|</(?:answer|final_answer|output|result|response|json|code|pre|final|tool_call|function)>|</s>|</?eos>|\[/?eos\]|` +
		`\[\[ ## completed ## \]\]`
	courtesy = `(?:(?:i )?hope (?:this|that|it) helps|that(?:'s| is) all|` +
		`(?:please )?(?:let me know|feel free to ask) if you(?: (?:need|have) (?:anything else|any(?: (?:further|more|other|additional))? ` +
		`(?:questions?|help|changes|assistance|information))|(?:'d| would) like me to (?:adjust|change) anything)|` +
		`would you like me to (?:analy[sz]e|classify|process|review) (?:another|more|further|other|additional) (?:messages?|reviews?|texts?|tickets?|requests?|emails?)\?|` +
		`is there anything else (?:i can help(?: you)? with|you need)\?|` +
		`melden sie sich (?:gerne )?bei (?:weiteren )?(?:rück)?fragen|如有(?:任何)?问题请(?:随时)?告诉我)[.!。！]?(?:\s|$)`
)

// silence is as much of a text as says nothing. What begins with a bracket or a line break comes first.
var silence = regexp.MustCompile(`(?i)^` + nothing + `*(?:[.,;。，；]` + nothing + `*)?(?:` + courtesy + nothing + `*)*`)

const nothing = `(?:` + lasts + `|` + lines + `|` + closers + `)`

func isSilent(behind string) bool { return withoutSilence(behind) == "" }

// withoutSilence is what of a text behind a value may say something.
func withoutSilence(behind string) string {
	if len(strings.TrimFunc(behind, isBlank)) > maxBehind {
		return behind
	}
	return silence.ReplaceAllLiteralString(behind, "")
}
