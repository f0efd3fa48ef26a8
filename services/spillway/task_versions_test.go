package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// files are a folder of schemas that a test changes.
type files struct {
	t   *testing.T
	dir string
}

func newFiles(t *testing.T) files { return files{t, folder(t)} }

// prompt makes the task bare another version.
func (f files) prompt(word string) {
	f.t.Helper()
	write(f.t, filepath.Join(f.dir, "tasks", "bare", "prompt.tmpl"), `{{define "user"}}`+word+` {{.Input.text}}{{end}}`)
}

// version is that of bare in the files, as they are listed.
func (f files) version() string {
	f.t.Helper()
	for _, line := range spillway(f.t, "task", "ls", "--schemas="+f.dir, "--json").with(exitOK).lines() {
		if line["name"] == "bare" {
			return line["version"].(string)
		}
	}
	f.t.Fatal("there is no task bare")
	return ""
}

// live is what the server says of bare.
func (r *rig) live(t *testing.T) map[string]any {
	t.Helper()
	for _, line := range r.spillway(t, "task", "ls", "--versions", "--json").with(exitOK).lines() {
		if line["name"] == "bare" {
			return line
		}
	}
	t.Fatal("there is no task bare")
	return nil
}

func TestFilesArePushedComparedAndRolledBack(t *testing.T) {
	r, f := serve(t), newFiles(t)
	first := f.version()
	r.spillway(t, "task", "ls").with(exitOK, "no task is live here")
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir, "--dry-run").with(exitOK, "bare: none -> "+first+" would be live: a new task")
	r.spillway(t, "task", "ls").with(exitOK, "no task is live here")
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir, "--by=ada").with(exitOK, "bare: none -> "+first+" is live").without("analyze")
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir).with(exitOK, "bare: "+first+" is live already")

	f.prompt("more")
	write(t, filepath.Join(f.dir, "tasks", "bare", "notes.txt"), "why\n")
	second := f.version()
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir, "--dry-run").with(exitOK, first+" -> "+second+" would be live: notes.txt added, prompt.tmpl changed")
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir).with(exitOK, "bare: "+first+" -> "+second+" is live: notes.txt added, prompt.tmpl changed")
	r.spillway(t, "task", "ls").with(exitOK, "NAME", "TAKES REQUESTS", "bare", second, "push", "operator").without(first)
	if got := r.live(t); got["live"] != second || got["how"] != "push" || got["from"] != "server" || len(got["versions"].([]any)) != 2 || got["kept"] != 2.0 {
		t.Errorf("%v", got)
	}
	r.spillway(t, "task", "ls", "--versions").with(exitOK, "UNTIL", first, second, "ada", "ago", "live")

	r.spillway(t, "task", "diff", "bare", first).with(exitOK, "--- bare@"+first+"/prompt.tmpl", "+++ bare@"+second+"/prompt.tmpl",
		`-{{define "user"}}{{.Input.text}}{{end}}`, `+{{define "user"}}more {{.Input.text}}{{end}}`, "+why")
	r.spillway(t, "task", "diff", "bare", second, first).with(exitOK, `+{{define "user"}}{{.Input.text}}{{end}}`, "-why")
	f.prompt("less")
	r.spillway(t, "task", "diff", "bare", second, "--schemas="+f.dir).with(exitOK, `+{{define "user"}}less {{.Input.text}}{{end}}`).without("why")
	if got := r.spillway(t, "task", "diff", "bare", first, second, "--json").with(exitOK).one(); len(got["changed"].([]any)) != 2 {
		t.Errorf("%v", got)
	}

	r.spillway(t, "task", "rollback", "bare", "--dry-run").with(exitOK, second+" -> "+first+" would be live")
	r.spillway(t, "task", "rollback", "bare", "--by=eve").with(exitOK, second+" -> "+first+" is live")
	if got := r.live(t); got["live"] != first || got["how"] != "rollback" || got["by"] != "eve" {
		t.Errorf("%v", got)
	}
	r.spillway(t, "task", "ls", "--versions").with(exitOK, "rolled back")
	r.spillway(t, "task", "rollback", "bare").with(exitFailed, "no earlier version")
	r.spillway(t, "task", "rollback", "bare", "--to="+second).with(exitOK, first+" -> "+second+" is live")
	r.spillway(t, "task", "rollback", "bare", "--to="+second).with(exitFailed, "is live already")
}

func TestFilesWithFaultsAreNotPushed(t *testing.T) {
	r, f := serve(t), newFiles(t)
	write(t, filepath.Join(f.dir, "tasks", "bare", "cases", "bad.yaml"), "input: {txt: a}\nanswer: {content: \"{}\"}\nexpect: {verdict: invalid}\n")
	write(t, filepath.Join(f.dir, "tasks", "bare", "task.yaml"), bareTask+"lanes: batch\n")
	r.spillway(t, "task", "push", "--schemas="+f.dir).with(exitFailed, "tasks/bare/task.yaml:", "lanes", "nothing is pushed")
	r.spillway(t, "task", "ls").with(exitOK, "no task is live here")
	r.spillway(t, "task", "push").with(exitUsage, "schemas")
}

