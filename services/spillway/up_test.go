package main

import "testing"

func TestFlagsOfTheEmbeddedServerAreRefusedBesideASharedOneOfTheEnvironment(t *testing.T) {
	t.Setenv("SPILLWAY_NATS", "nats://127.0.0.1:1")
	spillway(t, "up", "--nats-port=-1").with(exitUsage, "--nats-port is of the embedded server", "unset SPILLWAY_NATS")
	spillway(t, "up", "--store="+t.TempDir()).with(exitUsage, "--store is of the embedded server")
	spillway(t, "up", "--store="+t.TempDir(), "--nats=nats://127.0.0.1:1").with(exitFailed, "no key for the models")
}
