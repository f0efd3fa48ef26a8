package task_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/task"
)

// unhurried are the durations that hurry leaves alone, each for its reason.
func unhurried() []string {
	return []string{
		"Task.Retention.Result", "Task.Retention.Dead", "Task.Retention.Session", // what is looked at afterwards
	}
}

// The fields are found by reflection: a duration that is added to a task and forgotten in Hurried fails here.
func TestHurryDividesEachDurationMultipliesEachRateAndChangesNothingElse(t *testing.T) {
	t.Parallel()
	const by = 10
	set := filledSet()
	before := flat(set)
	after := flat(set.Hurried(by))
	if !reflect.DeepEqual(before, flat(set)) {
		t.Error("the set itself was changed")
	}
	durations, rates := 0, 0
	for path, was := range before {
		want := was
		switch d, isDuration := was.(time.Duration); {
		case isDuration && !slices.Contains(unhurried(), path):
			durations++
			want = d / by
		case strings.HasSuffix(path, "PerMinute"):
			rates++
			want = was.(int) * by
		case path == "Task.Version":
			if after[path] == was {
				t.Error("a hurried task has the version of the one that is not")
			}
			continue
		case path == "Task.ShapeHash":
			continue // stamped anew; what it hashes is the same
		}
		if after[path] != want {
			t.Errorf("%s is %v, was %v, want %v", path, after[path], was, want)
		}
	}
	// Counted by hand in task.go and model.go: 3 of a deadline, 4 + 4 timeouts, 4 waits, 1 rung, 2 of the cache,
	// 2 of a breaker; 2 of a model and 2 of a provider a minute.
	if durations != 20 || rates != 4 || len(after) != len(before) {
		t.Errorf("%d durations and %d rates were looked at, of %d fields", durations, rates, len(after))
	}
}

func TestHurryStopsWhereAMachineCannotFollow(t *testing.T) {
	t.Parallel()
	set := good().with(folder{
		"tasks/demo/task.yaml":   "model: small\ndeadline: {default: 60s, reserve: 2s}\nretry: {interactive: {attempts: 2, first_delay: 20ms}}\n",
		"tasks/demo/canned.yaml": "- output: {mood: good}\n",
	}).mustLoad(t)
	fast := set.Hurried(1e6)
	demo, small := fast.Tasks["demo"], fast.Models["small"]
	got := []time.Duration{
		demo.Deadline.Default, demo.Deadline.Reserve, demo.Timeouts.Call, demo.Retry.InteractiveFirstDelay, demo.Ladder[0].MaxAge,
		small.Timeouts.FirstToken, small.Breaker.Window, small.Breaker.HalfOpenAfter,
	}
	want := []time.Duration{
		3 * time.Second, 500 * time.Millisecond, 0, time.Millisecond, time.Second,
		100 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	short := good().with(folder{"tasks/demo/task.yaml": "model: small\ndeadline: {default: 1s, reserve: 50ms}\n"}).mustLoad(t)
	if d := short.Hurried(10).Tasks["demo"].Deadline; d.Default != time.Second || d.Reserve != 50*time.Millisecond {
		t.Errorf("what is short already became %+v", d)
	}
}

func TestASetAtASimulatedProviderKeepsItsModelsAndNeedsNoKey(t *testing.T) {
	t.Parallel()
	files := versioned()
	files["models.yaml"] = strings.NewReplacer(
		`{kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}`,
		`{kind: azure, base_url: "https://real.example", base_url_env: REAL, api_version: v1, api_key_env: KEY, headers: {x-a: b}, headers_env: {x-c: D}, limits: {concurrency: 7}}`,
		"id: s-1", "id: s-1, answers_as: s-1",
	).Replace(files["models.yaml"])
	set := files.mustLoad(t)
	simulated := set.SimulatedAt("http://127.0.0.1:9/v1")
	if got := simulated.NeedsKeys(func(string) string { return "" }); len(got) != 0 {
		t.Errorf("it needs %v", got)
	}
	want := task.Provider{Name: "here", Kind: task.KindOpenAI, BaseURL: "http://127.0.0.1:9/v1", APIKey: "none", RateLimitHeaders: "obey", Limits: task.Limits{Concurrency: 7, BatchShare: 0.5}}
	if got := *simulated.Providers["here"]; !reflect.DeepEqual(got, want) {
		t.Errorf("the provider is %+v", got)
	}
	for name, m := range simulated.Models {
		if m.ID != "simulated-"+name || m.AnswersAs != "" || m.Name != name || m.Timeouts != set.Models[name].Timeouts {
			t.Errorf("the model is %+v", m)
		}
	}
	before, after := set.Tasks["demo"], simulated.Tasks["demo"]
	if after.Model != before.Model || !reflect.DeepEqual(after.Ladder, before.Ladder) {
		t.Errorf("the task asks %s, then %+v", after.Model, after.Ladder)
	}
	if after.Version == before.Version || after.ShapeHash == before.ShapeHash {
		t.Error("simulated answers would be taken for real ones")
	}
	if p := set.Providers["here"]; p.Kind != task.KindAzure || p.APIKeyEnv != "KEY" || set.Models["small"].ID != "s-1" {
		t.Errorf("the set itself became %+v, %+v", p, set.Models["small"])
	}
}

// filledSet has a distinct value in each field that a hurry could be about.
func filledSet() *task.Set {
	next := 0
	demo := &task.Task{Ladder: []task.Rung{{Kind: "model", Model: "small"}}}
	small, here := &task.Model{}, &task.Provider{}
	for _, v := range []any{demo, small, here} {
		fill(reflect.ValueOf(v).Elem(), &next)
	}
	demo.Name, demo.Model, small.Name, small.Provider, here.Name = "demo", "small", "small", "here", "here"
	return &task.Set{
		Tasks: map[string]*task.Task{"demo": demo}, Models: map[string]*task.Model{"small": small}, Providers: map[string]*task.Provider{"here": here},
	}
}

// fill sets every number and duration below v, each to a value of its own.
func fill(v reflect.Value, next *int) {
	*next++
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		v.SetInt(int64(time.Duration(*next) * 1000 * time.Hour))
	case v.Kind() == reflect.Int:
		v.SetInt(int64(*next))
	case v.Kind() == reflect.Float64:
		v.SetFloat(float64(*next))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), next)
			}
		}
	case v.Kind() == reflect.Slice && v.Type().Elem() == reflect.TypeFor[task.Rung]():
		for i := range v.Len() {
			fill(v.Index(i), next)
		}
	}
}

// flat lists the fields of the set's only task, model and provider by their path.
func flat(s *task.Set) map[string]any {
	all := map[string]any{}
	flatten(all, "Task", reflect.ValueOf(*s.Tasks["demo"]))
	flatten(all, "Model", reflect.ValueOf(*s.Models["small"]))
	flatten(all, "Provider", reflect.ValueOf(*s.Providers["here"]))
	return all
}

func flatten(all map[string]any, path string, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				flatten(all, path+"."+f.Name, v.Field(i))
			}
		}
	case v.Kind() == reflect.Slice && v.Type().Elem() == reflect.TypeFor[task.Rung]():
		for i := range v.Len() {
			flatten(all, path, v.Index(i))
		}
	case v.Comparable():
		all[path] = v.Interface()
	}
}
