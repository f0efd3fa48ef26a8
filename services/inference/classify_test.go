package inference

import (
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"spillway/pkg/fate"
)

// The bodies are as the providers send them: OpenAI, Azure, Anthropic, Google, OpenRouter, Groq, vLLM, a gateway.
func TestAnErrorStatusIsReadTogetherWithItsBody(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		want   fate.Code
	}{
		{"OpenAI: rate limit", 429, `{"error":{"message":"Rate limit reached for gpt-4o","type":"tokens","param":null,"code":"rate_limit_exceeded"}}`, fate.ProviderRateLimited},
		{"OpenAI: quota", 429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`, fate.ProviderQuota},
		{"Google: a rate limit in the words of a quota", 429, `[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan","status":"RESOURCE_EXHAUSTED"}}]`, fate.ProviderRateLimited},
		{"Anthropic: billing", 402, `{"type":"error","error":{"type":"billing_error","message":"pay"}}`, fate.ProviderQuota},
		{"Anthropic: no credit", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}`, fate.ProviderQuota},
		{"Anthropic: overloaded", 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, fate.ProviderUnavailable},
		{"Anthropic: too long", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}`, fate.ContextTooLong},
		{"OpenAI: too long", 400, `{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, fate.ContextTooLong},
		{"vLLM: too long, a numeric code", 400, `{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}`, fate.ContextTooLong},
		{"Azure: filter", 400, `{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{}}}}`, fate.Refused},
		{"Azure: filter in the inner error alone", 400, `{"error":{"message":"no","code":"BadRequest","innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, fate.Refused},
		{"OpenAI: policy", 400, `{"error":{"message":"Your request was rejected","type":"invalid_request_error","code":"content_policy_violation"}}`, fate.Refused},
		{"OpenAI: bad request", 400, `{"error":{"message":"bad","type":"invalid_request_error","param":"temperature","code":null}}`, fate.ProviderRefusedRequest},
		{"OpenAI: key", 401, `{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`, fate.ProviderAuth},
		{"OpenAI: country", 403, `{"error":{"code":"unsupported_country_region_territory"}}`, fate.ProviderAuth},
		{"Google: key", 400, `{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}`, fate.ProviderAuth},
		{"OpenAI: model", 404, `{"error":{"message":"The model does not exist or you do not have access to it","code":"model_not_found"}}`, fate.ProviderRefusedRequest},
		{"Azure: deployment", 404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`, fate.ProviderRefusedRequest},
		{"Groq: request larger than the limit", 413, `{"error":{"message":"Request too large for model","type":"tokens","code":"rate_limit_exceeded"}}`, fate.ProviderRefusedRequest},
		{"Groq: capacity", 498, `{"error":{"message":"capacity","code":"capacity_exceeded"}}`, fate.ProviderUnavailable},
		{"a server error that claims a quota", 500, `{"error":{"type":"insufficient_quota"}}`, fate.ProviderUnavailable},
		{"FastAPI", 422, `{"detail":[{"msg":"field required"}]}`, fate.ProviderRefusedRequest},
		{"a gateway", 502, "<html><body>Bad gateway</body></html>", fate.ProviderUnavailable},
		{"no body", 503, "", fate.ProviderUnavailable},
		{"a timeout of a gateway", 504, "upstream request timeout", fate.ProviderUnavailable},
		{"a timeout of the request", 408, "", fate.ProviderUnavailable},
		{"numbers and nonsense", 400, `{"error":{"code":{"a":1},"type":7,"message":[1,2]}}`, fate.ProviderRefusedRequest},
		{"a redirect", 308, "", fate.ProviderRefusedRequest},
	}
	for _, tt := range tests {
		c := &call{status: tt.status, whole: []byte(tt.body), header: http.Header{}, provider: &provider{keys: &keys{}}}
		if got := c.refused(); got.code != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.name, got.code, got.text, tt.want)
		}
	}
}

func TestWhatAProviderSaysIsShownOnOneShortLine(t *testing.T) {
	t.Parallel()
	c := &call{provider: &provider{keys: &keys{}}}
	for in, want := range map[string]string{
		"":                                "",
		" \n ":                            "",
		"two\nlines\tand\x00more":         ": two lines and more",
		"\n<html><title>x</title></html>": ": an HTML page",
	} {
		if got := c.quote(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestTooFewOpenFilesAreThisProcessesFaultAndSaidInWords(t *testing.T) {
	t.Parallel()
	for _, number := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		c := &call{sent: true, provider: &provider{keys: &keys{}}}
		f := c.unanswered(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", number)})
		if f.code != fate.ProviderUnreachable || !strings.Contains(f.text, "ulimit -n") || f.blame(c) != blameNobody {
			t.Errorf("%v: %s, %q, blame %d", number, f.code, f.text, f.blame(c))
		}
	}
}
