package bench

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"spillway/pkg/fakellm"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// workload makes the requests of a bench: each with a text of its own, which the answer must be of.
type workload struct {
	// run is 16 hex digits that no other bench shares.
	run  string
	task string
	size int
	// head and tail are the request's body around its text, which needs no escaping.
	head, tail []byte
	// ask returns the user message that a text ends up in.
	ask func(text string) (string, error)
	// nonces are those of the user messages, by number.
	nonces []string
}

// newWorkload makes requests whose longest text is of so many bytes. The other fields are the sample's, a
// valid input of the task.
func newWorkload(t *task.Task, sample []byte, size, jobs int) (*workload, error) {
	seed := make([]byte, 8)
	_, _ = rand.Read(seed) // never fails: it ends the process instead
	w := &workload{run: hex.EncodeToString(seed), task: t.Name, size: size}
	input, err := split(sample)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", t.Name, err)
	}
	w.head = append([]byte(`{"deadline":"`+deadlineOf(t)+`","cache":"allow","input":`), input[0]...)
	w.tail = input[1]
	if t.Name == TaskName {
		w.ask = func(text string) (string, error) { return text, nil }
		return w, w.expect(t, jobs)
	}
	w.ask = func(text string) (string, error) {
		value, err := schema.Decode(bytes.Join([][]byte{input[0], []byte(text), input[1]}, nil))
		if err != nil {
			return "", err
		}
		data := task.PromptData{Input: value, State: map[string]any{}}
		if t.OutputSchema != nil {
			data.Schema = string(t.OutputSchema.Source())
		}
		_, _, user, err := t.Prompt.Render(data)
		return user, err
	}
	return w, w.expect(t, jobs)
}

// expect checks that the task takes the requests, and works out what answers to each must carry.
func (w *workload) expect(t *task.Task, jobs int) error {
	body := w.body(0)
	if t.MaxInputBytes > 0 && len(body) > t.MaxInputBytes {
		return fmt.Errorf("task %s takes requests of at most %d bytes, these have %d", t.Name, t.MaxInputBytes, len(body))
	}
	if t.Input != nil {
		var request struct {
			Input json.RawMessage `json:"input"`
		}
		if err := json.Unmarshal(body, &request); err != nil {
			return fmt.Errorf("make a request: %w", err)
		}
		value, err := schema.Decode(request.Input)
		if err != nil {
			return fmt.Errorf("make a request: %w", err)
		}
		if bad := t.Input.Validate(value); len(bad) > 0 {
			return fmt.Errorf("task %s takes no text of %d bytes: %s: %s", t.Name, w.size, bad[0].Pointer, bad[0].Message)
		}
	}
	w.nonces = make([]string, jobs)
	for n := range w.nonces {
		user, err := w.ask(w.text(n))
		if err != nil {
			return fmt.Errorf("render the prompt of task %s: %w", t.Name, err)
		}
		w.nonces[n] = "[nonce:" + fakellm.Nonce(user) + "]"
	}
	return nil
}

// deadlineOf is long enough for the last of a burst, where the task allows that.
func deadlineOf(t *task.Task) string {
	if t.Deadline.Max > 0 {
		return t.Deadline.Max.String()
	}
	return "10m"
}

// id names the n-th job. It is the message id of the request too.
func (w *workload) id(n int) string { return "bench-" + w.run + "-" + strconv.Itoa(n) }

// traceParent is a W3C traceparent that tells the job's number: version, trace id, parent id, flags.
func (w *workload) traceParent(n int) string {
	return fmt.Sprintf("00-%s%016x-%s-01", w.run, n, w.run)
}

// numberOf reads the number back out of an id, or a result's subject that ends in it; -1: it is no id of w.
func (w *workload) numberOf(id string) int {
	_, rest, ok := strings.Cut(id, w.run+"-")
	n, err := strconv.Atoi(rest)
	if !ok || err != nil {
		return -1
	}
	return n
}

// prose is what the texts are filled up with: plain English, which takes about as many tokens as users'.
const prose = "The customer writes that the parcel arrived on Tuesday with a torn label and without the two spare " +
	"filters that were on the invoice. She has called the shop twice, was promised a reply within a day, and has " +
	"heard nothing since. She would like to know whether a replacement can be sent before the end of the month, " +
	"and who pays for it. "

// text is the n-th job's: its name first, so that no two share a beginning.
func (w *workload) text(n int) string {
	head := "Request " + w.id(n) + ". "
	var b strings.Builder
	b.Grow(w.size + len(prose))
	b.WriteString(head)
	for b.Len() < w.size-1 {
		b.WriteString(prose)
	}
	text := b.String()
	return strings.TrimRight(text[:max(len(head), w.size-1)], " ") + "."
}

// body is the n-th request as it is published. Its metadata, which come back untouched, hold its number.
func (w *workload) body(n int) []byte {
	text := w.text(n)
	b := make([]byte, 0, len(w.head)+len(text)+len(w.tail)+64)
	b = append(append(append(b, w.head...), text...), w.tail...)
	b = append(b, `,"metadata":{"bench":`...)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, `}}`...)
}

// textOf takes the text out of a body.
func (w *workload) textOf(body []byte) string {
	text := body[len(w.head):]
	return string(text[:bytes.LastIndexByte(text, '.')+1])
}

// place stands for the text while the sample is taken apart.
const place = "SPILLWAY-BENCH-TEXT"

// split returns the JSON of the sample before and after the place of its longest string.
func split(sample []byte) ([2][]byte, error) {
	var value any
	if err := json.Unmarshal(sample, &value); err != nil {
		return [2][]byte{}, fmt.Errorf("read the sample input: %w", err)
	}
	at, length := func(string) {}, -1
	value = walk(value, func(text string, set func(string)) {
		if len(text) > length {
			at, length = set, len(text)
		}
	})
	if length < 0 {
		return [2][]byte{}, fmt.Errorf("the sample input %s has no text to fill", sample)
	}
	at(place)
	marked, err := json.Marshal(value)
	if err != nil {
		return [2][]byte{}, fmt.Errorf("encode the sample input: %w", err)
	}
	head, tail, _ := bytes.Cut(marked, []byte(place))
	return [2][]byte{head, tail}, nil
}

// walk calls found for each string in value, with the way to replace it, and returns value.
func walk(value any, found func(text string, set func(string))) any {
	visit := func(child any, set func(any)) {
		if text, ok := child.(string); ok {
			found(text, func(s string) { set(s) })
			return
		}
		walk(child, found)
	}
	switch parent := value.(type) {
	case map[string]any:
		for name, child := range parent {
			visit(child, func(v any) { parent[name] = v })
		}
	case []any:
		for i, child := range parent {
			visit(child, func(v any) { parent[i] = v })
		}
	}
	return value
}
