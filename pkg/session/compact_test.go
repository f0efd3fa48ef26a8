package session_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"spillway/pkg/job"
	"spillway/pkg/session"
)

// words counts as people do.
func words(text string) int { return len(strings.Fields(text)) }

func saidInTurn(texts ...string) []session.Turn {
	var all []session.Turn
	for i := 0; i < len(texts); i += 2 {
		all = append(all, session.Turn{ID: fmt.Sprint(i), Place: at(i + 1), User: texts[i], Assistant: texts[i+1]})
	}
	return all
}

func TestAnExtractHasTheBeginningOfEachSideAndKeepsTheNewest(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 1000)
	all := saidInTurn("my name is Ada", "hello Ada", "what\n is  a dam?", "begin "+long+"end", "and a weir?", "a low one")
	whole := session.Extract(nil, all, 1000, words)
	lines := strings.Split(whole.Text, "\n")
	if len(lines) != 3 || lines[0] != "User: my name is Ada Assistant: hello Ada" || !strings.HasPrefix(lines[1], "User: what is a dam? Assistant: begin word ") {
		t.Errorf("extracted:\n%s", whole.Text)
	}
	if strings.Contains(whole.Text, "end") || len(lines[1]) > 300 || whole.Turns != 3 || whole.By != "extract" {
		t.Errorf("%d bytes of a long turn, of %d turns, by %s", len(lines[1]), whole.Turns, whole.By)
	}
	old := &session.Summary{Text: "They spoke of rivers.", Turns: 7, By: session.ByModel}
	tight := session.Extract(old, all, 16, words)
	if tight.Text != "They spoke of rivers.\nUser: and a weir? Assistant: a low one" || tight.Turns != 10 {
		t.Errorf("of %d turns:\n%s", tight.Turns, tight.Text)
	}
	older := session.Extract(whole, saidInTurn("next", "yes"), 1000, words)
	if older.Text != whole.Text+"\nUser: next Assistant: yes" || older.Turns != 4 {
		t.Errorf("of %d turns:\n%s", older.Turns, older.Text)
	}
}

func TestAnExtractNeverHasMoreTokensThanItMay(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	counts := []func(string) int{
		words, func(s string) int { return len(s) }, func(s string) int { return len(s) / 3 }, utf8.RuneCountInString,
		func(s string) int { return len(s) * len(s) / 64 },
	} // more for the whole than for its parts
	text := func() string {
		return strings.Repeat([]string{"a", "word ", "é\n", "x y ", ""}[rng.IntN(5)], rng.IntN(400))
	}
	for range 1000 {
		var texts []string
		for range 2 * rng.IntN(8) {
			texts = append(texts, text())
		}
		all := saidInTurn(texts...)
		var old *session.Summary
		if rng.IntN(2) == 0 {
			old = &session.Summary{Text: text(), Turns: rng.IntN(5)}
		}
		limit, count := rng.IntN(300), counts[rng.IntN(len(counts))]
		made := session.Extract(old, all, limit, count)
		if n := count(made.Text); n > limit {
			t.Fatalf("%d tokens, %d is the most:\n%s", n, limit, made.Text)
		}
		if !utf8.ValidString(made.Text) {
			t.Fatalf("not UTF-8: %q", made.Text)
		}
		if again := session.Extract(old, all, limit, count); again.Text != made.Text || again.Turns != made.Turns {
			t.Fatal("another extract of the same")
		}
	}
}

// sizeOf is the length of the record in the least JSON that the library makes.
func sizeOf(t *testing.T, s *session.Session) int {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	return len(strings.TrimSpace(b.String()))
}

func TestASessionThatFitsIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	s.Turns = saidInTurn("a", "b", "c", "d")
	size := sizeOf(t, s)
	if s.Compact(size) || turns(s) != "0 2" {
		t.Error("a session that fits was compacted")
	}
	if !s.Compact(size - 1) {
		t.Error("a session that does not fit was not compacted")
	}
}

func TestTheOldestTurnsAreExtractedFirst(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	for i := range 100 {
		s.Turns = append(s.Turns, session.Turn{ID: fmt.Sprint(i), Place: at(i + 1), User: fmt.Sprint("question ", i), Assistant: strings.Repeat("x", 10_000)})
	}
	s.Fold = &session.Fold{ID: "sum_1", Through: at(50), Turns: 50}
	s.Compact(session.MaxBytes)
	first := 100 - len(s.Turns)
	if size := sizeOf(t, s); size > 512<<10 || size < 490<<10 {
		t.Errorf("%d bytes", size)
	}
	if s.Summary == nil || s.Summary.Turns != first || s.Turns[0].ID != fmt.Sprint(first) || s.Over != at(first) || s.Fold != nil {
		t.Fatalf("%d turns left, the first is %s, over %+v, fold %v", len(s.Turns), s.Turns[0].ID, s.Over, s.Fold)
	}
	if !strings.Contains(s.Summary.Text, fmt.Sprintf("question %d ", first-1)) || len(s.Turns[0].Assistant) != 10_000 {
		t.Errorf("the newest turn that left is not in the summary, or others were cut:\n%.300s", s.Summary.Text)
	}
}

