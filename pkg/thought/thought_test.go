package thought

import (
	"strings"
	"testing"
)

func TestAMarkIsFoundHoweverItsTagIsWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"<think>a": 7, "<think >a": 8, `<think id="1">a`: 14, "<think\n>": 8, "<think/>": 8, "<seed:think>a": 12, "[think]a": 7, "◁think▷a": 11,
		"<|start_thinking|>a": 18, "<thinkers>": 0, "<think": 0, "<think <b>": 0, "<thin>": 0, "a<think>": 0, "</think>": 0, "<|think|>": 0,
		"<think " + strings.Repeat("x", maxTag) + ">": 0,
	} {
		got := 0
		for _, m := range Marks() {
			got = max(got, m.Begins(text))
		}
		if got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

func TestAThoughtEndsWithTheMarkThatItBeganWith(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"<think>a</think>b": 16, "<think>a</thinkers></think >b": 28, "<think>a</thinking>b": -1, "<think>a</think": -1, "<thinking>a</thinking>": 22,
		"[think]a[/think]": 16, "◁think▷a◁/think▷b": 24, "<|start_thinking|>a<|end_thinking|>": 35, "<|begin_of_thought|>a<|end_of_thought|>": 39,
	} {
		for _, m := range Marks() {
			if size := m.Begins(text); size > 0 {
				got := m.Over(text[size:])
				if got >= 0 {
					got += size
				}
				if got != want {
					t.Errorf("%s: over at %d, want %d", text, got, want)
				}
			}
		}
	}
}

func TestTheSmallLettersOfATextTakeAsManyBytes(t *testing.T) {
	t.Parallel()
	if got := Lower("<THINK> İ ÄK\xff\xe2"); got != "<think> İ Äk\xff\xe2" {
		t.Errorf("%q", got)
	}
}

func TestEveryMarkBeginsAsItMay(t *testing.T) {
	t.Parallel()
	for _, m := range Marks() {
		for _, sign := range []string{m.Begin, m.End} {
			if !MayBegin(sign[0]) || sign != Lower(sign) {
				t.Errorf("%s", sign)
			}
		}
	}
}
