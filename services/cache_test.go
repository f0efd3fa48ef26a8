package services_test

import (
	"maps"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// cacheRig has the task asked, whose manifest goes on with more, and toy beside it.
func cacheRig(t *testing.T, more string) *rig {
	t.Helper()
	return setupWith(t, brokertest.Server(t).URL(), 1, func(first, second string) fstest.MapFS {
		fs := folder(first, second)
		if !strings.Contains(more, "ladder:") {
			more += ladderWhole
		}
		addCanned(fs, "asked", taskYAML+more)
		return fs
	})
}

const mood = "What is the mood?"

// asking is a request of the text, with more fields.
func asking(text string, fields map[string]any) map[string]any {
	body := map[string]any{"input": map[string]string{"text": text}}
	maps.Copy(body, fields)
	return body
}

// cached counts the kept answers of the task asked, once all that was to be kept by now is: an answer of toy is
// kept behind them.
func (r *rig) cached() int {
	r.t.Helper()
	r.first.SetFaults()
	control := r.result(r.ask(job.Interactive, "toy", "control "+time.Now().String()), 1)
	check(r.t, "control", control, succeeded("strict"))
	n := 0
	brokertest.Eventually(r.t, 5*time.Second, "the control's answer is cached", func() bool {
		n = 0
		found := false
		subjects, err := r.conn.SubjectsOf(r.t.Context(), broker.CacheStream, broker.AllCached)
		for _, s := range subjects {
			stored, err := r.conn.Last(r.t.Context(), broker.CacheStream, s)
			if err != nil {
				continue // it expired meanwhile
			}
			if strings.Contains(string(stored.Data), control.ID) {
				found = true
			}
			if strings.Contains(string(stored.Data), `"asked"`) {
				n++
			}
		}
		return err == nil && found
	})
	return n
}

// outage lets every call fail from now on, without asking for patience.
func (r *rig) outage() {
	r.first.SetFaults(fakellm.Fault{Kind: "401"})
	r.second.SetFaults(fakellm.Fault{Kind: "401"})
}

// restartedWith stops the pipeline and starts it with other files.
func (r *rig) restartedWith(stop func(), change func(fstest.MapFS)) {
	r.t.Helper()
	stop()
	change(r.files)
	r.tasks = load(r.t, r.files)
	r.run()
}

func edit(name, old, with string) func(fstest.MapFS) {
	return func(fs fstest.MapFS) {
		text := strings.Replace(string(fs[name].Data), old, with, 1)
		fs[name] = &fstest.MapFile{Data: []byte(text)}
	}
}

// The first request feeds the cache, or must not; the second comes when no model answers, and must not be
// answered with the first one's answer.
var neverServed = []struct {
	name, manifest string
	first, second  map[string]any
	fault          string // of the first model, for the first request
	kept           int    // answers that are kept of the first
	between        func(r *rig, stop func())
}{
	{name: "another tenant's", first: map[string]any{"tenant": "acme"}, second: map[string]any{"tenant": "other"}, kept: 1},
	{name: "a tenant's, for nobody", first: map[string]any{"tenant": "acme"}, kept: 1},
	{name: "a truncated one", fault: "length"},
	{name: "a refused one", fault: "refusal"},
	{name: "a filtered one", fault: "content_filter"},
	{name: "an invalid one", fault: "off_schema"},
	{name: "a cut one", fault: "cut"},
	{name: "an empty one", fault: "empty_content"},
	{name: "one of another model, on the ladder", fault: "400"},
	{name: "one that bypassed the cache", first: map[string]any{"cache": "bypass"}},
	{name: "any, to a request that bypasses the cache", second: map[string]any{"cache": "bypass"}, kept: 1},
	{name: "any, of a task that serves none", manifest: "cache: {serve: never}\n"},
	{name: "any, of a task that keeps none", manifest: "cache: {keep: 0s}\n"},
	{name: "one older than the rung allows", manifest: strings.Replace(ladderWhole, "1h", "1s", 1), kept: 1, between: outlived},
	{name: "one older than the task keeps", manifest: "cache: {keep: 1s}\n", kept: 1, between: expired},
	{name: "another prompt's", kept: 1, between: another(edit("tasks/asked/prompt.tmpl", "Answer in JSON.", "Answer in JSON, please."))},
	{name: "another model's", kept: 1, between: another(edit("models.yaml", "small-1", "small-2"))},
	{name: "another schema's", kept: 1, between: another(edit("tasks/asked/output.schema.json", `{"type":"string"}`, `{"type":"string","maxLength":4000}`))},
	{name: "one that a new rule forbids", kept: 1, between: another(edit("tasks/asked/task.yaml", "ladder:", "output: {rules: [{name: r, expr: output.mood != 'none', say: no}]}\nladder:"))},
}

func another(change func(fstest.MapFS)) func(*rig, func()) {
	return func(r *rig, stop func()) { r.restartedWith(stop, change) }
}

// outlived waits until the kept answer is older than a second.
func outlived(r *rig, _ func()) {
	r.t.Helper()
	asked := time.Now()
	brokertest.Eventually(r.t, 5*time.Second, "a second passes", func() bool { return time.Since(asked) > 1100*time.Millisecond })
}

// expired waits until the stream has dropped the kept answer.
func expired(r *rig, _ func()) {
	r.t.Helper()
	brokertest.Eventually(r.t, 10*time.Second, "the answer expires", func() bool { return r.cached() == 0 })
}

func TestTheCacheNeverServesWhatItShouldNot(t *testing.T) {
	t.Parallel()
	for _, row := range neverServed {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := cacheRig(t, row.manifest)
			stop := r.run()
			if row.fault != "" {
				r.first.SetFaults(fakellm.Fault{Kind: row.fault})
			}
			first := r.result(r.publish(job.Interactive, "asked", "", asking(mood, row.first)), 1)
			if isReal := first.Status == job.Succeeded; isReal == (row.fault != "") {
				t.Fatalf("the first is %s: %s", first.Status, lines(first.History))
			}
			if n := r.cached(); n != row.kept {
				t.Fatalf("%d answers are kept, want %d", n, row.kept)
			}
			if row.between != nil {
				row.between(r, stop)
			}
			r.outage()
			second := r.result(r.publish(job.Interactive, "asked", "", asking(mood, row.second)), 1)
			check(t, "the second", second, byCanned)
		})
	}
}

