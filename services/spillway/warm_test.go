package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// freshFolder has the task bare serve fresh answers in place of calls, with two inputs in three lines to warm it.
func freshFolder(t *testing.T) string {
	t.Helper()
	dir := folder(t)
	write(t, filepath.Join(dir, "tasks", "bare", "task.yaml"), bareTask+"cache: {serve: fresh, fresh_for: 1h}\n")
	write(t, filepath.Join(dir, "tasks", "bare", "input.schema.json"), `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false}`)
	write(t, filepath.Join(dir, "tasks", "bare", "warm.jsonl"), "{\"text\":\"w 1\"}\n\n{\"text\":\"w 2\"}\n{ \"text\" : \"w 1\" }\n")
	return dir
}

// warm runs the command for the task bare with the files of dir.
func (r *rig) warm(t *testing.T, dir string, args ...string) said {
	t.Helper()
	return r.spillway(t, append([]string{"task", "warm", "bare", "--schemas=" + dir}, args...)...)
}

// keptIDs are the requests whose answers are in the cache, by key.
func (r *rig) keptIDs(t *testing.T) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for _, line := range r.spillway(t, "cache", "ls", "--limit=0", "--json").with(exitOK).lines() {
		ids[fmt.Sprint(line["key"])] = fmt.Sprint(line["id"])
	}
	return ids
}

func TestInputsAreAnsweredBeforeSomebodyAsks(t *testing.T) {
	dir := freshFolder(t)
	r := pipelineOf(t, dir)
	costs := func(t *testing.T, calls int, do func()) {
		t.Helper()
		before := r.provider.Counts().Calls
		do()
		if n := r.provider.Counts().Calls - before; n != calls {
			t.Errorf("%d calls, not %d", n, calls)
		}
	}

	t.Run("those of warm.jsonl, each once", func(t *testing.T) {
		costs(t, 2, func() {
			r.warm(t, dir).with(exitOK, "2 inputs in ", "2 cached (2 answered by a call, 0 already fresh)", "1 duplicate left out", "; 2 calls",
				"3 inputs of the task's warm.jsonl", "without a tenant", "in place of a call for 1h", "the pipeline is simulated")
		})
		if len(r.keptIDs(t)) != 2 {
			t.Errorf("%v", r.keptIDs(t))
		}
	})
	t.Run("a request for one of them costs no call", func(t *testing.T) {
		costs(t, 0, func() {
			if got := r.spillway(t, "submit", "bare", `{"text":"w 2"}`, "--json").with(exitOK).one(); got["source"] != "cache" {
				t.Errorf("%v", got)
			}
		})
	})
	t.Run("what is fresh costs no call", func(t *testing.T) {
		costs(t, 0, func() { r.warm(t, dir).with(exitOK, "2 cached (0 answered by a call, 2 already fresh)", "; 0 calls") })
	})
	t.Run("all are called for again to renew them", func(t *testing.T) {
		before := r.keptIDs(t)
		costs(t, 2, func() { r.warm(t, dir, "--renew").with(exitOK, "2 answered by a call, 0 already fresh") })
		for key, id := range r.keptIDs(t) {
			if before[key] == id {
				t.Errorf("%s is still the answer to %s", key, id)
			}
		}
	})
	t.Run("another tenant is given none of it", func(t *testing.T) {
		costs(t, 2, func() { r.warm(t, dir, "--tenant=acme").with(exitOK, "of the tenant acme", "2 answered by a call") })
		r.spillway(t, "cache", "show", "--schemas="+dir, "--simulate", "--task=bare", `--input={"text":"w 1"}`, "--tenant=acme").with(exitOK, "in place of a call")
		r.spillway(t, "cache", "show", "--schemas="+dir, "--simulate", "--task=bare", `--input={"text":"w 1"}`, "--tenant=beta").with(exitNotFound)
	})
	t.Run("those of warm.jsonl though a pipe stays open", func(t *testing.T) {
		defer idlePipe(t)()
		r.warm(t, dir).with(exitOK, "3 inputs of the task's warm.jsonl (--file - reads standard input instead)", "2 already fresh")
	})
	t.Run("those on standard input of a task without warm.jsonl", func(t *testing.T) {
		bare := filepath.Join(dir, "tasks", "bare", "warm.jsonl")
		text, err := os.ReadFile(bare)
		if err != nil || os.Remove(bare) != nil {
			t.Fatal(err)
		}
		defer write(t, bare, string(text))
		typed(t, "{\"text\":\"typed\"}\n{\"text\":\"w 1\"}\n")
		costs(t, 1, func() {
			r.warm(t, dir).with(exitOK, "the inputs on standard input", "2 cached (1 answered by a call, 1 already fresh)")
		})
	})
	t.Run("those of a file, or of standard input by name", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "in.jsonl")
		write(t, file, `{"text":"filed"}`)
		typed(t, `{"text":"named"}`)
		costs(t, 2, func() {
			r.warm(t, dir, "--file="+file).with(exitOK, "the inputs in "+file, "1 cached")
			r.warm(t, dir, "--file=-").with(exitOK, "the inputs on standard input", "1 cached")
		})
		typed(t, "")
		r.warm(t, dir, "--file=-").with(exitOK, "0 inputs", "without --file those of the task's warm.jsonl")
	})
	t.Run("json has a line an input, with the key under which the answer is", func(t *testing.T) {
		out := r.warm(t, dir, "--json").with(exitOK, `"event":"summary"`, `"cached":2`, `"already_fresh":2`, `"duplicates":1`)
		kept := r.keptIDs(t)
		byLine := map[any]map[string]any{}
		for _, line := range out.lines() {
			byLine[line["line"]] = line
			if kept[fmt.Sprint(line["key"])] == "" && line["status"] != warmDuplicate {
				t.Errorf("nothing is kept under the key of %v", line)
			}
		}
		one, three, four := byLine[1.0], byLine[3.0], byLine[4.0]
		if len(byLine) != 3 || one["cached"] != true || one["source"] != "cache" || one["calls"] != 0.0 || three["status"] != "succeeded" || four["status"] != warmDuplicate {
			t.Errorf("%v", byLine)
		}
	})
}

