package validator

import (
	"regexp"
	"strings"
	"unicode"
)

// What may stand before a value is a closed list: who does not read prose can not tell "here is the result" from
// "do the opposite of this", so a line says one of the sentences below, or the value is left in doubt.

// The words of the sentences. What is announced is an output and never the input, a format or an example; of what
// was read it is only the analysis, for the JSON of a message may be the message.
const (
	object = `json(?: (?:object|array|list|output|response|result|data|answer))?`
	data   = `(?:` + object + `|(?:output|results?|answer|response|list|items|` +
		`structured data)(?: json| object)?)`
	act       = `(?:(?:sentiment|intent|routing|text) )?(?:analysis|classification|decision|assessment|evaluation|extraction)(?: (?:results?|output|json))?`
	adjective = `(?:final|requested|resulting|completed?|structured|formatted|extracted|corrected|revised|updated|fixed)`
	source    = `(?:(?:the|your|this) )?(?:(?:given|provided|customer|customer's|user|user's|input) )*` +
		`(?:message|text|input|request|review|ticket|conversation|email|content|feedback|document|article|query|information)` +
		`(?: you (?:provided|gave|sent|shared)| provided| above)?`
	demand    = `(?:(?:the|your) )?(?:(?:given|provided|required|requested|output|json) )*(?:schema|format|specification|structure|requirements|instructions)`
	qualifier = `(?: (?:that )?you(?:'ve| have)? (?:asked for|requested|wanted|needed|need|specified)| as (?:requested|specified)| based on ` + source +
		`| (?:according to|as per|per|matching|following|conforming to|that (?:matches|follows|conforms to)) ` + demand +
		`| in (?:the )?(?:(?:requested|required|specified|desired|valid|correct) )*(?:json(?: format)?|format)` +
		`| (?:representing|containing|with) the (?:` + adjective + ` )?` + act + `)`
	thing = `(?:` + adjective + ` ){0,2}(?:` + data + `|` + act + `(?: (?:of|for) ` + source + `)?)` + qualifier + `{0,2}`
	verb  = `(?:analy[sz]ed?|classify|classified|categori[sz]ed?|routed?|review(?:ed)?|evaluated?|assess(?:ed)?|process(?:ed)?|rated?)`
)

// What a model says before it comes to the point: agreed alone says nothing, but behind thanks or regrets the value
// must be announced.
const (
	agreed = `(?:sure(?: thing)?|certainly|of course|ok|okay|alright|great|gladly|understood|got it|so|you're right|` +
		`i(?:'d| would) be (?:happy|glad) to help(?: you)?(?: with (?:that|this))?|i can help(?: you)? with that)`
	polite = `(?:(?:thanks|thank you)(?: for (?:(?:providing|sharing) )?` + source + `)?|` +
		`(?:i'm |i am )?(?:sorry|(?:i )?apologi[sz]e|(?:my )?apologies)(?: for the (?:confusion|oversight|inconvenience))?)`
)

const (
	hereIs  = `here(?: you go| it is| they are|(?:'s| is| are) (?:(?:(?:the|my|your) )?` + thing + `|a (?:structured |formatted )?` + object + qualifier + `{0,2}))?`
	label   = `(?:(?:the|my) )?` + thing + `(?: (?:is|are)(?: as follows| below)?| follows)?`
	pointed = `(?:below|the following|this) is the ` + thing
	done    = `(?:i|we)(?:'ve| have|'d| would|'ll| will)? ` + verb + ` (?:it|this|` + source + `) (?:as follows|and (?:` + hereIs + `|(?:provide|return|give you) the ` + thing + `))`
	ground  = `(?:based on|according to|after (?:analyzing|analysing|reviewing|reading)) ` + source + `,? (?:` + hereIs + `|` + label + `|` + done + `)`
	english = hereIs + `|` + label + `|` + pointed + `|` + done + `|` + ground
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
	chinese = `好的|当然(?:可以)?|(?:(?:以下|下面|这)是)?(?:您|你)?(?:所?(?:请求|要求|需要)的)?(?:最终|分析|分类|json)?` +
		`(?:结果|输出|回答|答案|json)(?:如下)?(?:[（(]供参考[）)])?`
	arabic = `(?:(?:هذه هي|إليك) )?(?:النتيجة|الإجابة)(?: المطلوبة| النهائية)?`
)

