package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"spillway/pkg/fakellm"
)

const (
	// steerTimeout bounds one order to the provider.
	steerTimeout = 5 * time.Second
	// clockSkew is by how much the provider's clock may differ: its header tells whole seconds.
	clockSkew = 3 * time.Second
	// maxCounts bounds what is read of an answer: counts of a million inputs are 24 MB.
	maxCounts = 64 << 20
)

// Provider steers a simulated provider, in this process or another, by its control endpoints.
type Provider struct {
	root   string
	client *http.Client
}

// NewProvider steers the one at url, which may end in /v1, as models have it.
func NewProvider(url string) *Provider {
	return &Provider{
		root:   strings.TrimSuffix(strings.TrimSuffix(url, "/"), "/v1"),
		client: &http.Client{Transport: &http.Transport{}, Timeout: steerTimeout},
	}
}

// Close lets go of its connections.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

// NotSimulatedError says that what is to be steered is no simulated provider.
type NotSimulatedError struct {
	URL string
	Err error
}

func (e *NotSimulatedError) Error() string {
	return fmt.Sprintf("%s does not answer as a simulated provider (%s): start one with `spillway fakellm`, and name the address that it prints", e.URL, e.Err)
}
func (e *NotSimulatedError) Unwrap() error { return e.Err }

// Check returns a NotSimulatedError unless the provider is a simulated one.
func (p *Provider) Check(ctx context.Context) error {
	answer, err := p.do(ctx, http.MethodGet, "/fake/counts", nil)
	if err != nil {
		return &NotSimulatedError{p.root, err}
	}
	var c fakellm.Counts
	if json.Unmarshal(answer.body, &c) != nil || c.Models == nil || c.Nonces == nil {
		return &NotSimulatedError{p.root, errors.New("its /fake/counts are no counts")}
	}
	if at, err := http.ParseTime(answer.date); err == nil && time.Since(at).Abs() > clockSkew {
		return fmt.Errorf("the clock of %s differs from this one by about %s: set both, or run the drill where the provider is", p.root, time.Since(at).Round(time.Second))
	}
	return nil
}

// Misbehave replaces the faults; none: all calls are answered well.
func (p *Provider) Misbehave(ctx context.Context, faults ...fakellm.Fault) error {
	return p.put(ctx, "/fake/faults", append([]fakellm.Fault{}, faults...)) // [], not null
}

// Answer replaces the time that answers take.
func (p *Provider) Answer(ctx context.Context, l fakellm.Latency) error {
	return p.put(ctx, "/fake/latency", map[string]any{
		"first_token": l.FirstToken.String(), "per_token": l.PerToken.String(), "sigma": l.Sigma,
	})
}

// Reset puts the provider into the state of its start, without counts.
func (p *Provider) Reset(ctx context.Context) error {
	_, err := p.do(ctx, http.MethodPost, "/fake/reset", nil)
	return err
}

// Counts returns what the provider counted.
func (p *Provider) Counts(ctx context.Context) (fakellm.Counts, error) {
	var c fakellm.Counts
	return c, p.get(ctx, "/fake/counts", &c)
}

// Arrivals returns when calls for a model, by the provider's name for it, arrived: to the millisecond, the
// oldest first.
func (p *Provider) Arrivals(ctx context.Context, id string) ([]time.Time, error) {
	var millis []int64
	if err := p.get(ctx, "/fake/arrivals?model="+url.QueryEscape(id), &millis); err != nil {
		return nil, err
	}
	all := make([]time.Time, len(millis))
	for i, ms := range millis {
		all[i] = time.UnixMilli(ms)
	}
	return all, nil
}

func (p *Provider) get(ctx context.Context, path string, into any) error {
	answer, err := p.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.body, into); err != nil {
		return fmt.Errorf("read %s of the simulated provider: %w", path, err)
	}
	return nil
}

func (p *Provider) put(ctx context.Context, path string, order any) error {
	body, err := json.Marshal(order)
	if err != nil {
		return err
	}
	_, err = p.do(ctx, http.MethodPut, path, body)
	return err
}

// reply is what the provider said.
type reply struct {
	body []byte
	date string
}

func (p *Provider) do(ctx context.Context, method, path string, body []byte) (*reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.root+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("steer the simulated provider: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxCounts))
	if err != nil {
		return nil, fmt.Errorf("steer the simulated provider: %w", err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return &reply{text, resp.Header.Get("Date")}, nil
}
