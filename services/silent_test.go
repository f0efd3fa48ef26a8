package services_test

import (
	"slices"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// The job of the probe has less time than the model may be silent: nothing was learnt, least of all that the
// model works.
func TestAProbeThatIsCutByItsOwnDeadlineBeforeATokenClosesNothing(t *testing.T) {
	t.Parallel()
	r := setupPatient(t, "timeouts: {connect: 1s, first_token: 10s, silence: 10s, call: 30s}\n  breaker: {half_open_after: 700ms}")
	r.run()
	r.breaks()
	before := smallCalls(r)
	records := r.circuits()
	states := records.states("model.small")
	r.first.SetFaults(fakellm.Fault{Kind: "hang_headers"})
	id := r.publish(job.Interactive, "patient", "", withDeadline("short of time", "3s"))
	r.awaits(func(c fakellm.Counts) bool { return c.Models["small-1"].Calls == before+1 })
	check(t, "short of time", r.result(id, 1), byCanned)
	var found circuit
	brokertest.Eventually(t, 10*time.Second, "the probe is over", func() bool {
		found = records.of("model.small")
		return r.first.Counts().InFlight == 0 && found.State != halfOpen
	})
	if seen := states(); found.State != open || slices.Contains(seen, closed) || !slices.Contains(seen, halfOpen) {
		t.Errorf("after a probe without a token the circuit is %+v, and was %v", found, seen)
	}
	if n := smallCalls(r) - before; n != 1 {
		t.Errorf("%d calls, want the probe", n)
	}
}