func TestATaskIsPausedResumedAndTakenOut(t *testing.T) {
	r, f := serve(t), newFiles(t)
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir).with(exitOK)
	first := f.version()
	r.spillway(t, "task", "pause", "bare").with(exitUsage, "--why")
	r.spillway(t, "task", "pause", "bare", "--why=the prompt is wrong", "--by=ada").with(exitOK, "bare: paused", "task_paused")
	r.spillway(t, "task", "pause", "bare", "--why=again").with(exitFailed, "is paused already, by ada since 20", "the prompt is wrong")
	r.spillway(t, "task", "ls").with(exitOK, "no: paused", "by ada: the prompt is wrong")
	if p := r.live(t)["paused"].(map[string]any); p["by"] != "ada" || p["why"] != "the prompt is wrong" {
		t.Errorf("%v", p)
	}
	r.spillway(t, "task", "resume", "bare").with(exitOK, "takes requests again")
	r.spillway(t, "task", "resume", "bare").with(exitOK, "it was not paused")
	r.spillway(t, "task", "rm", "bare").with(exitUsage, "say --yes")
	r.spillway(t, "task", "rm", "bare", "--yes").with(exitOK, "taken out", "task rollback bare --to "+first)
	r.spillway(t, "task", "rm", "bare", "--yes").with(exitOK, "taken out before")
	r.spillway(t, "task", "ls").with(exitOK, "no: taken out")
	r.spillway(t, "task", "rollback", "bare", "--to="+first).with(exitOK, "none -> "+first+" is live")
}

func TestWhatIsNotThereIsSaidWithWhatWasMeant(t *testing.T) {
	r, f := serve(t), newFiles(t)
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir).with(exitOK)
	for _, command := range []string{"rollback", "resume", "rm", "pause --why=x", "diff"} {
		args := append([]string{"task"}, strings.Fields(command)...)
		if command == "diff" {
			args = append(args, "bear", "00000000")
		} else {
			args = append(args, "bear")
		}
		r.spillway(t, args...).with(exitNotFound, `there is no task "bear" here: did you mean bare?`)
	}
	r.spillway(t, "task", "push", "bear", "--schemas="+f.dir).with(exitNotFound, "did you mean bare?")
	for _, args := range [][]string{{"rollback", "bare", "--to=00000000"}, {"diff", "bare", "00000000"}} {
		r.spillway(t, append([]string{"task"}, args...)...).with(exitNotFound, `version "00000000" of task bare is not kept`, f.version())
	}
	r.spillway(t, "task", "rollback", "no.task").with(exitUsage, "is not the name of a task")
	r.spillway(t, "task", "ls", "--versions", "--schemas="+f.dir).with(exitUsage, "leave --schemas out")
}

// An older pipeline's server has no bucket for versions.
func TestAServerWithoutVersionsSaysTheRemedy(t *testing.T) {
	r := serve(t)
	if err := r.conn.JS.DeleteStream(t.Context(), broker.RecordStream(broker.VersionsBucket)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ls"}, {"rollback", "bare"}, {"push", "--schemas=" + folder(t)}} {
		r.spillway(t, append([]string{"task"}, args...)...).with(exitFailed, "KV_llm_versions", "broker init")
	}
}

func TestWithoutAServerTheFilesAreListedUnlessOneWasNamed(t *testing.T) {
	const nowhere = "--nats=nats://127.0.0.1:1"
	spillway(t, "task", "ls", nowhere).with(exitFailed, "127.0.0.1:1").without("analyze")
	spillway(t, "task", "ls", "--versions", nowhere).with(exitFailed)
	spillway(t, "task", "rollback", "analyze", nowhere).with(exitFailed, "127.0.0.1:1")
	dir := folder(t)
	spillway(t, "task", "ls", "--schemas="+dir, nowhere).with(exitOK, "these are the files in "+dir, "bare")
}

func TestJobsInFlightAreListedByVersion(t *testing.T) {
	r, f := serve(t), newFiles(t)
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir).with(exitOK)
	first := f.version()
	f.prompt("more")
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir).with(exitOK)
	for id, version := range map[string]string{"a": first, "b": first, "c": f.version()} {
		if _, err := r.conn.Admit(t.Context(), &job.Marker{V: 1, ID: id, Task: "bare", TaskVersion: version, Run: 1, AnswerBy: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	r.spillway(t, "task", "ls").with(exitOK, "1, 2 under "+first)
	if counts := r.live(t)["in_flight"].(map[string]any); counts[first] != 2.0 || counts[f.version()] != 1.0 {
		t.Errorf("%v", counts)
	}
}

// Whoever has a folder in the environment, for `up`, asks the server all the same.
func TestAFolderInTheEnvironmentIsNotListedInPlaceOfTheServer(t *testing.T) {
	r, f := serve(t), newFiles(t)
	r.spillway(t, "task", "push", "bare", "--schemas="+f.dir).with(exitOK)
	t.Setenv("SPILLWAY_SCHEMAS", f.dir)
	r.spillway(t, "task", "ls").with(exitOK, "TAKES REQUESTS", "push")
}
