package fakellm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"spillway/pkg/fakellm"
)

// BenchmarkCall measures client and server together, over loopback, with prompts of 1.5, 30 and 200 KB.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{1500, 30_000, 200_000} {
		for _, stream := range []bool{false, true} {
			b.Run(fmt.Sprintf("prompt=%dB/stream=%v", size, stream), func(b *testing.B) {
				body, err := json.Marshal(ask(strings.Repeat("my card is blocked\n", size/19), object{
					"stream": stream, "response_format": formatOf(routing()),
				}))
				if err != nil {
					b.Fatal(err)
				}
				benchmarkCalls(b, body)
			})
		}
	}
}

func benchmarkCalls(b *testing.B, body []byte) {
	s, err := fakellm.Start(fakellm.Options{TokensPerChunk: 4})
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer func() {
		transport.CloseIdleConnections()
		_ = s.Close()
	}()
	client := &http.Client{Transport: transport}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			response, err := client.Post(s.URL()+"/chat/completions", "application/json", bytes.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	})
}