func TestInputsThatAreNotInTheCacheAreNamed(t *testing.T) {
	dir := freshFolder(t)
	canned := filepath.Join(dir, "tasks", "canned")
	write(t, filepath.Join(canned, "task.yaml"), "model: small\nretry: {attempts: 1}\nladder: [{rung: canned}]\n")
	write(t, filepath.Join(canned, "prompt.tmpl"), `{{define "user"}}{{.Input.text}}{{end}}`)
	write(t, filepath.Join(canned, "output.schema.json"), `{"type":"object"}`)
	write(t, filepath.Join(canned, "canned.yaml"), "- output: {}\n")
	r := pipelineOf(t, dir)
	r.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindBadRequest, Match: "refuse me"})

	t.Run("rejected ones with their line and pointer", func(t *testing.T) {
		typed(t, "{\"text\":\"good\"}\n\n{\"text\":5}\n{bad\n{\"text\":5}\n")
		r.warm(t, dir, "--file=-").with(exitNotAnswered, "line 3: rejected: input_invalid: /input/text: ", "line 4: rejected: not JSON", "line 5: rejected", "1 cached", "3 rejected", "3 of 4 inputs not in the cache")
	})
	t.Run("failed ones", func(t *testing.T) {
		typed(t, `{"text":"refuse me"}`)
		r.warm(t, dir, "--file=-").with(exitNotAnswered, "line 1: failed: provider_refused_request", "0 cached, 1 failed", "1 of 1 input not in the cache")
	})
	t.Run("degraded ones, though they have an output", func(t *testing.T) {
		typed(t, "{\"text\":\"refuse me\"}\n{\"text\":\"good\"}\n")
		out := r.spillway(t, "task", "warm", "canned", "--schemas="+dir, "--json").with(exitNotAnswered, `"cached":1`, `"degraded":1`)
		for _, line := range out.lines() {
			if line["line"] == 1.0 && (line["cached"] != false || line["status"] != "degraded" || line["source"] != "canned") {
				t.Errorf("%v", line)
			}
		}
		typed(t, `{"text":"refuse me"}`)
		r.spillway(t, "task", "warm", "canned", "--schemas="+dir).with(exitNotAnswered, "line 1: degraded: (canned: provider_refused_request)", "served to nobody", "every input costs a call")
	})
	t.Run("of an outage the first ones, and how many there are", func(t *testing.T) {
		var in strings.Builder
		for n := range 2 * toldOfEach {
			fmt.Fprintf(&in, "{\"text\":\"refuse me %d\"}\n", n)
		}
		typed(t, in.String())
		out := r.warm(t, dir, "--file=-").with(exitNotAnswered, "40 failed", "counted only")
		if n := strings.Count(out.err, ": failed: "); n != toldOfEach {
			t.Errorf("%d lines, not %d", n, toldOfEach)
		}
	})
	t.Run("all of them when the deadline is too long", func(t *testing.T) {
		typed(t, `{"text":"good"}`)
		r.warm(t, dir, "--file=-", "--deadline=48h").with(exitNotAnswered, "/deadline")
	})
}

