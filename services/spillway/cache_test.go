package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/services"
)

// keyNo is a key of a test.
func keyNo(n int) string { return fmt.Sprintf("%032x", n) }

// keep lays a cached answer by hand.
func (r *rig) keep(t *testing.T, key string, a job.CachedAnswer, ttl time.Duration) uint64 {
	t.Helper()
	a.V, a.Output = job.Version, json.RawMessage(`{"says":"kept words"}`)
	body, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := r.conn.Publish(t.Context(), &nats.Msg{Subject: broker.CacheSubject(key), Data: body, Header: broker.ExpiresAfter(ttl)})
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// keyFor is the key of the answer to an input, of a real pipeline or a simulated one.
func keyFor(t *testing.T, dir, name, input, tenant, session string, simulated bool) string {
	t.Helper()
	set, err := loadTasks(dir, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if simulated {
		set = set.Simulated()
	}
	value, err := schema.Decode([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	key, _ := set.Tasks[name].StandIns(tenant, session, value)
	return key
}

func keys(list []map[string]any) string {
	var names []string
	for _, l := range list {
		names = append(names, strings.TrimLeft(fmt.Sprint(l["key"]), "0"))
	}
	return strings.Join(names, " ")
}

func ago(d time.Duration) time.Time { return time.Now().Add(-d).UTC() }

func TestCachedAnswersAreListedAndPicked(t *testing.T) {
	r := serve(t)
	r.spillway(t, "cache", "ls").with(exitOK, "no cached answers")
	r.keep(t, keyNo(1), job.CachedAnswer{ID: "j-1", Task: "analyze", TaskVersion: "aaaa1111", Model: "small", At: ago(3 * time.Hour)}, 5*time.Hour)
	r.keep(t, keyNo(2), job.CachedAnswer{ID: "j-2", Task: "analyze", Tenant: "acme", Model: "small", At: ago(30 * time.Minute)}, 24*time.Hour)
	r.keep(t, keyNo(3), job.CachedAnswer{ID: "j-3", Task: "onboarding", Tenant: "beta", Model: "large\x1b[31m", At: ago(time.Minute)}, 24*time.Hour)
	r.put(t, broker.CacheSubject(keyNo(4)), "no answer")

	r.spillway(t, "cache", "ls").with(exitOK, "AGE", "EXPIRES IN", "3h", "5h", "analyze", "aaaa1111", "acme", keyNo(2), `large\u001b[31m`, "never", "(not a cached answer)").without("kept words")
	for want, args := range map[string][]string{
		"1 2 3 4": {},
		"1 2":     {"--task=analyze"},
		"2 3":     {"--tenant=acme", "--tenant=beta"},
		"1":       {"--task=analyze,onboarding", "--tenant=-"},
		"1 2 ":    {"--older-than=10m"},
		"3 4":     {"--limit=2"},
		"":        {"--tenant=nobody"},
	} {
		if got := keys(r.spillway(t, append([]string{"cache", "ls", "--json"}, args...)...).with(exitOK).lines()); got != strings.TrimSpace(want) {
			t.Errorf("cache ls %v: %q, not %q", args, got, want)
		}
	}
	all := r.spillway(t, "cache", "ls", "--limit=0", "--json").with(exitOK).lines()
	if keys(all) != "1 2 3 4" || all[0]["task_version"] != "aaaa1111" || all[0]["id"] != "j-1" || all[3]["expires_at"] != nil {
		t.Errorf("%v", all)
	}
	if expires, err := time.Parse(time.RFC3339, fmt.Sprint(all[0]["expires_at"])); err != nil || time.Until(expires) < 299*time.Minute || time.Until(expires) > 5*time.Hour {
		t.Errorf("expires at %v, not 5 hours after it was stored", all[0]["expires_at"])
	}
	r.spillway(t, "cache", "ls", "--limit=1").with(exitOK, "the newest 1 of 4")
	r.spillway(t, "cache", "ls", "--by=task").with(exitOK, "TASK", "analyze     2", "bytes")
	if got := r.spillway(t, "cache", "ls", "--by=tenant", "--json").with(exitOK).lines(); len(got) != 3 || got[0]["key"] != "" || got[0]["count"] != 2.0 {
		t.Errorf("%v", got)
	}
	r.spillway(t, "cache", "ls", "--limit=-1").with(exitUsage)
	r.spillway(t, "cache", "ls", "--task=a.b").with(exitUsage, "not the name of a task")
	r.spillway(t, "cache", "ls", "--older-than=-1h").with(exitUsage)
}

func TestACachedAnswerIsShownByItsKey(t *testing.T) {
	r := serve(t)
	dir := folder(t)
	r.keep(t, keyNo(1), job.CachedAnswer{ID: "j-1", Task: "bare", TaskVersion: "aaaa1111", Tenant: "acme", Model: "small", AnsweredBy: "small-1", At: ago(time.Hour)}, 5*time.Hour)
	r.spillway(t, "cache", "show", keyNo(1), "--schemas="+dir).
		with(exitOK, "bare", "aaaa1111; the files here are", "another version of the task answered", "acme", "60m ago", "small (small-1)", "j-1", "in 5h", "not served", "the ladder has no rung cache", `"says": "kept words"`)
	got := r.spillway(t, "cache", "show", keyNo(1), "--schemas="+dir, "--json").with(exitOK).one()
	if got["served"] != servedNot || got["entry"].(map[string]any)["output"] == nil || got["key"] != keyNo(1) || got["expires_at"] == nil {
		t.Errorf("%v", got)
	}
	r.keep(t, keyNo(2), job.CachedAnswer{ID: "j-2", Task: "gone", At: ago(time.Hour)}, time.Hour)
	r.spillway(t, "cache", "show", keyNo(2)).with(exitOK, `cannot be told: there is no task "gone"`)
	r.put(t, broker.CacheSubject(keyNo(3)), "no answer")
	r.spillway(t, "cache", "show", keyNo(3)).with(exitOK, "not a cached answer", "no answer")
	r.spillway(t, "cache", "show", keyNo(9)).with(exitNotFound, "nothing is kept under "+keyNo(9), "spillway cache ls")
	for says, args := range map[string][]string{
		"name a key, or an input":          {},
		"is not a key":                     {"llm.cache.*"},
		"a key excludes --task and":        {keyNo(1), "--task=bare"},
		"--input is not JSON":              {"--task=analyze", "--input=hello"},
		"not the name of a task":           {"--task=*", "--input={}"},
		"name a key, or an input: --task ": {"--task=analyze"},
	} {
		r.spillway(t, append([]string{"cache", "show"}, args...)...).with(exitUsage, says)
	}
}

func TestACachedAnswerIsShownForAnInput(t *testing.T) {
	r := serve(t)
	dir := folder(t)
	write(t, dir+"/tasks/bare/task.yaml", bareTask+"cache: {serve: fresh, fresh_for: 2h}\n")
	show := func(args ...string) said {
		return r.spillway(t, append([]string{"cache", "show", "--schemas=" + dir, "--task=bare"}, args...)...)
	}
	const input = `{"text":"b"}`
	r.keep(t, keyFor(t, dir, "bare", input, "acme", "", false), job.CachedAnswer{ID: "of-acme", Task: "bare", Tenant: "acme", At: ago(time.Hour)}, 5*time.Hour)
	r.keep(t, keyFor(t, dir, "bare", input, "", "s-1", true), job.CachedAnswer{ID: "simulated", Task: "bare", At: ago(3 * time.Hour)}, 5*time.Hour)

	show("--input", ` { "text" : "b" } `, "--tenant=acme").with(exitOK, "of-acme", "in place of a call until", "kept words").without("simulated")
	show("--input", input, "--tenant=acme", "--simulate").with(exitOK, "of-acme", "only a real pipeline finds it")
	show("--input", input, "--session=s-1", "--simulate").with(exitOK, "not served: it is 3h old, cache.fresh_for is 2h").without("only a")
	show("--input", input, "--session=s-1").with(exitOK, "only a simulated pipeline finds it")
	show("--input", input).with(exitOK, "only a simulated pipeline finds it") // the task remembers nothing: a session makes no difference
	const other = `{"text":"c"}`
	show("--input", other).with(exitNotFound, "nothing is kept for this input without a tenant", keyFor(t, dir, "bare", other, "", "", false), keyFor(t, dir, "bare", other, "", "", true))
	show("--input", input, "--tenant=beta").with(exitNotFound, "of the tenant beta")
	if got := show("--input", input, "--tenant=acme", "--json").with(exitOK).one(); got["served"] != servedFresh || got["served_until"] == nil || got["stands_in_until"] != nil {
		t.Errorf("%v", got)
	}
	r.spillway(t, "cache", "show", "--task=none", "--input={}").with(exitNotFound, "there is no task")
	r.spillway(t, "cache", "show", "--task=analyze", `--input={"txt":1}`).with(exitNotFound, "a request with this input is rejected: /txt")
}

func TestWhatAKeptAnswerIsGoodFor(t *testing.T) {
	now := time.Now()
	rung := []task.Rung{{Kind: task.RungCanned}, {Kind: task.RungCache, MaxAge: time.Hour}}
	fresh := task.Cache{Serve: task.ServeFresh, FreshFor: 10 * time.Minute}
	fallback := task.Cache{Serve: task.ServeFallback, FreshFor: 10 * time.Minute}
	for name, c := range map[string]struct {
		cache          task.Cache
		ladder         []task.Rung
		age, left      time.Duration // left 0: it does not expire
		kind           string
		fresh, standIn time.Duration // from now; 0: not so
		says           string
	}{
		"young":                   {fresh, rung, time.Minute, 0, servedFresh, 9 * time.Minute, 59 * time.Minute, "in place of a call until"},
		"young, but soon expired": {fresh, rung, time.Minute, 2 * time.Minute, servedFresh, 2 * time.Minute, 2 * time.Minute, "in place of a call until"},
		"older":                   {fresh, rung, 30 * time.Minute, 0, servedStandIn, 0, 30 * time.Minute, "it is 30m old, cache.fresh_for is 10m"},
		"too old":                 {fresh, rung, 2 * time.Hour, 0, servedNot, 0, 0, "the ladder takes none older than 1h"},
		"for a failed call alone": {fallback, rung, time.Minute, 0, servedStandIn, 0, 59 * time.Minute, "cache.serve: fallback"},
		"fallback without a rung": {fallback, nil, time.Minute, 0, servedNot, 0, 0, "no rung cache"},
		"never":                   {task.Cache{Serve: task.ServeNever, FreshFor: time.Hour}, rung, time.Minute, 0, servedNot, 0, 0, "cache.serve: never"},
	} {
		t.Run(name, func(t *testing.T) {
			at, expires := now.Add(-c.age), time.Time{}
			if c.left > 0 {
				expires = now.Add(c.left)
			}
			s := servingOf(&task.Task{Cache: c.cache, Ladder: c.ladder}, at, expires, now)
			from := func(end time.Time) time.Duration {
				if end.IsZero() {
					return 0
				}
				return end.Sub(now)
			}
			if s.kind != c.kind || from(s.fresh) != c.fresh || from(s.standIn) != c.standIn || !strings.Contains(s.text(now), c.says) {
				t.Errorf("%+v: %s", s, s.text(now))
			}
		})
	}
}

func TestCachedAnswersAreRemoved(t *testing.T) {
	r := serve(t)
	for n := range 5 {
		tenant := ""
		if n == 3 {
			tenant = "acme"
		}
		r.keep(t, keyNo(n), job.CachedAnswer{ID: "j", Task: "analyze", Tenant: tenant, At: ago(time.Duration(n) * time.Hour)}, 24*time.Hour)
	}
	r.spillway(t, "cache", "rm").with(exitUsage, "--all")
	r.spillway(t, "cache", "rm", "--task=analyze").with(exitUsage, "--all")
	r.spillway(t, "cache", "rm", keyNo(1), "--task=analyze").with(exitUsage, "exclude each other")
	r.spillway(t, "cache", "rm", "*").with(exitUsage, "not a key")
	r.spillway(t, "cache", "rm", "--all").with(exitUsage, "5 cached answers", "--yes")
	r.spillway(t, "cache", "rm", "--tenant=acme", "--dry-run").with(exitOK, keyNo(3), "1 cached answer would be removed").without(keyNo(1))
	if got := r.spillway(t, "cache", "rm", "--dry-run", "--json").with(exitOK).lines(); len(got) != 5 || got[0]["event"] != "would_remove" {
		t.Errorf("%v", got)
	}
	if n := r.messages(t, broker.CacheStream); n != 5 {
		t.Fatalf("%d of 5 answers are left before the first was removed", n)
	}
	if got := r.spillway(t, "cache", "rm", keyNo(1), "--json").with(exitOK).one(); got["event"] != "removed" || got["key"] != keyNo(1) {
		t.Errorf("%v", got)
	}
	r.spillway(t, "cache", "rm", keyNo(1), keyNo(2), keyNo(2)).with(exitNotFound, "nothing is kept under "+keyNo(1), "1 cached answer removed")
	r.spillway(t, "cache", "rm", "--all", "--older-than=4h", "--task=analyze", "--yes").with(exitOK, "1 cached answer removed")
	if got := r.spillway(t, "cache", "ls", "--json").with(exitOK).lines(); len(got) != 2 || got[0]["key"] != keyNo(0) || got[1]["key"] != keyNo(3) {
		t.Errorf("left: %v", got)
	}
}

func TestAnAnswerThatIsWrittenWhileOthersAreRemovedStays(t *testing.T) {
	r := serve(t)
	r.keep(t, keyNo(1), job.CachedAnswer{ID: "old", Task: "analyze", At: ago(time.Hour)}, time.Hour)
	c := cacheRmCmd{All: true}
	list, _, err := c.pick(t.Context(), r.conn)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v: %v", list, err)
	}
	r.keep(t, keyNo(1), job.CachedAnswer{ID: "new", Task: "analyze", At: time.Now()}, time.Hour)
	var out, stderr buffer
	if err := c.remove(t.Context(), &globals{cli: newCLI(), stdout: &out, stderr: &stderr}, r.conn, list); err != nil {
		t.Fatal(err)
	}
	if e, _, err := lastEntry(t.Context(), r.conn, keyNo(1)); err != nil || e.ID != "new" {
		t.Errorf("%+v: %v", e, err)
	}
}

// operated is a pipeline on a server with the users of deploy/nats, and a rig whose commands run as the operator.
func operated(t *testing.T, dir string) *rig {
	t.Helper()
	const file = "../../deploy/nats/permissions.conf"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\$(NATS_[A-Z_]+_PASSWORD)`).FindAllStringSubmatch(string(text), -1) {
		t.Setenv(m[1], "secret")
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.JetStream, opts.StoreDir, opts.NoSigs, opts.NoLog = "127.0.0.1", -1, true, t.TempDir(), true, true
	opts.JetStreamMaxStore = 1 << 44 // no share of the disk that happens to be free
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	as := func(user string) string { return "nats://" + user + ":secret@" + s.Addr().String() }
	up := &rig{url: as("up"), conn: brokertest.Connect(t, as("up"))}
	brokertest.Ensure(t, up.conn, stage.Topology(services.Pipeline(), broker.DefaultSizing()))
	up.runPipeline(t, dir)
	return &rig{url: as("operator"), conn: brokertest.Connect(t, as("operator")), provider: up.provider}
}

func TestAnOperatorFillsAndEmptiesTheCacheWithTheRightsOfOne(t *testing.T) {
	dir := freshFolder(t)
	r := operated(t, dir)
	r.spillway(t, "task", "warm", "bare", "--schemas="+dir).with(exitOK, "2 cached")
	list := r.spillway(t, "cache", "ls", "--json").with(exitOK).lines()
	if len(list) != 2 {
		t.Fatalf("%v", list)
	}
	key := fmt.Sprint(list[0]["key"])
	r.spillway(t, "cache", "show", key, "--schemas="+dir).with(exitOK, "in place of a call")
	r.spillway(t, "cache", "rm", key).with(exitOK, "1 cached answer removed")
	r.spillway(t, "cache", "show", key).with(exitNotFound)
	r.spillway(t, "cache", "ls", "--by=task").with(exitOK, "bare  1")
}
