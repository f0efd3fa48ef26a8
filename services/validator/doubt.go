package validator

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxBehind bounds what may stand behind a value: a few marks and a courtesy.
const maxBehind = 1 << 10

// doubt says why the value is not surely meant, from what stands around it; "": it is. Nobody reads the prose
// here, so what is around the value may only be what can not speak against it.
//
//   - Behind it: no word, number, symbol, question mark or dots, but for marks and courtesies. They may take
//     it back, or say that there is more.
//   - Before it: no line but those that announce a result, in words of a closed list (announce.go), and an object
//     that is no answer, has less than half of the properties that an answer must have, no choice of the schema
//     and no number with a fraction that the value does not have.
func doubt(words *vocabulary, before, text string, claims []*claim, f *finder, value any) string {
	end := claims[len(claims)-1].end
	behind := strings.TrimFunc(text[end:], isBlank)
	front, prose := outside(before, text, claims, f.found)
	front = strings.TrimFunc(front, isBlank)
	switch {
	case f.cut >= end:
		return "another JSON value begins behind the JSON, and ends before it is complete"
	case len(behind) > maxBehind || !isSilent(behind):
		return "there are words behind the JSON, which may say something else"
	case len(front) > maxFront:
		return "there is a text before the JSON, which may say something else"
	case words.isAnswered(front):
		return "the properties of the answer are named outside of the JSON as well"
	}
	other := words.other(front, value)
	if other == "" {
		other = otherNumber(front, claims[0].text)
	}
	switch {
	case other != "":
		return "the text before the JSON names " + other + ", which the JSON does not have"
	case !isAnnounced(prose):
		return "there are words before the JSON that do not just announce it"
	}
	return ""
}

var numerals = regexp.MustCompile(`[0-9]*(?:[.,/][0-9]+)+(?:\s?%)?|[0-9]+(?:\s?%)?`)

// thousands are whole numbers, written in groups of three.
var thousands = regexp.MustCompile(`^[1-9][0-9]{0,2}(?:,[0-9]{3})+$`)

// fraction returns the number that n, found by numerals, writes with a fraction: 0.2, .2, 0,2, 20 % or 2/10.
func fraction(n string) (value float64, ok bool) {
	bare := strings.TrimRight(n, "% \t\r\n")
	signs := strings.Count(bare, ".") + strings.Count(bare, ",") + strings.Count(bare, "/")
	if signs > 1 || signs == 0 && bare == n || thousands.MatchString(bare) {
		return 0, false
	}
	over, under, _ := strings.Cut(strings.ReplaceAll(bare, ",", "."), "/")
	value, err := strconv.ParseFloat(over, 64)
	if under != "" {
		by, _ := strconv.ParseFloat(under, 64)
		value /= by
	}
	return value, err == nil
}

// otherNumber returns a number with a fraction that stands in front and not in the value's text; "": there is
// none. Whole numbers count items, footnotes and tickets, so they mean nothing.
func otherNumber(front, text string) string {
	said := numerals.FindAllString(front, -1)
	if said == nil {
		return "" // before the value is searched, which may be large
	}
	own := map[float64]bool{}
	for _, n := range numerals.FindAllString(text, -1) {
		if value, err := strconv.ParseFloat(n, 64); err == nil {
			own[value] = true
		}
	}
	for _, n := range said {
		value, ok := fraction(n)
		isPercent := strings.HasSuffix(n, "%")
		if ok && !own[value] && !(isPercent && own[value/100]) {
			return n
		}
	}
	return ""
}

// marks are what a template, a tool or a programming language sets behind a value, without a meaning of its own.
var marks = regexp.MustCompile(`(?i)<\|[a-z_]{1,40}\|>|\]\]>|</(?:answer|final_answer|output|result|response|json|code|pre|final|tool_call|function)>|` +
	`</?s>|</?eos>|\[/?(?:eos|inst)\]|\[\[ ## completed ## \]\]`)

// courtesies are what models end on, word for word: what is said more, or otherwise, is no courtesy.
var courtesies = regexp.MustCompile(`(?i)(?:\b(?:i )?hope (?:this|that|it) helps\b|\bthat(?:'s| is) all\b|` +
	`\b(?:please )?(?:let me know|feel free to ask) if you(?: (?:need|have) (?:anything else|any(?: (?:further|more|other|additional))? ` +
	`(?:questions?|help|changes|assistance|information))|(?:'d| would) like me to (?:adjust|change) anything)\b|` +
	`\bwould you like me to (?:analy[sz]e|classify|process|review) (?:another|more|further|other|additional) \w{1,20}\?|` +
	`\bis there anything else (?:i can help(?: you)? with|you need)\?|` +
	`\bmelden sie sich (?:gerne )?bei (?:weiteren )?(?:rück)?fragen\b|如有(?:任何)?问题请(?:随时)?告诉我)[!！]?`)

func isSilent(behind string) bool {
	rest := marks.ReplaceAllLiteralString(behind, " ")
	rest = courtesies.ReplaceAllLiteralString(rest, ",")
	dots := 0
	for _, c := range rest {
		switch {
		case speaks(c) || c == '=' || c == '!':
			return false
		case c == '.' || c == '。':
			if dots++; dots > 1 {
				return false
			}
		case !isBlank(c):
			dots = 0
		}
	}
	return true
}

// speaks reports whether c is part of what can be read.
func speaks(c rune) bool {
	switch c {
	case '?', '？', '؟', '¿', '…', '‥':
		return true
	}
	return unicode.IsLetter(c) || unicode.IsNumber(c) || c >= utf8.RuneSelf && unicode.IsSymbol(c)
}
