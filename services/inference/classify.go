package inference

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// maxSaid is how many bytes of a provider's own words a message repeats.
const maxSaid = 200

// failure is why a call brought no answer. text is safe to be shown to the client; cause is not.
type failure struct {
	code  fate.Code
	text  string
	cause error
	// own is true when this process is at fault, not the provider.
	own bool
}

// blame is what a failure means for the breakers.
type blame uint8

const (
	// blameCall counts against the model: enough of such in a row, or in a window, open its breaker.
	blameCall blame = iota
	// blameModel opens the model's breaker at once: its provider does not know it.
	blameModel
	// blameProvider opens the whole provider's: it refuses this account whatever is asked.
	blameProvider
	// blameNobody counts neither for nor against: the request was at fault, or this side.
	blameNobody
	// blameless is as good as an answer: the model looked at the input and declined.
	blameless
)

// blames are the codes whose failures do not simply count.
var blames = map[fate.Code]blame{
	fate.ProviderQuota:          blameProvider,
	fate.ProviderAuth:           blameProvider,
	fate.ProviderRefusedRequest: blameNobody,
	fate.ContextTooLong:         blameNobody,
	fate.Refused:                blameless,
}

// blame says what the failure of c means for the breakers.
func (f *failure) blame(c *call) blame {
	switch {
	case f.own, c.otherKey:
		return blameNobody
	case f.code == fate.ProviderRefusedRequest && c.status == http.StatusNotFound:
		return blameModel
	case f.code == fate.Deadline && (c.firstToken > 0 || c.took < c.limits.FirstToken/2):
		return blameNobody // the job had little time; a model that was silent for long is another matter
	}
	return blames[f.code]
}

// words maps what providers put into an error's code or type, in lower case, to what it means. The names are
// those of OpenAI, Azure, Anthropic, Google, Groq, and of the proxies that imitate them.
var words = map[string]fate.Code{
	"insufficient_quota":         fate.ProviderQuota,
	"billing_hard_limit_reached": fate.ProviderQuota,
	"billing_not_active":         fate.ProviderQuota,
	"billing_error":              fate.ProviderQuota,

	"rate_limit_exceeded": fate.ProviderRateLimited,
	"rate_limit_error":    fate.ProviderRateLimited,
	"too_many_requests":   fate.ProviderRateLimited,
	"resource_exhausted":  fate.ProviderRateLimited,
	"429":                 fate.ProviderRateLimited,

	"invalid_api_key":      fate.ProviderAuth,
	"authentication_error": fate.ProviderAuth,
	"permission_error":     fate.ProviderAuth,
	"unauthenticated":      fate.ProviderAuth,
	"permission_denied":    fate.ProviderAuth,
	"401":                  fate.ProviderAuth,
	"403":                  fate.ProviderAuth,

	"402":                     fate.ProviderQuota,
	"context_length_exceeded": fate.ContextTooLong,
	"string_above_max_length": fate.ContextTooLong,

	"content_filter":               fate.Refused,
	"content_policy_violation":     fate.Refused,
	"responsibleaipolicyviolation": fate.Refused,
	"invalid_prompt":               fate.Refused,
}

// phrases are looked for in the message of a refused request, in lower case, where no code says it.
var phrases = []struct {
	part string
	code fate.Code
}{
	{"maximum context length", fate.ContextTooLong},
	{"context length", fate.ContextTooLong},
	{"context window", fate.ContextTooLong},
	{"prompt is too long", fate.ContextTooLong},
	{"credit balance is too low", fate.ProviderQuota},
	{"api key not valid", fate.ProviderAuth},
}

// byStatus says what an HTTP status of 300 and above means, where the body does not say it better.
func byStatus(status int) fate.Code {
	switch status {
	case http.StatusTooManyRequests:
		return fate.ProviderRateLimited
	case http.StatusUnauthorized, http.StatusForbidden:
		return fate.ProviderAuth
	case http.StatusPaymentRequired:
		return fate.ProviderQuota
	// Not the request's fault, whatever their class: 498 is Groq's lack of capacity.
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, 498:
		return fate.ProviderUnavailable
	}
	if status >= http.StatusInternalServerError {
		return fate.ProviderUnavailable
	}
	return fate.ProviderRefusedRequest
}

// refine corrects a status' meaning by what the body says. A server error stays one whatever it claims.
func refine(status int, c complaint) fate.Code {
	code := byStatus(status)
	said := c.meaning()
	switch code {
	case fate.ProviderRateLimited, fate.ProviderAuth:
		if said == fate.ProviderQuota {
			return said
		}
	case fate.ProviderRefusedRequest:
		if status != http.StatusNotFound && said != "" && said != fate.ProviderRateLimited {
			return said
		}
	}
	return code
}

