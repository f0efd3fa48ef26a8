package services_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// deliveries is how often the broker delivered parked jobs of a lane for model small.
func (r *rig) deliveries(lane string) uint64 {
	r.t.Helper()
	c, err := r.conn.JS.Consumer(r.t.Context(), "LLM_PARKED", "inference-parked-"+lane+"-small")
	if err != nil {
		r.t.Fatal(err)
	}
	return c.CachedInfo().Delivered.Consumer
}

func TestParkedJobsWhoseTurnComesTooLateWaitQuietlyAndAreAnsweredInTime(t *testing.T) {
	t.Parallel()
	const jobs = 8
	r := setupWith(t, brokertest.Server(t).URL(), 1, func(first, second string) fstest.MapFS {
		fs := patient(defaultLimits)(first, second)
		y := strings.Replace(string(fs["models.yaml"].Data), "id: small-1,", "id: small-1, limits: {requests_per_minute: 6},", 1)
		fs["models.yaml"] = &fstest.MapFile{Data: []byte(y)}
		return fs
	})
	r.run()
	r.answered("patient", "the first of the minute")
	before := smallCalls(r)
	var ids []string
	for n := range jobs {
		ids = append(ids, r.publish(job.Interactive, "patient", "", withDeadline(fmt.Sprintf("over the limit, %d", n), "6s")))
	}
	brokertest.Eventually(t, 5*time.Second, "most of them are parked", func() bool { return r.parked(job.Interactive) >= jobs-1 })
	from, delivered := time.Now(), r.deliveries(job.Interactive)
	canned := 0
	for _, id := range ids {
		result := r.result(id, 1)
		if result.Source == job.FromCanned {
			r.cannedInTime(id)
			canned++
			continue
		}
		check(t, id, result, succeeded("strict"))
	}
	if n := smallCalls(r) - before; canned < jobs-2 || n != jobs-canned {
		t.Errorf("%d of %d had no turn, and %d calls were made", canned, jobs, n)
	}
	took := time.Since(from)
	if took < 2*time.Second {
		t.Fatalf("they waited %s only", took)
	}
	if rate := float64(r.deliveries(job.Interactive)-delivered) / took.Seconds(); rate > 50 {
		t.Errorf("%.0f deliveries a second for %d jobs", rate, jobs)
	}
	r.emptied(10 * time.Second)
}
