package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

type askMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type askFormat struct {
	Type   string `json:"type"`
	Schema struct {
		Name   string          `json:"name"`
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

type askRequest struct {
	Model     string        `json:"model"`
	Messages  [2]askMessage `json:"messages"`
	MaxTokens int           `json:"max_completion_tokens"`
	Stream    bool          `json:"stream"`
	Options   struct {
		Usage bool `json:"include_usage"`
	} `json:"stream_options"`
	Format askFormat `json:"response_format"`
}

// ask makes the call that inference makes for the bench's task, and reads its answer to the end.
func ask(ctx context.Context, client *http.Client, provider, text, traceParent string) error {
	q := askRequest{Model: modelID, Stream: true, MaxTokens: 1000, Messages: [2]askMessage{
		{Role: "system", Content: systemPrompt}, {Role: "user", Content: text},
	}}
	q.Options.Usage = true
	q.Format.Type, q.Format.Schema.Name, q.Format.Schema.Schema = "json_schema", TaskName, json.RawMessage(outputSchema)
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, provider+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", traceParent)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answered %s", resp.Status)
	}
	return nil
}
