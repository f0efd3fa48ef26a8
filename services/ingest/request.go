package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// reading is a request as far as it could be read, with every fault that was found.
type reading struct {
	request  job.Request
	id       string // valid, or ""
	input    any    // decoded
	duration time.Duration
	code     fate.Code
	reasons  []fate.Reason
}

func (r *reading) fault(code fate.Code, pointer, format string, args ...any) {
	if r.code == "" {
		r.code = code
	}
	r.reasons = append(r.reasons, fate.Reason{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

// rejection is what the client is told, or nil when the request is good.
func (r *reading) rejection() *fate.Error {
	if r.code == "" {
		return nil
	}
	message := r.reasons[0].Message
	if pointer := r.reasons[0].Pointer; pointer != "" {
		message = pointer + ": " + message
	}
	if n := len(r.reasons) - 1; n > 0 {
		message = fmt.Sprintf("%s (and %d more)", message, n)
	}
	return fate.Rejection(r.code, message, r.reasons...)
}

// read checks a request against the contract and against its task; t is nil when there is no such task.
func read(body []byte, headerID, taskName, lane string, t *task.Task) *reading {
	r := &reading{duration: defaultDeadline}
	if headerID != "" {
		r.setID(headerID, "header Nats-Msg-Id")
	}
	if t != nil {
		r.duration = t.Deadline.Default
		if lane == job.Batch {
			r.duration = max(r.duration, batchDeadline)
		}
	}
	if r.tooLarge(body, t) {
		if id := findID(body); id != "" {
			r.id = id
		}
		return r
	}
	whole, raw, err := schema.DecodeMembers(body)
	if err != nil {
		r.unreadable(err)
		return r
	}
	fields, ok := whole.(map[string]any)
	if !ok {
		r.fault(fate.BadJSON, "", "a request is a JSON object, like {\"input\": {…}}")
		return r
	}
	if t == nil {
		r.fault(fate.UnknownTask, "", "there is no task %q", job.Cut(taskName, 64))
	}
	r.checkFields(fields, lane, t)
	if r.code == "" {
		r.take(fields, raw)
	}
	return r
}

// take fills in the request from fields that were checked. What is handed on as it stands is part of the body.
func (r *reading) take(fields map[string]any, raw map[string]json.RawMessage) {
	text := func(name string) string {
		s, _ := fields[name].(string)
		return s
	}
	stream, _ := fields["stream"].(bool)
	r.request = job.Request{
		ID: text("id"), Input: raw["input"], Session: text("session"), Deadline: text("deadline"), Lane: text("lane"), Tenant: text("tenant"),
		Stream: stream, Cache: text("cache"), Parent: text("parent"), Metadata: raw["metadata"],
	}
}

// defaultDeadline is for requests of a task that is not known; batchDeadline is the batch lane's.
const (
	defaultDeadline = 60 * time.Second
	batchDeadline   = 24 * time.Hour
)

func (r *reading) tooLarge(body []byte, t *task.Task) bool {
	limit := maxBytes(t)
	if len(body) <= limit {
		return false
	}
	r.fault(fate.TooLarge, "", "the request has %d bytes, %d is the most", len(body), limit)
	return true
}

func maxBytes(t *task.Task) int {
	if t != nil && t.MaxInputBytes > 0 {
		return min(job.MaxRequestBytes, t.MaxInputBytes)
	}
	return job.MaxRequestBytes
}

func (r *reading) unreadable(err error) {
	if bad, ok := errors.AsType[*schema.SyntaxError](err); ok {
		r.fault(fate.BadJSON, bad.Pointer, "%s", bad.Error())
		return
	}
	r.fault(fate.BadJSON, "", "%s", err)
}

func (r *reading) setID(id, where string) {
	if !job.IsID(id) {
		r.fault(fate.InvalidRequest, "/id", "the id (%s) must match [A-Za-z0-9_-]{1,64}", where)
		return
	}
	r.id = id
}

var known = []string{"id", "input", "session", "deadline", "lane", "tenant", "stream", "cache", "webhook", "parent", "metadata"}

// checkFields checks every field, so that the client learns of all faults at once.
func (r *reading) checkFields(fields map[string]any, lane string, t *task.Task) {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !slices.Contains(known, name) {
			r.fault(fate.UnknownField, "/"+escape(name), "unknown field %q; known are %s", job.Cut(name, 64), strings.Join(known, ", "))
			continue
		}
		r.checkField(name, fields[name], lane, t)
	}
	if _, ok := fields["input"]; !ok {
		r.fault(fate.InvalidRequest, "/input", "input is required")
	}
	if named, ok := fields["session"]; (!ok || named == "") && t != nil && t.Context.Session == task.SessionRequired {
		r.fault(fate.InvalidRequest, "/session", "session is required by this task: name the conversation that the request belongs to")
	}
}

func (r *reading) checkField(name string, value any, lane string, t *task.Task) {
	switch name {
	case "input":
		r.checkInput(value, t)
	case "stream":
		if _, ok := value.(bool); !ok {
			r.fault(fate.InvalidRequest, "/stream", "stream is true or false")
		}
	case "webhook":
		r.checkWebhook(value)
	case "metadata": // anything, given back untouched
	default:
		text, ok := value.(string)
		if !ok {
			r.fault(fate.InvalidRequest, "/"+name, "%s is a string", name)
			return
		}
		r.checkText(name, text, lane, t)
	}
}

func (r *reading) checkText(name, text, lane string, t *task.Task) {
	switch name {
	case "id":
		r.setID(text, "field id")
	case "parent":
		if !job.IsID(text) {
			r.fault(fate.InvalidRequest, "/parent", "parent is an id: it must match [A-Za-z0-9_-]{1,64}")
		}
	case "session", "tenant":
		if !job.IsLabel(text) {
			r.fault(fate.InvalidRequest, "/"+name, "%s must match [A-Za-z0-9_.@:=/-]{1,128}", name)
		} else if name == "session" && (text == "." || text == "..") {
			r.fault(fate.InvalidRequest, "/session", "no address leads to a session named . or ..; choose another name")
		}
	case "lane":
		if text != job.Interactive && text != job.Batch {
			r.fault(fate.InvalidRequest, "/lane", "lane is interactive or batch")
		} else if text != lane {
			r.fault(fate.InvalidRequest, "/lane", "the subject says the lane, and it says %s", lane)
		}
	case "cache":
		if text != job.CacheAllow && text != job.CacheRenew && text != job.CacheBypass {
			r.fault(fate.InvalidRequest, "/cache", "cache is allow, renew or bypass")
		}
	case "deadline":
		r.checkDeadline(text, lane, t)
	}
}

func (r *reading) checkDeadline(text, lane string, t *task.Task) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		r.fault(fate.InvalidRequest, "/deadline", "deadline is a duration above zero, like 30s or 10m")
		return
	}
	limit := batchDeadline
	if t != nil && lane != job.Batch {
		limit = t.Deadline.Max
	}
	if d > limit {
		r.fault(fate.InvalidRequest, "/deadline", "deadline %s is longer than %s, the most here", text, limit)
		return
	}
	r.duration = d
}

// checkWebhook refuses what nobody would deliver: a promise not kept is worse than one not made.
func (r *reading) checkWebhook(value any) {
	fields, _ := value.(map[string]any)
	text, _ := fields["url"].(string)
	if u, err := url.Parse(text); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		r.fault(fate.InvalidRequest, "/webhook/url", "webhook is {\"url\": \"https://…\"}")
		return
	}
	r.fault(fate.InvalidRequest, "/webhook", "webhooks are not delivered here; subscribe to the result instead")
}

func (r *reading) checkInput(value any, t *task.Task) {
	r.input = value
	if t == nil || t.Input == nil {
		return
	}
	for _, v := range t.Input.Validate(value) {
		r.fault(fate.InputInvalid, "/input"+v.Pointer, "%s", v.Message)
	}
}

// shape is what the marker keeps of the input: the key of answers that may stand in, and the canned one.
func (r *reading) shape(t *task.Task) (cacheKey string, canned int) {
	if t == nil || r.code != "" {
		return "", 0
	}
	return t.StandIns(r.request.Tenant, r.request.Session, r.input)
}

// escape makes a member's name a token of a JSON pointer (RFC 6901).
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(job.Cut(name, 128))
}
