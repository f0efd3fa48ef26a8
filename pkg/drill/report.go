package drill

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/task"
)

// Report is what was found.
type Report struct {
	Task  string  `json:"task"`
	Speed float64 `json:"speed"`
	// Cut is true when the drill was ended before the night was.
	Cut bool `json:"cut_short"`
	// Night is how long the night was, Requests how many were to be published.
	Night    Span `json:"night"`
	Requests int  `json:"requests"`
	// All is the sum of Acts. NotTaken is why a request was not acknowledged, if one was not.
	All      Endings `json:"all"`
	Acts     []Act   `json:"acts"`
	NotTaken string  `json:"not_acknowledged_because,omitempty"`
	Models   []Model `json:"models"`
	// LiveAgain is the time from the provider's recovery to the first live answer; nil: none came.
	LiveAgain *Span  `json:"live_again,omitempty"`
	Replay    Replay `json:"replay"`
	// Calls are all that the provider counted since the drill began, CostUSD is what results tell.
	Calls   int     `json:"calls"`
	CostUSD float64 `json:"cost_usd"`
	// OwnBy is how an answer was known to be its own request's.
	OwnBy    string   `json:"own_by"`
	Examples []string `json:"examples,omitempty"`
}

// Span is a duration, by the clock of the drill and by that of the night.
type Span struct {
	MS      float64 `json:"ms"`
	NightMS float64 `json:"night_ms"`
}

// Night is the span in the night's time.
func (s Span) Night() time.Duration { return time.Duration(s.NightMS * float64(time.Millisecond)) }

// Here is the span as it was.
func (s Span) Here() time.Duration { return time.Duration(s.MS * float64(time.Millisecond)) }

// Endings count requests by their first run's end.
type Endings struct {
	Acknowledged int `json:"acknowledged"`
	Live         int `json:"live"`
	// Cache, Model and Canned are degraded answers by rung.
	Cache     int `json:"degraded_cache"`
	Model     int `json:"degraded_model"`
	Canned    int `json:"degraded_canned"`
	Failed    int `json:"failed"`
	Rejected  int `json:"rejected"`
	Cancelled int `json:"cancelled"`
	// Lost have no result at all.
	Lost int `json:"lost"`
	// Late, Foreign and Repeated are among those above: after the deadline, of another's input, more than one
	// result of a run.
	Late     int `json:"late"`
	Foreign  int `json:"foreign"`
	Repeated int `json:"repeated"`
}

// Degraded is the sum of the rungs.
func (e *Endings) Degraded() int { return e.Cache + e.Model + e.Canned }

func (e *Endings) add(o *Endings) {
	e.Acknowledged += o.Acknowledged
	e.Live += o.Live
	e.Cache += o.Cache
	e.Model += o.Model
	e.Canned += o.Canned
	e.Failed += o.Failed
	e.Rejected += o.Rejected
	e.Cancelled += o.Cancelled
	e.Lost += o.Lost
	e.Late += o.Late
	e.Foreign += o.Foreign
	e.Repeated += o.Repeated
}

// count adds how one run ended.
func (e *Endings) count(end *ending) {
	switch {
	case end.status == job.Succeeded:
		e.Live++
	case end.status == job.Degraded && end.source == job.FromCache:
		e.Cache++
	case end.status == job.Degraded && end.source == job.FromModel:
		e.Model++
	case end.status == job.Degraded:
		e.Canned++
	case end.status == job.Rejected:
		e.Rejected++
	case end.status == job.Cancelled:
		e.Cancelled++
	default:
		e.Failed++
	}
}

// Act is a part of the night: of the requests that were published in it.
type Act struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	What  string `json:"provider"`
	Lasts Span   `json:"lasts"`
	Endings
}

// Replay is what became of those that had no live answer.
type Replay struct {
	// Owed are they, NotKept those of them that no dead letter is kept of.
	Owed    int `json:"owed"`
	NotKept int `json:"not_kept"`
	// Ordered were replayed; Answered of them got a live answer of their own.
	Ordered  int     `json:"ordered"`
	Answered int     `json:"answered"`
	TookMS   float64 `json:"took_ms"`
	Endings  Endings `json:"endings"`
}

// OK reports whether the promise was kept and the night was one: Faults finds nothing.
func (r *Report) OK() bool { return len(r.Faults()) == 0 }