// The rows above would hold if nothing was ever served.
func TestTheCacheServesWhatItMay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, manifest string
		first, second  map[string]any
		between        func(*rig, func())
	}{
		{name: "the same tenant", first: map[string]any{"tenant": "acme"}, second: map[string]any{"tenant": "acme"}},
		{name: "everyone", manifest: "cache: {scope: everyone}\n", first: map[string]any{"tenant": "acme"}, second: map[string]any{"tenant": "other"}},
		{name: "another session, of a task without a memory", first: map[string]any{"session": "a"}, second: map[string]any{"session": "b"}},
		{name: "after a change that shapes no answer", between: another(edit("tasks/asked/task.yaml", "max_calls: 6", "max_calls: 5"))},
		{name: "after a renewal", first: map[string]any{"cache": "renew"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := cacheRig(t, row.manifest)
			stop := r.run()
			first := r.result(r.publish(job.Interactive, "asked", "", asking(mood, row.first)), 1)
			if n := r.cached(); n != 1 {
				t.Fatalf("%d answers are kept", n)
			}
			if row.between != nil {
				row.between(r, stop)
			}
			r.outage()
			second := r.result(r.publish(job.Interactive, "asked", "", asking(mood, row.second)), 1)
			check(t, "the second", second, ending{status: job.Degraded, source: job.FromCache, model: "small"})
			if string(second.Output) != string(first.Output) || second.AgeMS == nil || *second.AgeMS != second.Degraded.AgeMS || second.AnsweredBy != first.AnsweredBy {
				t.Errorf("%s, %s old, of %q, degraded %+v", second.Output, ms(second.AgeMS), second.AnsweredBy, second.Degraded)
			}
		})
	}
}

