package validator

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// doubt says why the value is not surely meant, from what stands around it; "": it is. Nobody reads the prose
// here, so what is around the value may only be what can not speak against it.
//
//   - Behind it: no word, number, symbol, question mark or dots, but for marks and courtesies. They may take
//     it back, or say that there is more.
//   - On its line before it: no word directly before it. It would be part of a sentence, which may say
//     anything of it; announced is what stands behind a sign, or on a line of its own.
//   - Anywhere before it: not half of the properties that an answer must have, which would be a second
//     answer, and no choice of the schema and no number with a fraction that the value does not have.
func doubt(words *vocabulary, before, text string, claims []*claim, f *finder, value any) string {
	end := claims[len(claims)-1].end
	front, behind := outside(before, text, claims), text[end:]
	switch {
	case f.cut >= end:
		return "another JSON value begins behind the JSON, and ends before it is complete"
	case !isSilent(behind):
		return "there are words behind the JSON, which may say something else"
	case isWithinSentence(front):
		return "the JSON stands in the midst of a sentence"
	case words.isAnswered(front):
		return "the properties of the answer are named outside of the JSON as well"
	}
	other := words.other(front, value)
	if other == "" {
		other = otherNumber(front, claims[0].text)
	}
	if other != "" {
		return "the text before the JSON names " + other + ", which the JSON does not have"
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
	own := map[float64]bool{}
	for _, n := range numerals.FindAllString(text, -1) {
		if value, err := strconv.ParseFloat(n, 64); err == nil {
			own[value] = true
		}
	}
	for _, n := range numerals.FindAllString(front, -1) {
		value, ok := fraction(n)
		isPercent := strings.HasSuffix(n, "%")
		if ok && !own[value] && !(isPercent && own[value/100]) {
			return n
		}
	}
	return ""
}

// openings are what may stand directly before a value: a tag, a token, the call or the name of a program, a
// bullet, or the prefix of a string.
var openings = regexp.MustCompile(`(?i)<\|[^<>|]{1,40}\|>\s*$|(?:^|\n)\s*(?:[-*•>]|[a-z]?["'` + "`" + `]+|[\w.]{1,40}\(|(?:const |let |var )?\w{1,40} =|` +
	`(?:<!?\[?[a-z_]{1,40}\[?>?\s*)+|"?(?:\\")?|` + "[`'~]{3,}" + `\s?\w*(?:\\n)?)[\s"'` + "`" + `*(\\]*$`)

// takenBack are words by which an announcement says that it announces no answer.
var takenBack = regexp.MustCompile(`(?i)\b(?:not|no|never|wrong|don['’]?t|false|bad|old|previous|previously|retracted|error|example|` +
	`incorrect|invalid|ignore|discard|nicht|kein|keine|falsch)\b|n['’]t\b`)

// uncalled are signs of a comment, of a call of a tool and of an envelope, none of which holds an answer.
var uncalled = regexp.MustCompile(`(?i)<(?:tool_call|function=|example|draft)|<\|python_tag\|>|\[tool_calls\]|action input:`)

var commented = regexp.MustCompile(`(?:^|\s)(?://|/\*|#|--)`)

// isWithinSentence reports whether something stands before the value, on the line on which it begins, that does
// not announce it.
func isWithinSentence(front string) bool {
	line := front[strings.LastIndexByte(front, '\n')+1:]
	bare := strings.TrimRightFunc(line, func(c rune) bool { return isBlank(c) || strings.ContainsRune("\"'`*(\\", c) })
	switch {
	case uncalled.MatchString(front), commented.MatchString(line), strings.LastIndex(front, "/*") > strings.LastIndex(front, "*/"):
		return true
	case bare == "":
		return false
	case strings.HasSuffix(bare, ":") || strings.HasSuffix(bare, "："):
		return takenBack.MatchString(bare)
	case openings.MatchString(line):
		return takenBack.MatchString(bare)
	case strings.HasSuffix(bare, "}"):
		return takenBack.MatchString(line) // an object that is no answer, and has less than half of one
	}
	return !fenceAtEnd.MatchString(line) || takenBack.MatchString(line)
}

var fenceAtEnd = regexp.MustCompile("```[ ]?\\w*\\s*$")

// marks are what a template, a tool or a programming language sets behind a value, without a meaning of its own.
var marks = regexp.MustCompile(`(?i)<\|[a-z_]{1,40}\|>|\]\]>|</(?:answer|output|result|response|json|code|pre|final)>|` +
	`</?s>|</?eos>|\[/?(?:eos|inst)\]|\[\[ ## completed ## \]\]`)

// courtesies are what models end on, word for word: what is said more, or otherwise, is no courtesy.
var courtesies = regexp.MustCompile(`(?i)(?:\b(?:i )?hope (?:this|that|it) helps\b|\bthat(?:'s| is) all\b|` +
	`\b(?:please )?(?:let me know|feel free to ask) if you (?:need anything else|(?:have|need) any (?:further |more |other )?(?:questions|help|changes))\b|` +
	`\bmelden sie sich (?:gerne )?bei (?:weiteren )?(?:rück)?fragen\b|如有(?:任何)?问题请(?:随时)?告诉我)[!！]?`)

func isSilent(behind string) bool {
	rest := marks.ReplaceAllLiteralString(behind, " ")
	if next := strings.TrimLeftFunc(rest, isBlank); strings.HasPrefix(next, ",") || strings.HasPrefix(next, "}}") {
		return false
	}
	rest = courtesies.ReplaceAllLiteralString(rest, ",")
	dots := 0
	for _, c := range rest {
		switch {
		case speaks(c) || c == 0 || c == '=' || c == '!' || c == ']':
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
