package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// maxTyped bounds what is read of standard input.
const maxTyped = 4 << 20

// namedTask is a task of a folder.
func namedTask(set *task.Set, name string) (*task.Task, error) {
	t, ok := set.Tasks[name]
	if !ok {
		return nil, exit(exitNotFound, "there is no task %q; there are %s", name, strings.Join(namesOf(set), ", "))
	}
	return t, nil
}

// inputOf reads an input as people name it: the name of a case, JSON, @file, or - for standard input. k is nil where it
// is not of a case.
func inputOf(ctx context.Context, t *task.Task, text string) (input []byte, k *task.Case, err error) {
	for i := range t.Cases {
		if t.Cases[i].Name == text {
			return t.Cases[i].Input, &t.Cases[i], nil
		}
	}
	input = []byte(text)
	switch file, isFile := strings.CutPrefix(text, "@"); {
	case isFile:
		input, err = await(ctx, func() ([]byte, error) { return os.ReadFile(file) })
	case text == "-":
		in := os.Stdin
		input, err = await(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(in, maxTyped)) })
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the input: %w", err)
	}
	if _, err := schema.Decode(input); err != nil {
		return nil, nil, exit(exitUsage, "the input is neither JSON (%w) nor a case of %s%s; a text needs quotes of its own: '\"…\"'", err, t.Name, casesOf(t))
	}
	return input, nil, nil
}

// await reads until Ctrl-C, and leaves the reader then: nothing can take one away from a terminal.
func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, exit(exitInterrupted, "stopped before there was an input")
	}
}

// casesOf lists the cases of a task, in brackets.
func casesOf(t *task.Task) string {
	var names []string
	for _, k := range t.Cases {
		names = append(names, k.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// rejectionOf says why a request with this input would be rejected before any model; nil: it would not.
func rejectionOf(t *task.Task, input []byte) error {
	if len(input) > t.MaxInputBytes {
		return exit(exitFailed, "a request with this input would be rejected: it has %d bytes, and input.max_bytes is %d", len(input), t.MaxInputBytes)
	}
	value, err := schema.Decode(input)
	if err != nil || t.Input == nil {
		return err
	}
	var reasons []string
	for _, violation := range t.Input.Validate(value) {
		reasons = append(reasons, "\n  "+violation.String())
	}
	if len(reasons) == 0 {
		return nil
	}
	return exit(exitFailed, "a request with this input would be rejected, it does not satisfy input.schema.json:%s", strings.Join(reasons, ""))
}
