package task

import (
	"fmt"
	"maps"
	"slices"
)

// simulatedName is the model, and the provider, that answer without a key. Results say it.
const simulatedName = "simulated"

// Simulated returns a copy in which every task calls the model "simulated" and no other. The set itself is
// not changed.
func (s *Set) Simulated() *Set {
	copied := &Set{Tasks: make(map[string]*Task, len(s.Tasks)), Models: maps.Clone(s.Models), Providers: maps.Clone(s.Providers)}
	copied.simulation()
	for name, original := range s.Tasks {
		copied.Tasks[name] = copied.simulated(original)
	}
	return copied
}

// simulation makes sure that there is a simulated model in the set.
func (s *Set) simulation() {
	model, provider := builtInSimulation()
	if known, ok := s.Models[simulatedName]; !ok {
		s.Models[simulatedName], s.Providers[simulatedName] = model, provider
	} else if s.Providers[known.Provider] == nil { // of another process
		s.Providers[known.Provider] = provider
	}
}

// simulated returns a copy of a task that calls the set's simulated model.
func (s *Set) simulated(original *Task) *Task {
	t := *original
	t.Model, t.Simulated = simulatedName, true
	t.Ladder = slices.Clone(t.Ladder)
	for i := range t.Ladder {
		if t.Ladder[i].Kind == RungModel {
			t.Ladder[i].Model = simulatedName
		}
	}
	if t.Correction.LastOn != "" {
		t.Correction.LastOn = simulatedName
	}
	s.stamp(&t)
	return &t
}

const builtIn = `
providers: {simulated: {kind: simulated}}
models: {simulated: {provider: simulated, id: simulated, context_window: 128000, max_output_tokens: 16384,
  structured_output: json_schema, prices: {input: 0, output: 0}}}`

// builtInSimulation is for a models.yaml that does not name the simulated model.
func builtInSimulation() (*Model, *Provider) {
	l := newLoader(nil, nil)
	l.readModels([]byte(builtIn))
	return l.set.Models[simulatedName], l.set.Providers[simulatedName]
}

// NeedsKeys names the providers that tasks use and whose key is missing, each with the variable to set.
func (s *Set) NeedsKeys(getenv func(string) string) []string {
	missing := map[string]string{}
	for _, t := range s.Tasks {
		for _, name := range t.names() {
			model, ok := s.Models[name]
			if !ok {
				continue
			}
			if p := s.Providers[model.Provider]; p.Kind != KindSimulated && p.APIKeyEnv != "" && getenv(p.APIKeyEnv) == "" {
				missing[p.Name] = fmt.Sprintf("%s (provider %s)", p.APIKeyEnv, p.Name)
			}
		}
	}
	return slices.Sorted(maps.Values(missing))
}
