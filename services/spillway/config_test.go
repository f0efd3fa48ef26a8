package main

import (
	"bytes"
	"strings"
	"testing"

	"spillway/pkg/broker"
)

func TestConfigSaysWhereEachValueComesFrom(t *testing.T) {
	t.Setenv("SPILLWAY_NATS", "nats://me:secret@example.org:4222,nats://token@b:4222")
	t.Setenv("SPILLWAY_GRACE", "soon")
	t.Setenv("SPILLWAY_HTTP", "off")
	got := map[string][2]any{}
	for _, line := range spillway(t, "config", "--json").with(exitOK).without("secret", "token@").lines() {
		if flag, ok := line["flag"].(string); ok {
			got[line["command"].(string)+" "+flag] = [2]any{line["value"], line["from"]}
		}
	}
	for flag, want := range map[string][2]any{
		"up --http":          {"off", "environment SPILLWAY_HTTP"},
		"inference --http":   {"off", "environment SPILLWAY_HTTP"},
		"up --nats-port":     {"4222", "default"},
		"submit --nats":      {"nats://me:xxxxx@example.org:4222,nats://xxxxx@b:4222", "environment SPILLWAY_NATS"},
		"dead replay --rate": {"20/s", "default"},
		"(all) --json":       {"true", "command line"},
	} {
		if got[flag] != want {
			t.Errorf("%s: %v, not %v", flag, got[flag], want)
		}
	}
	if from := got["up --grace"][1].(string); !strings.HasPrefix(from, "environment SPILLWAY_GRACE, NOT VALID: ") {
		t.Errorf("a value that is not valid is from %q", from)
	}
}

func TestConfigOfOneCommand(t *testing.T) {
	spillway(t, "config", "dead").with(exitOK, "dead ls", "dead replay", "--log-level").without("fakellm", "--nats-port")
	spillway(t, "config", "dead", "rm").with(exitOK, "dead rm", "--yes").without("dead ls")
	spillway(t, "config", "nothing").with(exitUsage, "there is no command")
}

func TestConfigNeverShowsAKey(t *testing.T) {
	var out, err bytes.Buffer
	env := func(name string) string {
		return map[string]string{"OPENAI_API_KEY": "sk-very-secret"}[name]
	}
	if code := run(t.Context(), []string{"config", "config"}, env, &out, &err); code != exitOK {
		t.Fatalf("exit code %d: %s", code, err.String())
	}
	if text := out.String(); !strings.Contains(text, "(set, not shown)") || !strings.Contains(text, "(not set)") || strings.Contains(text, "secret") {
		t.Error(text)
	}
}

func TestURLsAreMasked(t *testing.T) {
	for list, want := range map[string]string{
		"nats://h:4222":                   "nats://h:4222",
		"h:4222":                          "h:4222",
		"nats://u:p@h:4222":               "nats://u:xxxxx@h:4222",
		"nats://token@h":                  "nats://xxxxx@h",
		"nats://u:p%zz@h:4222, tls://b:1": "…@h:4222, tls://b:1",
	} {
		if got := broker.RedactURLs(list); got != want {
			t.Errorf("%s is shown as %s, not %s", list, got, want)
		}
	}
}