// The pipeline's own task files say that nothing is kept, and it does not know that it is asked to.
func TestAnAnswerIsInTheCacheWhenItCanBeReadThere(t *testing.T) {
	dir := freshFolder(t)
	pipelines := folder(t)
	write(t, filepath.Join(pipelines, "tasks", "bare", "task.yaml"), bareTask+"cache: {serve: never}\n")
	r := pipelineOf(t, pipelines)
	const input = `{"text":"asked"}`
	key := keyFor(t, dir, "bare", input, "", "", true)

	t.Run("not when it was only answered, and not by an older one", func(t *testing.T) {
		r.keep(t, key, job.CachedAnswer{ID: "older", Task: "bare", At: ago(time.Hour)}, time.Hour)
		typed(t, input)
		r.warm(t, dir, "--file=-").with(exitNotAnswered, "line 1: succeeded: answered by simulated, but not in the cache", "0 cached, 1 answered and not kept", "the pipeline works with version")
	})
	t.Run("but when it comes there a little later", func(t *testing.T) {
		sub, err := r.conn.NC.Subscribe(broker.ResultSubject("bare", "*"), func(m *nats.Msg) {
			body, _ := json.Marshal(job.CachedAnswer{ID: broker.Token(m.Subject, 3), Task: "bare", At: ago(time.Hour)})
			time.AfterFunc(300*time.Millisecond, func() { _ = r.conn.NC.Publish(broker.CacheSubject(key), body) })
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		if err := r.conn.NC.Flush(); err != nil {
			t.Fatal(err)
		}
		typed(t, input)
		r.warm(t, dir, "--file=-").with(exitOK, "1 cached (1 answered by a call")
	})
}

func TestWarmingThatIsInterruptedGoesOnWithTheSameCommand(t *testing.T) {
	dir := freshFolder(t)
	r := pipelineOf(t, dir)
	r.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindHang, Match: "w 2"})
	c := r.start(t, "task", "warm", "bare", "--schemas="+dir)
	if err := r.provider.Await(t.Context(), func(n fakellm.Counts) bool { return n.Nonces[fakellm.Nonce("w 2")] > 0 && n.Outcomes["ok"] > 0 }); err != nil {
		t.Fatal(err)
	}
	c.says("the pipeline is simulated") // told of the first answer
	c.cancel()
	c.wait().with(exitInterrupted, "1 cached", "1 input without a result yet", "what was sent goes on", "what is fresh costs no call")
	r.provider.SetFaults()
	before := r.provider.Counts().Nonces[fakellm.Nonce("w 1")]
	r.warm(t, dir).with(exitOK, "2 inputs", "2 cached")
	if after := r.provider.Counts().Nonces[fakellm.Nonce("w 1")]; after != before {
		t.Errorf("w 1 was called for %d times more", after-before)
	}
}

func TestWarmingRefusesWhatWouldKeepNothing(t *testing.T) {
	r := serve(t)
	dir := folder(t)
	is := func(cache string) {
		write(t, filepath.Join(dir, "tasks", "bare", "task.yaml"), bareTask+"cache: "+cache+"\n")
	}
	is("{serve: never}")
	r.warm(t, dir).with(exitUsage, "cache.serve: never", "serve: fresh")
	is("{keep: 0s}")
	r.warm(t, dir).with(exitUsage, "cache.keep is 0", "keep: 168h")
	is("{serve: fallback}")
	r.warm(t, dir).with(exitUsage, "no warm.jsonl", "--file")
	r.warm(t, dir, "--file="+filepath.Join(dir, "nowhere")).with(exitUsage, "no such file")
	r.warm(t, dir, "--timeout=0s").with(exitUsage, "--timeout")
	r.warm(t, dir, "--deadline=-1s").with(exitUsage, "--deadline")
	r.warm(t, dir, "--in-flight=0").with(exitUsage, "--in-flight")
	r.spillway(t, "task", "warm", "none").with(exitNotFound, "there is no task")
	if n := r.messages(t, broker.BatchStream); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestWarmingSaysThatNobodyWorks(t *testing.T) {
	r := serve(t)
	typed(t, `{"text":"?"}`)
	r.warm(t, freshFolder(t), "--file=-", "--timeout=3500ms").with(exitNotAnswered, "no ingest takes requests", "line 1: no_result: no result within 3.5s", "spillway result", "1 without a result")
}

// idlePipe is standard input that nobody writes to nor closes, until it is given back.
func idlePipe(t *testing.T) (back func()) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = in
	return func() {
		os.Stdin = before
		in.Close()
		out.Close()
	}
}
