package services_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// A model whose first answer is never valid, and that mends it with probability p when it is told what is wrong,
// mends it in one of two corrections with 1-(1-p)². What is not recovered says so.
func TestTheShareOfAnswersThatCorrectionsRecoverIsWhatChanceAllows(t *testing.T) {
	t.Parallel()
	const jobs = 5000
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	for _, p := range []float64{0.2, 0.5, 0.8} {
		r.first.Reset()
		r.first.SetFaults(fakellm.Fault{Kind: "off_schema", First: 1}, fakellm.Fault{Kind: "off_schema", Rate: 1 - p})
		before := r.heard.distinct()
		for i := range jobs {
			r.publish(job.Interactive, "bare", fmt.Sprintf("p%.0f-%d", p*10, i), asking(fmt.Sprintf("question %d at %g", i, p), nil))
		}
		brokertest.Eventually(t, 3*time.Minute, "all jobs end", func() bool { return r.heard.distinct() == before+jobs })
		recovered, calls := 0, 0
		for i := range jobs {
			results := r.heard.of(fmt.Sprintf("p%.0f-%d", p*10, i))
			if len(results) != 1 {
				t.Fatalf("%d results of job %d", len(results), i)
			}
			calls += results[0].Usage.Calls
			switch result := results[0]; {
			case result.Status == job.Succeeded && result.Recovery == "corrected" && answersTo(&result, fmt.Sprintf("question %d at %g", i, p)):
				recovered++
			case result.Status != job.Failed || result.Error.Code != "output_invalid":
				t.Fatalf("job %d: %s, %s", i, result.Status, lines(result.History))
			}
		}
		share, want := float64(recovered)/jobs, 1-(1-p)*(1-p)
		if math.Abs(share-want) > 0.02 {
			t.Errorf("p = %g: %.4f recovered, want %.4f", p, share, want)
		}
		if n := r.first.Counts().Calls; n != calls {
			t.Errorf("p = %g: the results count %d calls, the provider %d", p, calls, n)
		}
	}
}
