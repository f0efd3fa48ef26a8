package main

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

func TestBroker(t *testing.T) {
	url := brokertest.Server(t).URL()
	out := spillway(t, "broker", "check", "--nats="+url).with(exitFailed, "missing: stream LLM_REQUESTS", "missing: bucket llm_cancels", "spillway broker init")
	if got := spillway(t, "broker", "check", "--nats="+url, "--json").with(exitFailed).lines(); len(got) == 0 || got[0]["missing"] == nil {
		t.Errorf("%v\n%s", got, out.out)
	}
	spillway(t, "broker", "init", "--nats="+url, "--replicas=3").with(exitFailed, "needs a cluster")
	spillway(t, "broker", "init", "--nats="+url, "--result-bytes=100MiB", "--dead-age=48h").
		with(exitOK, "LLM_RESULTS", "100MiB", "LLM_DEAD", "2d", "fallback-replay", "llm_cancels")
	got := map[any]map[string]any{}
	for _, line := range spillway(t, "broker", "init", "--nats="+url, "--json").with(exitOK).lines() {
		got[line["stream"]] = line
	}
	if got["LLM_RESULTS"]["max_bytes"] != float64(broker.DefaultSizing().ResultBytes) {
		t.Errorf("%v", got["LLM_RESULTS"])
	}
	spillway(t, "broker", "check", "--nats="+url).with(exitOK, "nobody pulls inference-interactive: no inference is running", "nobody pulls ingest: ").without("missing")
	spillway(t, "broker", "init", "--nats="+url, "--dead-bytes=lots").with(exitUsage, "a size is")
}

func TestBrokerCheckShowsWhatWaitsAndWhoPulls(t *testing.T) {
	t.Run("nobody works", func(t *testing.T) {
		r := serve(t)
		r.spillway(t, "submit", "analyze", `{"text":"?"}`, "--no-wait").with(exitOK)
		r.spillway(t, "broker", "check").with(exitOK, "nobody pulls ingest: no ingest is running", "waiting there: 1 message")
	})
	t.Run("all work", func(t *testing.T) {
		r := pipeline(t)
		r.spillway(t, "broker", "check").with(exitOK, "LLM_INFERENCE").without("nobody pulls")
		for _, line := range r.spillway(t, "broker", "check", "--json").with(exitOK).lines() {
			if line["pulled"] != true {
				t.Errorf("%v", line)
			}
		}
	})
}

func TestAServerWithoutJetStreamIsNamed(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	for _, args := range [][]string{{"broker", "init"}, {"broker", "check"}, {"submit", "analyze", "{}"}, {"dead", "ls"}} {
		spillway(t, append(args, "--nats="+s.ClientURL())...).with(exitFailed, "has no JetStream")
	}
}

// The flags' defaults are written in tags, which cannot name a constant.
func TestTheDefaultSizesAreTheBrokersOwn(t *testing.T) {
	c := newCLI()
	parser, err := newParser(c, &buffer{}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(parser, []string{"broker", "init"}); err != nil {
		t.Fatal(err)
	}
	if got := c.Broker.Init.sizing(); got != broker.DefaultSizing() {
		t.Errorf("%+v, not %+v", got, broker.DefaultSizing())
	}
}

func TestByteSizesAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]byteSize{"1": 1, "1KiB": 1 << 10, "1.5MiB": 3 << 19, "2GiB": 2 << 30, "1TiB": 1 << 40} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want || got.String() != text {
			t.Errorf("%s is read as %d and written as %s: %v", text, got, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "1GB", "NaN", "1e30TiB", "GiB"} {
		var got byteSize
		if got.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}
