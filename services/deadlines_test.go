package services_test

import (
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// Markers are kept longer than results: one without the other may be of a run that ended long ago.
func TestARunWhoseResultIsNoLongerKeptIsNotAnsweredAgain(t *testing.T) {
	t.Parallel()
	const kept = 2 * time.Second
	r := setup(t, brokertest.Server(t).URL())
	stop := r.run()
	ended := r.publish(job.Interactive, "toy", "", withDeadline("in time", "3s"))
	result := r.result(ended, 1)
	check(t, "in time", result, succeeded("strict"))
	stop()
	s, err := r.conn.JS.Stream(t.Context(), broker.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxAge, config.Duplicates = kept, kept
	if _, err := r.conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, "the result is no longer kept", func() bool {
		info, err := s.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	})
	brokertest.Eventually(t, 5*time.Second, "its deadline has come", func() bool { return time.Now().After(result.Deadline) })
	// The deadline of the one that ended comes first; when the other has its answer, that was decided too.
	r.runAllBut(broker.Inference)
	stuck := r.publish(job.Interactive, "toy", "", withDeadline("stuck", "3s"))
	if result := r.result(stuck, 1); result.Degraded == nil || result.Degraded.Reason != fate.Deadline {
		t.Errorf("the stuck one: %s", result.Status)
	}
	if heard := r.heard.of(ended); len(heard) != 1 {
		t.Errorf("the one that ended has %d results, the last: %+v", len(heard), heard[len(heard)-1])
	}
}
