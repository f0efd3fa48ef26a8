package inference

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// madeOf is all that a handler is made of besides its surroundings: when it changes, another handler takes over.
func madeOf(env *stage.Env) string {
	text, err := json.Marshal([]any{env.Tasks.Models, env.Tasks.Providers, inFlightOf(env)})
	if err != nil { // texts, numbers and lists of them always have a form in JSON
		panic("models without a form in JSON: " + err.Error())
	}
	return string(text)
}

// check says why no handler could be made.
func check(env *stage.Env) error {
	_, _, err := providersOf(env)
	return err
}

// providersOf makes the providers. It fails when one that a task needs can not be used as it is configured; unusable
// says so of the others.
func providersOf(env *stage.Env) (providers map[string]*provider, unusable map[string]error, err error) {
	providers, unusable = map[string]*provider{}, map[string]error{}
	needed := neededProviders(env.Tasks)
	for _, name := range slices.Sorted(maps.Keys(env.Tasks.Providers)) {
		p, err := newProvider(env, env.Tasks.Providers[name])
		switch user := needed[name]; {
		case err == nil:
			providers[name] = p
		case user != "":
			return nil, nil, fmt.Errorf("provider %s (used by task %s): %w", name, user, err)
		default:
			unusable[name] = err
		}
	}
	return providers, unusable, nil
}

// neededProviders maps each provider that some task may call to the first task that may.
func neededProviders(set *task.Set) map[string]string {
	needed := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(set.Tasks)) {
		t := set.Tasks[name]
		models := []string{t.Model, t.Correction.LastOn}
		for _, rung := range t.Ladder {
			models = append(models, rung.Model)
		}
		for _, model := range models {
			if m := set.Models[model]; m != nil && needed[m.Provider] == "" {
				needed[m.Provider] = name
			}
		}
	}
	return needed
}

// inFlightOf are the bounds of tasks' jobs at once, as they are live.
func inFlightOf(env *stage.Env) map[string]int {
	tasks := map[string]int{}
	for name, t := range env.Book().Live().Tasks {
		tasks[name] = t.MaxInFlight
	}
	return tasks
}

// While a change is rolled out, or this process begins anew with it, a job may come here before its model is known.
// It is left to another process, or to this one later, for about six seconds.
const (
	strangeWait  = 250 * time.Millisecond
	strangeTries = 24
)

// reach finds the model and the provider that a job is to be called at.
func (h *Handler) reach(t *task.Task, j *job.Job) (*task.Model, *provider, error) {
	m := h.tasks.Model(t, j.Model)
	if m == nil || h.models[m.Name] == nil {
		return nil, nil, leaveToOthers(j, fate.ProviderRefusedRequest, fmt.Sprintf("no model of the name %q is in models.yaml", job.Cut(j.Model, 64)))
	}
	if p := h.providers[m.Provider]; p != nil {
		return m, p, nil
	}
	message := fmt.Sprintf("model %s: its provider %s is not configured here", m.Name, job.Cut(m.Provider, 64))
	if why := h.unusable[m.Provider]; why != nil {
		return nil, nil, fate.DivertTo(fate.ProviderAuth, message, why)
	}
	return nil, nil, leaveToOthers(j, fate.ProviderAuth, message)
}

// leaveToOthers leaves a job to others for a while, and then to the ladder.
func leaveToOthers(j *job.Job, code fate.Code, message string) error {
	tries := 0
	if n := len(j.History); n > 0 {
		if last := j.History[n-1]; last.Kind == job.KindHop && last.Stage == broker.Inference && last.Fate == fate.Retry.String() && last.Detail == message {
			tries = max(last.N, 1)
		}
	}
	if tries < strangeTries {
		return fate.WaitFor(strangeWait, message)
	}
	return fate.DivertTo(code, message, nil)
}
