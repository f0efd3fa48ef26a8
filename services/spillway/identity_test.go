package main

import (
	"io"
	"reflect"
	"slices"
	"testing"

	"github.com/alecthomas/kong"
)

func TestEveryCommandThatConnectsSaysAsWhom(t *testing.T) {
	var all []string
	for field := range reflect.TypeFor[identityFlags]().Fields() {
		all = append(all, field.Tag.Get("name"))
	}
	parser, err := newParser(newCLI(), io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	connect := 0
	for _, leaf := range parser.Model.Leaves(false) {
		has := func(name string) bool {
			return slices.ContainsFunc(leaf.Flags, func(f *kong.Flag) bool { return f.Name == name })
		}
		if !has("nats") {
			continue
		}
		connect++
		for _, name := range all {
			if !has(name) {
				t.Errorf("%s has --nats and no --%s", leaf.Path(), name)
			}
		}
	}
	if connect < 30 {
		t.Errorf("only %d commands have --nats", connect)
	}
}

func TestNobodyConnectsToTheEmbeddedServerAsSomebody(t *testing.T) {
	for _, command := range [][]string{{"up"}, {"bench"}, {"drill", "incident"}} {
		spillway(t, append(command, "--nats-nkey", "service.nk")...).with(exitUsage, "--nats-nkey is for a shared NATS server: say --nats URL")
	}
	// In the environment it is for the other commands of a session.
	t.Setenv("SPILLWAY_NATS_NKEY", "/none/service.nk")
	t.Setenv("SPILLWAY_NATS_CA", "/none/ca.pem")
	o := open(t, "--http=127.0.0.1:0")
	spillway(t, "result", "x", "--nats", o.NATS).with(exitFailed, "read --nats-nkey", "/none/service.nk", "read --nats-ca")
}

func TestAnApplicationsConsumerIsMadeOnceAndLeftAsItIs(t *testing.T) {
	r := serve(t)
	for range 2 {
		r.spillway(t, "broker", "init", "--results-consumer", "client").with(exitOK, "LLM_RESULTS")
	}
	consumer, err := r.conn.JS.Consumer(t.Context(), "LLM_RESULTS", "client")
	if err != nil {
		t.Fatal(err)
	}
	if c := consumer.CachedInfo().Config; c.FilterSubject != "llm.result.>" || c.Durable != "client" {
		t.Errorf("%+v", c)
	}
}