func ms(age *int64) time.Duration {
	if age == nil {
		return -1
	}
	return time.Duration(*age) * time.Millisecond
}

func TestAnAnswerThatTwoVersionsMadeIsKeptForNobody(t *testing.T) {
	t.Parallel()
	for _, newer := range []string{broker.ContextBuilder, broker.Inference, broker.Validator} {
		t.Run("a newer "+newer, func(t *testing.T) {
			t.Parallel()
			r := cacheRig(t, "")
			stop := r.runAllBut(newer)
			edit("tasks/asked/prompt.tmpl", "Answer in JSON.", "Answer in JSON, please.")(r.files)
			r.tasks = load(t, r.files)
			r.run(newer)
			check(t, "mixed", r.result(r.ask(job.Interactive, "asked", mood), 1), succeeded("strict"))
			if n := r.cached(); n != 0 {
				t.Errorf("%d answers are kept", n)
			}
			stop()
		})
	}
}

func TestAFreshAnswerIsServedWithoutACallAndSaysItsAge(t *testing.T) {
	t.Parallel()
	r := cacheRig(t, "cache: {serve: fresh, fresh_for: 1h}\n")
	r.run()
	before := time.Now()
	live := r.result(r.ask(job.Interactive, "asked", mood), 1)
	check(t, "live", live, succeeded("strict"))
	r.cached()
	calls := r.first.Counts().Calls
	for _, lane := range []string{job.Interactive, job.Batch} {
		again := r.result(r.ask(lane, "asked", mood), 1)
		check(t, "again", again, ending{status: job.Succeeded, source: job.FromCache, model: "small"})
		if again.Usage.Calls != 0 || again.CostUSD != 0 || again.Degraded != nil || string(again.Output) != string(live.Output) {
			t.Errorf("%s on %s: usage %+v, $%g, degraded %+v", again.Output, lane, again.Usage, again.CostUSD, again.Degraded)
		}
		if age := ms(again.AgeMS); age <= 0 || age > time.Since(before) {
			t.Errorf("its age is %s", age)
		}
	}
	if n := r.first.Counts().Calls - calls; n != 0 {
		t.Errorf("the provider got %d calls for cached answers", n)
	}
	for name, fields := range map[string]map[string]any{
		"renewed": {"cache": "renew"}, "bypassing": {"cache": "bypass"}, "another tenant": {"tenant": "other"},
	} {
		check(t, name, r.result(r.publish(job.Interactive, "asked", "", asking(mood, fields)), 1), succeeded("strict"))
	}
	check(t, "another input", r.result(r.ask(job.Interactive, "asked", mood+"?"), 1), succeeded("strict"))
	if n := r.first.Counts().Calls - calls; n != 4 {
		t.Errorf("the provider got %d calls for what is not cached, want 4", n)
	}
}

func TestAnAnswerThatIsNoLongerFreshIsAskedForAnew(t *testing.T) {
	t.Parallel()
	r := cacheRig(t, "cache: {serve: fresh, fresh_for: 1s}\n")
	r.run()
	check(t, "live", r.result(r.ask(job.Interactive, "asked", mood), 1), succeeded("strict"))
	r.cached()
	outlived(r, nil)
	again := r.result(r.ask(job.Interactive, "asked", mood), 1)
	check(t, "stale", again, succeeded("strict"))
	if n := len(events(again, job.KindCache)); n != 1 {
		t.Errorf("%d looks are in the history: %s", n, lines(again.History))
	}
	// As a stand-in it is good enough.
	outlived(r, nil)
	r.outage()
	check(t, "stand-in", r.result(r.ask(job.Interactive, "asked", mood), 1), ending{status: job.Degraded, source: job.FromCache})
}

