package services_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"spillway/schemas"
)

// A new task is a folder: its name stands in no Go code.
func TestNoTaskNameStandsInGoCode(t *testing.T) {
	t.Parallel()
	names := taskNames(t)
	for path, text := range sources(t) {
		for _, name := range names {
			if strings.Contains(text, `"`+name+`"`) {
				t.Errorf("%s names the task %s", path, name)
			}
		}
	}
}

// The names of subjects, streams and headers are spelled in one file.
func TestSubjectsAreSpelledInOneFile(t *testing.T) {
	t.Parallel()
	subject := regexp.MustCompile("[\"`](llm\\.[a-z]|LLM_[A-Z]|Spillway-[A-Z])")
	for path, text := range sources(t) {
		if strings.HasSuffix(path, "pkg/broker/names.go") || strings.Contains(path, "/deploy/") {
			continue
		}
		if found := subject.FindString(text); found != "" {
			t.Errorf("%s spells %s…", path, found)
		}
	}
}

// Only the runner acknowledges.
func TestOnlyTheRunnerAcknowledges(t *testing.T) {
	t.Parallel()
	verbs := regexp.MustCompile(`\.(Ack|DoubleAck|Nak|NakWithDelay|Term|TermWithReason|InProgress)\(|"(\+ACK|-NAK|\+WPI|\+TERM)`)
	for path, text := range sources(t) {
		if strings.Contains(path, "pkg/stage/") || strings.Contains(path, "pkg/bench/") || strings.Contains(path, "deploy/") {
			continue
		}
		if found := verbs.FindString(text); found != "" {
			t.Errorf("%s acknowledges: %s", path, found)
		}
	}
}

func taskNames(t *testing.T) []string {
	t.Helper()
	entries, err := fs.ReadDir(schemas.FS(), "tasks")
	if err != nil || len(entries) == 0 {
		t.Fatalf("no tasks: %v", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// sources are the project's Go files without tests.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "brokertest") {
			return err
		}
		text, err := os.ReadFile(path)
		files[filepath.ToSlash(path)] = string(text)
		return err
	})
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	return files
}
