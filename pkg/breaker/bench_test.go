package breaker

import "testing"

func BenchmarkAPassThroughAClosedBreaker(b *testing.B) {
	r := setup(b).replica("a")
	b.ReportAllocs()
	for b.Loop() {
		p, err := r.Enter(b.Context(), "small")
		if err != nil {
			b.Fatal(err)
		}
		p.Done(Verdict{Result: Worked})
	}
}

func TestAPassThroughAClosedBreakerAllocatesNothingElse(t *testing.T) {
	r := setup(t).replica("a")
	ctx := t.Context()
	n := testing.AllocsPerRun(1000, func() {
		p, err := r.Enter(ctx, "small")
		if err != nil {
			t.Fatal(err)
		}
		p.Done(Verdict{Result: Worked})
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}
