package inference

import (
	"encoding/json"
	"strings"
	"testing"
)

const (
	chunkHead = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":`
	chunkTail = `},"logprobs":null,"finish_reason":null}],"usage":null}`
	padded    = `},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"`
)

// decoded is what encoding/json, which the code under test does not use, reads of an event.
func decoded(event []byte) (text string, rest string, ok bool) {
	var whole map[string]any
	if json.Unmarshal(event, &whole) != nil {
		return "", "", false
	}
	delete(whole, "obfuscation")
	choices, _ := whole["choices"].([]any)
	if len(choices) != 1 {
		return "", "", false
	}
	delta, _ := choices[0].(map[string]any)["delta"].(map[string]any)
	text, ok = delta["content"].(string)
	delete(delta, "content")
	left, err := json.Marshal(whole)
	return text, string(left), ok && err == nil
}

func TestAPieceIsTheTextThatTheDecoderReads(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ first, next, want string }{
		"a word":                  {chunkHead + `" a"` + chunkTail, chunkHead + `" word"` + chunkTail, " word"},
		"no text":                 {chunkHead + `" a"` + chunkTail, chunkHead + `""` + chunkTail, ""},
		"quotes and line ends":    {chunkHead + `"{"` + chunkTail, chunkHead + `"\"a\\b\/c\":\n\t\r"` + chunkTail, "\"a\\b/c\":\n\t\r"},
		"letters beyond ASCII":    {chunkHead + `"é"` + chunkTail, chunkHead + `"日本 😀"` + chunkTail, "日本 😀"},
		"the name of the field":   {chunkHead + `"a"` + chunkTail, chunkHead + `"\"content\":\"x"` + chunkTail, `"content":"x`},
		"a space behind the name": {strings.Replace(chunkHead, `t":`, `t": `, 1) + `"a"` + chunkTail, strings.Replace(chunkHead, `t":`, `t": `, 1) + `"b"` + chunkTail, "b"},
		"padding":                 {chunkHead + `"a"` + padded + `x7Q"}`, chunkHead + `"b"` + padded + `"}`, "b"},
	} {
		var p pieces
		text, _, _ := decoded([]byte(row.first))
		p.learn([]byte(row.first), text)
		got, ok := p.of([]byte(row.next))
		if want, _, _ := decoded([]byte(row.next)); !ok || string(got) != row.want || want != row.want {
			t.Errorf("%s: %q, %v; the decoder reads %q, want %q", name, got, ok, want, row.want)
		}
	}
}

func TestWhatIsMoreThanAPieceIsLeftToTheDecoder(t *testing.T) {
	t.Parallel()
	var p pieces
	p.learn([]byte(chunkHead+`"a"`+chunkTail), "a")
	for _, event := range []string{
		chunkHead + `"b"},"logprobs":null,"finish_reason":"stop"}],"usage":null}`,
		chunkHead + `"b","refusal":"no"` + chunkTail,
		chunkHead + `"b"` + chunkTail + `x`,
		chunkHead + `null` + chunkTail,
		chunkHead + `"\u0041"` + chunkTail,
		chunkHead + "\"\xff\"" + chunkTail,
		chunkHead + "\"\n\"" + chunkTail,
		chunkHead + `"cut`,
		chunkHead + `"\`,
		strings.Replace(chunkHead, `"m"`, `"n"`, 1) + `"b"` + chunkTail,
		`{"error":{"message":"overloaded"}}`,
		``,
	} {
		if text, ok := p.of([]byte(event)); ok {
			t.Errorf("%s was read as %q", event, text)
		}
	}
	for _, event := range []string{chunkHead + `"a"` + `},"x":{"content":"a"}}]}`, `{"choices":[]}`} {
		var none pieces
		if none.learn([]byte(event), "a"); none.head != nil {
			t.Errorf("%s was learnt", event)
		}
	}
}

// FuzzAPieceIsNeverReadAmiss holds: what is taken for a piece is JSON, of the text that the decoder reads,
// and all else in it is as in the event that was learnt.
func FuzzAPieceIsNeverReadAmiss(f *testing.F) {
	f.Add(chunkHead+`"a"`+chunkTail, chunkHead+`"b"`+chunkTail)
	f.Add(chunkHead+`"a"`+padded+`Ab1"}`, chunkHead+`"\"\\"`+padded+`"}`)
	f.Fuzz(func(t *testing.T, first, next string) {
		text, rest, ok := decoded([]byte(first))
		if !ok {
			return
		}
		var p pieces
		p.learn([]byte(first), text)
		got, ok := p.of([]byte(next))
		if !ok {
			return
		}
		want, same, ok := decoded([]byte(next))
		if !ok || string(got) != want || same != rest {
			t.Errorf("%s after %s was read as %q", next, first, got)
		}
	})
}
