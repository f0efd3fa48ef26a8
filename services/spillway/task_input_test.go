package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestCtrlCEndsACommandThatWaitsForItsInput(t *testing.T) {
	silent, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = silent
	t.Cleanup(func() {
		os.Stdin = before
		writer.Close() // the readers that were left end
		if w, err := os.OpenFile(fifo, os.O_RDWR, 0); err == nil {
			w.Close()
		}
	})
	for _, args := range [][]string{
		{"task", "try", "analyze", "-"},
		{"task", "try", "analyze", "--inputs=-"},
		{"task", "try", "analyze", "--inputs=" + fifo},
		{"task", "render", "analyze", "-"},
		{"task", "render", "analyze", "@" + fifo},
	} {
		c := start(t, args...)
		c.cancel()
		c.wait().with(exitInterrupted, "stopped before there was an input")
	}
}
