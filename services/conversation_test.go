package services_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/session"
)

// talking has a task with a memory, whose summaries another task makes on the second provider.
func talking(first, second string) fstest.MapFS {
	fs := fstest.MapFS{"models.yaml": {Data: []byte(modelsYAML(defaultLimits, small("small", "one", first), large("large", "two", second)))}}
	addTask(fs, "talk", taskYAML+ladderNone+"context: {session: optional, recent_turns: 2, max_input_tokens: 2000, summary: {task: fold, max_tokens: 100}}\n")
	fs["tasks/fold/task.yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(taskYAML, "model: small", "model: large", 1) + "output: {format: text}\n" + ladderNone)}
	fs["tasks/fold/prompt.tmpl"] = &fstest.MapFile{Data: []byte(`{{define "system"}}Sum up in at most {{.Input.max_tokens}} tokens.{{end}}{{define "user"}}{{.Input.summary}}{{range .Input.turns}}
{{.role}}: {{.content}}{{end}}{{end}}`)}
	return fs
}

// tell publishes what a session says next.
func (r *rig) tell(session, id, text string) {
	r.t.Helper()
	r.publish(job.Interactive, "talk", id, map[string]any{"session": session, "input": map[string]string{"text": text}})
}

// promptsOf are the messages of the calls of a model whose last message is the text.
func promptsOf(t *testing.T, s *fakellm.Server, model, text string) [][]job.Message {
	t.Helper()
	var all [][]job.Message
	for _, request := range s.Requests(model) {
		var body struct{ Messages []job.Message }
		if err := request.Decode(&body); err != nil {
			t.Fatal(err)
		}
		if n := len(body.Messages); n > 0 && body.Messages[n-1].Content == text {
			all = append(all, body.Messages)
		}
	}
	return all
}

func TestOfTwoAtOnceInASessionTheSecondSeesTheAnswerToTheFirst(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, talking)
	r.first.SetLatency(fakellm.Latency{FirstToken: 300 * time.Millisecond})
	r.run()
	for n := range 4 {
		r.tell("one", fmt.Sprint("at-once-", n), fmt.Sprint("question ", n))
	}
	var answers []string
	for n := range 4 {
		id := fmt.Sprint("at-once-", n)
		result := r.result(id, 1)
		if result.Status != job.Succeeded {
			t.Fatalf("%+v", result.Error)
		}
		answers = append(answers, string(result.Output))
		waits := 0
		for _, e := range result.History {
			if e.Kind == job.KindHop && e.Stage == broker.ContextBuilder && e.Fate == "retry" {
				waits++
			}
		}
		if n > 0 && waits != 1 {
			t.Errorf("%s has %d events of its wait: %+v", id, waits, result.History)
		}
	}
	for n := range 4 {
		prompts := promptsOf(t, r.first, "small-1", fmt.Sprint("question ", n))
		if len(prompts) != 1 {
			t.Fatalf("%d calls for question %d", len(prompts), n)
		}
		for before := range n {
			at := slices.Index(prompts[0], job.Message{Role: "user", Content: fmt.Sprint("question ", before)})
			if at < 0 || !sameJSON([]byte(prompts[0][at+1].Content), []byte(answers[before])) {
				t.Errorf("question %d does not see the answer to %d: %+v", n, before, prompts[0])
			}
		}
	}
	told := false
	r.heard.mu.Lock()
	defer r.heard.mu.Unlock()
	for _, p := range r.heard.progress["at-once-1"] {
		told = told || p.Message == "waits for at-once-0 of its session"
	}
	if !told {
		t.Errorf("nobody says why it waits: %+v", r.heard.progress["at-once-1"])
	}
}

