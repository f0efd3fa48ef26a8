package fakellm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// plan is what the coming calls are to get: scripts before faults, literal answers before generated ones.
type plan struct {
	seed uint64

	mu      sync.Mutex
	faults  []Fault
	scripts map[string][]Fault
	answers map[string][]string
	usages  map[string]Usage
	names   map[string]string
}

// Usage is how many tokens a call is said to have taken; 0: as many as its texts amount to.
type Usage struct {
	Input  int `json:"input"`
	Output int `json:"output"`
}

// Validate returns what is wrong with the usage.
func (u Usage) Validate() error {
	if min(u.Input, u.Output) < 0 {
		return fmt.Errorf("the usage has negative tokens: %d, %d", u.Input, u.Output)
	}
	return nil
}

// trial is what decides which fault strikes a call.
type trial struct {
	model, key, input string
	nonce             uint64
	// number counts the calls of the input, from 1.
	number int
}

func newPlan(seed uint64, faults []Fault) *plan {
	p := &plan{seed: seed}
	p.reset(faults)
	return p
}

func (p *plan) reset(faults []Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = cloneFaults(faults)
	p.scripts, p.answers, p.usages, p.names = map[string][]Fault{}, map[string][]string{}, map[string]Usage{}, map[string]string{}
}

func (p *plan) setFaults(faults []Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = cloneFaults(faults)
}

func (p *plan) currentFaults() []Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cloneFaults(p.faults)
}

func (p *plan) script(model string, faults []Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scripts[model] = cloneFaults(faults)
}

func (p *plan) setAnswers(model string, answers []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[model] = slices.Clone(answers)
}

func (p *plan) setUsage(model string, u Usage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u == (Usage{}) {
		delete(p.usages, model)
	} else {
		p.usages[model] = u
	}
}

// usage returns the usage that was set for the model, or for all with "".
func (p *plan) usage(model string) Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u, ok := p.usages[model]; ok {
		return u
	}
	return p.usages[""]
}

func (p *plan) setName(model, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.names[model] = name
}

// name returns what responses call the model.
func (p *plan) name(model string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.names[model], model)
}

// strike returns the call's fault; its Kind is "ok" when none strikes.
func (p *plan) strike(t trial) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, model := range []string{t.model, ""} {
		if left := p.scripts[model]; len(left) > 0 {
			p.scripts[model] = left[1:]
			return left[0]
		}
	}
	for i, f := range p.faults {
		if f.strikes(t, p.seed+uint64(i)) {
			return f
		}
	}
	return Fault{Kind: KindOK}
}

func (f *Fault) strikes(t trial, seed uint64) bool {
	if f.Model != "" && f.Model != t.model || f.Key != "" && f.Key != t.key {
		return false
	}
	if f.First > 0 && t.number > f.First || !strings.Contains(t.input, f.Match) {
		return false
	}
	if f.Rate == 0 || f.Rate == 1 {
		return true
	}
	d := dice{scramble(seed) ^ scramble(t.nonce+uint64(t.number))}
	return d.float() < f.Rate
}

// literal returns the answer that was set for the model, or for all with "".
func (p *plan) literal(model string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range []string{model, ""} {
		left := p.answers[m]
		if len(left) == 0 {
			continue
		}
		if len(left) > 1 {
			p.answers[m] = left[1:]
		}
		return left[0], true
	}
	return "", false
}
