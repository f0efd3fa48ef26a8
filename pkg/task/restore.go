package task

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
)

// Stored is a version of a task as it is kept outside of any folder.
type Stored struct {
	Name, Version string
	// Simulated: the version is that of the simulated task.
	Simulated bool
	// Files are those of the task's folder, by their path in it.
	Files map[string][]byte
	// Models are the entries of the models that the task may call (Model.Entry), by name.
	Models map[string]json.RawMessage
}

// Restore makes the task of a stored version again, with this set's providers; one that is not in the set is no fault,
// a call there is. The version is computed anew: what is not what its name says is refused. The faults are those of
// the task's folder.
func (s *Set) Restore(b Stored) (*Task, error) {
	if message := BadName(b.Name); message != "" {
		return nil, fmt.Errorf("the name of a task %s", message)
	}
	l := newLoader(nil, nil)
	l.restoring = true
	l.set.Providers = maps.Clone(s.Providers)
	if l.set.Providers == nil {
		l.set.Providers = map[string]*Provider{}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Models)) {
		l.entry(name, b.Models[name])
	}
	l.task(b.Name, path.Join(tasksDir, b.Name), b.Files)
	if faults := l.sorted(); len(faults) > 0 {
		return nil, faults
	}
	t := l.set.Tasks[b.Name]
	if b.Simulated {
		l.set.simulation()
		t = l.set.simulated(t)
	} else {
		l.set.stamp(t)
	}
	if t.Version != b.Version {
		return nil, fmt.Errorf("the files and models are those of version %s, not of %s", t.Version, b.Version)
	}
	return t, nil
}

// entry reads a model as a version has it.
func (l *loader) entry(name string, text []byte) {
	if message := BadName(name); message != "" {
		l.file(modelsFile, "the name of a model %s", message)
		return
	}
	root, fault := parseYAML(modelsFile, text)
	if fault != nil {
		l.add(*fault)
		return
	}
	l.model(member{key: name, value: root}, l.modelDefaults(l.mapping(modelsFile, node{})))
}

// Simulate returns a copy of a task that calls the simulated model and no other, under the task's own version: jobs
// that name it find it.
func (s *Set) Simulate(t *Task) *Task {
	if t.Simulated {
		return t
	}
	with := &Set{Models: maps.Clone(s.Models), Providers: maps.Clone(s.Providers)}
	with.simulation()
	copied := with.simulated(t)
	copied.Version = t.Version
	return copied
}