func TestWhoAsksOnSeesWhatHeJustReceivedThoughContextBuilderDies(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, talking)
	r.runAllBut(broker.ContextBuilder)
	stop := r.run(broker.ContextBuilder)
	last := ""
	for n := range 40 {
		if n%8 == 7 {
			stop()
			stop = r.run(broker.ContextBuilder)
		}
		id, text := fmt.Sprint("turn-", n), fmt.Sprint("question ", n)
		r.tell("one", id, text)
		result := r.result(id, 1)
		if result.Status != job.Succeeded {
			t.Fatalf("%+v", result.Error)
		}
		prompts := promptsOf(t, r.first, "small-1", text)
		if len(prompts) == 0 {
			t.Fatalf("no call for %s", text)
		}
		if prompt := prompts[0]; n > 0 && (prompt[len(prompt)-2].Role != "assistant" || !sameJSON([]byte(prompt[len(prompt)-2].Content), []byte(last))) {
			t.Fatalf("question %d sees %+v, not %s", n, prompt, last)
		}
		last = string(result.Output)
	}
}

func TestOldTurnsAreSummedUpByTheSummarysTaskElseByTheirBeginnings(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(*fakellm.Server)
		by    string
	}{
		{"by a model", func(s *fakellm.Server) { s.SetAnswer("large-1", "In short: they ask.") }, session.ByModel},
		{"its provider is down", func(s *fakellm.Server) { s.SetFaults(fakellm.Fault{Kind: fakellm.KindServerError}) }, session.ByExtract},
		{"its provider hangs", func(s *fakellm.Server) { s.SetFaults(fakellm.Fault{Kind: fakellm.KindHang}) }, session.ByExtract},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := setupWith(t, brokertest.Server(t).URL(), 1, talking)
			row.spoil(r.second)
			r.run()
			store := session.NewStore(r.conn)
			n := 0
			next := func() []job.Message {
				id, text := fmt.Sprint("turn-", n), fmt.Sprint("question ", n)
				n++
				r.tell("one", id, text)
				if result := r.result(id, 1); result.Status != job.Succeeded {
					t.Fatalf("%+v", result.Error)
				}
				return promptsOf(t, r.first, "small-1", text)[0]
			}
			var summary *session.Summary
			// The summary's job ends by itself; each of these ends without it.
			brokertest.Eventually(t, 60*time.Second, "the summary is there", func() bool {
				next()
				s, _, err := store.Load(t.Context(), "", "talk", "one")
				if err != nil {
					t.Fatal(err)
				}
				summary = s.Summary
				return summary != nil
			})
			if summary.By != row.by {
				t.Errorf("%+v", summary)
			}
			prompt := next()
			if !strings.HasPrefix(prompt[1].Content, "Summary of the conversation so far:\n") || prompt[1].Role != "user" {
				t.Errorf("%+v", prompt)
			}
			if row.by == session.ByModel && !strings.HasSuffix(prompt[1].Content, "In short: they ask.") || row.by == session.ByExtract && !strings.Contains(prompt[1].Content, "question 0") {
				t.Errorf("%q", prompt[1].Content)
			}
		})
	}
}

func TestWhoWaitsInASessionEndsByItsDeadlineAndHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, talking)
	r.first.Script("small-1", fakellm.Fault{Kind: fakellm.KindDrip})
	r.first.SetLatency(fakellm.Latency{FirstToken: 900 * time.Millisecond})
	r.run()
	publish := func(id, deadline string) {
		r.publish(job.Interactive, "talk", id, map[string]any{"session": "one", "deadline": deadline, "input": map[string]string{"text": id}})
	}
	publish("slow", "20s")
	publish("short", "1100ms")
	publish("patient", "20s")
	short := r.result("short", 1)
	if short.Status != job.Failed || short.Error.Code != fate.Deadline || short.Usage.Calls != 0 {
		t.Errorf("%+v, %+v", short, short.Error)
	}
	if result := r.result("patient", 1); result.Status != job.Succeeded {
		t.Fatalf("%+v", result.Error)
	}
	prompt := promptsOf(t, r.first, "small-1", "patient")[0]
	if slices.ContainsFunc(prompt, func(m job.Message) bool { return m.Content == "short" }) {
		t.Errorf("%+v", prompt)
	}
}
