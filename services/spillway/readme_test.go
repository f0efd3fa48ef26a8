package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
)

// transcriptMark stands above the README's way from an empty folder to an answer.
const transcriptMark = "<!-- transcript: a new task -->\n```console\n"

// typedLine is a command of a transcript and what it says.
type typedLine struct{ command, says string }

// stepsOf reads a transcript: each command begins with $.
func stepsOf(t *testing.T, text string) (steps []typedLine) {
	t.Helper()
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			steps = append(steps, typedLine{command: strings.TrimSuffix(command, "\n")})
			continue
		}
		if len(steps) == 0 {
			t.Fatalf("the transcript begins with %q, not with a command", line)
		}
		steps[len(steps)-1].says += line
	}
	return steps
}

// desk is an empty folder in which a person types commands, with a key for a provider.
type desk struct {
	t    *testing.T
	home string
	env  []string
	nats string
	http string
}

// newDesk has the program in its path, as `spillway`, and a real provider at the end of a connection.
func newDesk(t *testing.T, provider *fakellm.Server) *desk {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "spillway")); err != nil {
		t.Fatal(err)
	}
	return &desk{t: t, home: t.TempDir(), env: append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"), "OPENAI_API_KEY=any", "OPENAI_BASE_URL="+provider.URL(),
		"SPILLWAY_NATS_PORT=-1", "SPILLWAY_HTTP=127.0.0.1:0", "SPILLWAY_GRACE=1s",
	)}
}

func (d *desk) shell(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euc", command)
	cmd.Dir, cmd.Env = d.home, d.env
	if d.nats != "" {
		cmd.Env = append(cmd.Env, "SPILLWAY_NATS="+d.nats)
	}
	return cmd
}

// run types a command and returns what it says.
func (d *desk) run(command string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	var out, faults buffer
	cmd := d.shell(ctx, command)
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		d.t.Fatalf("%s: %v\n%s%s", command, err, out.String(), faults.String())
	}
	return d.page(out.String())
}

var addresses = regexp.MustCompile(`NATS +(nats://\S+)[^\n]*\n +HTTP +(http://[^/\s]+)/`)

// serve types a command that goes on until the test ends, and returns what it says until it is ready.
func (d *desk) serve(command string) string {
	d.t.Helper()
	var out, faults buffer
	cmd := d.shell(context.WithoutCancel(d.t.Context()), "exec "+command)
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			d.t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			d.t.Errorf("%s: %v\n%s", command, err, faults.String())
		}
	})
	brokertest.Eventually(d.t, time.Minute, "it is ready", func() bool { return strings.Contains(out.String(), "Ctrl-C drains and stops.\n") })
	at := addresses.FindStringSubmatch(out.String())
	if at == nil {
		d.t.Fatalf("%s does not say where it is:\n%s", command, out.String())
	}
	d.nats, d.http = at[1], at[2]
	return d.page(out.String())
}

// page is a text as it stands in the README: with the usual ports, and a folder of anybody.
func (d *desk) page(text string) string {
	pairs := []string{d.home, "/home/you/app"}
	if d.nats != "" {
		pairs = append(pairs, " --nats "+d.nats, "", d.nats, defaultURL, d.http, "http://127.0.0.1:8080")
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

var (
	spans  = regexp.MustCompile(`\b[0-9][0-9.]*(ms|µs|s)\b`)
	blanks = regexp.MustCompile(` +`)
)

// alike makes the same what differs from run to run: how long things take.
func alike(text string) string {
	return strings.TrimRight(blanks.ReplaceAllString(spans.ReplaceAllString(text, "0s"), " "), "\n")
}

// From an empty folder to a checked task of one's own that a provider answers over HTTP: the README's commands, to the
// letter, in the shell. -update writes what they say now.
func TestTheREADMELeadsFromAnEmptyFolderToAnAnsweredTaskInFiveCommands(t *testing.T) {
	const readme = "../../README.md"
	stored, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(stored), transcriptMark)
	text, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatalf("README.md has no block under %s", transcriptMark)
	}
	provider, err := fakellm.Start(fakellm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	provider.SetAnswer("", `{"category": "question", "reply": "It usually takes three to five days."}`)
	d := newDesk(t, provider)
	steps := stepsOf(t, text)
	if len(steps) != 5 {
		t.Fatalf("%d commands, not five", len(steps))
	}
	now := ""
	for i, s := range steps {
		said := ""
		if strings.HasPrefix(s.command, "spillway up") {
			said = d.serve(s.command)
		} else {
			said = d.run(s.command)
		}
		if alike(said) == alike(s.says) {
			said = s.says
		} else if !*update {
			t.Errorf("%s says\n%s\nand README.md has\n%s\nLook at the difference, then: go test ./services/spillway -run %s -update", s.command, said, s.says, t.Name())
		}
		if i > 0 {
			now += "\n"
		}
		now += "$ " + s.command + "\n" + strings.TrimRight(said, "\n") + "\n"
	}
	// The self-check is a call, and the request is another; the provider counts them itself.
	if calls := provider.Counts().Calls; calls != 2 {
		t.Errorf("the provider was called %d times", calls)
	}
	if *update {
		if err := os.WriteFile(readme, []byte(before+transcriptMark+now+"```\n"+after), 0o644); err != nil { //nolint:gosec // a README is for all
			t.Fatal(err)
		}
	}
}
