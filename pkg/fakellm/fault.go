package fakellm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

// The kinds of fault; the package documentation says what each looks like on the wire.
const (
	KindOK                = "ok"
	KindRateLimited       = "429"
	KindQuota             = "429_quota"
	KindUnauthorized      = "401"
	KindForbidden         = "403"
	KindModelNotFound     = "404"
	KindBadRequest        = "400"
	KindPromptFiltered    = "400_content_filter"
	KindContextLength     = "context_length"
	KindServerError       = "500"
	KindBadGateway        = "502"
	KindUnavailable       = "503"
	KindOverloaded        = "529"
	KindReset             = "reset"
	KindHang              = "hang"
	KindHangHeaders       = "hang_headers"
	KindSilence           = "silence"
	KindDrip              = "drip"
	KindCut               = "cut"
	KindNoDone            = "no_done"
	KindEmptyChoices      = "empty_choices"
	KindEmptyContent      = "empty_content"
	KindErrorBody         = "error_body"
	KindErrorChunk        = "error_chunk"
	KindHTML              = "html"
	KindMalformedChunk    = "malformed_chunk"
	KindComments          = "comments"
	KindFenced            = "fenced"
	KindProse             = "prose"
	KindTrailingComma     = "trailing_comma"
	KindOffSchema         = "off_schema"
	KindOffSchemaOnceTold = "off_schema_once_told"
	KindLength            = "length"
	KindLengthUntil       = "length_until"
	KindRefusal           = "refusal"
	KindContentFilter     = "content_filter"
	KindHuge              = "huge"
)

// Kinds returns every kind of fault, "ok" first.
func Kinds() []string {
	return []string{
		KindOK, KindRateLimited, KindQuota, KindUnauthorized, KindForbidden, KindModelNotFound, KindBadRequest,
		KindPromptFiltered, KindContextLength, KindServerError, KindBadGateway, KindUnavailable, KindOverloaded,
		KindReset, KindHang, KindHangHeaders, KindSilence, KindDrip, KindCut, KindNoDone, KindEmptyChoices,
		KindEmptyContent, KindErrorBody, KindErrorChunk, KindHTML, KindMalformedChunk, KindComments, KindFenced,
		KindProse, KindTrailingComma, KindOffSchema, KindOffSchemaOnceTold, KindLength, KindLengthUntil,
		KindRefusal, KindContentFilter, KindHuge,
	}
}

// The forms in which a RetryAfter is said.
const (
	// FormSeconds is Retry-After in seconds, with a fraction only when there is one. The default.
	FormSeconds = "seconds"
	// FormMillis is the header retry-after-ms alone, as Azure sends it.
	FormMillis = "ms"
	// FormDate is Retry-After as an HTTP date: whole seconds, rounded up.
	FormDate = "date"
)

// Fault is one misbehaviour and which calls it strikes. In JSON its keys are in snake_case, durations are
// strings ("1.5s"), and a fault that is only a kind may be that string alone.
type Fault struct {
	// Model and Key narrow it to calls for a model, or with an API key; "": all.
	Model string
	Key   string
	// Match narrows it to calls whose input (the user message that the nonce is of) contains it.
	Match string
	// Kind is one of the Kind constants.
	Kind string
	// Rate is the share of calls that it strikes, above 0 to 1; 0 means 1. Which ones follows from
	// Options.Seed, the input and the number of the input's call, not from the order of arrival.
	Rate float64
	// First, above 0, strikes only the first calls of each input, over all models.
	First int

	// RetryAfter is said with 429, 500, 502, 503 and 529. 0: not said.
	RetryAfter time.Duration
	// Form is how RetryAfter is said: FormSeconds ("" too), FormMillis, FormDate.
	Form string
	// After is how many chunks are sent before the fault shows; 0: the kind's default.
	After int
	// Every is the time between two chunks (drip) or comments.
	Every time.Duration
	// Count is how many comments are sent.
	Count int
	// Tokens is where length cuts, or what length_until wants more of.
	Tokens int
	// Bytes is how long a huge answer is at least.
	Bytes int
	// Message replaces an error's or a refusal's words.
	Message string
	// Header are response headers to send with whatever has headers, in place of those of the same name but
	// for Content-Type; "" sends none of that name.
	Header map[string]string
}