func events(r *job.Result, kind string) []job.Event {
	var found []job.Event
	for _, e := range r.History {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

func TestFreshAnswersNeedNeitherModelNorFallback(t *testing.T) {
	t.Parallel()
	r := cacheRig(t, "cache: {serve: fresh, fresh_for: 1h}\n")
	stop := r.run()
	check(t, "live", r.result(r.ask(job.Interactive, "asked", mood), 1), succeeded("strict"))
	r.cached()
	stop()
	r.run(broker.Ingest, broker.ContextBuilder, broker.ResultWriter)
	check(t, "again", r.result(r.ask(job.Interactive, "asked", mood), 1), ending{status: job.Succeeded, source: job.FromCache})
}

func TestAReplayTakesAFreshAnswerUnlessItIsToAskAnotherModel(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		body string
		want ending
		kept int
	}{
		{"", ending{status: job.Succeeded, source: job.FromCache, model: "small"}, 1},
		{`{"model": "large"}`, ending{status: job.Succeeded, source: job.FromModel, model: "large"}, 1},
	} {
		t.Run("body "+row.body, func(t *testing.T) {
			t.Parallel()
			r := cacheRig(t, "cache: {serve: fresh, fresh_for: 1h}\n")
			r.run()
			fault := fakellm.Fault{Kind: "400", Match: mood}
			r.first.SetFaults(fault)
			r.second.SetFaults(fault)
			id := r.ask(job.Interactive, "asked", mood)
			check(t, "first run", r.result(id, 1), byCanned)
			r.first.SetFaults()
			r.second.SetFaults()
			other := r.result(r.ask(job.Interactive, "asked", mood), 1)
			check(t, "another client's", other, succeeded("strict"))
			if n := r.cached(); n != row.kept {
				t.Fatalf("%d answers are kept", n)
			}
			r.replay(t, id, row.body)
			replayed := r.result(id, 2)
			check(t, "replayed", replayed, row.want)
			if !answersTo(replayed, mood) {
				t.Errorf("output %s", replayed.Output)
			}
			if kept := r.keptAnswer(t); !strings.Contains(kept, other.ID) {
				t.Errorf("what is kept is not the task's own: %s", kept)
			}
		})
	}
}

// keptAnswer is the one answer of the task asked that is kept.
func (r *rig) keptAnswer(t *testing.T) string {
	t.Helper()
	if n := r.cached(); n != 1 {
		t.Fatalf("%d answers are kept", n)
	}
	subjects, err := r.conn.SubjectsOf(t.Context(), broker.CacheStream, broker.AllCached)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range subjects {
		if stored, err := r.conn.Last(t.Context(), broker.CacheStream, s); err == nil && strings.Contains(string(stored.Data), `"asked"`) {
			return string(stored.Data)
		}
	}
	return ""
}

// After a refusal the task decides whether others are asked.
func TestAfterARefusalTheTaskDecidesWhoIsAsked(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]ending{
		"canned": byCanned, "ladder": byOtherModel, "fail": {status: job.Failed},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			r := cacheRig(t, "after_refusal: "+policy+"\n")
			r.run()
			check(t, "live", r.result(r.ask(job.Interactive, "asked", mood), 1), succeeded("strict"))
			r.cached()
			r.first.SetFaults(fakellm.Fault{Kind: "refusal"})
			result := r.result(r.publish(job.Interactive, "asked", "", asking(mood, map[string]any{"tenant": "other"})), 1)
			check(t, policy, result, want)
			if want.status == job.Failed && result.Error.Code != fate.Refused {
				t.Errorf("failed because of %s", result.Error.Code)
			}
			if n := r.second.Counts().Calls; (n > 0) != (policy == "ladder") {
				t.Errorf("the other model got %d calls", n)
			}
		})
	}
}