func TestATurnThatIsTooLongByItselfIsCutAndSaysSo(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	s.Turns = []session.Turn{{ID: "a", Place: at(1), User: "short", Assistant: strings.Repeat("é", 400_000), Counts: map[string]int{"": 9}}}
	s.Compact(session.MaxBytes)
	answer := s.Turns[0].Assistant
	if s.Turns[0].User != "short" || !strings.HasSuffix(answer, "…") || !utf8.ValidString(answer) || len(answer) < 60_000 || s.Turns[0].Counts != nil {
		t.Errorf("%d bytes of %q…, counts %v", len(answer), answer[:20], s.Turns[0].Counts)
	}
}

func TestTextsAreCutNoMoreThanTheyMust(t *testing.T) {
	t.Parallel()
	s := session.New("", "chat", "u")
	for i := range 1000 {
		p := pending(fmt.Sprint("p", i), i+1)
		p.User, p.Input = strings.Repeat("x", 600), []byte(`{"text":"short"}`)
		s.Pending = append(s.Pending, p)
	}
	s.Compact(session.MaxBytes)
	if p := s.Pending[500]; len(p.User) != 256 || p.Input == nil {
		t.Errorf("%d of 600 bytes are left, of the input %q", len(p.User), p.Input)
	}
}

// A record that outgrows its size is compacted, whatever is in it, and never fails; what was promised stays.
func FuzzASessionThatOutgrowsItsSizeIsCompacted(f *testing.F) {
	f.Add(uint64(1), 40, 1000, 200, "hello ")
	f.Add(uint64(2), 1, 0, 600_000, "<&>\u2028")
	f.Add(uint64(3), 1000, 1000, 600, "\x00\xff")
	f.Add(uint64(4), 3000, 0, 0, "")
	f.Add(uint64(5), 0, 1000, 3000, "{\"a\":1}")
	f.Fuzz(func(t *testing.T, seed uint64, turnCount, waiting, length int, text string) {
		turnCount, waiting, length = min(max(turnCount, 0), 3000), min(max(waiting, 0), 1000), min(max(length, 0), 1<<20)
		s := outgrown(seed, turnCount, waiting, length, text)
		before, held := s.Totals, ids(s.Pending)
		state := string(s.State)
		s.Compact(session.MaxBytes)
		if size := sizeOf(t, s); size > 512<<10 {
			t.Fatalf("%d bytes", size)
		}
		if ids(s.Pending) != held || s.Totals != before || string(s.State) != state {
			t.Fatal("waiting requests, totals or the state changed")
		}
		kept := len(s.Turns)
		if s.Summary != nil {
			kept += s.Summary.Turns
		}
		if kept != turnCount {
			t.Fatalf("of %d turns %d are kept or in the summary", turnCount, kept)
		}
		if !slices.IsSortedFunc(s.Turns, func(a, b session.Turn) int { return int(a.Seq) - int(b.Seq) }) {
			t.Fatal("the order changed")
		}
		size := sizeOf(t, s)
		if s.Compact(session.MaxBytes) || sizeOf(t, s) != size {
			t.Fatal("compacting again changes something")
		}
	})
}

// outgrown makes a session of at most 1 MB of such texts.
func outgrown(seed uint64, turnCount, waiting, length int, text string) *session.Session {
	rng := rand.New(rand.NewPCG(seed, 0))
	left := 1 << 20
	long := func() string {
		n := rng.IntN(length + 1)
		if len(text) == 0 || n > left {
			return ""
		}
		left -= n
		return strings.Repeat(text, n/len(text)+1)[:n]
	}
	s := session.New(strings.Repeat("t", 128), "chat", strings.Repeat("s", 128))
	for i := range turnCount {
		s.Turns = append(s.Turns, session.Turn{ID: fmt.Sprintf("%064d", i), Run: 1, Place: at(i + 1), User: long(), Assistant: long(), Counts: map[string]int{"o200k_base": 1 << 20}})
	}
	for i := range waiting {
		p := pending(fmt.Sprintf("%064d", turnCount+i), turnCount+i+1)
		p.User = long()
		p.Input, _ = json.Marshal(long()) // a string always can
		s.Pending = append(s.Pending, p)
	}
	if rng.IntN(2) == 0 {
		s.Summary = &session.Summary{Text: long(), By: session.ByModel}
	}
	s.State, _ = json.Marshal(strings.Repeat("x", session.MaxState-2))
	s.Totals = session.Totals{Turns: turnCount, Usage: job.Usage{InputTokens: 1 << 40, OutputTokens: 1 << 40, Calls: 1 << 40}, CostUSD: 0.1}
	return s
}
