package production_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/conf"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/credentials"
	"spillway/pkg/fakellm"
)

func TestThreeReplicasOnThreeNodes(t *testing.T) {
	c := newCluster(t)
	t.Run("any one may be killed under load, and nothing is lost or answered twice", c.killsEach)
	t.Run("a rotated key needs no restart, and the former one is worth nothing", c.rotates)
	t.Run("the client may ask and read, and nothing else", c.keepsTheClientOut)
}

func (c *cluster) killsEach(t *testing.T) {
	// Long enough for calls to be under way at each kill.
	c.provider.SetLatency(fakellm.Latency{FirstToken: 500 * time.Millisecond})
	a := newApplication(t, c, "killed")
	before := c.lastResult(t)
	stop := a.askAllTheTime(15)
	a.goesOn("all are there", 10)
	for _, victim := range slices.Concat(c.replicas, c.nodes) {
		victim.end(syscall.SIGKILL)
		a.goesOn("without "+victim.name, 15)
		victim.start()
		victim.ready(victim)
		a.goesOn("with "+victim.name+" again", 5)
	}
	stop()
	a.audit(c, before)
}

// lastResult is the sequence of the last result that the stream took.
func (c *cluster) lastResult(t *testing.T) uint64 {
	t.Helper()
	nc := c.connect("service")
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := js.Stream(ctx, "LLM_RESULTS")
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

func (c *cluster) rotates(t *testing.T) {
	former, err := nats.NkeyOptionFromSeed(c.file("service", "service.nk"))
	if err != nil {
		t.Fatal(err)
	}
	a := newApplication(t, c, "rotated")
	before := c.lastResult(t)
	stop := a.askAllTheTime(15)
	a.goesOn("before the rotation", 10)
	c.spillway("broker", "credentials", c.file(), "--rotate", "service")
	for _, r := range c.replicas {
		r.log.reset() // what it said before was of something else
	}
	for _, node := range c.nodes {
		if err := node.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range c.replicas {
		r.says("connected to NATS again")
	}
	a.goesOn("after the rotation", 15)
	stop()
	a.audit(c, before)
	// The public key of the former seed; its seed is gone.
	refused := func(nonce []byte) ([]byte, error) { return nonce, nil }
	var o nats.Options
	if err := former(&o); err != nil {
		t.Fatal(err)
	}
	_, err = nats.Connect(c.urls, nats.Nkey(o.Nkey, refused), nats.RootCAs(c.file("service", "ca.pem")))
	if err == nil || !strings.Contains(err.Error(), "Authorization Violation") {
		t.Errorf("the former key: %v", err)
	}
}

func (c *cluster) keepsTheClientOut(t *testing.T) {
	const nobodys = "open.to.nobody"
	var mu sync.Mutex
	var refusals []string
	nc := c.connect("client", nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		mu.Lock()
		defer mu.Unlock()
		refusals = append(refusals, err.Error())
	}))
	isRefused := func(subject string) bool {
		mu.Lock()
		defer mu.Unlock()
		// Requests to the API have another name on their way to the pipeline's account.
		elsewhere := strings.Replace(subject, "$JS.API.", "pipeline.", 1)
		return slices.ContainsFunc(refusals, func(text string) bool {
			return strings.Contains(text, `"`+subject+`"`) || strings.Contains(text, `"`+elsewhere+`"`)
		})
	}
	published := map[string]bool{ // may it?
		"llm.request.toy": true, "llm.batch.toy": true, "llm.submit.toy": true, "llm.cancel.x": true,
		"$JS.API.STREAM.MSG.GET.LLM_RESULTS": true, "$JS.API.CONSUMER.MSG.NEXT.LLM_RESULTS.client": true,
		"llm.write.toy.x": false, "llm.result.toy.x": false, "llm.stage.inference.interactive": false, "llm.stage.result-writer.interactive": false,
		"llm.admitted.x": false, "llm.replay.x": false, "llm.dead.inference.toy.x": false, "llm.cache.x": false, "llm.progress.toy.x": false, "llm.delta.toy.x": false,
		"$KV.llm_keys.x": false, "$KV.llm_sessions.x": false, "$KV.llm_cancels.x.1": false, "$KV.llm_breakers.x": false,
		// What models were shown, and what waits, has failed, or is remembered.
		"$JS.API.STREAM.MSG.GET.LLM_CONTEXT": false, "$JS.API.STREAM.MSG.GET.LLM_INFERENCE": false, "$JS.API.STREAM.MSG.GET.LLM_REQUESTS": false,
		"$JS.API.STREAM.MSG.GET.LLM_DEAD": false, "$JS.API.STREAM.MSG.GET.LLM_CACHE": false, "$JS.API.STREAM.MSG.GET.KV_llm_keys": false, "$JS.API.STREAM.MSG.GET.KV_llm_sessions": false,
		"$JS.API.CONSUMER.CREATE.LLM_RESULTS.mine": false, "$JS.API.CONSUMER.CREATE.LLM_INFERENCE.mine": false, "$JS.API.CONSUMER.CREATE.LLM_REQUESTS.mine": false,
		"$JS.API.CONSUMER.DELETE.LLM_RESULTS.client": false, "$JS.API.CONSUMER.MSG.NEXT.LLM_INFERENCE.inference-interactive": false,
		"$JS.API.STREAM.CREATE.MINE": false, "$JS.API.STREAM.DELETE.LLM_RESULTS": false, "$JS.API.STREAM.PURGE.LLM_RESULTS": false, "$JS.API.STREAM.UPDATE.LLM_RESULTS": false,
		"$SYS.REQ.SERVER.PING": false,
	}
	subscribed := map[string]bool{
		"llm.result.>": true, "llm.progress.>": true, "llm.delta.*.*": true,
		"llm.>": false, ">": false, "llm.stage.>": false, "llm.request.*": false, "llm.context.>": false, "llm.dead.>": false, "$KV.>": false, "$JS.API.>": false, "$SYS.>": false,
	}
	for subject := range published {
		if err := nc.PublishRequest(subject, nc.NewInbox(), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	for subject := range subscribed {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Publish(nobodys, nil); err != nil { // refusals come in order: this is the last one
		t.Fatal(err)
	}
	brokertest.Eventually(t, 20*time.Second, "the last try is refused", func() bool { return isRefused(nobodys) })
	for _, tries := range []map[string]bool{published, subscribed} {
		for _, subject := range slices.Sorted(maps.Keys(tries)) {
			if isRefused(subject) == tries[subject] {
				t.Errorf("%s: refused %t", subject, isRefused(subject))
			}
		}
	}
}

// What the two users may do, and what passes between the accounts, is decided in one place.
func TestTheUsersAreThoseOfPermissionsConf(t *testing.T) {
	text, err := os.ReadFile("../nats/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range regexp.MustCompile(`\$NATS_[A-Z_]+_PASSWORD`).FindAllString(string(text), -1) {
		t.Setenv(variable[1:], "secret")
	}
	dir := t.TempDir()
	if _, err := credentials.Create(filepath.Join(dir, "credentials"), []string{"nats-1"}); err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, own, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NATS_NODE", "nats-1")
	production, source := parsed(t, path), parsed(t, "../nats/permissions.conf")
	for _, part := range [][]string{{"PIPELINE", "exports"}, {"APPLICATIONS", "mappings"}, {"APPLICATIONS", "imports"}} {
		got, want := production[part[0]].(map[string]any)[part[1]], source[part[0]].(map[string]any)[part[1]]
		if want == nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v of %s:\n%v, not\n%v", part[1], part[0], got, want)
		}
	}
	for account, user := range map[string]string{"PIPELINE": "up", "APPLICATIONS": "client"} {
		var want any
		for _, u := range source[account].(map[string]any)["users"].([]any) {
			if u := u.(map[string]any); u["user"] == user {
				want = u["permissions"]
			}
		}
		users := production[account].(map[string]any)["users"].([]any)
		for _, u := range users {
			if got := u.(map[string]any)["permissions"]; want == nil || !reflect.DeepEqual(got, want) {
				t.Errorf("the user of %s:\n%v, %s:\n%v", account, got, user, want)
			}
		}
		if len(users) != 2 {
			t.Errorf("%s has %d users", account, len(users))
		}
	}
}

// parsed are the accounts of a configuration.
func parsed(t *testing.T, path string) map[string]any {
	t.Helper()
	all, err := conf.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return all["accounts"].(map[string]any)
}
