package contextbuilder

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"spillway/pkg/job"
	"spillway/pkg/session"
)

// sentences are n words of a vocabulary that is as large as people's, so that few pieces of text come again.
func sentences(r *rand.Rand, n int) string {
	var text strings.Builder
	for range n {
		fmt.Fprintf(&text, "%c%c%c%c ", 'a'+r.IntN(26), 'a'+r.IntN(26), 'e'+r.IntN(5), 'k'+r.IntN(9))
	}
	return text.String()
}

// conversation is a session whose prompt has about 8,000 tokens.
func conversation(seed uint64) *session.Session {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a benchmark's
	s := session.New("acme", "sample", "one")
	for i := range 44 {
		s.Turns = append(s.Turns, session.Turn{
			ID: fmt.Sprint(i), Run: 1, Place: session.Place{Lane: job.Interactive, Seq: uint64(i) + 1}, User: sentences(r, 40), Assistant: sentences(r, 40),
		})
	}
	return s
}

// BenchmarkBuild8000Tokens is everything but the reads and the write of the record. "first" counts every turn for the first
// time, "kept" takes the counts from the record.
func BenchmarkBuild8000Tokens(b *testing.B) {
	set := load(b, "model: wide8\ncontext: {session: optional, recent_turns: 100}", map[string]string{"prompt.tmpl": sessionText})
	h := handlerOf(b, set)
	build := func(b *testing.B, s *session.Session) int {
		j := admitted(b, message("And now?"))
		made, err := h.begin(set.Tasks["sample"], set.Models["wide8"], j)
		if err != nil {
			b.Fatal(err)
		}
		made.take(s, session.Place{Lane: job.Interactive, Seq: 1000})
		if err := made.compose(); err != nil {
			b.Fatal(err)
		}
		made.sign(s)
		if err := h.finish(made); err != nil {
			b.Fatal(err)
		}
		if made.kept.turns != len(s.Turns) {
			b.Fatalf("%d turns are kept", made.kept.turns)
		}
		return j.PromptTokens
	}
	build(b, conversation(0)) // loads the vocabulary
	b.Run("first", func(b *testing.B) {
		n := 0
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			s := conversation(uint64(i) + 1)
			b.StartTimer()
			n = build(b, s)
		}
		b.ReportMetric(float64(n), "tokens")
	})
	b.Run("kept", func(b *testing.B) {
		s := conversation(0)
		n := build(b, s)
		b.ReportAllocs()
		for b.Loop() {
			build(b, s)
		}
		b.ReportMetric(float64(n), "tokens")
	})
}

// BenchmarkBuildPlain is a prompt of a task without memory.
func BenchmarkBuildPlain(b *testing.B) {
	h := handlerOf(b, load(b, "model: small", nil))
	b.ReportAllocs()
	for b.Loop() {
		if err := handle(b, h, admitted(b, message("My card is blocked!!"))); err != nil {
			b.Fatal(err)
		}
	}
}