// wireFault is Fault as JSON has it.
type wireFault struct {
	Model      string  `json:"model,omitempty"`
	Key        string  `json:"key,omitempty"`
	Match      string  `json:"match,omitempty"`
	Kind       string  `json:"kind"`
	Rate       float64 `json:"rate,omitempty"`
	First      int     `json:"first,omitempty"`
	RetryAfter span    `json:"retry_after,omitzero"`
	Form       string  `json:"form,omitempty"`
	After      int     `json:"after,omitempty"`
	Every      span    `json:"every,omitzero"`
	Count      int     `json:"count,omitempty"`
	Tokens     int     `json:"tokens,omitempty"`
	Bytes      int     `json:"bytes,omitempty"`
	Message    string  `json:"message,omitempty"`

	Header map[string]string `json:"header,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (f Fault) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireFault{
		f.Model, f.Key, f.Match, f.Kind, f.Rate, f.First, span(f.RetryAfter), f.Form,
		f.After, span(f.Every), f.Count, f.Tokens, f.Bytes, f.Message, f.Header,
	})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are refused.
func (f *Fault) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte(`"`)) {
		*f = Fault{}
		return json.Unmarshal(data, &f.Kind)
	}
	var w wireFault
	if err := decodeStrictly(data, &w); err != nil {
		return fmt.Errorf("read a fault: %w", err)
	}
	*f = Fault{
		w.Model, w.Key, w.Match, w.Kind, w.Rate, w.First, time.Duration(w.RetryAfter), w.Form,
		w.After, time.Duration(w.Every), w.Count, w.Tokens, w.Bytes, w.Message, w.Header,
	}
	return nil
}

// Validate returns everything that is wrong with the fault.
func (f Fault) Validate() error {
	var errs []error
	if !slices.Contains(Kinds(), f.Kind) {
		errs = append(errs, fmt.Errorf("no such kind of fault: %q", f.Kind))
	}
	if !(f.Rate >= 0 && f.Rate <= 1) { // written so that NaN fails
		errs = append(errs, fmt.Errorf("rate %v of fault %q is not in 0 to 1", f.Rate, f.Kind))
	}
	if !slices.Contains([]string{"", FormSeconds, FormMillis, FormDate}, f.Form) {
		errs = append(errs, fmt.Errorf("form %q of fault %q is not one of seconds, ms, date", f.Form, f.Kind))
	}
	if min(f.First, f.After, f.Count, f.Tokens, f.Bytes) < 0 || min(f.RetryAfter, f.Every) < 0 {
		errs = append(errs, fmt.Errorf("fault %q has a negative parameter", f.Kind))
	}
	for name, value := range f.Header {
		if !isHeaderName(name) || strings.ContainsFunc(value, unicode.IsControl) {
			errs = append(errs, fmt.Errorf("%q: %q of fault %q is no header", name, value, f.Kind))
		}
	}
	return errors.Join(errs...)
}

// isHeaderName is true for a token of RFC 9110: net/http silently leaves out other names.
func isHeaderName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// cloneFaults lets the caller change its own.
func cloneFaults(faults []Fault) []Fault {
	all := slices.Clone(faults)
	for i := range all {
		all[i].Header = maps.Clone(all[i].Header)
	}
	return all
}

func validateFaults(faults []Fault) error {
	var errs []error
	for _, f := range faults {
		errs = append(errs, f.Validate())
	}
	return errors.Join(errs...)
}

// span is a duration that JSON writes as a string.
type span time.Duration

// MarshalText implements encoding.TextMarshaler.
func (s span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = span(d)
	return err
}

func decodeStrictly(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
