package tokens

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tiktoken-go/tokenizer"
)

// The expected counts are the library's, of the whole text at once.
func TestCountingByWordsGivesTheCountOfTheWhole(t *testing.T) {
	t.Parallel()
	fragments := []string{
		" ", " ", " ", "  ", "   ", "\n", "\r\n", "\t", "\v", "\f", "\u0085", "\u00a0", "\u1680", "\u2003", "\u2028", "\u3000", "\u200b", "\ufeff", "\x1c", "\x00",
		"the", "The", "THE", "don't", "I'LL", "it's", "'s", "'", "x", "a1b2", "12", "12345", "3.14", ",", ".", "...", "!?", "/", "//", "\\", "{\"a\":", "}", "[", "€", "é", "naïve",
		"Straße", "привет", "мир", "日本語", "お誕生日", "😀", "👩‍👩‍👧", "\u0301", "ǅ", "ʰ", "ª", "٣", "Ⅷ", "½", "\xff", "\xc3", "<|endoftext|>",
	}
	c := New()
	dice := rand.New(rand.NewPCG(1, 2))
	for _, encoding := range []string{o200k, cl100k, "p50k_base", "p50k_edit", "r50k_base"} {
		codec, err := tokenizer.Get(tokenizer.Encoding(encoding))
		if err != nil {
			t.Fatal(err)
		}
		for range 4000 {
			var b strings.Builder
			for range 1 + dice.IntN(24) {
				b.WriteString(fragments[dice.IntN(len(fragments))])
			}
			text := b.String()
			want, err := codec.Count(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := count(t, c, encoding, text); got != want {
				t.Errorf("%s: %q is %d tokens, want %d", encoding, text, got, want)
			}
		}
	}
}

func BenchmarkCountAParagraph(b *testing.B) {
	text := strings.Repeat("The customer writes that the parcel arrived on Tuesday with a torn label and without the two spare filters that were on the invoice. ", 11)
	c := New()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if _, err := c.encodings[o200k].count(o200k, text); err != nil {
			b.Fatal(err)
		}
	}
}
