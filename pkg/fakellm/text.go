package fakellm

import (
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// formatted returns a string of one of JSON schema's formats, from ranges that are reserved for examples;
// "" for formats that it does not know.
func formatted(format string, d *dice) string {
	mark := string(appendNonce(nil, d.next())[:8])
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(d.below(365*24*3600)) * time.Second)
	small := strconv.Itoa(1 + d.below(254))
	switch format {
	case "date-time":
		return at.Format(time.RFC3339)
	case "date":
		return at.Format(time.DateOnly)
	case "time":
		return at.Format("15:04:05Z07:00")
	case "duration":
		return "PT" + small + "M"
	case "email", "idn-email":
		return "simulated." + mark + "@example.com"
	case "uri", "url", "iri", "uri-reference", "iri-reference", "uri-template":
		return "https://example.com/simulated/" + mark
	case "hostname", "idn-hostname":
		return "simulated-" + mark + ".example.com"
	case "ipv4":
		return "192.0.2." + small
	case "ipv6":
		return "2001:db8::" + mark[:4]
	case "uuid":
		rest := string(appendNonce(nil, d.next()))
		return mark + "-" + rest[:4] + "-4" + rest[4:7] + "-8" + rest[7:10] + "-" + rest[10:16] + mark[:6]
	case "regex":
		return "^simulated-" + mark + "$"
	case "json-pointer":
		return "/simulated/" + mark
	case "relative-json-pointer":
		return "1/simulated/" + mark
	default:
		return ""
	}
}

// matcher is a pattern of Go's.
type matcher struct {
	re   *regexp.Regexp
	tree *syntax.Regexp
}

// parseMatcher returns nil for a pattern that Go's regexp does not understand.
func parseMatcher(expr string) *matcher {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	return &matcher{re, tree.Simplify()}
}

// matching returns a string that matches the schema's pattern and lengths; false when no try does.
func matching(k *keywords, d *dice) (string, bool) {
	if k.matcher == nil {
		return "", false
	}
	for _, more := range []int{1, 0, 3, max(0, k.minLength), 8, 16, 64} {
		p := pattern{dice: d, more: more}
		p.write(k.matcher.tree)
		text := p.out.String()
		if missing := min(k.minLength, maxText) - utf8.RuneCountInString(text); missing > 0 && !p.ends {
			text += strings.Repeat("x", missing)
		}
		n := utf8.RuneCountInString(text)
		if n >= k.minLength && (k.maxLength < 0 || n <= k.maxLength) && k.matcher.re.MatchString(text) {
			return text, true
		}
	}
	return "", false
}

// pattern writes a string that a regular expression matches, look at boundaries aside.
type pattern struct {
	dice *dice
	// more is how often what may repeat is repeated beyond what it must.
	more  int
	out   strings.Builder
	steps int
	// ends is true when the expression holds the end of the text: nothing may follow then.
	ends bool
}

// maxPatternSteps bounds what repetitions within repetitions amount to.
const maxPatternSteps = 10_000

func (p *pattern) write(re *syntax.Regexp) {
	if p.steps++; p.steps > maxPatternSteps {
		return
	}
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			p.out.WriteRune(r)
		}
	case syntax.OpCharClass:
		p.out.WriteRune(p.oneOf(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		p.out.WriteByte(byte('a' + p.dice.below(26)))
	case syntax.OpEndText, syntax.OpEndLine:
		p.ends = true
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			p.write(sub)
		}
	case syntax.OpAlternate:
		p.write(re.Sub[p.dice.below(len(re.Sub))])
	case syntax.OpStar:
		p.repeat(re.Sub[0], p.more)
	case syntax.OpPlus:
		p.repeat(re.Sub[0], 1+p.more)
	case syntax.OpQuest:
		p.repeat(re.Sub[0], min(p.more, 1))
	}
}

func (p *pattern) repeat(re *syntax.Regexp, times int) {
	for n := 0; n < times && p.steps <= maxPatternSteps; n++ {
		p.write(re)
	}
}

// oneOf draws from a class, given as pairs of first and last rune: of its printable ASCII, if it has some.
func (p *pattern) oneOf(pairs []rune) rune {
	var printable []rune
	for i := 0; i+1 < len(pairs); i += 2 {
		for r := max(pairs[i], '!'); r <= min(pairs[i+1], '~'); r++ {
			printable = append(printable, r)
		}
	}
	if len(printable) > 0 {
		return printable[p.dice.below(len(printable))]
	}
	if len(pairs) > 0 {
		return pairs[0]
	}
	return 'x'
}
