package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"spillway/pkg/broker/brokertest"
)

// What stands in deploy/compose.yaml, but for what is of its containers: names, folders, ports.
func TestWhatComposeStartsStartsWithoutAKeyAndTakesOneWhileItRuns(t *testing.T) {
	text, err := os.ReadFile("../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	service := file.Services["door"]
	if service.Environment["SPILLWAY_HTTP"] != "0.0.0.0:8080" || service.Environment["SPILLWAY_NATS"] == "" {
		t.Fatalf("compose starts something else: %v", service)
	}
	url, metrics := brokertest.Server(t).URL(), freePort(t)
	here := map[string]string{"SPILLWAY_NATS": url, "SPILLWAY_SCHEMAS": "../../schemas", "SPILLWAY_HTTP": "0.0.0.0:0", "SPILLWAY_METRICS": "0.0.0.0:" + metrics}
	fallback := regexp.MustCompile(`^\$\{\w+:-(.*)\}$`)
	for name, value := range service.Environment {
		if own, isMoved := here[name]; isMoved {
			value = own
		}
		t.Setenv(name, fallback.ReplaceAllString(value, "$1"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c := &running{t: t, args: service.Command, cancel: cancel, code: make(chan int, 1), out: &buffer{}, err: &buffer{}}
	go func() { c.code <- run(ctx, service.Command, os.Getenv, c.out, c.err) }()
	c.says("stage is ready")
	c.says("the door lets nobody in")
	_, port, err := net.SplitHostPort(loggedAddress(t, c))
	if err != nil {
		t.Fatal(err)
	}
	at := "http://127.0.0.1:" + port
	for address, want := range map[string]int{at + "/healthz": 200, at + "/v1/jobs/x": 401, "http://127.0.0.1:" + metrics + "/metrics": 200} {
		if code, _, said := ask(t, http.DefaultClient, "GET", address, ""); code != want {
			t.Errorf("%s: %d %s", address, code, said)
		}
	}
	secret := strings.TrimSpace(spillway(t, "key", "create", "web", "--tenant", "acme", "--nats", url).with(exitOK).out)
	brokertest.Eventually(t, 10*time.Second, "the key opens the door", func() bool {
		code, _, _ := ask(t, http.DefaultClient, "GET", at+"/v1/jobs/x", "", "Authorization", "Bearer "+secret)
		return code == 404
	})
	c.cancel()
	c.wait().with(exitOK)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
