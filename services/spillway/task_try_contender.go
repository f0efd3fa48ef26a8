package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"

	"github.com/rs/zerolog"

	"spillway/pkg/stage"
	"spillway/pkg/task"
	contextbuilder "spillway/services/context-builder"
	"spillway/services/inference"
	"spillway/services/validator"
)

// contender is one of what is tried: a version of a task on a model, with the handlers that a job would meet.
type contender struct {
	label string
	// version is that of the files, also where the models are simulated.
	version string
	task    *task.Task
	model   *task.Model

	prompts *contextbuilder.Previewer
	caller  *inference.Handler
	checker *validator.Handler
}

// newContender fails when the model can not be called from here.
func newContender(g *globals, set *task.Set, t *task.Task, m *task.Model, version string) (*contender, error) {
	// Nothing but the one model is called, so that no other one needs a key.
	alone := *t
	alone.Model, alone.Ladder, alone.Correction.LastOn = m.Name, nil, ""
	provider := set.Providers[m.Provider]
	env := &stage.Env{
		Tasks: &task.Set{
			Tasks: map[string]*task.Task{t.Name: &alone}, Models: map[string]*task.Model{m.Name: m},
			Providers: map[string]*task.Provider{m.Provider: provider},
		},
		Log: zerolog.Nop(), Getenv: g.getenv,
	}
	c := &contender{version: version, task: &alone, model: m, prompts: contextbuilder.NewPreviewer()}
	if err := inference.Unusable(env, provider); err != nil {
		return nil, fmt.Errorf("model %s of provider %s can not be called: %w; --simulate tries it without a key", m.Name, m.Provider, err)
	}
	var err error
	if c.caller, err = inference.New(env); err != nil {
		return nil, err
	}
	c.checker, err = validator.New(env)
	return c, err
}

func (c *contender) close() { c.caller.Close() }

var versionPattern = regexp.MustCompile(`^[0-9a-f]{8}$`)

// contenders are what the command line names: the task on its model, and what it is compared with. Those that were
// made are to be closed, also after an error.
func (c *taskTryCmd) contenders(ctx context.Context, g *globals, set *task.Set, t *task.Task) (all []*contender, err error) {
	m, err := modelOf(set, t, c.Model)
	if err != nil {
		return nil, err
	}
	first, err := c.contender(g, set, t, m)
	if err != nil {
		return nil, err
	}
	first.label, all = m.Name, []*contender{first}
	if c.Against == "" {
		return all, nil
	}
	var second *contender
	if other := set.Models[c.Against]; other != nil {
		if second, err = c.contender(g, set, t, other); err != nil {
			return all, err
		}
		second.label = other.Name
	} else {
		if second, err = c.otherVersion(ctx, g, set, t); err != nil {
			return all, fmt.Errorf("--against %s: %w", c.Against, err)
		}
		first.label, second.label = first.version, second.version
	}
	all = append(all, second)
	if first.label == second.label {
		return all, exit(exitUsage, "--against %s is what is tried already (%s): name another model, version, or a folder with other files", c.Against, first.label)
	}
	return all, nil
}

// otherVersion is the task as another folder, or the server, has it, on the model that it names itself.
func (c *taskTryCmd) otherVersion(ctx context.Context, g *globals, set *task.Set, t *task.Task) (*contender, error) {
	var other *task.Task
	info, err := os.Stat(c.Against)
	switch {
	case err == nil && info.IsDir():
		if set, err = loadTasks(c.Against, g.getenv); err == nil {
			other, err = namedTask(set, t.Name)
		}
	case versionPattern.MatchString(c.Against):
		other, err = c.storedVersion(ctx, g, set, t.Name)
	default:
		err = exit(exitNotFound, "no model of models.yaml, no folder and no version (8 hexadecimal digits)")
	}
	if err != nil {
		return nil, err
	}
	m := other.Models[cmp.Or(c.Model, other.Model)]
	if m == nil {
		if m, err = modelOf(set, other, c.Model); err != nil {
			return nil, err
		}
	}
	return c.contender(g, set, other, m)
}

// contender makes one, simulated where that is asked for.
func (c *taskTryCmd) contender(g *globals, set *task.Set, t *task.Task, m *task.Model) (*contender, error) {
	provider := set.Providers[m.Provider]
	if provider == nil {
		return nil, fmt.Errorf("model %s: there is no provider %s in models.yaml", m.Name, m.Provider)
	}
	version := t.Version
	if c.simulator != nil {
		set = (&task.Set{
			Tasks: map[string]*task.Task{t.Name: t}, Models: map[string]*task.Model{m.Name: m}, Providers: map[string]*task.Provider{m.Provider: provider},
		}).SimulatedAt(c.simulator.URL())
		t, m = set.Tasks[t.Name], set.Models[m.Name]
	}
	return newContender(g, set, t, m, version)
}
