package inference

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sashabaranov/go-openai"

	"spillway/pkg/stage"
	"spillway/pkg/task"
)

const (
	// maxIdle is how many connections to a provider wait for the next call, each at the cost of some kilobytes.
	maxIdle     = 1024
	idleTimeout = 90 * time.Second
	// connBuffer is what each connection reads and writes through, twice; a call in flight holds both.
	connBuffer = 2 << 10
	// dialTimeout bounds connecting for the transport; the models' connect timeouts are shorter.
	dialTimeout = 30 * time.Second
	// maxErrorBody and maxWhole bound what is read of a body that is no stream.
	maxErrorBody = 64 << 10
	maxWhole     = 8 * maxAnswer
)

// provider is an endpoint: a go-openai client, and the transport that it speaks over. It is the client's
// HTTPDoer: it adds what go-openai has no place for, and keeps what go-openai forgets (headers, bodies).
// No retry is made here; and no Idempotency-Key is sent, for net/http would repeat such a request.
type provider struct {
	client    *openai.Client
	transport *http.Transport
	keys      *keys
	// keyHeader and keyPrefix say how the key is sent.
	keyHeader, keyPrefix string
	headers              map[string]string
	// secrets are values that an error message must not show.
	secrets []string
	// obeysLimits is true when x-ratelimit headers are to be believed.
	obeysLimits bool
}

var _ openai.HTTPDoer = (*provider)(nil)

func newProvider(env *stage.Env, from *task.Provider) (*provider, error) {
	base, err := baseURL(env, from)
	if err != nil {
		return nil, err
	}
	p := &provider{
		keyHeader: "Authorization", keyPrefix: "Bearer ",
		headers: map[string]string{}, obeysLimits: from.RateLimitHeaders != "ignore",
	}
	if p.keys, err = newKeys(env, from); err != nil {
		return nil, err
	}
	if p.transport, err = newTransport(from.CAFile); err != nil {
		return nil, err
	}
	for name, value := range from.Headers {
		p.headers[http.CanonicalHeaderKey(name)] = value
	}
	for name, variable := range from.HeadersEnv {
		if value := env.Getenv(variable); value != "" {
			p.headers[http.CanonicalHeaderKey(name)] = value
			p.secrets = append(p.secrets, value)
		}
	}
	// The key is added by Do: it may change while the client lives.
	config := openai.DefaultConfig("")
	if from.Kind == task.KindAzure {
		config = openai.DefaultAzureConfig("", base)
		config.AzureModelMapperFunc = url.PathEscape // the id in models.yaml is the deployment, as it is
		p.keyHeader, p.keyPrefix = openai.AzureAPIKeyHeader, ""
	}
	if from.APIVersion != "" {
		config.APIVersion = from.APIVersion
	}
	config.BaseURL = base
	config.HTTPClient = p
	p.client = openai.NewClientWithConfig(config)
	return p, nil
}

// baseURL finds where the provider answers. The environment wins.
func baseURL(env *stage.Env, from *task.Provider) (string, error) {
	base := from.BaseURL
	if from.BaseURLEnv != "" {
		if value := env.Getenv(from.BaseURLEnv); value != "" {
			base = value
		}
	}
	if from.Kind == task.KindSimulated {
		if env.SimulatorURL == "" {
			return "", errors.New("models are simulated only by `spillway up` on its own embedded server: pass --simulate, or name another model in task.yaml")
		}
		base = env.SimulatorURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return "", errors.New("base_url is no http or https URL without credentials: correct it in models.yaml" + orVariable(from.BaseURLEnv))
	}
	return base, nil
}

func orVariable(name string) string {
	if name == "" {
		return ""
	}
	return " or in " + name
}

// newTransport makes a pool of HTTP/1.1 connections: one a call in flight, so that ending a call is seen by
// the provider as a disconnect and no call waits behind another. Compression is off: a compressor on the
// way may hold tokens back.
func newTransport(caFile string) (*http.Transport, error) {
	var http1 http.Protocols
	http1.SetHTTP1(true)
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		Protocols:           &http1,
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     idleTimeout,
		ReadBufferSize:      connBuffer,
		WriteBufferSize:     connBuffer,
		DisableCompression:  true,
	}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file can not be read: mount it, or correct ca_file in models.yaml: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s holds no PEM certificate: correct ca_file in models.yaml", caFile)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool}
	return t, nil
}

type callKey struct{}

// Do sends one request of go-openai's and listens to the response. A stream is left to the call, under
// go-openai's hands; any other body is read here, and go-openai gets an empty object in its place.
func (p *provider) Do(req *http.Request) (*http.Response, error) {
	c, ok := req.Context().Value(callKey{}).(*call)
	if !ok {
		return nil, errors.New("a request that belongs to no call")
	}
	messages, err := c.messages()
	if err != nil {
		return nil, err
	}
	if err := splice(req, c.parameters(), messages); err != nil {
		return nil, err
	}
	p.dress(req.Header, c)
	c.sent = true
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	c.status, c.header = resp.StatusCode, resp.Header
	if c.model.Stream && isSuccess(resp.StatusCode) {
		c.body = resp.Body
		return resp, nil
	}
	limit := int64(maxErrorBody)
	if isSuccess(resp.StatusCode) {
		limit = maxWhole
	}
	c.whole, c.wholeErr = io.ReadAll(io.LimitReader(resp.Body, limit))
	_ = resp.Body.Close() // what was read of it is what there is
	resp.Body = io.NopCloser(strings.NewReader("{}"))
	return resp, nil
}

// dress sets the headers that go-openai does not.
func (p *provider) dress(h http.Header, c *call) {
	for name, value := range p.headers {
		h[name] = []string{value}
	}
	h.Del(openai.AzureAPIKeyHeader) // go-openai's own is empty
	if c.key = p.keys.take(c.started); c.key != "" {
		h.Set(p.keyHeader, p.keyPrefix+c.key)
	}
	if c.job.TraceParent != "" {
		h["Traceparent"] = []string{c.job.TraceParent}
	}
}

// withCall lets Do find the call that a request belongs to.
func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}
