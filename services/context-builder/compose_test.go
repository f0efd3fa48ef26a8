package contextbuilder

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
	"spillway/pkg/tokens"
)

// chatText shows what an input brings along: turns before the input, documents in it.
const chatText = `{{define "system"}}Be kind to {{.Input.name}}.{{end}}
{{define "user.1"}}Who?{{end}}{{define "assistant.1"}}{"intent":"inquiry"}{{end}}
{{define "user"}}{{range index .Input "docs"}}<doc>{{.}}</doc>
{{end}}{{.Input.message}}{{end}}`

const chatInput = `{"type":"object","properties":{"message":{"type":"string"},"name":{"type":"string"},"docs":{"type":"array"},
 "turns":{"type":"array","items":{"type":"object"}}},"required":["message","name"]}`

func chat(t testing.TB, manifest string) *task.Set {
	t.Helper()
	return load(t, manifest, map[string]string{"prompt.tmpl": chatText, "input.schema.json": chatInput})
}

// said is a message of a turn.
func said(role, content string) map[string]any {
	return map[string]any{"role": role, "content": content}
}

// randomText has words and white space of all kinds: its tokens are no sum of those of its parts.
func randomText(r *rand.Rand, most int) string {
	pieces := []string{" the", " a", "Bestellung", "\n\n", "  ", "日本", "🙂", " order", "123", ".", "\t", " antidisestablishmentarianism"}
	var text strings.Builder
	for range r.IntN(most) + 1 {
		text.WriteString(pieces[r.IntN(len(pieces))])
	}
	return text.String()
}

// chatCase is a random request of such a task.
type chatCase struct {
	name, message string
	turns         [][]job.Message
	docs          []any
	recent        int
	limit         int
}

func randomCase(r *rand.Rand) chatCase {
	c := chatCase{name: randomText(r, 4), message: randomText(r, 20), recent: r.IntN(8), limit: 60 + r.IntN(300)}
	for i := range r.IntN(9) {
		turn := []job.Message{{Role: "user", Content: fmt.Sprint(i, randomText(r, 25))}}
		for range r.IntN(3) {
			turn = append(turn, job.Message{Role: "assistant", Content: randomText(r, 25)})
		}
		c.turns = append(c.turns, turn)
	}
	for range r.IntN(7) {
		c.docs = append(c.docs, randomText(r, 40))
	}
	return c
}

func (c chatCase) input() map[string]any {
	turns := []any{}
	for _, turn := range c.turns {
		for _, m := range turn {
			turns = append(turns, said(m.Role, m.Content))
		}
	}
	return map[string]any{"name": c.name, "message": c.message, "turns": turns, "docs": append([]any{}, c.docs...)}
}

// prompt is what the newest n turns and the first d documents make, written down again here.
func (c chatCase) prompt(n, d int) []job.Message {
	messages := []job.Message{
		{Role: "system", Content: "Be kind to " + c.name + "."}, {Role: "user", Content: "Who?"}, {Role: "assistant", Content: `{"intent":"inquiry"}`},
	}
	for _, turn := range c.turns[len(c.turns)-n:] {
		messages = append(messages, turn...)
	}
	user := ""
	for _, doc := range c.docs[:d] {
		user += fmt.Sprintf("<doc>%v</doc>\n", doc)
	}
	return append(messages, job.Message{Role: "user", Content: user + c.message})
}

// The model's answer is found by trying all that could be kept, and counting whole prompts.
func TestWhatIsKeptIsMaximalWholeAndCountedToTheToken(t *testing.T) {
	t.Parallel()
	counter := tokens.New()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a test's
		c := randomCase(r)
		model := []string{"small", "strict", "abroad"}[r.IntN(3)]
		set := chat(t, fmt.Sprintf("model: %s\ncontext: {turns_from: /turns, documents_from: /docs, recent_turns: %d, max_input_tokens: %d}", model, c.recent, c.limit))
		m := set.Models[model]
		count := func(n, d int) int {
			total, err := counter.CountMessages(m.Encoding, c.prompt(n, d))
			if err != nil {
				t.Fatal(err)
			}
			if model == "strict" {
				schema, err := counter.CountFormat(m.Encoding, "sample", shownText)
				if err != nil {
					t.Fatal(err)
				}
				total += schema
			}
			if model == "abroad" {
				total = (total*3 + 1) / 2
			}
			return total
		}
		j := admitted(t, c.input())
		err := handle(t, handlerOf(t, set), j)
		if fixed := count(0, 0); fixed > c.limit {
			want := fmt.Sprintf("the prompt is %d tokens too long (%d of %d)", fixed-c.limit, fixed, c.limit)
			if err == nil || err.Fate != fate.Reject || err.Code != fate.ContextTooLong || err.Message != want {
				t.Fatalf("seed %d: %v, want %q", seed, err, want)
			}
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		n, d := 0, 0
		for n < min(len(c.turns), c.recent) && count(n+1, 0) <= c.limit {
			n++
		}
		for d < len(c.docs) && count(n, d+1) <= c.limit {
			d++
		}
		if got, want := messagesOf(t, j), c.prompt(n, d); !slices.Equal(got, want) {
			t.Fatalf("seed %d: got %+v\nwant %d turns and %d documents: %+v", seed, got, n, d, want)
		}
		if j.PromptTokens != count(n, d) || j.PromptTokens > c.limit {
			t.Fatalf("seed %d: %d tokens, want %d of %d", seed, j.PromptTokens, count(n, d), c.limit)
		}
		checkSections(t, j, n, len(c.turns)-n, d, len(c.docs)-d)
	}
}

