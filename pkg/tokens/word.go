package tokens

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// The bounds of the memory of words: most texts are made of few thousand words, which come again and again,
// and to look one up takes a twentieth of the time of cutting it into tokens. One vocabulary's takes about
// 2 MB when it is full.
const (
	wordsKept = 1 << 14
	maxWord   = 32
)

// words remembers the counts of words. It needs no lock: a place holds one word, the last that came.
type words struct {
	seed   maphash.Seed
	places [wordsKept]atomic.Pointer[word]
}

type word struct {
	text   string
	tokens int
}

func newWords() *words { return &words{seed: maphash.MakeSeed()} }

// count returns the tokens of text, which is a word, as the vocabulary counts them.
func (w *words) count(text string, by func(string) (int, error)) (int, error) {
	place := &w.places[maphash.String(w.seed, text)%wordsKept]
	if known := place.Load(); known != nil && known.text == text {
		return known.tokens, nil
	}
	n, err := by(text)
	if err == nil {
		place.Store(&word{strings.Clone(text), n}) // a copy: the text it stands in may be large
	}
	return n, err
}

// next returns where the first word of text ends: before a space that follows something else than white
// space. There a piece of every encoding's splitting expression ends too, so the counts of words add up.
func next(text string) int {
	for from := 1; from < len(text); {
		i := strings.IndexByte(text[from:], ' ')
		if i < 0 {
			break
		}
		if from += i; !endsBlank(text[:from]) {
			return from
		}
		from++
	}
	return len(text)
}

func endsBlank(text string) bool {
	if c := text[len(text)-1]; c < utf8.RuneSelf {
		return c == ' ' || c >= '\t' && c <= '\r'
	}
	r, _ := utf8.DecodeLastRuneInString(text)
	return unicode.IsSpace(r)
}
