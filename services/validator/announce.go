package validator

import (
	"regexp"
	"strings"
	"unicode"
)

// What may stand before a value is a closed list: who does not read prose can not tell "here is the result" from
// "do the opposite of this", so a line says one of the sentences below, or the value is left in doubt.

// The words of the sentences. No word of doubt, time or condition is among them, none for an example, and the
// input is never the thing announced.
const (
	noun = `(?:json(?: (?:object|array|output|response|result|data|answer|list))?|output|results?|answer|response|analysis|` +
		`classification|decision|assessment|evaluation|extraction|verdict|object|array|list|rows|items|records|entries|structured data)` +
		`(?: (?:results?|output|object|response|json))?`
	adjective = `(?:final|requested|resulting|complete|completed|structured|formatted|valid|extracted|corrected|revised|updated|` +
		`fixed|following|routing|sentiment|text|intent)`
	thing  = `(?:(?:the|my) )?(?:` + adjective + ` ){0,3}` + noun
	source = `(?:(?:the|your|this) )?(?:(?:given|provided|customer|customer's|user|user's|input) )*` +
		`(?:message|text|input|request|review|ticket|conversation|email|content|information|query|feedback|document|article|` +
		`instructions|details|context|schema|format|specification|structure|requirements)(?: you (?:provided|gave|sent|shared)| provided| above)?`
	format    = `in (?:the )?(?:(?:requested|required|specified|desired|valid|correct) )*(?:json(?: format)?|format)`
	qualifier = `(?: (?:that )?(?:you(?:'ve| have)?|as) (?:asked for|requested|wanted|needed|need|specified)| (?:based on|for|of|from|` +
		`according to|as per|per|matching|following|conforming to|that (?:matches|follows|conforms to)) ` + source + `| ` + format + `| as (?:requested|follows|json|valid json)| (?:representing|containing|with) ` + thing + `| below)`
	verb = `(?:analy[sz]ed?|classify|classified|categori[sz]ed?|routed?|extract(?:ed)?|review(?:ed)?|evaluated?|assess(?:ed)?|` +
		`process(?:ed)?|rated?|found|identified|generated|prepared|created)`
)

// courteous is what a model says before it comes to the point.
const courteous = `(?:sure(?: thing)?|certainly|of course|absolutely|ok|okay|alright|great|gladly|understood|got it|yes|no problem|` +
	`so|(?:thanks|thank you)(?: for ` + source + `| for (?:providing|sharing) ` + source + `)?|you're right|` +
	`(?:i'm |i am )?(?:sorry|(?:i )?apologi[sz]e|(?:my )?apologies)(?: for the (?:confusion|oversight|inconvenience|mistake|error))?|` +
	`i(?:'d| would) be (?:happy|glad) to help(?: you)?(?: with (?:that|this))?|i can help(?: you)? with that)`

const (
	hereIs  = `here(?: you go| it is| they are|(?:'s| is| are) (?:(?:your|an?) )?` + thing + qualifier + `*)?`
	label   = thing + qualifier + `*(?: (?:is|are)(?: as follows| below| the following)?| follows)?`
	pointed = `(?:below|the following|this) is ` + thing + qualifier + `*`
	done    = `(?:i|we)(?:'ve| have|'d| would|'ll| will)? ` + verb + ` (?:it|this|` + source + `|(?:a )?` + thing + `)` + qualifier + `*(?: and (?:` + hereIs + `|(?:provide|return|give you) ` + thing + `))?`
	ground  = `(?:based on|according to|after (?:analyzing|analysing|reviewing|reading)|from|for) ` + source
	english = courteous + `|` + hereIs + `|` + label + `|` + pointed + `|` + done + `|` + ground + `,? (?:` + hereIs + `|` + label + `|` + done + `)`
)

// The same in other languages that users write in, with fewer words.
const (
	germanNoun = `(?:(?:gewünschte|angeforderte|korrigierte|endgültige)[rns]? )?(?:json(?:-objekt|-ausgabe)?|ergebnis|antwort|ausgabe|analyse|` +
		`auswertung|einordnung|klassifizierung|entscheidung)`
	german = `gerne?|natürlich|klar|selbstverständlich|verstanden|hier(?: (?:ist|sind|kommt) (?:(?:das|die|der|ihre?|deine?) )?` + germanNoun + `)?|` +
		`(?:(?:das|die|meine?) )?` + germanNoun + `(?: (?:ist|lautet))?(?: wie folgt)?|` +
		`(?:ich habe (?:die|ihre|deine) (?:nachricht|anfrage|text)|(?:die|ihre|deine) (?:nachricht|anfrage) habe ich) (?:so|wie folgt|folgendermaßen) ` +
		`(?:eingeordnet|klassifiziert|bewertet|analysiert|ausgewertet)`
	french = `bien sûr|d'accord|certainement|(?:voici )?(?:(?:le |la |votre |l')?(?:résultat|json|objet json|réponse|analyse|sortie|classification)` +
		`(?: demandée?| finale?)?)|voici`
	spanish = `claro|por supuesto|(?:aquí (?:está|tienes?) )?(?:(?:el|la|su|tu) )?(?:resultado|json|objeto json|respuesta|análisis|salida|clasificación)` +
		`(?: solicitad[oa]| final)?|aquí (?:está|tienes?)`
	chinese = `好的|当然(?:可以)?|没问题|(?:(?:以下|下面|这)是)?(?:您|你)?(?:所?(?:请求|要求|需要)的)?(?:最终|分析|分类|json)?` +
		`(?:结果|输出|回答|答案|json)(?:如下)?(?:[（(]供参考[）)])?`
	arabic = `(?:(?:هذه هي|إليك) )?(?:النتيجة|الإجابة)(?: المطلوبة| النهائية)?`
)

