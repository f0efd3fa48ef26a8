package services_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// enoughCalls is how many calls may fail in a row without opening a breaker that does not count them.
const enoughCalls = 8

// TestWhatEachFaultMeansForTheBreaker makes jobs fail one after the other, with each row's fault on a model of
// its own, and looks at the record, at the provider's count, and at the models beside.
func TestWhatEachFaultMeansForTheBreaker(t *testing.T) {
	t.Parallel()
	var all []suspect
	for n, w := range rows() {
		all = append(all, suspect{row: w, name: fmt.Sprintf("m%d", n)})
	}
	var faults []fakellm.Fault
	r := setupWith(t, brokertest.Server(t).URL(), 1, func(first, _ string) fstest.MapFS {
		fs := fstest.MapFS{}
		var models []model
		for i := range all {
			models = append(models, all[i].models(t, first)...)
			addTask(fs, all[i].name, taskOn(all[i].name, "", ladderNone))
			addTask(fs, all[i].name+"-sibling", taskOn(all[i].name+"-sibling", "", ladderNone))
		}
		addTask(fs, "stranger", taskOn("stranger", "", ladderNone))
		models = append(models, small("stranger", "two", first))
		fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(defaultLimits, models...))}
		return fs
	})
	for _, s := range all {
		if s.at == nil {
			s.fault.Model = s.name
			faults = append(faults, s.fault)
		}
	}
	r.first.SetFaults(faults...)
	r.run()
	for _, s := range all {
		t.Run(s.row.name, func(t *testing.T) {
			t.Parallel()
			s.standsTrial(r.on(t))
		})
	}
}

// suspect is a model that has the fault of a row, beside one of the same provider that has none. Both are
// known to the provider by their names here.
type suspect struct {
	row
	name string
	at   *door
}

func (s *suspect) provider() string { return "one-" + s.name }
func (s *suspect) sibling() string  { return s.name + "-sibling" }

func (s *suspect) models(t *testing.T, first string) []model {
	bad := s.failing(small(s.name, s.provider(), first).as(s.name))
	if s.door != nil {
		d := s.door(t, first)
		s.at, bad.url = &d, d.url
	}
	return []model{bad, small(s.sibling(), s.provider(), bad.url).as(s.sibling())}
}

// want is the circuit that opens, and with which call; "": none.
func (s *suspect) want() (key string, calls int) {
	switch s.breaker {
	case counts:
		return "model." + s.name, 5
	case opensModel:
		return "model." + s.name, 1
	case opensProvider:
		return "provider." + s.provider(), 1
	case never:
	}
	return "", 0
}

func (s *suspect) standsTrial(r *rig) {
	records := r.circuits()
	own, whole := "model."+s.name, "provider."+s.provider()
	isClosed := func() bool { return records.of(own).State == closed && records.of(whole).State == closed }
	told := 0
	for n := 0; n < enoughCalls && told < enoughCalls && isClosed(); n++ {
		result := r.result(r.publish(job.Interactive, s.name, "", s.body(fmt.Sprintf("%s, %d", s.row.name, n))), 1)
		told += result.Usage.Calls
	}
	key, calls := s.want()
	if key == "" {
		if made := s.calls(r, told); made < enoughCalls || !isClosed() {
			r.t.Errorf("after %d calls the model's circuit is %+v, the provider's %+v", made, records.of(own), records.of(whole))
		}
		return
	}
	found := records.becomes(key, open)
	if found.Why == "" || time.Until(found.Until) < 30*time.Second {
		r.t.Errorf("%s is open until %s because of %q", key, found.Until, found.Why)
	}
	s.isNotCalled(r, s.name)
	if made := s.calls(r, told); made != calls {
		r.t.Errorf("open after %d calls, want %d", made, calls)
	}
	s.leavesOthersAlone(r, records)
}

// calls is the provider's own count of the model's calls; told is what the results say, where nobody is
// there to count.
func (s *suspect) calls(r *rig, told int) int {
	switch {
	case s.at == nil:
		return r.first.Counts().Models[s.name].Calls
	case s.at.knocks != nil:
		return s.at.knocks()
	}
	return told
}

// isNotCalled checks that a job of a model whose circuit is open ends at once, without a call.
func (s *suspect) isNotCalled(r *rig, task string) {
	r.t.Helper()
	text := "is anybody there, " + task
	result := r.result(r.ask(job.Interactive, task, text), 1)
	if result.Status != job.Failed || result.Error.Code != fate.ProviderUnavailable || result.Usage.Calls != 0 {
		r.t.Errorf("%s ended as %s %+v after %d calls", task, result.Status, result.Error, result.Usage.Calls)
	}
	r.calls(task, text, 0)
}

// leavesOthersAlone checks what is called of the model's provider, and of others.
func (s *suspect) leavesOthersAlone(r *rig, records circuits) {
	r.t.Helper()
	if own, whole := records.of("model."+s.name).State, records.of("provider."+s.provider()).State; own != closed && whole != closed {
		r.t.Errorf("the model's circuit is %s and the provider's %s, want one of them", own, whole)
	}
	switch {
	case s.breaker == opensProvider:
		s.isNotCalled(r, s.sibling())
	case s.at == nil:
		text := "a sibling of " + s.name
		r.answered(s.sibling(), text)
		r.calls("sibling", text, 1)
	}
	text := "a stranger to " + s.name
	r.answered("stranger", text)
	r.calls("stranger", text, 1)
}

// answered asks an interactive job of a task, which must succeed.
func (r *rig) answered(task, text string) *job.Result {
	r.t.Helper()
	result := r.result(r.ask(job.Interactive, task, text), 1)
	check(r.t, task, result, ending{status: job.Succeeded, source: job.FromModel})
	return result
}

func TestHalfOfAtLeastFiveCallsOpenTheBreaker(t *testing.T) {
	t.Parallel()
	// A call fails (f) or is answered (.); the last one is what opens the circuit, or nothing does.
	trials := []struct {
		name, calls string
		opens       bool
	}{
		{"three of five", "f.f.f", true},
		{"three of five, and the fifth is answered", "fff..", true},
		{"half of six", ".f.f.f", true},
		{"two of four", "f.f.", false},
		{"two of five", ".f.f.", false},
	}
	r := setupWith(t, brokertest.Server(t).URL(), 1, func(first, _ string) fstest.MapFS {
		fs := fstest.MapFS{}
		var models []model
		for n := range trials {
			name := fmt.Sprintf("m%d", n)
			models = append(models, small(name, "one", first))
			addTask(fs, name, taskOn(name, "", ladderNone))
		}
		fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(defaultLimits, models...))}
		return fs
	})
	// A wait that nobody grants is tried once.
	r.first.SetFaults(fakellm.Fault{Kind: "429", RetryAfter: time.Hour, Match: broken})
	r.run()
	records := r.circuits()
	for n, trial := range trials {
		task := fmt.Sprintf("m%d", n)
		for i, call := range trial.calls {
			text := fmt.Sprintf("%s, %d", trial.name, i)
			if call == 'f' {
				text += broken
			}
			r.result(r.ask(job.Interactive, task, text), 1)
			r.calls(trial.name, text, 1)
		}
		if trial.opens {
			records.becomes("model."+task, open)
			continue
		}
		r.answered(task, "and one more for "+trial.name)
		if found := records.of("model." + task); found.State != closed {
			t.Errorf("%s: %+v", trial.name, found)
		}
	}
}