func checkSections(t *testing.T, j *job.Job, turns, turnsDropped, documents, documentsDropped int) {
	t.Helper()
	if len(j.History) != 1 || j.History[0].Kind != job.KindContext {
		t.Fatalf("history %+v", j.History)
	}
	order := []string{"system", "examples", "summary", "turns", "documents", "input", "response_format", "framing"}
	sum, last := 0, -1
	found := map[string]job.Section{}
	for _, s := range j.History[0].Sections {
		at := slices.Index(order, s.Name)
		if at <= last || s.Tokens < 0 {
			t.Errorf("section %+v behind %v", s, last)
		}
		last, sum, found[s.Name] = at, sum+s.Tokens, s
	}
	if sum != j.PromptTokens || j.History[0].CountedTokens != sum {
		t.Errorf("the sections are %d tokens, the prompt %d: %+v", sum, j.PromptTokens, j.History[0].Sections)
	}
	if got := found["turns"]; got.Kept != turns || got.Dropped != turnsDropped || (got.Tokens > 0) != (turns > 0) {
		t.Errorf("turns %+v, want %d kept and %d dropped", got, turns, turnsDropped)
	}
	if got := found["documents"]; got.Kept != documents || got.Dropped != documentsDropped || (got.Tokens > 0) != (documents > 0) {
		t.Errorf("documents %+v, want %d kept and %d dropped", got, documents, documentsDropped)
	}
}

// What the sizes are is not asked of any counter here: compose is held against a search of all choices.
func TestCompositionIsTheBestOfAllChoicesByItsOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 11)) //nolint:gosec // a test's
		some := func(most int) size { return size{1 + r.IntN(most), 1 + r.IntN(most)} }
		limit, s := some(200), supply{fixed: size{}, turns: r.IntN(8), documents: r.IntN(12)}
		if r.IntN(2) == 0 {
			s.summary = some(80)
		}
		var turns, with []size
		for range s.turns {
			turns = append(turns, some(60))
		}
		for sum := (size{}); len(with) <= s.documents; sum = sum.plus(some(40)) {
			with = append(with, sum)
		}
		s.turn = func(i int) (size, error) { return turns[i], nil }
		s.with = func(n int) (size, error) { return with[n], nil }
		s.fits = func(z size) bool { return z.tokens <= limit.tokens && z.bytes <= limit.bytes }
		got, err := s.compose()
		if err != nil {
			t.Fatal(err)
		}
		// Of all choices that fit: with the summary if that can be, then most turns, then most documents. Turns are the
		// newest ones without a gap, documents the first.
		best := choice{}
		for _, summary := range []bool{false, true} {
			for n := range s.turns + 1 {
				for d := range s.documents + 1 {
					z := with[d]
					if summary {
						z = z.plus(s.summary)
					}
					for _, turn := range turns[s.turns-n:] {
						z = z.plus(turn)
					}
					if summary && s.summary == (size{}) || !s.fits(z) {
						continue
					}
					if one := (choice{summary, n, d, z}); better(one, best) {
						best = one
					}
				}
			}
		}
		if got != best {
			t.Fatalf("seed %d: got %+v, want %+v of limit %v: %+v, turns %v, documents %v", seed, got, best, limit, s.summary, turns, with)
		}
	}
}

func better(a, b choice) bool {
	switch {
	case a.summary != b.summary:
		return a.summary
	case a.turns != b.turns:
		return a.turns > b.turns
	}
	return a.documents > b.documents
}
