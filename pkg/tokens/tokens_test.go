package tokens

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/pkg/job"
)

const (
	o200k  = "o200k_base"
	cl100k = "cl100k_base"
)

func count(t *testing.T, c *Counter, encoding, text string) int {
	t.Helper()
	n, err := c.Count(encoding, text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The figures are the cookbook's: "How to count tokens with tiktoken", sections 3 and 5.
func TestStringsCountAsOpenAIPublished(t *testing.T) {
	t.Parallel()
	c := New()
	for _, row := range []struct {
		text                      string
		r50k, p50k, cl100k, o200k int
	}{
		{text: "tiktoken is great!", cl100k: 6, o200k: 6},
		{"antidisestablishmentarianism", 5, 5, 6, 6},
		{"2 + 2 = 4", 5, 5, 7, 7},
		{"お誕生日おめでとう", 14, 14, 9, 8},
	} {
		for encoding, want := range map[string]int{"r50k_base": row.r50k, "p50k_base": row.p50k, cl100k: row.cl100k, o200k: row.o200k} {
			if want == 0 {
				continue
			}
			if got := count(t, c, encoding, row.text); got != want {
				t.Errorf("%s %q: %d tokens, published are %d", encoding, row.text, got, want)
			}
		}
	}
}

// The example and its totals are the cookbook's, section 6, where the API confirms them. Its messages have
// names, which job.Message has not: a name takes its own tokens and one more.
func TestMessagesCountAsOpenAIPublished(t *testing.T) {
	t.Parallel()
	c := New()
	names := []string{"example_user", "example_assistant", "example_user", "example_assistant"}
	messages := []job.Message{
		{Role: "system", Content: "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
		{Role: "system", Content: "New synergies will help drive top-line growth."},
		{Role: "system", Content: "Things working well together will increase revenue."},
		{Role: "system", Content: "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
		{Role: "system", Content: "Let's talk later when we're less busy about how to do better."},
		{Role: "user", Content: "This late pivot means we don't have time to boil the ocean for the client deliverable."},
	}
	for encoding, published := range map[string]int{cl100k: 129, o200k: 124} {
		got, err := c.CountMessages(encoding, messages)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			got += count(t, c, encoding, name) + 1
		}
		if got != published {
			t.Errorf("%s: %d tokens, published are %d", encoding, got, published)
		}
	}
}

func TestWithoutAnEncodingFourCharactersAreATokenRoundedUp(t *testing.T) {
	t.Parallel()
	c := New()
	for text, want := range map[string]int{"": 0, "a": 1, "abcd": 1, "abcde": 2, "äöüß": 1} {
		if got := count(t, c, None, text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestAnUnknownEncodingIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "gpt2", "o200k"} {
		if _, err := New().Count(name, "x"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := New().CountMessages("nope", []job.Message{{Role: "user"}}); err == nil {
		t.Error("no error for messages")
	}
}

func TestAVocabularyIsLoadedOnlyWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	c := New()
	count(t, c, None, "text")
	count(t, c, cl100k, "text")
	for name, e := range c.encodings {
		if loaded := e.codec != nil; loaded != (name == cl100k) {
			t.Errorf("%s: loaded %t", name, loaded)
		}
	}
}

func TestMarkersOfAConversationInATextAreCountedAsPlainText(t *testing.T) {
	t.Parallel()
	if got := count(t, New(), o200k, "<|endoftext|><|im_start|>"); got < 8 {
		t.Errorf("%d tokens: a marker was taken for one token", got)
	}
}

func TestCountingInPartsGivesTheCountOfTheWhole(t *testing.T) {
	t.Parallel()
	c := New()
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"invoice", "blocked!!", "don't", "4711", "über", "誕生日", "{\"a\":", "[1,2]}", "\n", "\n\n  ", "\t", "https://example.org/x?y=z", "    ", "…", "😀", "I'LL"}
	for _, encoding := range []string{o200k, cl100k} {
		var text strings.Builder
		for text.Len() < 4*maxPart {
			text.WriteString(words[random.IntN(len(words))])
			if random.IntN(3) > 0 {
				text.WriteByte(' ')
			}
		}
		got := count(t, c, encoding, text.String())
		whole, err := c.encodings[encoding].codec.Count(text.String())
		if err != nil {
			t.Fatal(err)
		}
		if got != whole {
			t.Errorf("%s: %d in parts, %d as a whole", encoding, got, whole)
		}
	}
}

func TestACutInAnEndlessWordAddsAtMostAFewTokens(t *testing.T) {
	t.Parallel()
	c := New()
	text := strings.Repeat("lorem", 20_000) // 100 kB without a space
	got := count(t, c, o200k, text)
	whole, err := c.encodings[o200k].codec.Count(text)
	if err != nil {
		t.Fatal(err)
	}
	if cuts := len(text)/maxPart + 1; got < whole-2*cuts || got > whole+2*cuts {
		t.Errorf("%d in parts, %d as a whole", got, whole)
	}
}

func TestPartsCoverTheTextAndEndAtCharacters(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		strings.Repeat("誕", 30_000), strings.Repeat(" ", 5000), strings.Repeat(" \n", 5000), strings.Repeat("\xff", 70_000),
		"a " + strings.Repeat("b", 100_000), strings.Repeat("\u2003", 4000) + "x",
	} {
		rest, parts := text, 0
		for ; len(rest) > 0; parts++ {
			end := part(rest)
			if end <= 0 || end > maxPart {
				t.Fatalf("a part of %d bytes", end)
			}
			if end < len(rest) && rest[end]&0xC0 == 0x80 {
				t.Fatal("a part ends within a character")
			}
			rest = rest[end:]
		}
		if most := len(text)/(maxBlank/4) + 2; parts > most {
			t.Errorf("%d parts of %d bytes", parts, len(text))
		}
	}
}

func TestHostileTextsAreCountedInBoundedTime(t *testing.T) {
	t.Parallel()
	const size = 256 << 10
	c := New()
	letters := make([]byte, size)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range letters {
		letters[i] = 'a' + byte(random.IntN(26))
	}
	texts := map[string]string{
		"one letter": strings.Repeat("a", size), "letters": string(letters), "capitals": strings.ToUpper(string(letters)),
		"spaces": strings.Repeat(" ", size), "space and newline": strings.Repeat(" \n", size/2), "tabs and returns": strings.Repeat("\t\r\n", size/3),
		"digits": strings.Repeat("1", size), "marks": strings.Repeat("!", size), "combining": strings.Repeat("\u0301", size/2),
		"not UTF-8": strings.Repeat("\xff", size), "apostrophes": strings.Repeat("'s", size/2), "brackets": strings.Repeat("[", size),
	}
	for name, text := range texts {
		for _, encoding := range []string{o200k, cl100k} {
			started := time.Now()
			count(t, c, encoding, text)
			// Measured: at most 0.2 s. In one part, the worst would take half a minute.
			if took := time.Since(started); took > 10*time.Second {
				t.Errorf("%s of %s took %v", encoding, name, took)
			}
		}
	}
}

func TestARepeatedTextIsNotCountedAnew(t *testing.T) {
	t.Parallel()
	c := New()
	text := strings.Repeat("You route new customers. ", 50)
	want := count(t, c, o200k, text)
	c.encodings[o200k].codec = nil // counting anew would panic
	if got := count(t, c, o200k, text); got != want {
		t.Errorf("%d, then %d", want, got)
	}
}

func TestWhatIsRememberedIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	var m memory
	kept := key{o200k, 1, 1}
	m.put(kept, 7)
	for i := range 20 * generation {
		m.put(key{o200k, 2, uint64(i)}, i)
		if n, known := m.get(kept); !known || n != 7 {
			t.Fatalf("after %d texts: %d, %t", i, n, known)
		}
	}
	if size := len(m.young) + len(m.aged); size > 2*generation {
		t.Errorf("%d counts are remembered", size)
	}
	if _, known := m.get(key{o200k, 2, 0}); known {
		t.Error("what nobody asked for was never forgotten")
	}
}

func TestACounterIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	c := New()
	want := count(t, New(), o200k, strings.Repeat("the same text for all ", 20))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				if n, err := c.Count(o200k, strings.Repeat("the same text for all ", 20)); err != nil || n != want {
					t.Errorf("%d, %v; want %d", n, err, want)
				}
				if _, err := c.Count(cl100k, fmt.Sprint("a text of one's own ", strings.Repeat("x", 80), g, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func ExampleCounter_Count() {
	n, err := New().Count("cl100k_base", "tiktoken is great!")
	fmt.Println(n, err)
	// Output: 6 <nil>
}

func BenchmarkCount8700Tokens(b *testing.B) {
	c := New()
	text := strings.Repeat("The quick brown fox jumps over it. ", 1090)
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.encodings[o200k].count(o200k, text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Count(o200k, text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
