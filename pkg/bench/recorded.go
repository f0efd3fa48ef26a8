package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"spillway/pkg/job"
)

// numberMark stands before the number of the answer that a request is to get.
const numberMark = "answer no. "

// recorded is a provider that says what was recorded, and what is right when it is told what is wrong.
type recorded struct {
	answers []Answer
	better  map[string]string // by task
}

// serve answers on a free port of this machine until stop is called.
func (m *recorded) serve(ctx context.Context) (address string, stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen for the calls: %w", err)
	}
	server := &http.Server{Handler: m, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // it ends with Close
	}()
	return l.Addr().String(), func() { _ = server.Close(); <-served }, nil
}

func (m *recorded) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var asked struct {
		Messages []job.Message `json:"messages"`
	}
	n := -1
	err := json.NewDecoder(q.Body).Decode(&asked)
	for _, message := range asked.Messages {
		if at := strings.Index(message.Content, numberMark); at >= 0 && message.Role == "user" && n < 0 {
			_, _ = fmt.Sscanf(message.Content[at+len(numberMark):], "%d", &n) // n stays below zero, which is told below
		}
	}
	if err != nil || n < 0 || n >= len(m.answers) {
		http.Error(w, `{"error":{"message":"no recorded answer is asked for"}}`, http.StatusBadRequest)
		return
	}
	a := m.answers[n]
	text, finish := a.Text, a.FinishReason
	if len(asked.Messages) > 1 {
		text, finish = m.better[a.Task], "stop"
	}
	prompt := 0
	for _, message := range asked.Messages {
		prompt += len(message.Content)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // a client that left needs no answer
		"id": fmt.Sprintf("recorded-%d", n), "model": "recorded-1", "created": time.Now().Unix(),
		"choices": []any{map[string]any{"index": 0, "finish_reason": finish, "message": map[string]string{"role": "assistant", "content": text}}},
		"usage":   map[string]int{"prompt_tokens": max(prompt/4, 1), "completion_tokens": max(len(text)/4, 1)},
	})
}
