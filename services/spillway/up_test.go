package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/bundle"
)

func TestFlagsOfTheEmbeddedServerAreRefusedBesideASharedOneOfTheEnvironment(t *testing.T) {
	t.Setenv("SPILLWAY_NATS", "nats://127.0.0.1:1")
	spillway(t, "up", "--nats-port=-1").with(exitUsage, "--nats-port is of the embedded server", "unset SPILLWAY_NATS")
	spillway(t, "up", "--store="+t.TempDir()).with(exitUsage, "--store is of the embedded server")
	spillway(t, "up", "--store="+t.TempDir(), "--nats=nats://127.0.0.1:1").with(exitFailed, "no key for the models")
}

func TestUpShowsWhatBecomesOfItsFiles(t *testing.T) {
	t.Parallel()
	dir, store := folder(t), filepath.Join(t.TempDir(), "s")
	up := func() *running {
		t.Helper()
		c := start(t, "up", "--simulate", "--no-self-check", "--nats-port=-1", "--grace=1s", "--http=off", "--store="+store, "--schemas="+dir)
		c.says("Ctrl-C drains")
		return c
	}
	leave := func(c *running) said {
		t.Helper()
		c.cancel()
		return c.wait().with(exitOK)
	}
	prompt := filepath.Join(dir, "tasks", "bare", "prompt.tmpl")
	c := up()
	write(t, prompt, `{{define "user"}}{{.Input.text}`)
	c.says("everything stays as it was:")
	c.says("  tasks/bare/prompt.tmpl")
	write(t, prompt, `{{define "user"}}Please: {{.Input.text}}{{end}}`)
	c.says("bare: version ")
	out := leave(c).out
	if n := strings.Count(out, "everything stays as it was"); n != 1 || strings.Contains(out, "analyze: ") {
		t.Errorf("the faults are told %d times, or a task that did not change is told:\n%s", n, out)
	}
	c = up()
	url := regexp.MustCompile(`nats://\S+`).FindString(c.out.String())
	if _, _, err := bundle.NewStore(brokertest.Connect(t, url)).Rollback(t.Context(), "bare", "", "ann"); err != nil {
		t.Fatal(err)
	}
	leave(c).without("bare: ")
	c = up()
	leave(c).with(exitOK, "bare: the files here are version ", " by ann; `spillway task push bare` makes ")
	if err := os.RemoveAll(filepath.Dir(prompt)); err != nil {
		t.Fatal(err)
	}
	for _, says := range []bool{true, false} { // it is out at the second start
		out := leave(up()).out
		if strings.Contains(out, "bare: taken out") != says || !strings.Contains(out, "tasks    analyze, onboarding, summarize\n") {
			t.Errorf("that a task is taken out is to be said: %t\n%s", says, out)
		}
	}
}
