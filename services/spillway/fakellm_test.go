package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestFakellmAnswersUntilItIsStopped(t *testing.T) {
	c := start(t, "fakellm", "--addr=127.0.0.1:0", "--latency=0s", "--per-token=0s", "--fault=429:1", "--json")
	c.says(`"ready"`)
	var ready struct {
		BaseURL string `json:"base_url"`
	}
	if err := json.Unmarshal([]byte(c.out.String()), &ready); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(ready.BaseURL+"/chat/completions", "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	c.cancel()
	lines := c.wait().with(exitOK).lines()
	last := lines[len(lines)-1]
	if last["event"] != "stopped" || last["calls"] != 1.0 || last["outcomes"].(map[string]any)["429"] != 1.0 {
		t.Errorf("%v", last)
	}
}

func TestFakellmRefusesCallsBeyondTheLimitsOfItsFlags(t *testing.T) {
	c := start(t, "fakellm", "--addr=127.0.0.1:0", "--latency=0s", "--per-token=0s", "--requests-per-minute=2", "--tokens-per-minute=1000", "--concurrency=5", "--json")
	c.says(`"ready"`)
	var ready struct {
		BaseURL string `json:"base_url"`
	}
	if err := json.Unmarshal([]byte(c.out.String()), &ready); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{200, 200, 429} {
		resp, err := http.Post(ready.BaseURL+"/chat/completions", "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hi"}]}`))
		if err != nil || resp.StatusCode != want {
			t.Fatalf("call %d: %v %v", i+1, resp, err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Ratelimit-Limit-Tokens"); got != "1000" {
			t.Errorf("call %d: limit of tokens %q", i+1, got)
		}
	}
	c.cancel()
	lines := c.wait().with(exitOK).lines()
	if last := lines[len(lines)-1]; last["outcomes"].(map[string]any)["limited"] != 1.0 {
		t.Errorf("%v", last)
	}
}

func TestFakellmTellsAPersonHowToUseAndSteerIt(t *testing.T) {
	c := start(t, "fakellm", "--addr=127.0.0.1:0")
	c.says("Ctrl-C stops")
	c.cancel()
	c.wait().with(exitOK, "OPENAI_BASE_URL=http://127.0.0.1:", "PUT  /fake/faults", "0 calls")
}

func TestFakellmRefusesWhatItCanNotDo(t *testing.T) {
	first := start(t, "fakellm", "--addr=127.0.0.1:0", "--json")
	first.says(`"ready"`)
	address := strings.TrimSuffix(strings.SplitAfter(first.out.String(), "http://")[1], `/v1","control":"http://`)
	spillway(t, "fakellm", "--addr="+address).with(exitFailed, "is taken", "--addr")
	spillway(t, "fakellm", "--fault=hung").with(exitUsage, "no such kind", "hang")
	spillway(t, "fakellm", "--fault=hang:2").with(exitUsage, "the rate")
	spillway(t, "fakellm", "--latency=-1s").with(exitUsage, "not negative")
	spillway(t, "fakellm", "--concurrency=-1").with(exitUsage, "not negative")
	first.cancel()
	first.wait().with(exitOK)
}
