package fakellm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// apiError is an error as an OpenAI-compatible provider answers it.
type apiError struct {
	status int
	// body is written as it is, under contentType; "" : body is built from the fields below.
	body, contentType string

	Message string `json:"message"`
	Type    any    `json:"type"`
	Param   any    `json:"param"`
	Code    any    `json:"code"`
	// Status and InnerError are Azure's.
	Status     int `json:"status,omitempty"`
	InnerError any `json:"innererror,omitempty"`
}

const contentJSON = "application/json"

func (e *apiError) write(w http.ResponseWriter) {
	body, contentType := []byte(e.body), e.contentType
	if e.body == "" {
		body, contentType = e.json(), contentJSON
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(e.status)
	_, _ = w.Write(body) // a client that left needs no answer
}

func (e *apiError) json() []byte {
	body, err := json.Marshal(struct {
		Error *apiError `json:"error"`
	}{e})
	if err != nil {
		return []byte(`{"error":{"message":"the error could not be written","type":"server_error","param":null,"code":null}}`)
	}
	return body
}

func invalidRequest(message, param, code string) *apiError {
	return &apiError{
		status: http.StatusBadRequest, Message: message, Type: "invalid_request_error",
		Param: orNull(param), Code: orNull(code),
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func invalidURL(r *http.Request) *apiError {
	e := invalidRequest(fmt.Sprintf("Invalid URL (%s %s)", r.Method, r.URL.Path), "", "")
	e.status = http.StatusNotFound
	return e
}

func noSuchModel(model string) *apiError {
	e := invalidRequest(fmt.Sprintf("The model `%s` does not exist or you do not have access to it.", model), "", "model_not_found")
	e.status = http.StatusNotFound
	return e
}

func wrongKey() *apiError {
	e := invalidRequest("Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.", "", "invalid_api_key")
	e.status = http.StatusUnauthorized
	return e
}

// statusError returns the error of a fault that answers with a status of its own; nil for other kinds.
func statusError(f Fault, model string) *apiError {
	e := statusErrorOf(f.Kind, model)
	if e != nil {
		e.Message = cmp.Or(f.Message, e.Message)
	}
	return e
}

func statusErrorOf(kind, model string) *apiError {
	switch kind {
	case KindRateLimited:
		return &apiError{
			status: 429, Type: "requests", Code: "rate_limit_exceeded",
			Message: "Rate limit reached for " + model + " in organization org-simulated on requests per min (RPM).",
		}
	case KindQuota:
		return &apiError{
			status: 429, Type: "insufficient_quota", Code: "insufficient_quota",
			Message: "You exceeded your current quota, please check your plan and billing details.",
		}
	case KindUnauthorized:
		return wrongKey()
	case KindForbidden:
		return &apiError{
			status: 403, Type: "request_forbidden", Code: "unsupported_country_region_territory",
			Message: "Country, region, or territory not supported",
		}
	case KindModelNotFound:
		return noSuchModel(model)
	case KindBadRequest:
		return invalidRequest("Invalid value: simulated bad request.", "messages", "invalid_value")
	case KindContextLength:
		return invalidRequest("This model's maximum context length is 128000 tokens. However, your messages resulted in more. Please reduce the length of the messages.",
			"messages", "context_length_exceeded")
	case KindPromptFiltered:
		return promptFiltered()
	default:
		return serverError(kind)
	}
}

func serverError(kind string) *apiError {
	switch kind {
	case KindServerError:
		return &apiError{
			status: 500, Type: "server_error",
			Message: "The server had an error while processing your request. Sorry about that!",
		}
	case KindBadGateway:
		return &apiError{status: 502, body: badGatewayPage, contentType: "text/html; charset=UTF-8"}
	case KindUnavailable:
		return &apiError{
			status: 503, Type: "service_unavailable_error", Code: "service_unavailable",
			Message: "The engine is currently overloaded, please try again later",
		}
	case KindOverloaded:
		return &apiError{
			status: 529, contentType: contentJSON,
			body: `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`,
		}
	default:
		return nil
	}
}

// promptFiltered is Azure's answer to a prompt that its content filter refuses.
func promptFiltered() *apiError {
	e := invalidRequest("The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.",
		"prompt", "content_filter")
	e.Type, e.Status = nil, http.StatusBadRequest
	e.InnerError = map[string]any{
		"code": "ResponsibleAIPolicyViolation",
		"content_filter_result": map[string]any{
			"hate":      map[string]any{"filtered": false, "severity": "safe"},
			"self_harm": map[string]any{"filtered": false, "severity": "safe"},
			"sexual":    map[string]any{"filtered": false, "severity": "safe"},
			"violence":  map[string]any{"filtered": true, "severity": "high"},
		},
	}
	return e
}

const (
	badGatewayPage = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
	loginPage      = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to the network</h1></body></html>\n"
	// upstreamError is how OpenRouter reports its own provider's failure under status 200: the code is a number.
	upstreamError = `{"error":{"message":"Provider returned error","code":502,"metadata":{"provider_name":"simulated"}}}`
)

// sayRetryAfter sets the header that asks a client to wait.
func sayRetryAfter(h http.Header, f Fault, now time.Time) {
	if f.RetryAfter <= 0 {
		return
	}
	switch f.Form {
	case FormMillis:
		h.Set("Retry-After-Ms", strconv.FormatFloat(float64(f.RetryAfter)/float64(time.Millisecond), 'f', -1, 64))
	case FormDate:
		at := now.Add(f.RetryAfter + time.Second - 1).Truncate(time.Second)
		h.Set("Retry-After", at.UTC().Format(http.TimeFormat))
	default:
		h.Set("Retry-After", strconv.FormatFloat(math.Round(f.RetryAfter.Seconds()*1000)/1000, 'f', -1, 64))
	}
}