// Faults say what must never be, and what of the night did not take place. A request that failed and says why
// is none, unless all did. Of a drill that was cut short they say only what went wrong until then.
func (r *Report) Faults() []string {
	var all []string
	for _, f := range []struct {
		n    int
		what string
	}{
		{r.All.Lost + r.Replay.Endings.Lost, "lost"},
		{r.All.Late + r.Replay.Endings.Late, "late"},
		{r.All.Foreign + r.Replay.Endings.Foreign, "given another's answer"},
		{r.All.Repeated + r.Replay.Endings.Repeated, "answered twice"},
	} {
		if f.n > 0 {
			all = append(all, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	if !r.Cut {
		all = append(all, r.shortfalls()...)
	}
	return all
}

// shortfalls say what a whole night must have had.
func (r *Report) shortfalls() []string {
	var all []string
	e, p := &r.All, &r.Replay
	switch {
	case e.Acknowledged == 0:
		all = append(all, "no request was acknowledged")
	case e.Acknowledged < r.Requests:
		all = append(all, fmt.Sprintf("%d of %d requests were not acknowledged", r.Requests-e.Acknowledged, r.Requests))
	}
	if e.Acknowledged > 0 && e.Live+e.Degraded() == 0 {
		all = append(all, "no request was answered")
	}
	if p.NotKept > 0 {
		all = append(all, fmt.Sprintf("%d without a live answer have no dead letter to replay (keep_degraded)", p.NotKept))
	}
	if missing := p.Owed - p.NotKept - p.Answered; missing > 0 {
		all = append(all, fmt.Sprintf("%d have no live answer after the replay either", missing))
	}
	if r.failingCalls() == 0 {
		all = append(all, "the provider failed no call, so that no outage was rehearsed")
	}
	return all
}

// failingCalls are those that arrived at a model while it failed.
func (r *Report) failingCalls() int {
	n := 0
	for i := range r.Models {
		n += r.Models[i].Calls
	}
	return n
}

// Answered counts the requests that have a live answer of their own in the end.
func (r *Report) Answered() int { return r.All.Live + r.Replay.Answered }

func (d *drill) span(here time.Duration) Span {
	ms := float64(here) / float64(time.Millisecond)
	return Span{MS: ms, NightMS: ms * d.Speed}
}

// maxExamples bounds the troubles that are told of.
const maxExamples = 5

func (d *drill) report(ctx context.Context) (*Report, error) {
	r := &Report{
		Task: d.Task, Speed: d.Speed, Cut: d.cut, Night: d.span(d.here(length(d.acts))), Requests: d.Requests, OwnBy: "nonce",
	}
	if d.refused != nil {
		r.NotTaken = d.refused.Error()
	}
	if !d.tagged() {
		r.OwnBy = "metadata"
	}
	for i, a := range d.acts {
		told := Act{Name: a.name, From: clock(a.begins), What: a.what, Lasts: d.span(d.here(a.lasts))}
		for n, at := range d.acked {
			if !at.IsZero() && d.actAt(at) == i {
				d.tally(&told.Endings, r, d.questions[n], 1, at)
			}
		}
		r.All.add(&told.Endings)
		r.Acts = append(r.Acts, told)
	}
	d.reportReplay(r)
	d.reportLiveAgain(r)
	return r, d.reportCalls(ctx, r)
}

// tagged reports whether the task's answers have room for a nonce, as far as there are answers.
func (d *drill) tagged() bool {
	made := false
	for _, q := range d.questions {
		for _, e := range d.ear.of(q) {
			if e.isMade() && e.tagged {
				return true
			}
			made = made || e.isMade()
		}
	}
	return !made
}

// actAt is the number of the act at a moment.
func (d *drill) actAt(at time.Time) int {
	n := 0
	for i, began := range d.began {
		if !at.Before(began) {
			n = i
		}
	}
	return n
}

// tally adds how a run of a question ended that was acknowledged at a moment.
func (d *drill) tally(sum *Endings, r *Report, q *question, run int, acked time.Time) {
	sum.Acknowledged++
	var of []ending
	for _, e := range d.ear.of(q) {
		if e.run == run {
			of = append(of, e)
		}
	}
	if len(of) == 0 {
		sum.Lost++
		r.example(q.id + ": acknowledged, and no result")
		return
	}
	first := &of[0]
	sum.count(first)
	r.CostUSD += first.cost
	if first.foreign || first.isMade() && !first.tagged && r.OwnBy == "nonce" {
		sum.Foreign++
	}
	if len(of) > 1 {
		sum.Repeated++
		r.example(fmt.Sprintf("%s: %d results of run %d", q.id, len(of), run))
	}
	if deadline := acked.Add(d.task.Deadline.Default); first.saysLate || first.at.After(deadline) {
		sum.Late++
		r.example(fmt.Sprintf("%s: %s after its deadline", q.id, first.at.Sub(deadline).Round(time.Millisecond)))
	}
	if first.why != "" {
		r.example(first.why)
	}
}

func (r *Report) example(text string) {
	if len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, text)
	}
}

func (d *drill) reportReplay(r *Report) {
	p := &r.Replay
	p.Owed, p.NotKept, p.Ordered = len(d.owed()), d.unkept, len(d.replayed)
	p.TookMS = float64(d.replaying) / float64(time.Millisecond)
	for _, again := range d.replayed {
		before := p.Endings
		d.tally(&p.Endings, r, again.question, again.run, again.at)
		if p.Endings.Live > before.Live && p.Endings.Foreign == before.Foreign {
			p.Answered++
		}
	}
}

// reportLiveAgain looks for the first live answer after the provider recovered.
func (d *drill) reportLiveAgain(r *Report) {
	if len(d.began) < len(d.acts) {
		return
	}
	back := d.began[len(d.began)-1]
	var first time.Time
	for _, q := range d.questions {
		for _, e := range d.ear.of(q) {
			if e.isLive() && e.at.After(back) && (first.IsZero() || e.at.Before(first)) {
				first = e.at
			}
		}
	}
	if !first.IsZero() {
		took := d.span(first.Sub(back))
		r.LiveAgain = &took
	}
}

// modelsOf are those that a task may call: its own first.
func modelsOf(t *task.Task) []string {
	names := []string{t.Model}
	for _, rung := range t.Ladder {
		if rung.Kind == task.RungModel {
			names = append(names, rung.Model)
		}
	}
	return append(names, t.Correction.LastOn)
}