// refused is the failure of a call that was answered with an error status.
func (c *call) refused() *failure {
	said := parseComplaint(c.whole)
	return &failure{
		code: refine(c.status, said),
		text: fmt.Sprintf("the provider answered %d%s", c.status, c.quote(said.message)),
	}
}

// complaint is the failure of a call that was answered with an error in a response of status 200, or
// within a stream. What is no known reason counts as an answer without an answer in it.
func (c *call) complaint(raw json.RawMessage) *failure {
	said := parseComplaint(raw)
	code := said.meaning()
	if code == "" {
		code = fate.ProviderEmpty
	}
	return &failure{code: code, text: "the provider sent an error in place of an answer" + c.quote(said.message)}
}

// noAnswer is the failure of a call that came to its end and has nothing in it. body is shown when it is text.
func (c *call) noAnswer(body []byte) *failure {
	return &failure{code: fate.ProviderEmpty, text: "the provider answered without an answer in it" + c.quote(string(body[:min(len(body), maxErrorBody)]))}
}

// quote returns what the provider said, safe to be shown: without secrets, on one line, not too long.
func (c *call) quote(message string) string {
	if strings.HasPrefix(strings.TrimSpace(message), "<") {
		return ": an HTML page"
	}
	message = strings.Join(strings.FieldsFunc(message, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar
	}), " ")
	if message == "" {
		return ""
	}
	return ": " + job.Cut(c.provider.redact(message), maxSaid)
}

// unanswered is the failure of a call that got no response at all.
func (c *call) unanswered(err error) *failure {
	if !c.sent {
		return &failure{code: fate.ProviderRefusedRequest, text: "the request can not be made for this model", cause: err, own: true}
	}
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return &failure{code: fate.ProviderUnreachable, text: "this process may open no more connections: raise its limit of open files (ulimit -n)", cause: err, own: true}
	}
	return &failure{code: fate.ProviderUnreachable, text: "no connection to the provider: " + unreachable(err), cause: err}
}

// unreachable names the kind of a connection's failure; the cause has the addresses, which are not for clients.
func unreachable(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "its name is not resolved"
	}
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case verification, record, alert, authority:
		return "TLS failed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed before an answer"
	}
	return "failed"
}

// overrun is the failure of a call that was ended on this side, by cause.
func overrun(cause error) *failure {
	switch {
	case errors.Is(cause, errConnect):
		return &failure{code: fate.ProviderUnreachable, text: cause.Error()}
	case errors.Is(cause, errNoTime):
		return &failure{code: fate.Deadline, text: cause.Error()}
	}
	return &failure{code: fate.ProviderTimeout, text: cause.Error()}
}

func tooLarge() *failure {
	return &failure{code: fate.OutputTooLarge, text: fmt.Sprintf("the answer is larger than %d bytes", maxAnswer)}
}

func cutOff(text string, cause error) *failure {
	return &failure{code: fate.ProviderCut, text: text, cause: cause}
}

// complaint is an error as a provider says it, whatever its shape. Numbers are kept as their digits.
type complaint struct {
	message string
	// labels are its codes and types, the inner ones first, in lower case.
	labels []string
}

// meaning returns the code that the labels or the message tell, or "".
func (c complaint) meaning() fate.Code {
	for _, label := range c.labels {
		if code, ok := words[label]; ok {
			return code
		}
	}
	message := strings.ToLower(c.message)
	for _, p := range phrases {
		if strings.Contains(message, p.part) {
			return p.code
		}
	}
	return ""
}

// parseComplaint reads {"error":{…}}, {"error":"…"}, the object alone, a list of them, or plain text.
func parseComplaint(raw []byte) complaint {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 {
		raw = list[0]
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		var text string
		if json.Unmarshal(raw, &text) == nil {
			return complaint{message: text}
		}
		return complaint{message: string(raw)}
	}
	if inner, ok := object["error"]; ok && isError(inner) {
		return parseComplaint(inner)
	}
	var c complaint
	if inner := object["innererror"]; isError(inner) {
		c.labels = parseComplaint(inner).labels
	}
	for _, name := range []string{"code", "type", "status"} {
		if label := scalar(object[name]); label != "" {
			c.labels = append(c.labels, strings.ToLower(label))
		}
	}
	for _, name := range []string{"message", "detail", "msg"} {
		if c.message == "" {
			c.message = scalar(object[name])
		}
	}
	return c
}

// scalar returns a JSON string's text or a number's digits, and "" for anything else.
func scalar(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number float64
	if json.Unmarshal(raw, &number) == nil {
		return strconv.FormatFloat(number, 'f', -1, 64)
	}
	return ""
}
