package drill

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// question is a request of the drill: what is asked, and what an answer to it must carry.
type question struct {
	id     string
	number int
	body   []byte
	// nonce is the one that the provider makes of the input's prompt.
	nonce string
}

// repeats is the share of inputs that were asked while all was well.
const repeats = 0.2

// questions makes the requests of the night: known of them fall into its first act.
func questions(t *task.Task, forms []*form, seed uint64, run string, requests, known int) ([]*question, error) {
	dice := mathrand.New(mathrand.NewPCG(seed, seed)) //nolint:gosec // what is repeated is no secret
	all := make([]*question, requests)
	for n := range all {
		of := n
		// Those of the second half may not have been answered when the first fault comes.
		if n >= known && known > 1 && dice.Float64() < repeats {
			of = dice.IntN(known / 2)
		}
		q, err := forms[of%len(forms)].ask(t, run, n, of, "")
		if err != nil {
			return nil, err
		}
		all[n] = q
	}
	return all, nil
}

// newRun is a name that no other drill has.
func newRun() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return hex.EncodeToString(b)
}

// form is an input with a place for a mark that makes it unlike all others.
type form struct {
	value any
	set   func(string)
	// before stands in the place before the mark.
	before string
}

// formsOf finds the place in each input.
func formsOf(t *task.Task, bases [][]byte) ([]*form, error) {
	var forms []*form
	for i, base := range bases {
		f, err := formOf(t, base)
		if err != nil {
			return nil, fmt.Errorf("input %d of task %s: %w", i+1, t.Name, err)
		}
		forms = append(forms, f)
	}
	return forms, nil
}

// probeMark is as long as marks are.
const probeMark = "(drill 00000000-0000)"

// formOf takes the longest text that may hold a mark and stands in the prompt. Without one nobody could tell
// whose answer an answer is.
func formOf(t *task.Task, base []byte) (*form, error) {
	value, err := schema.Decode(base)
	if err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	f := &form{value: value}
	places := slots(value, func(v any) { f.value = v })
	slices.SortStableFunc(places, func(a, b slot) int { return len(b.text) - len(a.text) })
	for _, p := range places {
		f.set = p.set
		for _, f.before = range []string{p.text + " ", ""} {
			if f.fits(t) {
				return f, nil
			}
		}
		p.set(p.text)
	}
	return nil, fmt.Errorf("%s has no text that may hold a mark like %q and stands in the prompt, so that nobody could tell whose answer an answer is: give inputs that have one with --inputs FILE", job.Cut(string(base), 80), probeMark)
}

// fits reports whether the task takes the input with a mark in it, and the prompt shows it.
func (f *form) fits(t *task.Task) bool {
	input, err := f.input(probeMark)
	if err != nil {
		return false
	}
	value, err := schema.Decode(input)
	if err != nil || t.Input != nil && len(t.Input.Validate(value)) > 0 {
		return false
	}
	user, err := prompt(t, value)
	return err == nil && strings.Contains(user, probeMark)
}

// input is the form filled in.
func (f *form) input(mark string) ([]byte, error) {
	f.set(f.before + mark)
	return task.Canonical(f.value)
}

// ask makes the n-th request, whose input is that of the request of: n itself, or an earlier one.
func (f *form) ask(t *task.Task, run string, n, of int, cache string) (*question, error) {
	input, err := f.input(fmt.Sprintf("(drill %s-%d)", run, of))
	if err != nil {
		return nil, fmt.Errorf("make an input of task %s: %w", t.Name, err)
	}
	value, err := schema.Decode(input)
	if err != nil {
		return nil, fmt.Errorf("make an input of task %s: %w", t.Name, err)
	}
	user, err := prompt(t, value)
	if err != nil {
		return nil, fmt.Errorf("render the prompt of task %s: %w", t.Name, err)
	}
	q := &question{id: "drill-" + run + "-" + strconv.Itoa(n), number: n, nonce: fakellm.Nonce(user)}
	metadata, err := json.Marshal(told{n})
	if err != nil {
		return nil, err
	}
	q.body, err = json.Marshal(job.Request{Input: input, Cache: cache, Metadata: metadata})
	return q, err
}

// told is what goes with a request as metadata, and comes back.
type told struct {
	Number int `json:"drill"`
}

// prompt renders the user message that an input ends up in.
func prompt(t *task.Task, input any) (string, error) {
	data := task.PromptData{Input: input, State: map[string]any{}}
	if t.OutputSchema != nil {
		data.Schema = string(t.OutputSchema.Source())
	}
	_, _, user, err := t.Prompt.Render(data)
	return user, err
}

// slot is a text within an input, and the way to replace it.
type slot struct {
	text string
	set  func(string)
}

// slots finds the texts within a decoded value.
func slots(value any, set func(any)) []slot {
	var all []slot
	switch v := value.(type) {
	case string:
		all = append(all, slot{v, func(s string) { set(s) }})
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			all = append(all, slots(v[name], func(x any) { v[name] = x })...)
		}
	case []any:
		for i := range v {
			all = append(all, slots(v[i], func(x any) { v[i] = x })...)
		}
	}
	return all
}
