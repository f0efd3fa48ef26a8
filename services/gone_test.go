package services_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// doomed is a pipeline of processes, two of each stage, of which one stage after the other is killed for good.
type doomed struct {
	*ordeal
	p        *processes
	replicas map[string][]*child
	web      []string // where the result-writers tell what they count
}

// waiting is a job that waits where a stage was killed.
type waiting struct {
	id, task, text string
	bad, short     bool // its models refuse it; its deadline passes without the stage
}

const (
	soon = 5 * time.Second
	far  = 3 * time.Minute
)

func TestAStageThatIsKilledWithAllItsReplicasEndsJobsAsTheTableSays(t *testing.T) {
	x := &doomed{ordeal: newOrdeal(t, startServer(t).url(), 1), replicas: map[string][]*child{}}
	x.p = newProcesses(x.rig)
	for _, name := range x.stageNames() {
		x.revive(name)
	}
	for _, name := range x.stageNames() {
		t.Logf("%s is killed", name)
		missed := x.missed()
		jobs := x.strand(name)
		x.withoutIt(name, jobs)
		back := time.Now()
		x.revive(name)
		x.answered(name, jobs)
		if took := time.Since(back); name == broker.ResultWriter && took > 5*time.Second {
			t.Errorf("the last result came %s after result-writer's return", took)
		}
		x.quiet(time.Minute)
		x.once(jobs, 1)
		late := 0
		for _, j := range jobs {
			if j.isLate(name) {
				late++
			}
		}
		if name == broker.ResultWriter {
			missed = 0 // the counts died with the old processes
		}
		if got := x.missed() - missed; got != float64(late) {
			t.Errorf("without %s: %g missed deadlines were counted, not %d", name, got, late)
		}
		x.replayed(name, jobs)
	}
}

// strand publishes jobs of all kinds while the stage does not move, and kills it when they have come to it.
func (x *doomed) strand(name string) []waiting {
	x.t.Helper()
	refused := fakellm.Fault{Kind: "400", Match: onBoth}
	x.first.SetFaults(refused)
	x.second.SetFaults(refused)
	for _, c := range x.replicas[name] {
		_ = c.cmd.Process.Signal(syscall.SIGSTOP) // one that is gone fails the test soon enough
	}
	var jobs []waiting
	come := 0
	for n := range 16 {
		j := waiting{
			id: fmt.Sprintf("%s-%d", name, n), task: []string{"toy", "bare"}[n/2%2], text: fmt.Sprintf("%s %d", name, n),
			bad: n/4%2 == 1, short: name != broker.ResultWriter && (name != broker.Ingest || n >= 8),
		}
		if j.bad {
			j.text += onBoth
		}
		if j.comesTo(name) {
			come++
		}
		deadline := far
		if j.short {
			deadline = soon
		}
		x.publish([]string{job.Interactive, job.Batch}[n%2], j.task, j.id, withDeadline(j.text, deadline.String()))
		jobs = append(jobs, j)
	}
	brokertest.Eventually(x.t, soon, "the jobs wait at "+name, func() bool { return x.waitAt(name) == come })
	for _, c := range x.replicas[name] {
		c.end(x.t, syscall.SIGKILL)
	}
	return jobs
}

func (x *doomed) waitAt(name string) int {
	n := 0
	for stream, consumer := range x.consumersOf(name) {
		c, err := x.conn.JS.Consumer(x.t.Context(), stream, consumer)
		if err != nil {
			return -1
		}
		n += int(c.CachedInfo().NumPending) + c.CachedInfo().NumAckPending
	}
	return n
}

// comesTo reports whether the job's way leads there.
func (j waiting) comesTo(stage string) bool {
	switch stage {
	case broker.Validator:
		return !j.bad
	case broker.Fallback:
		return j.bad
	}
	return true
}

// isStuck reports whether the ladder answers in the place of the killed stage.
func (j waiting) isStuck(stage string) bool {
	switch stage {
	case broker.ContextBuilder, broker.Inference, broker.Validator:
		return j.comesTo(stage)
	}
	return false
}

// isLate reports whether the deadline is missed.
func (j waiting) isLate(stage string) bool {
	return stage == broker.Ingest && j.short || stage == broker.Fallback && j.bad
}