// echoed is the input said again, of which the object has been judged, and left {}.
const echoed = `(?:input|message): ?\{\}`

// headed are the words between the tokens of a template.
const headed = `assistant(?: final)?(?: json)?|final(?: json)?`

// announcement is a line of such sentences, each with its stop.
var announcement = regexp.MustCompile(`^(?i:(?:(?:` + english + `|` + german + `|` + french + `|` + spanish + `|` + chinese + `|` + arabic + `|` +
	echoed + `|` + headed + `) ?(?:[!.,:;，。！：–—-]+ ?|$))+)$`)

// dress is what a line wears: the marks of Markdown before it, and a fence at its end with the name of a language.
var (
	dress    = regexp.MustCompile(`^[\s>]*(?:#{1,6} |[-*•+] |[0-9]{1,2}[.)] )?`)
	fenced   = regexp.MustCompile("(?i)(?:`{3,}|~{3,}|'{3})[ ]?(?:jsonc?|json5|javascript|js|typescript|ts|python|py|te?xt|plaintext|output|code)?(?:\\\\n)?[\\s>]*$")
	assigned = regexp.MustCompile(`^(?:(?:const|let|var) )?\w{1,40} =$`)
	called   = regexp.MustCompile(`^[\w.]{1,40}\($|^return$|^b['"]$`)
	named    = regexp.MustCompile(`(?i)\b(?:` + noun + `|data|value|obj|res)\b`)
)

// opened are the marks that a template, a tool or a programming language sets before a value. The tokens of a
// user's or a system's message are none of them.
var opened = regexp.MustCompile(`(?i)<[|｜](?:start|end|call|return|channel|message|constrain|assistant|final|im_start|im_end|im_sep|` +
	`begin_of_text|start_header_id|end_header_id|eot_id)[|｜]>|</?(?:answer|final_answer|output|result|response|json|code|pre|final)>|<s>|` +
	`<(?:tool_call|function=\w{1,40})>|<\|python_tag\|>|\[tool_calls\]|<!\[cdata\[|\[/inst\]|\[\[ ## \w{1,40} ## \]\]`)

// Bounds of what stands before a value. More is a text of its own.
const (
	maxFront = 4 << 10
	maxLine  = 256
)

// isAnnounced reports whether all that stands before the value announces it, or says nothing.
func isAnnounced(front string) bool {
	for line := range strings.Lines(front) {
		if !announces(line) {
			return false
		}
	}
	last := front[strings.LastIndexByte(front, '\n')+1:]
	return !commented.MatchString(strings.TrimFunc(last, isBlank))
}

// commented is a sign by which the rest of a line is a comment; slashes are never part of an announcement.
var commented = regexp.MustCompile(`(?:^|\s)(?:#|--)`)

func announces(line string) bool {
	if line = strings.TrimFunc(line, isBlank); line == "" || len(line) > maxLine {
		return line == ""
	}
	bare := opened.ReplaceAllStringFunc(line, func(mark string) string {
		if takesBack(mark) {
			return mark
		}
		return " "
	})
	bare = dress.ReplaceAllLiteralString(fenced.ReplaceAllLiteralString(bare, ""), "")
	bare = strings.Join(strings.FieldsFunc(strings.ReplaceAll(bare, "’", "'"), isBlank), " ")
	switch {
	case assigned.MatchString(bare):
		return named.MatchString(apart(bare)) && !takesBack(bare)
	case called.MatchString(bare):
		return !takesBack(bare)
	}
	bare = strings.Trim(bare, "\"'`*_(\\ ")
	return strings.Trim(bare, "\"'`*_(){}[]:\\->• ") == "" || announcement.MatchString(emphasis.ReplaceAllLiteralString(bare, ""))
}

// emphasis is left out, for it may end before a stop or behind it, and a sign that only opens a sentence.
var emphasis = regexp.MustCompile("\\*\\*|__|[`¡]")

// takenBack are words by which a name, or an object that is no answer, says that what follows is none.
var takenBack = regexp.MustCompile(`(?i)\b(?:not|no|never|wrong|don['’]?t|false|bad|old|previous|previously|error|example|sample|` +
	`(?:retract|ignore|discard|reject|refuse|cancel|delete|remove|revert|skip|assert|guess)(?:e?d)?|incorrect|invalid|candidate|input|` +
	`draft|dummy|mock|fake|test|expect(?:ed)?|placeholder|template|default|nicht|kein|keine|falsch)\b|n['’]t\b`)

// takesBack looks at each word of a name as well: previousAnswer, not_valid.
func takesBack(text string) bool { return takenBack.MatchString(apart(text)) }

// apart sets blanks between the words of names.
func apart(text string) string {
	var words strings.Builder
	small := false
	for _, c := range text {
		if c == '_' || small && unicode.IsUpper(c) {
			words.WriteByte(' ')
		}
		if c != '_' {
			words.WriteRune(c)
		}
		small = unicode.IsLower(c)
	}
	return words.String()
}
