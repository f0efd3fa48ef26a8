package services_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// unhurried is the task bare of the rig with times that no busy machine exceeds: a call that is made again, or a
// deadline, would be another chance than the one that is measured.
func unhurried(first, second string) fstest.MapFS {
	fs := folder(first, second)
	const timeouts = "timeouts: {connect: 5m, first_token: 5m, silence: 5m, call: 5m}"
	fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(timeouts, small("small", "one", first), large("large", "two", second)))}
	addTask(fs, "bare", strings.Replace(taskYAML, "default: 20s", "default: 10m", 1)+ladderNone)
	return fs
}

// A model whose first answer is never valid, and that mends it with probability p when it is told what is wrong,
// mends it in one of two corrections with 1-(1-p)². What is not recovered says so. Which calls are mended follows
// from the provider's seed and the texts, so that each run finds the same shares.
func TestTheShareOfAnswersThatCorrectionsRecoverIsWhatChanceAllows(t *testing.T) {
	t.Parallel()
	const tolerance = 0.02
	r := setupWith(t, brokertest.Server(t).URL(), 1, unhurried)
	r.run()
	for _, p := range []float64{0.2, 0.5, 0.8} {
		want := 1 - (1-p)*(1-p)
		// So many that the tolerance is 2.1 standard deviations of the share: 5,033 jobs in all.
		jobs := int(math.Ceil(want * (1 - want) * math.Pow(2.1/tolerance, 2)))
		recovered := r.recovered(p, jobs)
		t.Logf("p = %g: %d of %d recovered", p, recovered, jobs)
		if share := float64(recovered) / float64(jobs); math.Abs(share-want) > tolerance {
			t.Errorf("p = %g: %.4f recovered, want %.4f", p, share, want)
		}
	}
}

// recovered asks a model that mends an answer with probability p, and counts the jobs whose answers were.
func (r *rig) recovered(p float64, jobs int) int {
	r.t.Helper()
	r.first.Reset()
	r.first.SetFaults(fakellm.Fault{Kind: fakellm.KindOffSchema, First: 1}, fakellm.Fault{Kind: fakellm.KindOffSchema, Rate: 1 - p})
	id := func(n int) string { return fmt.Sprintf("p%.0f-%d", p*10, n) }
	text := func(n int) string { return fmt.Sprintf("question %d at %g", n, p) }
	const outputs = "spillway_outputs_total"
	before := r.counted(broker.Validator, outputs)
	r.publishFew(jobs, id, text)
	recovered, calls := 0, 0
	for n := range jobs {
		results := r.heard.of(id(n))
		if len(results) != 1 {
			r.t.Fatalf("%d results of %s", len(results), id(n))
		}
		calls += results[0].Usage.Calls
		switch result := results[0]; {
		case result.Status == job.Succeeded && result.Recovery == job.RecoveryCorrected && answersTo(&result, text(n)):
			recovered++
		case result.Status != job.Failed || result.Error.Code != fate.OutputInvalid:
			r.t.Fatalf("%s: %s, %s", id(n), result.Status, lines(result.History))
		}
	}
	if n := r.first.Counts().Calls; n != calls {
		r.t.Errorf("p = %g: the results count %d calls, the provider %d", p, calls, n)
	}
	if n := r.counted(broker.Validator, outputs) - before; n != float64(recovered) {
		r.t.Errorf("p = %g: %s says %g, the results %d", p, outputs, n, recovered)
	}
	return recovered
}

// publishFew publishes jobs for the task bare, of which few at once have no result, and waits for all results.
func (r *rig) publishFew(jobs int, id, text func(n int) string) {
	r.t.Helper()
	const few = 64
	room, before := make(chan struct{}, few), r.heard.distinct()
	ended, err := r.conn.NC.Subscribe(broker.ResultSubject("bare", "*"), func(*nats.Msg) {
		select {
		case <-room:
		default: // a second result of a job, which its count tells
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = ended.Unsubscribe() }() // the connection ends with the test
	for n := range jobs {
		select {
		case room <- struct{}{}:
		case <-time.After(time.Minute):
			r.t.Fatalf("of %d jobs before %s none has ended within a minute", few, id(n))
		}
		r.publish(job.Interactive, "bare", id(n), asking(text(n), nil))
	}
	brokertest.Eventually(r.t, time.Minute, "the last jobs end", func() bool { return r.heard.distinct() == before+jobs })
}
