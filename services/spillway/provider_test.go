package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/fakellm"
)

// realProvider is an HTTP provider that is no part of the program under test.
func realProvider(t *testing.T, o fakellm.Options) *fakellm.Server {
	t.Helper()
	o.Log = zerolog.Nop()
	s, err := fakellm.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// at runs a command whose models are at a provider, with a key.
func at(t *testing.T, p *fakellm.Server, args ...string) said {
	t.Helper()
	return withEnv(t, map[string]string{"OPENAI_API_KEY": "sk-very-secret", "OPENAI_BASE_URL": p.URL()}, args...)
}

func withEnv(t *testing.T, env map[string]string, args ...string) said {
	t.Helper()
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code := run(ctx, args, func(name string) string { return env[name] }, &out, &err)
	return said{t, args, code, out.String(), err.String()}
}
