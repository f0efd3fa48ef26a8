// Package tokens counts what a prompt costs in tokens, offline, before it is sent.
//
// The vocabularies are OpenAI's and are linked into the binary; nothing is downloaded. For OpenAI's models
// the counts are theirs. Other vendors have vocabularies of their own: there a count is an estimate, 5 to
// 30 % off, and models.yaml corrects it by token_safety.
package tokens

import (
	"fmt"
	"hash/maphash"
	"sync"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer"

	"spillway/pkg/job"
)

// None is the encoding of models whose vocabulary is not known: a token is taken for four characters.
const None = "none"

const charactersPerToken = 4

// The framing of a chat prompt, beside the tokens of roles and contents. Source: OpenAI cookbook, "How to
// count tokens with tiktoken", section 6, where the API itself confirms the totals.
const (
	perMessage = 3
	// priming is what the beginning of the reply takes: <|start|>assistant<|message|>.
	priming = 3
)

// Counter counts tokens. It is safe for concurrent use.
type Counter struct {
	encodings map[string]*encoding
	seed      maphash.Seed
	counted   memory
}

// encoding is a vocabulary. It takes 10 to 30 MB, so it is loaded when a model first needs it.
type encoding struct {
	once  sync.Once
	codec tokenizer.Codec
	words *words
	err   error
}

// New returns a Counter that has loaded nothing yet.
func New() *Counter {
	c := &Counter{encodings: map[string]*encoding{}, seed: maphash.MakeSeed()}
	for _, name := range []tokenizer.Encoding{
		tokenizer.O200kBase, tokenizer.Cl100kBase, tokenizer.P50kBase, tokenizer.P50kEdit, tokenizer.R50kBase,
	} {
		c.encodings[string(name)] = &encoding{}
	}
	return c
}

// Count returns the tokens of text. Special tokens that text spells out (<|endoftext|>) are plain text.
//
// Texts of more than 32 KiB are counted in parts. Parts end before a space, where no token of any encoding
// crosses, so the sum is exact; only where a text has no such place for 32 KiB, or white space goes on for
// more than 512 bytes, a cut may add a token or two.
func (c *Counter) Count(encoding, text string) (int, error) {
	if encoding == None {
		return (utf8.RuneCountInString(text) + charactersPerToken - 1) / charactersPerToken, nil
	}
	e := c.encodings[encoding]
	if e == nil {
		return 0, fmt.Errorf("the encoding %q is not known", encoding)
	}
	if len(text) < worthRemembering {
		return e.count(encoding, text)
	}
	k := key{encoding, len(text), maphash.String(c.seed, text)}
	if n, known := c.counted.get(k); known {
		return n, nil
	}
	n, err := e.count(encoding, text)
	if err == nil {
		c.counted.put(k, n)
	}
	return n, err
}

// CountMessages returns the tokens of a whole prompt: contents, roles, framing, and the priming of the reply.
func (c *Counter) CountMessages(encoding string, messages []job.Message) (int, error) {
	total := priming
	for i := range messages {
		role, err := c.Count(encoding, messages[i].Role)
		if err != nil {
			return 0, err
		}
		content, err := c.Count(encoding, messages[i].Content)
		if err != nil {
			return 0, err
		}
		total += perMessage + role + content
	}
	return total, nil
}

func (e *encoding) count(name, text string) (int, error) {
	e.once.Do(func() {
		e.codec, e.err = tokenizer.Get(tokenizer.Encoding(name))
		e.words = newWords()
	})
	if e.err != nil {
		return 0, fmt.Errorf("load the vocabulary of %s: %w", name, e.err)
	}
	total := 0
	for len(text) > 0 {
		end, by := next(text), e.parts
		n, err := 0, error(nil)
		if end <= maxWord {
			n, err = e.words.count(text[:end], by)
		} else {
			n, err = by(text[:end])
		}
		if err != nil {
			return 0, fmt.Errorf("count the tokens of %s: %w", name, err)
		}
		total, text = total+n, text[end:]
	}
	return total, nil
}

// parts counts a text that has no border between words, or one that is not known.
func (e *encoding) parts(text string) (int, error) {
	total := 0
	for len(text) > 0 {
		end := part(text)
		n, err := e.codec.Count(text[:end])
		if err != nil {
			return 0, err
		}
		total, text = total+n, text[end:]
	}
	return total, nil
}
