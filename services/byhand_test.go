package services_test

import (
	"fmt"
	"testing"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

func TestABreakerThatIsClosedByHandWakesTheJobsThatWaitForIt(t *testing.T) {
	t.Parallel()
	const (
		jobs = 3
		soon = 20 * time.Second // all look again within 15 s
	)
	r := setupPatient(t, defaultLimits)
	r.run()
	small := breaker.Circuit{Kind: "model", Name: "small"}
	if err := breaker.OpenByHand(t.Context(), r.conn, small, 5*time.Minute, "maintenance", "an operator"); err != nil {
		t.Fatal(err)
	}
	n := 0
	brokertest.Eventually(t, 10*time.Second, "inference knows that it is open", func() bool {
		n++
		return r.result(r.ask(job.Interactive, "toy", fmt.Sprintf("open yet? %d", n)), 1).Model == "large"
	})
	before := smallCalls(r)
	ids, texts := r.parks(job.Interactive, "patient", jobs, "3m")
	if err := breaker.CloseByHand(t.Context(), r.conn, small, "an operator"); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	for i, id := range ids {
		check(t, texts[i], r.result(id, 1), succeeded("strict"))
		r.calls(texts[i], texts[i], 1)
	}
	calls := r.first.Arrivals("small-1")[before:]
	if len(calls) != jobs {
		t.Fatalf("%d calls, want one for each of %d jobs", len(calls), jobs)
	}
	if took := calls[jobs-1].Sub(from); took > soon {
		t.Errorf("the last was called %s after the breaker was closed", took)
	}
	r.emptied(10 * time.Second)
}