// headed are the words between the tokens of a template.
const headed = `(?:assistant(?: final)?|final)(?: json)?$`

// announcement is a line of such sentences, each with one stop.
var announcement = regexp.MustCompile(`^(?i:(?:(?:` + agreed + ` ?(?:[!.,:]|$)|` +
	`(?:` + polite + `[!.,] )?(?:` + english + `) ?(?:[!.:,]|$)|` +
	`(?:` + german + `|` + french + `|` + spanish + `|` + chinese + `|` + arabic + `) ?(?:[!.,:，。！：]|$)|` + headed + `) ?)+)$`)

// dress is what a line wears: the marks of Markdown before it, and a fence at its end with the name of a language.
var (
	dress  = regexp.MustCompile(`^[\s>]*(?:(?:#{1,6}|[-*•]|1[.)])\s)?`)
	fenced = regexp.MustCompile("(?i)(?:`{3,}|~{3,}|'{3})[ ]?(?:jsonc?|json5|javascript|js|typescript|ts|python|py|te?xt|plaintext|output|code)?(?:\\\\n)?[\\s>]*$")
	ruler  = regexp.MustCompile(`^(?:-{3,}|\*{3,}|_{3,})$`)
)

// The names by which a program calls a value: what is assigned, called or headed so may be nothing else.
const naming = `(?:json|final|results?|response|output|answer|data|decision|analysis|classification)`

var (
	assigned = regexp.MustCompile(`^(?i)(?:(?:const|let|var) )?` + naming + `(?: ` + naming + `)* =$`)
	called   = regexp.MustCompile(`^(?i)(?:(?:functions\.)?` + function + `|json\.(?:loads|dumps|parse|stringify)|dict|print|console\.log)\(["']?$|^return$|^b['"]$`)
)

const function = `(?:(?:handle|route|submit|return|provide)(?: (?:route|routing|customer|` + naming + `))*|` + naming + `(?: ` + naming + `)*)`

// opened are the marks that a template, a tool or a programming language sets before a value. The tokens of a
// user's or a system's message are none of them.
var opened = regexp.MustCompile(`(?i)<[|｜](?:start|end|call|channel|message|constrain|assistant|final|im_start|im_sep|begin_of_text|start_header_id|` +
	`end_header_id)[|｜]>|<(?:answer|final_answer|output|result|response|json|code|pre|final)>|<tool_call>|<\|python_tag\|>|\[tool_calls\]|` +
	`<!\[cdata\[|\[\[ ## ` + naming + `(?:_` + naming + `)* ## \]\]`)

// tool names the function that a value is for.
var tool = regexp.MustCompile(`<function=(\w{1,40})>$`)

var isFunction = regexp.MustCompile(`^(?i)` + function + `$`)

// Bounds of what stands before a value. More is a text of its own.
const (
	maxFront = 4 << 10
	maxLine  = 256
)

// isAnnounced reports whether all that stands before the value announces it, or says nothing.
func isAnnounced(front string) bool {
	if len(strings.TrimFunc(front, isBlank)) > maxFront {
		return false
	}
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
	if size := len(strings.TrimFunc(line, isBlank)); size == 0 || size > maxLine {
		return size == 0
	}
	bare := opened.ReplaceAllLiteralString(line, " ")
	if name := tool.FindStringSubmatch(strings.TrimFunc(bare, isBlank)); name != nil && isFunction.MatchString(apart(name[1])) {
		bare = tool.ReplaceAllLiteralString(strings.TrimFunc(bare, isBlank), "")
	}
	bare = strings.Map(func(c rune) rune {
		if isBlank(c) {
			return ' '
		}
		return c
	}, bare)
	bare = dress.ReplaceAllLiteralString(fenced.ReplaceAllLiteralString(bare, ""), "")
	bare = strings.Join(strings.Fields(strings.ReplaceAll(bare, "’", "'")), " ")
	if named := apart(bare); assigned.MatchString(named) || !strings.Contains(bare, " ") && called.MatchString(named) || ruler.MatchString(bare) {
		return true
	}
	bare = strings.Trim(emphasis.ReplaceAllLiteralString(bare, ""), "\"'*_ ")
	return bare == "" || announcement.MatchString(bare)
}

// emphasis is left out, for it may end before a stop or behind it, and a sign that only opens a sentence.
var emphasis = regexp.MustCompile("\\*\\*|__|[`¡]")

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