// withoutIt waits for what the clients get while the stage is gone.
func (x *doomed) withoutIt(name string, jobs []waiting) {
	x.t.Helper()
	for _, j := range jobs {
		if j.isStuck(name) || !j.comesTo(name) {
			x.ended(name, j)
		}
	}
	// The subject of the test: an outage that outlasts deadlines, and the leases of what was killed.
	outage := time.NewTimer(broker.AckWait)
	<-outage.C
	for _, j := range jobs {
		if heard := x.heard.of(j.id); !j.isStuck(name) && j.comesTo(name) && len(heard) > 0 {
			x.t.Errorf("%s has a result without %s: %s", j.id, name, heard[0].Status)
		}
	}
}

// answered waits for what the others get when it is back.
func (x *doomed) answered(name string, jobs []waiting) {
	x.t.Helper()
	for _, j := range jobs {
		x.ended(name, j)
	}
}

// ended checks the result of a job's first run.
func (x *doomed) ended(name string, j waiting) {
	x.t.Helper()
	r := x.result(j.id, 1)
	if r.Late != j.isLate(name) {
		x.t.Errorf("%s: late %v, %s after its deadline", j.id, r.Late, r.FinishedAt.Sub(r.Deadline))
	}
	r.Late = false // that is settled
	tooLate := j.isStuck(name) || name == broker.Ingest && j.short
	switch {
	case !j.bad && !tooLate:
		check(x.t, j.id, r, succeeded("strict"))
		if !answersTo(r, j.text) {
			x.t.Errorf("%s has another's answer: %s", j.id, r.Output)
		}
	case j.task == "toy":
		check(x.t, j.id, r, byCanned)
		if tooLate && r.Degraded.Reason != fate.Deadline {
			x.t.Errorf("%s: degraded because of %s", j.id, r.Degraded.Reason)
		}
	default:
		check(x.t, j.id, r, ending{status: job.Failed})
		if tooLate && r.Error.Code != fate.Deadline {
			x.t.Errorf("%s: failed because of %s", j.id, r.Error.Code)
		}
	}
}

// once checks that each subscriber got one result of the run.
func (x *doomed) once(jobs []waiting, run int) {
	x.t.Helper()
	for _, j := range jobs {
		if core, stored := x.witness.heardOf(j.id, run); core != 1 || stored != 1 {
			x.t.Errorf("run %d of %s: %d messages on its subject, %d from the consumer", run, j.id, core, stored)
		}
	}
}

// replayed gives all that had no real answer one, now that nothing fails.
func (x *doomed) replayed(name string, jobs []waiting) {
	x.t.Helper()
	x.first.SetFaults()
	x.second.SetFaults()
	var again []waiting
	for _, j := range jobs {
		if x.result(j.id, 1).Status == job.Succeeded {
			continue
		}
		if _, _, err := x.conn.Dead(x.t.Context(), j.id); err != nil {
			x.t.Errorf("without %s: no dead letter of %s: %v", name, j.id, err)
			continue
		}
		if err := x.conn.NC.Publish("llm.replay."+j.id, nil); err != nil {
			x.t.Fatal(err)
		}
		again = append(again, j)
	}
	for _, j := range again {
		r := x.result(j.id, 2)
		check(x.t, "the replay of "+j.id, r, succeeded("strict"))
		if !answersTo(r, j.text) {
			x.t.Errorf("the replay of %s has another's answer: %s", j.id, r.Output)
		}
	}
	x.quiet(time.Minute)
	x.once(again, 2)
}

// revive starts two processes of a stage.
func (x *doomed) revive(name string) {
	x.t.Helper()
	x.replicas[name] = nil
	if name == broker.ResultWriter {
		x.web = nil
	}
	for range 2 {
		address := "off"
		if name == broker.ResultWriter {
			address = fmt.Sprintf("127.0.0.1:%d", quietPort(x.t))
			x.web = append(x.web, address)
		}
		c, err := x.p.startServing(address, name)
		if err != nil {
			x.t.Fatal(err)
		}
		x.replicas[name] = append(x.replicas[name], c)
	}
}

// missed sums what the result-writers counted.
func (x *doomed) missed() float64 {
	x.t.Helper()
	sum := 0.0
	for _, address := range x.web {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		var resp *http.Response
		brokertest.Eventually(x.t, startTimeout, "a result-writer tells its counters", func() bool {
			req, err := http.NewRequestWithContext(x.t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
			if err == nil {
				resp, err = client.Do(req)
			}
			return err == nil
		})
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			var n float64
			if name, value, ok := strings.Cut(lines.Text(), "} "); ok && strings.HasPrefix(name, "spillway_deadlines_missed_total{") {
				if _, err := fmt.Sscan(value, &n); err != nil {
					x.t.Errorf("%s: %v", lines.Text(), err)
				}
			}
			sum += n
		}
		resp.Body.Close()
	}
	return sum
}
