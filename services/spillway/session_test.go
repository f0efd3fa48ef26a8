package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/session"
)

// talks is the built-in schemas and three tasks with a memory: talk checks its state, whisper wants no text shown.
func talks(t *testing.T) string {
	t.Helper()
	dir := folder(t)
	for name, yaml := range map[string]string{
		"talk": "context: {session: optional}\nretention: {session: 48h}\n", "plain": "context: {session: optional}\n",
		"whisper": "context: {session: required}\nredaction: {log_content: never}\n",
	} {
		write(t, filepath.Join(dir, "tasks", name, "task.yaml"), bareTask+yaml)
		write(t, filepath.Join(dir, "tasks", name, "prompt.tmpl"), `{{define "user"}}{{.Input.text}}{{end}}`)
		write(t, filepath.Join(dir, "tasks", name, "output.schema.json"), `{"type":"object","properties":{"says":{"type":"string"}},"required":["says"],"additionalProperties":false}`)
	}
	write(t, filepath.Join(dir, "tasks", "talk", "state.schema.json"),
		`{"type":"object","properties":{"step":{"type":"integer","minimum":0},"order":{"type":"object","properties":{"status":{"enum":["open","paid"]}},"additionalProperties":false}},"additionalProperties":false}`)
	return dir
}

// remember writes a session as the pipeline does.
func (r *rig) remember(t *testing.T, tenant, task, name string, change func(*session.Session)) {
	t.Helper()
	_, err := session.NewStore(r.conn).Update(t.Context(), tenant, task, name, time.Hour, func(s *session.Session) (bool, error) {
		change(s)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// conversation has two turns, a summary of five before, a waiting request and a state.
func conversation(s *session.Session) {
	now := time.Now().UTC()
	place := func(n int) session.Place {
		return session.Place{Lane: job.Interactive, Seq: uint64(n), At: now.Add(-time.Hour).Add(time.Duration(n) * time.Minute)}
	}
	s.Settle("first", &session.Turn{ID: "first", Run: 1, Place: place(1), User: "is it \x1b[31mraining", Assistant: "it pours", Source: job.FromModel})
	s.Settle("second", &session.Turn{ID: "second", Run: 2, Place: place(2), User: "and now", Assistant: "ask later", Source: job.FromCanned})
	s.Pending = []session.Pending{{ID: "third", Run: 1, Place: place(3), Deadline: now.Add(time.Hour), User: "still raining", Input: json.RawMessage(`{"text":"drizzling"}`)}}
	s.Summary = &session.Summary{Text: "They spoke of rivers.", Turns: 5, By: session.ByModel}
	s.State = json.RawMessage(`{"step":3}`)
	s.Count(job.Usage{InputTokens: 412, OutputTokens: 96, Calls: 3}, 0.0125)
}

func TestSessionsAreListed(t *testing.T) {
	r := serve(t)
	r.spillway(t, "session", "ls").with(exitOK, "no sessions")
	r.remember(t, "acme", "talk", "u/1", conversation)
	r.remember(t, "", "plain", "u/1", func(*session.Session) {})
	r.remember(t, "zeta", "talk", "u/2", func(*session.Session) {})
	said := r.spillway(t, "session", "ls").with(exitOK, "TENANT", "TASK", "SESSION", "TURNS", "PENDING", "SUMMARY", "TOKENS", "COST", "AGE").without("raining", "rivers")
	lines := strings.Split(strings.TrimSpace(said.out), "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[2])[:12], " ") != "acme talk u/1 2 1 of 5 turns 412 in, 96 out" || !strings.Contains(lines[2], "$0.01250") {
		t.Errorf("listed:\n%s", said.out)
	}
	r.spillway(t, "session", "ls", "--task=talk", "--tenant=zeta").with(exitOK, "u/2").without("u/1")
	r.spillway(t, "session", "ls", "--tenant=-").with(exitOK, "plain").without("talk")
	r.spillway(t, "session", "ls", "--task=a.b").with(exitUsage, "not the name of a task")
	row := r.spillway(t, "session", "ls", "--tenant=acme", "--json").with(exitOK).one()
	totals, _ := row["totals"].(map[string]any)
	if row["session"] != "u/1" || row["turns"] != 2.0 || row["pending"] != 1.0 || row["summary"] != 5.0 || totals["cost_usd"] != 0.0125 {
		t.Errorf("listed %v", row)
	}
	if _, err := r.conn.Swap(t.Context(), broker.SessionsBucket, session.KeyOf("", "talk", "later"), []byte(`{"v":99}`), 0); err != nil {
		t.Fatal(err)
	}
	r.spillway(t, "session", "ls").with(exitFailed, "u/2", "version 99")
	r.spillway(t, "session", "rm", "talk", "later").with(exitOK, "could not be read", "is forgotten")
	r.spillway(t, "session", "ls").with(exitOK, "u/2").without("99")
}

func TestASessionIsShown(t *testing.T) {
	r := serve(t)
	dir := talks(t)
	r.remember(t, "acme", "talk", "u", conversation)
	r.spillway(t, "session", "show", "talk", "u", "--tenant=acme", "--schemas="+dir).with(exitOK,
		"u of task talk, of tenant acme", "2 turns of 2", "1 request waiting", "$0.01250 (3 calls, 412 tokens in, 96 out)", "summary of 5 turns, by model", "They spoke of rivers.",
		`is it \u001b[31mraining`, "it pours", "second, run 2, from canned", `"step": 3`, "third").without("\x1b")
	shown := r.spillway(t, "session", "show", "talk", "u", "--tenant=acme", "--schemas="+dir, "--json").with(exitOK).one()
	turns, _ := shown["turns"].([]any)
	state, _ := shown["state"].(map[string]any)
	if len(turns) != 2 || turns[0].(map[string]any)["assistant"] != "it pours" || state["step"] != 3.0 {
		t.Errorf("shown %v", shown)
	}
	for _, args := range [][]string{{"talk", "u"}, {"talk", "v", "--tenant=acme"}, {"plain", "u", "--tenant=acme"}} {
		r.spillway(t, append([]string{"session", "show", "--schemas=" + dir}, args...)...).with(exitNotFound, "nothing is remembered")
	}
	r.spillway(t, "session", "show", "talk", "a b", "--schemas="+dir).with(exitUsage, "not the name of a session")
	r.spillway(t, "session", "show", "talk", "u", "--tenant=a b", "--schemas="+dir).with(exitUsage, "not the name of a tenant")
}

func TestTextsThatATaskHidesAreNotShown(t *testing.T) {
	r := serve(t)
	dir := talks(t)
	said := []string{"raining", "pours", "rivers", "later", "drizzling", `"step"`}
	for _, task := range []string{"whisper", "gone"} { // of the second the files here say nothing
		r.remember(t, "", task, "u", conversation)
		r.spillway(t, "session", "show", task, "u", "--schemas="+dir).with(exitOK, "texts are not shown", "2 turns of 2", "(8 bytes)").without(said...)
		shown := r.spillway(t, "session", "show", task, "u", "--schemas="+dir, "--json").with(exitOK, "texts are not shown").without(said...).one()
		if turns, _ := shown["turns"].([]any); len(turns) != 2 || shown["state"] != nil {
			t.Errorf("shown %v", shown)
		}
		r.spillway(t, "session", "set", task, "u", "/step", "4", "--schemas="+dir).with(exitOK, "texts are not shown").without(said...)
		r.spillway(t, "session", "set", task, "u", "/step", "5", "--schemas="+dir, "--json").with(exitOK).without(said...)
	}
}

func TestAPartOfTheStateIsSet(t *testing.T) {
	r := serve(t)
	dir := talks(t)
	state := func(task string) string {
		t.Helper()
		s, _, err := session.NewStore(r.conn).Load(t.Context(), "acme", task, "u")
		if err != nil {
			t.Fatal(err)
		}
		return string(s.State)
	}
	set := func(task, pointer, value string, more ...string) said {
		t.Helper()
		return r.spillway(t, append([]string{"session", "set", "--tenant=acme", "--schemas=" + dir, task, "u", pointer, value}, more...)...)
	}
	set("talk", "/step", "4").with(exitNotFound, "nothing is remembered")
	r.remember(t, "acme", "talk", "u", conversation)
	set("talk", "/step", "4").with(exitOK, `"step": 4`)
	set("talk", "/order/status", `"paid"`).with(exitOK)
	if got := state("talk"); got != `{"order":{"status":"paid"},"step":4}` {
		t.Errorf("the state is %s", got)
	}
	stored, err := r.conn.Last(t.Context(), "KV_llm_sessions", "$KV.llm_sessions."+session.KeyOf("acme", "talk", "u"))
	if err != nil || stored.Header["Nats-TTL"][0] != "172800" {
		t.Errorf("kept for %v seconds, want the task's 48 h (%v)", stored.Header["Nats-TTL"], err)
	}
	set("talk", "/step", "-1").with(exitUsage) // a flag, as far as the command line knows
	set("talk", "/step", `"four"`).with(exitUsage, "state.schema.json", "/step")
	set("talk", "/order/status", `"lost"`).with(exitUsage, "state.schema.json", "/order/status")
	set("talk", "/unknown", "1").with(exitUsage, "state.schema.json")
	set("talk", "step", "4").with(exitUsage, "JSON pointer")
	set("talk", "/step/deeper", "4").with(exitUsage)
	set("talk", "/step", "paid").with(exitUsage, "not JSON")
	if got := state("talk"); got != `{"order":{"status":"paid"},"step":4}` {
		t.Errorf("after refused changes the state is %s", got)
	}
	if row := set("talk", "", `{"step":0}`, "--json").with(exitOK).one(); row["state"].(map[string]any)["step"] != 0.0 || state("talk") != `{"step":0}` {
		t.Errorf("set %v", row)
	}

	r.remember(t, "acme", "plain", "u", func(*session.Session) {})
	set("plain", "/anything", `{"b":1,"a":[2]}`).with(exitOK, "not checked", "no state.schema.json")
	if got := state("plain"); got != `{"anything":{"a":[2],"b":1}}` {
		t.Errorf("the state is %s", got)
	}
	set("plain", "/name", `"\u202eeert"`).with(exitOK, `\u202eeert`).without("\u202e")
	set("plain", "", "7").with(exitUsage, "a state is a JSON object")
	set("plain", "/long", `"`+strings.Repeat("x", 32<<10)+`"`).with(exitUsage, "32.0 KiB is the most")
	r.remember(t, "acme", "gone", "u", func(*session.Session) {})
	set("gone", "/a", "1").with(exitOK, "not checked", `no task "gone"`)
}

func TestASessionIsForgotten(t *testing.T) {
	r := serve(t)
	r.remember(t, "acme", "talk", "u", conversation)
	r.remember(t, "other", "talk", "u", conversation)
	r.spillway(t, "session", "rm", "talk", "u").with(exitNotFound, "nothing is remembered", "without a tenant")
	r.spillway(t, "session", "rm", "talk", "u", "--tenant=acme").with(exitOK, "is forgotten", "2 turns", "a summary of 5", "1 request waiting", "still wait").without("raining")
	r.spillway(t, "session", "rm", "talk", "u", "--tenant=acme").with(exitNotFound)
	r.spillway(t, "session", "ls").with(exitOK, "other").without("acme")
	if row := r.spillway(t, "session", "rm", "talk", "u", "--tenant=other", "--json").with(exitOK).one(); row["removed"] != true || row["turns"] != 2.0 || row["summary"] != 5.0 || row["pending"] != 1.0 {
		t.Errorf("removed %v", row)
	}
	r.spillway(t, "session", "ls").with(exitOK, "no sessions")
}
